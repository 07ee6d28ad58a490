"""A library holds the interpreter's lock for ever: no thread has its turn any more."""

import ctypes

from tests.unit.worker.sick import answer_once

answer_once()
ctypes.PyDLL(None).pause()  # a PyDLL does not let go of the lock
