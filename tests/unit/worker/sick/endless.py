"""It says one line that has no end."""

import sys

from tests.unit.worker.sick import answer_once

answer_once()
while True:
    sys.stdout.write("x" * 10_000)
