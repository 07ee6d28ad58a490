"""Nobody but the daemon's user and root can take a latch away: what a directory's owner, mode and group must be."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kill_switch.config import loader
from kill_switch.config.rescue import rescue
from kill_switch.daemon.daemon import Daemon
from kill_switch.errors import CannotCreate, ConfigError
from kill_switch.journal.journal import Journal
from kill_switch.system import users
from kill_switch.system.hardening import make_directory
from tests.harness.scripted_server import Certificates
from tests.unit.daemon.test_preflight import Site, site

__all__ = ["site"]

GID = 4242
UID = os.geteuid()


def user(name: str, uid: int, gid: int) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, gid, "", "/", "/bin/sh"))


@pytest.fixture
def people(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the data base say who is in the group: by its own entry, and by the users' entries."""

    def are(named: list[str], known: list[pwd.struct_passwd]) -> None:
        monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group(("g", "x", gid, named)))
        monkeypatch.setattr(pwd, "getpwall", lambda: [user("us", UID, 0), *known])

    return are


def directory(path: Path, mode: int) -> Path:
    path.mkdir()
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("named", "known"),
    [(["eve"], [user("eve", 1001, 1)]), ([], [user("eve", 1001, os.getegid())]), (["eve"], [])],
    ids=["by the group", "by the user", "a user that nobody knows"],
)
def test_a_directory_whose_group_has_other_members_and_may_write_is_refused(
    tmp_path: Path, people: Callable[..., None], named: list[str], known: list[pwd.struct_passwd]
) -> None:
    people(named, known)
    path = directory(tmp_path / "state", 0o770)
    with pytest.raises(CannotCreate) as refused:
        make_directory(path)
    why = f"its group can write there, and eve could remove the latch; chmod g-w {path}"
    assert str(refused.value) == f"directory {path}: {why}"
    path.chmod(0o750)
    assert make_directory(path) == ""


def test_a_private_group_that_may_write_is_a_warning(tmp_path: Path, people: Callable[..., None]) -> None:
    people(["root", "us"], [user("root", 0, 0)])
    path = directory(tmp_path / "state", 0o775)
    assert make_directory(path).endswith(f"chmod g-w {path}")


def test_a_sticky_bit_keeps_a_group_from_removing_our_files(tmp_path: Path, people: Callable[..., None]) -> None:
    people(["eve"], [])
    assert make_directory(directory(tmp_path / "state", 0o1770)) == ""


@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_directory_that_everyone_could_move_away_is_refused(tmp_path: Path, through_a_link: bool) -> None:
    above = directory(tmp_path / "shared", 0o777)
    state = directory(above / "state", 0o750)
    if through_a_link:
        state = tmp_path / "link"
        state.symlink_to(above / "state")
    with pytest.raises(CannotCreate) as refused:
        make_directory(state)
    assert f"everyone can write to {above}, and move it away with the latch in it; chmod o-w {above}" in str(
        refused.value
    )
    above.chmod(0o1777)  # as /tmp: nobody can rename there what is not his own
    assert make_directory(state) == ""


def test_a_directory_that_members_of_a_group_could_move_away_is_refused(
    tmp_path: Path, people: Callable[..., None]
) -> None:
    above = directory(tmp_path / "shared", 0o770)
    people(["eve"], [])
    with pytest.raises(CannotCreate, match=f"the group of {above} can write there, and eve could move it away"):
        make_directory(above / "state")
    people([], [])
    assert make_directory(above / "state").endswith(f"chmod g-w {above}")


@pytest.mark.skipif(UID != 0, reason="takes root, to give a directory to root's group")
@pytest.mark.parametrize(("name", "refused"), [("halt", False), ("operator", False), ("eve", True)])
def test_system_accounts_in_roots_group_do_not_count(
    name: str, refused: bool, tmp_path: Path, people: Callable[..., None]
) -> None:
    """A container of Red Hat's has them, and its directories belong to group 0, which may write there."""
    people([], [user(name, 11, 0)])
    path = directory(tmp_path / "state", 0o770)
    os.chown(path, 0, 0)
    with pytest.raises(CannotCreate) if refused else contextlib.nullcontext():
        assert "a new member of that group" in make_directory(path)


@pytest.mark.skipif(UID != 0, reason="takes root, to give a directory away")
def test_a_directory_below_one_of_another_user_is_a_warning(tmp_path: Path) -> None:
    above = directory(tmp_path / "theirs", 0o755)
    os.chown(above, 65534, 65534)
    assert make_directory(above / "state").startswith(f"{above} belongs to uid 65534, who could move it away")


def test_a_data_base_that_hangs_is_waited_for_within_a_bound_and_the_daemon_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    monkeypatch.setattr(pwd, "getpwall", lambda: go.wait(15) and [])
    monkeypatch.setattr(users, "GROUP_WITHIN_S", 0.1)
    try:
        assert "a new member of that group" in make_directory(directory(tmp_path / "state", 0o770))
    finally:
        go.set()


def test_check_has_the_refusals_and_warnings_of_run(site: Site, people: Callable[..., None]) -> None:
    for path in (site.state, site.run):
        directory(path, 0o770)
    people(["eve"], [])
    assert [line.partition(":")[0] for line in site.found()] == ["daemon.state_dir", "daemon.runtime_dir"]
    people([], [])
    assert site.found() == []
    done = site.command("check")
    assert done.exit_code == 0 and f"chmod g-w {site.state}" in done.output


@pytest.mark.anyio
async def test_a_daemon_asks_who_is_in_a_group_before_its_event_loop_and_not_on_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory service may take seconds, and the sockets are open by then."""
    asked: list[str] = []

    def everyone() -> list[pwd.struct_passwd]:
        asked.append("everyone")
        return [user("us", UID, 0)]

    monkeypatch.setattr(pwd, "getpwall", everyone)
    for path in (site.state, site.run):
        make_directory(directory(path, 0o770))
    assert len(asked) == 2
    record = Journal(site.state, site.run)
    try:
        Daemon(loader.load(site.file), record)
    finally:
        record.close()
    assert len(asked) == 2


def test_a_configuration_that_others_can_write_is_refused_and_kills_all_the_same(
    site: Site, people: Callable[..., None]
) -> None:
    people(["eve"], [])
    site.file.chmod(0o646)
    with pytest.raises(ConfigError, match=f"everyone can write to it; chmod o-w {site.file}"):
        loader.load(site.file)
    site.file.chmod(0o664)
    with pytest.raises(ConfigError, match=f"its group can write to it, and eve is in it; chmod g-w {site.file}"):
        loader.load(site.file)
    assert list(rescue(site.file).config.accounts) == ["a"]
    people([], [])
    assert list(loader.load(site.file).accounts) == ["a"]


def test_authorities_that_others_can_write_are_refused_and_killed_with_all_the_same(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    Certificates(tmp_path)
    site.write(accounts=f'ca_file = "{file}"')
    assert site.found() == []
    file.chmod(0o666)
    with pytest.raises(ConfigError, match=r"accounts\.a\.ca_file: everyone can write to it; chmod o-w"):
        loader.load(site.file)
    assert list(rescue(site.file).config.accounts) == ["a"]
