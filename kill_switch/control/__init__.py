"""Serve operators over the Unix control socket, and ask the daemon over it."""
