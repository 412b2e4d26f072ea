"""`make bench`: what the functions and the whole local stack cost, and where time goes.

Each part stands alone: `make bench ARGS="--only stripe"`. CPU figures are process time, which other
load changes little; wall-clock figures are of the machine as it is now.
"""
