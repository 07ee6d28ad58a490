"""The worker processes beside the daemon: notifications, calls and metrics in one, operators' commands in another."""
