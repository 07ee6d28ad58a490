"""Decide, without I/O: the engine, one account's sweep, recovery from the journal, the types that all others use."""
