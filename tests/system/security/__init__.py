"""Try what an attacker on the same machine would try."""
