"""The profiles of the ids of ccxt that are offered; docs/venues/ccxt.md says where their facts are from."""
