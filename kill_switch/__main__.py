"""Run the command line: `python -m kill_switch`."""

from __future__ import annotations

from kill_switch.cli import main

if __name__ == "__main__":
    main()
