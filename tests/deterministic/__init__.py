"""Drive the real core, adapters, dispatcher and journal in virtual time, against venues that fail by seed."""
