"""Do without the daemon: kill directly, check that the venues can be reached."""
