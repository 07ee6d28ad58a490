"""The control socket: the daemon's server for the requests of people and programs."""
