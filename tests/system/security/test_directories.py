"""What whoever owns a directory on the way, or a file in ours, can make a daemon or root do there: nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kill_switch.clock import now
from kill_switch.journal.journal import Journal
from kill_switch.journal.latch_file import LatchFile
from tests.system.security.people import NOBODY, as_root


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
    assert "not-for-you" not in "".join(latch.unseen_lines())


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_group_reads_the_record_and_no_other_user_reads_or_writes_our_files(tmp_path: Path, umask: int) -> None:
    state, run = tmp_path / "state", tmp_path / "run"
    before = os.umask(umask)
    try:
        for directory in (state, run):
            directory.mkdir(0o750)
        journal = Journal(state, run)
        journal.append("note", {}, now())
        journal.flush()
        journal.close()
        LatchFile(state / "latch.jsonl").append_line(b"{}")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (*state.iterdir(), *run.iterdir())}
    assert {"journal.jsonl", "lock", "latch.jsonl", "intent.jsonl"} <= modes.keys()
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o137} == {}
    assert (
        modes["lock"] == modes["intent.jsonl"] == modes["latch.jsonl"] == 0o600
    )  # who may read a file may also lock it, flock(2)
