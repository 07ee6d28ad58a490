"""The configuration: reading the TOML file, checking it, and comparing two configurations for a reload."""
