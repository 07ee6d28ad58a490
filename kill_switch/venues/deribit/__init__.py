"""Deribit: its adapter, its JSON-RPC socket, its replies and its figures; the facts are in docs/venues/deribit.md."""
