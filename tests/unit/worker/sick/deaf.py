"""It reads nothing more: the pipe to it fills up."""

import time

from tests.unit.worker.sick import answer_once

answer_once()
time.sleep(600)
