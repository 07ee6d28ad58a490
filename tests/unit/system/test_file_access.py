"""What root makes in the daemon's directories is the daemon's, and no link there leads root elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kill_switch import clock
from kill_switch.core.domain import Reason
from kill_switch.errors import CannotCreate
from kill_switch.journal.journal import NAME as JOURNAL
from kill_switch.journal.journal import Journal, read_journal
from kill_switch.journal.latch_file import LATCH_NAME as LATCH
from kill_switch.journal.latch_file import leave_latch
from kill_switch.journal.latch_lines import latched_accounts
from kill_switch.journal.write_ahead import NAME as INTENT
from kill_switch.system.file_access import open_ours
from tests.harness.immediate_jobs import Prompt

DAEMON = 65533
GROUP = 65532
KNOWN = ("a", "b", "c")
REASON = {"kill": "k1-1", "accounts": ["a"], "observed_mono_ns": 1, "observed_wall_ns": 1}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")


@pytest.fixture
def theirs(dirs: tuple[Path, Path], tmp_path: Path, at_once: None) -> Iterator[tuple[Path, Path]]:
    """Give both directories to the daemon's user, and set the umask of a careful root shell."""
    for directory in dirs:
        os.chown(directory, DAEMON, GROUP)
        directory.chmod(0o750)
    for above in tmp_path.parents:
        if above.stat().st_uid == 0 and above not in (Path("/"), Path("/tmp")):
            above.chmod(above.stat().st_mode | 0o011)
    tmp_path.chmod(0o755)
    before = os.umask(0o077)
    yield dirs
    os.umask(before)


@contextmanager
def as_daemon() -> Iterator[None]:
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(GROUP)
    os.seteuid(DAEMON)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def reason(*accounts: str) -> Reason:
    return Reason("direct", "by hand", accounts, clock.now())


def owner(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def test_a_daemon_starts_in_directories_that_root_has_used_before_it(theirs: tuple[Path, Path]) -> None:
    first = Journal(*theirs)
    first.append("note", {}, clock.now())
    first.close()
    assert owner(theirs[0] / JOURNAL) == (DAEMON, GROUP, 0o640)
    assert owner(theirs[0] / "lock") == (DAEMON, GROUP, 0o600)
    assert owner(theirs[1] / INTENT) == (DAEMON, GROUP, 0o600)
    with as_daemon():
        second = Journal(*theirs)
        assert [entry["kind"] for entry in read_journal(second.path).entries] == ["note"]
        second.close()


def test_each_of_roots_latches_trips_its_accounts_and_is_removed(theirs: tuple[Path, Path]) -> None:
    with as_daemon():
        held = Prompt(*theirs)
    for name in ("a", "b"):
        assert leave_latch(*theirs, reason(name))
        assert owner(theirs[0] / LATCH) == (DAEMON, GROUP, 0o600)
        with as_daemon():
            said = held.foreign_latch()
            assert said is not None
            assert latched_accounts(said, KNOWN) == (name,)
            held.append_latch("reason", REASON, clock.now())
            held.adopt_latch(said)
    with as_daemon():
        held.close()
    assert not (theirs[0] / LATCH).exists()


def test_roots_own_latch_that_the_daemon_may_not_read_counts_once_and_is_moved_aside(
    theirs: tuple[Path, Path],
) -> None:
    (theirs[0] / LATCH).write_text('{"text":"of an earlier version","accounts":["a"]}\n')
    (theirs[0] / LATCH).chmod(0o600)
    with as_daemon():
        held = Prompt(*theirs)
        said = held.foreign_latch()
        assert said is not None and latched_accounts(said, KNOWN) == KNOWN
        held.append_latch("reason", REASON, clock.now())
        held.adopt_latch(said)
        assert held.foreign_latch() is None
    with (theirs[0] / LATCH).open("a") as file:
        file.write('{"text":"again","accounts":["b"]}\n')
    with as_daemon():
        again = held.foreign_latch()
        assert again is not None and again != said
        held.adopt_latch(again)
        held.close()
        later = Prompt(*theirs)
        assert later.foreign_latch() is None
        later.close()


def test_a_latch_that_the_daemon_may_not_open_does_not_keep_it_from_leaving_its_own(
    theirs: tuple[Path, Path],
) -> None:
    (theirs[0] / LATCH).write_text('{"text":"of an earlier version","accounts":["a"]}\n')
    (theirs[0] / JOURNAL).write_bytes(b"damaged\n")
    os.chown(theirs[0] / JOURNAL, DAEMON, GROUP)
    with as_daemon():
        held = Prompt(*theirs)
        said = held.foreign_latch()
        assert said is not None and latched_accounts(said, KNOWN) == KNOWN
        assert "cannot be read" in said and "the journal is damaged" in said
        held.close()


def test_a_directory_that_its_group_may_write_to_gives_its_files_to_the_group(dirs: tuple[Path, Path]) -> None:
    os.chown(dirs[0], 0, GROUP)
    dirs[0].chmod(0o2770)
    os.close(open_ours(dirs[0] / "file", os.O_RDWR | os.O_CREAT))
    assert owner(dirs[0] / "file") == (0, GROUP, 0o660)


@pytest.mark.parametrize("link", ["symbolic", "dangling", "hard"])
def test_root_writes_through_no_link_that_the_daemons_user_has_put_there(
    link: str, theirs: tuple[Path, Path], tmp_path: Path
) -> None:
    target = tmp_path / "roots"
    if link != "dangling":
        target.write_text("as it was")
    for directory in theirs:
        if link == "hard":
            os.link(target, directory / LATCH)
        else:
            (directory / LATCH).symlink_to(target)
    assert leave_latch(*theirs, reason("a")) is False
    assert target.exists() == (link != "dangling")
    if target.exists():
        assert (target.read_text(), owner(target)[0]) == ("as it was", 0)


def test_a_file_of_root_that_cannot_be_opened_is_named_with_its_owner_and_the_remedy(theirs: tuple[Path, Path]) -> None:
    (theirs[0] / "lock").touch(0o600)
    with as_daemon(), pytest.raises(CannotCreate, match=f"lock belongs to uid 0; chown {DAEMON}:{GROUP} .*lock"):
        Journal(*theirs)


def test_a_pipe_in_place_of_a_file_blocks_no_process(theirs: tuple[Path, Path]) -> None:
    os.mkfifo(theirs[0] / LATCH)
    with pytest.raises(OSError, match="not a file"):
        open_ours(theirs[0] / LATCH, os.O_RDWR | os.O_CREAT)
    assert leave_latch(*theirs, reason("a")) is True  # in the other directory
    assert (theirs[1] / LATCH).is_file()
