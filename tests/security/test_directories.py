"""What whoever owns a directory on the way, or a file in ours, can make a daemon or root do there: nothing."""

from __future__ import annotations

import os
from pathlib import Path

from kill_switch.latches import LatchFile
from tests.security.people import NOBODY, as_root


@as_root
def test_root_does_not_read_a_file_of_its_own_that_a_link_in_a_latchs_place_leads_to(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root:$6$not-for-you:19000\n")
    secret.chmod(0o600)
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, NOBODY, NOBODY)
    latch = LatchFile(state / "latch.jsonl")
    latch.path.symlink_to(secret)
    assert latch.look()  # it is a latch all the same
    assert "not-for-you" not in "".join(latch.foreign())
