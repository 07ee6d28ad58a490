"""Watch inputs, and report a reason to kill when one of them is wrong."""
