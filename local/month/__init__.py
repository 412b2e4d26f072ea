"""A simulated month with faults: the real handlers, in virtual time, in one process, from a seed.

`draw` says what happens, `world` has the functions, the tables and Stripe, `acts` does what people
and clients do, `trouble` what goes wrong, `run` lets time pass. `model` knows what must come out of
it and shares no code with the product; `check` compares.
"""
