"""The control socket: the daemon's server for operators' requests, and the client of the commands."""
