"""Own the sockets: warm lanes that stay authenticated, and a fresh route that shares nothing with them."""
