"""A stateful stand-in for the part of Stripe that Billing Meters need.

`core` is a pure, synchronous function of requests and a clock; `server` puts it on a port;
`control` is the client for everything that Stripe itself cannot be asked for (time, faults,
settling). What lives behind each Stripe path is in the module named after the object.
"""
