"""Kill and starve the real daemon, again and again: what it has promised must hold whatever the machine does.

`python -m tests.system.crash [kills|stopped|full|readonly|slow-sync|hung|descriptors|memory|all] [--kills 200] [--seed
N]`.
"""
