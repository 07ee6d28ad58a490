"""What may wait does so in threads: the daemon kills, answers, and says what hangs; no venue is there."""

from __future__ import annotations

import grp
import os
import pwd
import threading
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.to_thread
import pytest

from kill_switch.client import control_socket
from kill_switch.config import loader
from kill_switch.control import paths, server
from kill_switch.daemon import listeners, reload
from kill_switch.daemon.daemon import Daemon
from kill_switch.errors import ConfigError
from kill_switch.system import offload, users
from tests.unit.daemon.test_reload import Play

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]
UID = os.getuid()
NAME = pwd.getpwuid(UID).pw_name


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def play(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Play:
    for name in "abcz":
        monkeypatch.setenv(f"KEY_{name}", f"key-of-the-account-{name}")
    monkeypatch.setenv("SECRET", "secret-of-the-account")
    monkeypatch.setenv("OTHER", "another-secret-of-it")
    monkeypatch.setattr(offload, "HANGS_AFTER_S", 0.2)
    return Play(tmp_path)


class Hang:
    """Has a function hang until `over`: each call of it waits first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        self._over = threading.Event()
        real: Callable[..., object] = getattr(owner, name)

        def hangs(*args: object) -> object:
            assert threading.current_thread() is not threading.main_thread()
            self._over.wait(15)
            return real(*args)

        monkeypatch.setattr(owner, name, hangs)

    def over(self) -> None:
        self._over.set()


async def ask(play: Play, **request: object) -> Mapping[str, Any]:
    return await anyio.to_thread.run_sync(control_socket.send_request, play.runtime_dir / paths.CONTROL_SOCKET, request)


async def until_served(play: Play) -> None:
    await play.until(lambda: control_socket.is_listening(play.runtime_dir / paths.CONTROL_SOCKET))


def troubles(running: Daemon) -> list[str]:
    found = running.handlers.status()["trouble"]
    assert isinstance(found, list)
    return found


async def test_who_fires_is_on_record_by_number_at_once_and_by_name_when_that_is_found(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = Hang(monkeypatch, pwd, "getpwuid")
    async with play.running("a") as running:
        await until_served(play)
        with anyio.fail_after(users.NAME_WITHIN_S / 2):
            report = await ask(play, cmd="fire", reason="by hand")
        assert report["reasons"][0]["evidence"]["user"] == str(UID)
        await play.until(lambda: any("the journal has people's numbers" in line for line in troubles(running)))
        hang.over()
        await play.until(lambda: play.entries("user"))
        assert play.entries("user") == [{"uid": UID, "user": NAME}]
        assert (await ask(play, cmd="report"))["reasons"][0]["evidence"]["user"] == NAME
        (reason,) = play.entries("reason")
        assert reason["evidence"]["user"] == str(UID)  # what is on record stays as it is


async def test_the_answer_to_a_first_kill_names_who_fired_where_the_data_base_answers(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users.UserDirectory, "look_up", lambda self, uid: None)  # nobody has come before
    async with play.running("a"):
        await until_served(play)
        report = await ask(play, cmd="fire", reason="by hand")
        assert report["reasons"][0]["evidence"]["user"] == NAME
        assert play.entries("user") == [{"uid": UID, "user": NAME}]


async def test_a_command_that_wants_a_name_waits_for_it_no_longer_than_the_bound(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = Hang(monkeypatch, pwd, "getpwuid")
    monkeypatch.setattr(server, "NAME_WITHIN_S", 0.05)
    async with play.running("a"):
        await until_served(play)
        assert (await ask(play, cmd="reload")) == {"reloaded": "nothing changed"}
        assert play.entries("reload")[-1]["user"] == str(UID)
        hang.over()


async def test_a_group_look_up_that_hangs_delays_no_start_and_the_group_gets_its_sockets_later(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = next(found for found in grp.getgrall() if found.gr_gid != os.getgid())
    play.write("a")
    play.source.write_text(play.source.read_text().replace("[daemon]\n", f'[daemon]\ngroup = "{group.gr_name}"\n'))
    loader.load(play.source)  # it is good
    monkeypatch.setattr(listeners, "GROUP_WITHIN_S", 0.05)
    monkeypatch.setattr(users, "GROUP_WITHIN_S", 0.05)
    hang = Hang(monkeypatch, grp, "getgrnam")
    async with play.running():
        await until_served(play)
        sockets = [play.runtime_dir / name for name in (paths.CONTROL_SOCKET, "intake.sock")]
        assert all(path.stat().st_gid != group.gr_gid for path in sockets)
        play.fire("a")
        assert play.tripped() == ("a",)
        hang.over()
        if os.geteuid() == 0:  # who may give a file to any group
            await play.until(lambda: all(path.stat().st_gid == group.gr_gid for path in sockets))


async def test_a_reload_that_hangs_is_refused_in_words_and_the_next_one_does_not_wait_for_it(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "READ_WITHIN_S", 0.05)
    async with play.running("a") as running:
        play.write("a", "b")
        with monkeypatch.context() as patch:
            hang = Hang(patch, loader, "load")
            with pytest.raises(ConfigError, match=r"file system: no answer within 0\.05 s; mend it, then reload again"):
                await running.reloader.reload()
            assert any("no answer within" in line for line in play.announced)
            await play.until(lambda: any("of the secrets in it, does not answer" in line for line in troubles(running)))
        monkeypatch.setattr(reload, "READ_WITHIN_S", 5.0)
        assert (await running.reloader.reload()).added == ("b",)  # by another thread
        play.write("a")
        hang.over()
        await play.until(lambda: not any("does not answer" in line for line in troubles(running)))
        assert set(running.config.accounts) == {"a", "b"}  # what came too late is not taken


async def test_reloads_that_hang_take_a_bounded_number_of_threads(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "READ_WITHIN_S", 0.02)
    async with play.running("a") as running:
        with monkeypatch.context() as patch:
            hang = Hang(patch, loader, "load")
            before = threading.active_count()
            for _ in range(10):
                with pytest.raises(ConfigError) as refused:
                    await running.reloader.reload()
            assert "4 earlier reloads still wait for it" in str(refused.value)
            assert threading.active_count() - before <= reload.MAX_READS
            hang.over()
        monkeypatch.setattr(reload, "READ_WITHIN_S", 5.0)
        await play.until(lambda: not running.reloader.trouble and not running.reloader._files.busy)
        assert not (await running.reloader.reload())


async def test_a_hanging_runtime_directory_is_reported_once_and_connected_clients_are_served(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with play.running("a") as running:
        await until_served(play)
        async with await anyio.connect_unix(play.runtime_dir / paths.CONTROL_SOCKET) as line:
            hang = Hang(monkeypatch, server, "inode")
            words = f"the file system of {play.runtime_dir} does not answer"
            await play.until(lambda: words in play.announced)
            await line.send(b'{"cmd":"fire","reason":"by hand"}\n')
            with anyio.fail_after(2):
                assert b'"by hand"' in await line.receive()
            await anyio.sleep(1.2)
            assert play.announced.count(words) == 1
            assert words in troubles(running)
        hang.over()
        await play.until(lambda: words not in troubles(running))
