"""It says what nobody understands, without end."""

import sys

from tests.unit.worker.sick import answer_once

answer_once()
while True:
    sys.stdout.write("not a word of ours\n" * 1000)
