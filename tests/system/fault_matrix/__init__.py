"""Play every fault at every venue before, during and after a strike, over real sockets and TLS.

`python -m tests.system.fault_matrix [--venue V]… [--fault F]… [--moment M]… [--jobs 2]` prints the matrix.
"""
