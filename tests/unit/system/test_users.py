"""Names of users and groups are looked up in a thread: a data base that hangs costs a name, and never a kill."""

from __future__ import annotations

import grp
import os
import pwd
import threading
from collections.abc import Iterator

import anyio
import pytest

from kill_switch.system import offload, users
from kill_switch.system.users import UserDirectory

pytestmark = pytest.mark.anyio
UID = os.getuid()
NAME = pwd.getpwuid(UID).pw_name


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def hangs(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Have every look-up hang until the event is set."""
    over = threading.Event()
    real, group = pwd.getpwuid, grp.getgrnam
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: over.wait(10) and real(uid))
    monkeypatch.setattr(grp, "getgrnam", lambda name: over.wait(10) and group(name))
    monkeypatch.setattr(offload, "HANGS_AFTER_S", 0.08)
    monkeypatch.setattr(users, "GROUP_WITHIN_S", 0.05)
    yield over
    over.set()


async def test_a_name_is_found_and_kept() -> None:
    user_directory = UserDirectory()
    assert user_directory.cached_name(UID) == str(UID)
    assert await user_directory.name(UID, 5.0) == NAME
    assert user_directory.cached_name(UID) == NAME
    user_directory.close()


async def test_a_user_without_a_name_is_a_number() -> None:
    user_directory = UserDirectory()
    assert await user_directory.name(4_000_000_000, 5.0) == "4000000000"
    user_directory.close()


async def test_a_data_base_that_hangs_costs_a_bounded_time_and_is_trouble_until_it_answers(
    hangs: threading.Event,
) -> None:
    user_directory = UserDirectory()
    with anyio.fail_after(2):
        assert await user_directory.name(UID, 0.05) == str(UID)
        while not user_directory.trouble:  # noqa: ASYNC110 - a thread
            await anyio.sleep(0.01)
        assert "nsswitch.conf" in user_directory.trouble and "people's numbers" in user_directory.trouble
        hangs.set()
        while user_directory.cached_name(UID) != NAME:  # noqa: ASYNC110 - a thread
            await anyio.sleep(0.01)
    assert user_directory.trouble == ""
    user_directory.close()


async def test_callers_who_come_again_and_again_wait_for_one_look_up(hangs: threading.Event) -> None:
    user_directory = UserDirectory()
    told: list[str] = []
    for _ in range(100):
        user_directory.look_up(UID)
        user_directory.call_with_name(UID, told.append)
    assert user_directory._lookups._waiting == 1
    hangs.set()
    with anyio.fail_after(2):
        while len(told) < 100:  # noqa: ASYNC110 - a thread
            await anyio.sleep(0.01)
    assert set(told) == {NAME}
    user_directory.close()


async def test_a_group_is_found_and_its_members_are_known_by_name_then(monkeypatch: pytest.MonkeyPatch) -> None:
    here = grp.getgrall()[0]
    members = grp.struct_group((here.gr_name, "x", here.gr_gid, [NAME, "nobody-of-that-name"]))
    monkeypatch.setattr(grp, "getgrnam", {here.gr_name: members}.__getitem__)
    user_directory = UserDirectory()
    assert await user_directory.group(here.gr_name) == here.gr_gid
    with anyio.fail_after(2):
        while user_directory.cached_name(UID) != NAME:  # noqa: ASYNC110 - a thread
            await anyio.sleep(0.01)
    with pytest.raises(KeyError):
        await user_directory.group("no-such-group")
    user_directory.close()


async def test_the_check_accepts_a_group_whose_look_up_fails(hangs: threading.Event) -> None:
    assert users.group_number("some-group") is None
    hangs.set()
    with pytest.raises(KeyError):
        users.group_number("no-such-group")
