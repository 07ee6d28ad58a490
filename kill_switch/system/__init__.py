"""The operating system: threads for calls that block, users and groups, file access, hardening."""
