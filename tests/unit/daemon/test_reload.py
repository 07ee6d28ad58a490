"""A running daemon goes over to what its file says, in this process; its venues refuse every connection."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import orjson
import pytest

from kill_switch.client.control_socket import is_listening
from kill_switch.clock import now
from kill_switch.config.loader import load
from kill_switch.control import handlers
from kill_switch.control.server import Caller
from kill_switch.core.commands import Announce, RearmGranted, RearmPending
from kill_switch.core.domain import Phase, Reason
from kill_switch.core.events import RearmAsked
from kill_switch.daemon.daemon import Daemon
from kill_switch.daemon.held_signals import SignalHolder
from kill_switch.errors import ConfigError
from kill_switch.journal import journal, latch_file, latch_lines
from kill_switch.tasks import TaskSupervisor
from kill_switch.testbed.testbed import LocalTestbed
from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.intake.datagrams import sign
from kill_switch.venues.oxfun.adapter import OxFun

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

ANN = Caller(7, 77, "ann")
KEY = b"a-key-of-the-intake"
BEAT = '[triggers.beat]\nkind = "heartbeat"\ntimeout = "{timeout}"\nstart = "{start}"\n'


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Play:
    """The daemon of one directory, with accounts at venues where nobody listens."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state_dir, self.runtime_dir = directory / "state", directory / "run"
        self.flag = directory / "KILL"
        self.source = directory / "config.toml"
        self.announced: list[str] = []
        self.daemon: Daemon

    def write(self, *accounts: str, more: str = "", env: str = "SECRET") -> None:
        text = f'[daemon]\nstate_dir = "{self.state_dir}"\nruntime_dir = "{self.runtime_dir}"\nready = "degraded"\n'
        for name in accounts:
            text += f'[accounts.{name}]\nvenue = "oxfun"\napi_key = {{ env = "KEY_{name}" }}\n'
            text += f'api_secret = {{ env = "{env}" }}\n'
            text += 'ws_url = "wss://127.0.0.1:1/ws"\nrest_url = "https://127.0.0.1:1"\n'
        self.source.write_text(text + more)

    @asynccontextmanager
    async def running(
        self, *accounts: str, more: str = "", signals: SignalHolder | None = None
    ) -> AsyncIterator[Daemon]:
        """Run the daemon; it stops at once at the end, whatever it is about."""
        if accounts:
            self.write(*accounts, more=more)
        announced = self.announced

        class OverheardDaemon(Daemon):
            def _announce(self, news: Announce) -> None:
                announced.append(news.text)
                super()._announce(news)

        daemon = self.daemon = OverheardDaemon(load(self.source), signals=signals)
        async with anyio.create_task_group() as group:
            group.start_soon(daemon.run)
            await self.until(lambda: daemon._ready)
            yield daemon
            group.cancel_scope.cancel()

    async def until(self, true: Callable[[], object]) -> None:
        with anyio.fail_after(5.0):
            while not true():  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.005)

    def tripped(self) -> tuple[str, ...]:
        return self.daemon.dispatcher.state.tripped

    def entries(self, kind: str) -> list[Any]:
        self.daemon.journal.flush()
        written = self.daemon.journal
        assert written._state.carry_out(written._writer.write_repeats, 5.0)  # a thread has it, and soon the file
        replay = journal.read_journal(written.path)
        assert replay.broken is None
        return [entry["data"] for entry in replay.entries if entry["kind"] == kind]

    def fire(self, *accounts: str) -> None:
        self.daemon.dispatcher.fire(Reason("panic", "touched", accounts, now()))

    def clear(self, *accounts: str) -> None:
        """Let the accounts be clear, as if their venues had shown it."""
        state = self.daemon.dispatcher.state
        for name in accounts:
            account = state.accounts[name]
            assert account.sweep is not None
            sweep = account.sweep._replace(
                phase=Phase.CLEAR, last_proof_ns=now().mono_ns, due_ns=now().mono_ns + 10**12
            )
            state = state._replace(accounts={**state.accounts, name: account._replace(sweep=sweep)})
        self.daemon.dispatcher.state = state

    def asked(self, uid: int, *accounts: str) -> RearmAsked:
        return RearmAsked(uid, f"user{uid}", "all well", accounts, False, (), now())


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    for name in "abcz":
        monkeypatch.setenv(f"KEY_{name}", f"key-of-the-account-{name}")
    monkeypatch.setenv("SECRET", "secret-of-the-account")
    monkeypatch.setenv("OTHER", "another-secret-of-it")
    monkeypatch.setenv("INTAKE", KEY.decode())
    return Play(tmp_path)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def send(port: int, datagram: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(datagram, ("127.0.0.1", port))


# ── the budget ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_drills_and_reports_after_a_reload_have_the_new_budget(play: Play) -> None:
    async with play.running("a") as daemon:
        play.source.write_text(play.source.read_text().replace("[daemon]\n", '[daemon]\nbudget = "200ms"\n'))
        assert (await daemon.reloader.reload()).describe() == "tables changed: daemon"
        drill = await daemon.drills.run(("a",), "test")
        daemon.dispatcher.fire(Reason("x", "y", ("a",), now()))
        daemon.journal.flush()
        report = daemon.reports.render("last")
        assert report is not None
        assert (drill["budget_us"], report["budget_us"]) == (200_000, 200_000)


# ── the intake ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_beats_are_heard_at_the_new_address_and_no_longer_at_the_old_one(play: Play) -> None:
    old, new = free_port(), free_port()
    beat = BEAT.format(timeout="1h", start="boot")
    async with play.running("a", more=f'{beat}[intake]\nudp = "127.0.0.1:{old}"\n') as daemon:
        send(old, b"beat")
        await play.until(lambda: daemon.intake.beats == 1)
        play.write("a", more=f'{beat}[intake]\nudp = "127.0.0.1:{new}"\n')
        assert (await daemon.reloader.reload()).describe() == "tables changed: intake"
        send(old, b"beat")
        send(new, b"beat")
        await play.until(lambda: daemon.intake.beats == 2)
        await anyio.sleep(0.05)
        assert daemon.intake.beats == 2
        play.write("a", more=beat)
        await daemon.reloader.reload()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", new))  # nobody has it any more


async def test_a_watched_heartbeat_goes_on_under_another_name_by_a_reload_and_by_a_restart(play: Play) -> None:
    beat = BEAT.format(timeout="1h", start="first-beat")
    by_reload, by_restart = (beat.replace("triggers.beat", f"triggers.{name}") for name in ("second", "third"))
    async with play.running("a", more=beat) as daemon:
        assert daemon.intake.on_datagram(b"beat", None)
        play.write("a", more=by_reload)
        words = "triggers begun: second; triggers ended: beat; triggers renamed: beat to second"
        assert (await daemon.reloader.reload()).describe() == words
        assert daemon.supervisor.states()["second"][0] is TriggerState.OK
    async with play.running("a", more=by_restart) as daemon:
        await play.until(lambda: daemon.supervisor.states()["third"][0] is TriggerState.OK)
        goes_on = "trigger second is now third: it fires if no beat comes under the new name within 3600 s"
        assert play.announced.count(goes_on) == 1
        told = [(data["trigger"], data["watched"]) for data in play.entries("heartbeat")]
        assert told[-2:] == [("third", True), ("second", False)]


async def test_a_new_key_holds_from_the_reload_on_and_the_socket_stays(play: Play) -> None:
    port = free_port()
    more = BEAT.format(timeout="1h", start="boot") + f'[intake]\nudp = "127.0.0.1:{port}"\n'
    async with play.running("a", more=more) as daemon:
        sockets = [inlet.sock for inlet in daemon.intake.sockets.inlets.values()]
        send(port, b"beat")
        await play.until(lambda: daemon.intake.beats == 1)
        play.write("a", more=more + 'key = { env = "INTAKE" }\n')
        await daemon.reloader.reload()
        assert [inlet.sock for inlet in daemon.intake.sockets.inlets.values()] == sockets
        send(port, b"beat")
        await play.until(lambda: daemon.intake.ignored == 1)
        send(port, sign(b"beat", KEY, now().wall_ms))
        await play.until(lambda: daemon.intake.beats == 2)


async def test_the_daemon_starts_although_another_process_has_its_address(play: Play) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody:
        somebody.bind(("127.0.0.1", 0))
        port = somebody.getsockname()[1]
        flag = f'[triggers.panic]\nkind = "flag"\npath = "{play.flag}"\n'
        more = flag + BEAT.format(timeout="1h", start="first-beat") + f'[intake]\nudp = "127.0.0.1:{port}"\n'
        async with play.running("a", more=more) as daemon:
            why = f"udp 127.0.0.1:{port}: Address already in use"
            await play.until(lambda: f"the intake cannot be reached: {why}" in play.announced)
            await play.until(lambda: daemon.supervisor.states()["beat"][0] is TriggerState.BLIND)
            status = daemon.handlers.status()
            assert f"intake: {why}" in status["trouble"]  # type: ignore[operator]
            somebody.close()
            await play.until(lambda: daemon.supervisor.states()["beat"][0] is TriggerState.WAITING)
            send(port, b"beat")
            await play.until(lambda: daemon.intake.beats == 1)
            play.flag.touch()
            await play.until(lambda: play.tripped() == ("a",))


async def test_an_intake_that_cannot_be_had_at_all_keeps_no_kill_switch_from_starting(play: Play) -> None:
    (play.runtime_dir / "intake.sock").mkdir(parents=True)
    flag = f'[triggers.panic]\nkind = "flag"\npath = "{play.flag}"\n'
    async with play.running("a", more=flag + BEAT.format(timeout="1h", start="first-beat")) as daemon:
        await play.until(lambda: daemon.supervisor.states()["beat"][0] is TriggerState.BLIND)
        play.flag.touch()
        await play.until(lambda: play.tripped() == ("a",))


async def test_signed_beats_that_were_taken_are_on_record_and_a_restart_takes_none_of_them_again(play: Play) -> None:
    port = free_port()
    intake = f'[intake]\nudp = "127.0.0.1:{port}"\nkey = {{ env = "INTAKE" }}\n'
    captured = [sign(b'{"beat":"beat","from":"bot"}', KEY, now().wall_ms + number) for number in range(3)]
    async with play.running("a", more=BEAT.format(timeout="1h", start="boot") + intake) as daemon:
        for datagram in captured:
            send(port, datagram)
        await play.until(lambda: daemon.intake.beats == 3)
        assert len(play.entries("stamps")) == 1
    async with play.running() as daemon:
        for datagram in captured:
            send(port, datagram)
        await play.until(lambda: daemon.intake.wrong_time == 3)
        await anyio.sleep(0.6)
        send(port, sign(b'{"beat":"beat","from":"bot"}', KEY, now().wall_ms))
        await play.until(lambda: daemon.intake.beats == 1)


async def test_a_reload_with_an_address_of_another_process_changes_nothing(play: Play) -> None:
    port = free_port()
    more = BEAT.format(timeout="1h", start="boot") + f'[intake]\nudp = "127.0.0.1:{port}"\n'
    async with play.running("a", more=more) as daemon:
        before = (
            daemon.config,
            daemon.dispatcher.state,
            dict(daemon.dispatcher.sessions),
            dict(daemon.supervisor.triggers),
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody:
            somebody.bind(("127.0.0.1", 0))
            taken = somebody.getsockname()[1]
            more = f'[triggers.other]\nkind = "flag"\npath = "{play.flag}"\n[intake]\nudp = "127.0.0.1:{taken}"\n'
            play.write("b", more=more)
            with pytest.raises(ConfigError, match=r"intake\.udp: Address already in use"):
                await daemon.reloader.reload(ANN)
        assert before == (
            daemon.config,
            daemon.dispatcher.state,
            daemon.dispatcher.sessions,
            daemon.supervisor.triggers,
        )
        (refused,) = play.entries("reload-refused")
        assert (refused["uid"], refused["user"]) == (7, "ann")
        assert play.entries("reload") == []
        send(port, b"beat")
        await play.until(lambda: daemon.intake.beats == 1)


# ── re-arming ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("hangs_up", [True, False])
async def test_a_re_arm_is_not_carried_out_for_a_caller_that_has_hung_up(
    play: Play, monkeypatch: pytest.MonkeyPatch, hangs_up: bool
) -> None:
    monkeypatch.setattr(handlers, "PROVE_WITHIN_S", 0.3)  # the venue cannot be read: the re-arm waits for that long
    async with play.running("a") as daemon:
        play.fire("a")
        play.clear("a")
        await play.until(lambda: is_listening(play.runtime_dir / "control.sock"))
        line = await anyio.connect_unix(play.runtime_dir / "control.sock")
        await line.send(b'{"cmd":"rearm","reason":"all well","force":true}\n')
        if hangs_up:
            await line.aclose()
            await play.until(lambda: play.entries("rearm-asked"))
            await anyio.sleep(0.1)
            assert play.tripped() == ("a",)
            return
        await line.send_eof()  # as a pipe into nc does: the answer is still waited for
        with anyio.fail_after(5.0):
            assert b'"rearmed":["a"]' in await line.receive()
        await line.aclose()
        assert daemon.dispatcher.state.phase is Phase.ARMED


TWO, ONE = "[rearm]\napprovals = 2\n", "[rearm]\napprovals = 1\n"


async def test_while_it_is_tripped_a_reload_cannot_lower_the_approvals(play: Play) -> None:
    async with play.running("a", more=TWO) as daemon:
        play.fire("a")
        play.clear("a")
        play.write("a", more=ONE)
        with pytest.raises(ConfigError, match=r"rearm\.approvals: lowered from 2 to 1, and a is tripped"):
            await daemon.reloader.reload(ANN)
        assert isinstance(daemon.dispatcher.rearm(play.asked(1, "a")), RearmPending)


async def test_while_it_is_tripped_a_restart_cannot_lower_the_approvals_however_often(play: Play) -> None:
    async with play.running("a", more=TWO):
        play.fire("a")
    for _ in range(2):
        async with play.running("a", more=ONE) as daemon:
            play.clear("a")
            assert daemon.dispatcher.rearm(play.asked(1, "a")) == RearmPending(1, 2)
            await daemon.reloader.reload(ANN)  # and a reload of the same file leaves it so
            play.clear("a")
            assert daemon.dispatcher.rearm(play.asked(1, "a")) == RearmPending(1, 2)
    async with play.running("a", more=ONE) as daemon:
        play.clear("a")
        daemon.dispatcher.rearm(play.asked(1, "a"))
        assert isinstance(daemon.dispatcher.rearm(play.asked(2, "a")), RearmGranted)
        await daemon.reloader.reload(ANN)
        assert daemon.dispatcher.state.approvals_needed == 1


async def test_a_latch_that_a_direct_kill_has_left_wants_as_many_approvals_as_when_it_was_left(play: Play) -> None:
    async with play.running("a", more=TWO):
        pass
    (play.state_dir / latch_file.LATCH_NAME).write_bytes(latch_lines.latch_line("by hand", ["a"], now()))
    async with play.running("a", more=ONE) as daemon:
        assert play.tripped() == ("a",) and daemon.dispatcher.state.approvals_needed == 2


async def test_a_start_and_a_reload_record_the_changes_of_the_configuration(play: Play) -> None:
    beat = BEAT.format(timeout="3s", start="boot")
    async with play.running("a", more=TWO + beat) as daemon:
        play.write("a", more=TWO + BEAT.format(timeout="30s", start="boot"))
        await daemon.reloader.reload(ANN)
        [reload] = play.entries("reload")
        assert reload["changed"] == {"triggers.beat.timeout": [3.0, 30.0]}
        assert reload["config"]["triggers.beat.timeout"] == 30.0
    async with play.running("a", more=ONE) as daemon:
        first, second = play.entries("start")
        assert first["changed"] == {} and first["config"]["rearm.approvals"] == 2
        assert second["changed"]["rearm.approvals"] == [2, 1]
        assert second["changed"]["triggers.beat.timeout"] == [30.0, None]
        assert "key-of-the-account" not in str(play.entries("start")) + str(reload)


async def test_a_reload_voids_the_approvals_for_good_and_the_new_number_holds(play: Play) -> None:
    two = "[rearm]\napprovals = 2\n"
    async with play.running("a", more=two) as daemon:
        play.fire("a")
        play.clear("a")
        assert daemon.dispatcher.rearm(play.asked(1, "a")) == RearmPending(1, 2)
        play.write("a", more="[rearm]\napprovals = 3\n")
        await daemon.reloader.reload()
        play.clear("a")
        assert daemon.dispatcher.state.approvals == {}
    async with play.running() as daemon:  # and a restart does not bring them back
        play.clear("a")
        assert daemon.dispatcher.rearm(play.asked(2, "a")) == RearmPending(1, 3)
        assert daemon.dispatcher.rearm(play.asked(3, "a")) == RearmPending(2, 3)
        assert daemon.dispatcher.rearm(play.asked(4, "a")) == RearmGranted(("a",))


async def test_a_wrong_key_that_is_put_right_clears_the_account_that_could_not_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(OxFun, "TIMING", replace(OxFun.TIMING, residue_after_s=0.3))
    with LocalTestbed(["oxfun"]) as stage:
        stage.write_config(daemon='ready = "degraded"')
        key = stage.directory / "oxfun-api_secret"
        right = key.read_text()
        key.write_text("not-the-secret-of-this-account")
        stage.rest("oxfun", 3)
        play = Play(stage.directory)
        async with play.running() as daemon:
            play.fire("oxfun")
            await play.until(lambda: daemon.dispatcher.state.phase is Phase.RESIDUE)
            assert stage.book("oxfun") == 3
            key.write_text(right)
            assert (await daemon.reloader.reload()).describe() == "accounts connected anew: oxfun"
            await play.until(lambda: daemon.dispatcher.state.phase is Phase.CLEAR)
            await play.until(lambda: daemon.dispatcher.sessions["oxfun"].status.is_ready)
            assert stage.book("oxfun") == 0
            stage.rest("oxfun", 2)
            await play.until(lambda: stage.book("oxfun") == 0)  # and it is guarded
        assert right not in daemon.journal.path.read_text()


async def test_the_one_websocket_of_a_user_goes_from_the_old_session_to_the_new_one_without_a_fight() -> None:
    with LocalTestbed(["crosstrade"]) as stage:
        stage.write_config()
        play = Play(stage.directory)
        async with play.running() as daemon:
            await play.until(lambda: daemon.dispatcher.sessions["crosstrade"].status.is_ready)
            for events in ("false", "true", "false"):
                old = daemon.dispatcher.sessions["crosstrade"]
                stage.write_config()
                text = stage.config.read_text()
                stage.config.write_text(
                    text.replace("[accounts.crosstrade]", f"[accounts.crosstrade]\norder_events = {events}")
                )
                await daemon.reloader.reload()
                new = daemon.dispatcher.sessions["crosstrade"]
                assert new is not old
                await play.until(lambda new=new: new.status.is_ready)  # type: ignore[misc]
            await anyio.sleep(0.3)
            assert new.status.is_ready
            assert new.status.unexplained_messages == 0
            assert new.venue.reason_to_stay_disconnected(now()) == ""


# ── latches ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_account_that_left_tripped_comes_back_tripped(play: Play) -> None:
    async with play.running("a", "b"):
        play.fire("a", "b")
    async with play.running("a") as daemon:
        play.write("a", "b")
        await daemon.reloader.reload()
        assert play.tripped() == ("a", "b")
        assert play.entries("reason")[-1]["accounts"] == ["b"]
        play.clear("a", "b")
        assert daemon.dispatcher.rearm(play.asked(1, "b")) == RearmGranted(("b",))
        play.write("a")
        await daemon.reloader.reload()
        play.write("a", "b")
        await daemon.reloader.reload()
        assert play.tripped() == ("a",)  # once is enough


async def test_a_latch_for_an_account_that_comes_with_a_later_reload_is_kept_for_it(play: Play) -> None:
    """A direct kill reads the new file before the daemon does."""
    async with play.running("a") as daemon:
        latch_file.leave_latch(play.state_dir, play.runtime_dir, Reason("direct", "by hand", ("a", "z"), now()))
        await play.until(lambda: play.tripped() == ("a",))
        await play.until(lambda: not (play.state_dir / latch_file.LATCH_NAME).exists())
        play.write("a", "z")
        await daemon.reloader.reload()
        assert play.tripped() == ("a", "z")


async def test_a_latch_that_was_just_left_is_for_the_login_that_a_reload_would_change(play: Play) -> None:
    async with play.running("a") as daemon:
        latch_file.leave_latch(play.state_dir, play.runtime_dir, Reason("direct", "by hand", ("a",), now()))
        play.write("a", env="OTHER")
        with pytest.raises(ConfigError, match=r"changed, and it is (STRIKING|CONFIRMING)"):
            await daemon.reloader.reload()
        assert play.tripped() == ("a",)


async def test_a_latch_for_an_account_that_comes_with_a_later_start_is_kept_for_it(play: Play) -> None:
    async with play.running("a"):
        latch_file.leave_latch(play.state_dir, play.runtime_dir, Reason("direct", "by hand", ("a", "z"), now()))
        await play.until(lambda: play.tripped() == ("a",))
    async with play.running("a", "z"):
        assert play.tripped() == ("a", "z")


async def test_a_reason_that_comes_while_the_file_is_read_is_judged_before_anything_changes(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with play.running("a", "b") as daemon:
        play.write("a")

        loop = asyncio.get_running_loop()

        def fires_first(source: Path) -> Any:
            fired = threading.Event()
            loop.call_soon_threadsafe(play.fire, "b")
            loop.call_soon_threadsafe(fired.set)
            assert fired.wait(5)
            return load(source)

        monkeypatch.setattr("kill_switch.config.loader.load", fires_first)
        with pytest.raises(
            ConfigError, match=r"accounts\.b: removed, and it is (STRIKING|CONFIRMING); re-arm it first"
        ):
            await daemon.reloader.reload()
        assert play.tripped() == ("b",)


async def test_a_retired_session_tells_the_engine_nothing_any_more(play: Play) -> None:
    async with play.running("a") as daemon:
        play.fire("a")
        play.clear("a")
        old = daemon.dispatcher.sessions["a"]
        play.write("a", env="OTHER")
        await daemon.reloader.reload()
        assert daemon.dispatcher.sessions["a"] is not old
        play.clear("a")
        before = daemon.dispatcher.state
        old.read_back()
        old.use_idle_http_lane()
        await anyio.sleep(0.1)  # long enough for a fresh connection to be refused
        assert daemon.dispatcher.state == before
        assert [lane for lane in ("a ws", "a http") if lane not in daemon.reloader._tasks._scopes] == []


# ── triggers ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_heartbeat_that_a_reload_adds_long_after_the_start_trips(play: Play) -> None:
    async with play.running("a") as daemon:
        play.write("a", more=BEAT.format(timeout="100ms", start="boot"))
        await daemon.reloader.reload()
        await play.until(lambda: play.tripped() == ("a",))


async def test_an_account_that_comes_while_the_flag_is_there_is_killed(play: Play) -> None:
    flag = f'[triggers.panic]\nkind = "flag"\npath = "{play.flag}"\n'
    async with play.running("a", more=flag) as daemon:
        play.flag.touch()
        await play.until(lambda: play.tripped() == ("a",))
        play.write("a", "b", more=flag)
        await daemon.reloader.reload()
        await play.until(lambda: play.tripped() == ("a", "b"))


# ── the rest ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_signal_reloads_and_an_invalid_file_is_announced(play: Play) -> None:
    async with play.running("a") as daemon:
        play.write("a", more='[triggers.x]\nkind = "flags"\n')
        os.kill(os.getpid(), signal.SIGHUP)
        await play.until(lambda: any("the configuration is not reloaded" in text for text in play.announced))
        play.write("a", "b")
        os.kill(os.getpid(), signal.SIGHUP)
        await play.until(lambda: "b" in daemon.dispatcher.sessions)
        assert [entry["change"] for entry in play.entries("reload")] == ["accounts added: b"]


async def test_no_secret_is_in_the_record_or_in_a_message(play: Play) -> None:
    async with play.running("a") as daemon:
        play.write("a", env="OTHER", more='[intake]\nudp = "127.0.0.1:0"\nkey = { env = "INTAKE" }\n')
        try:
            await daemon.reloader.reload()
        except ConfigError as error:
            play.announced.append(str(error))
        play.write("a", env="OTHER")
        await daemon.reloader.reload()
        daemon.journal.flush()
        told = (
            daemon.journal.path.read_text() + "".join(play.announced) + orjson.dumps(daemon.handlers.status()).decode()
        )
    for secret in ("secret-of-the-account", "another-secret-of-it", KEY.decode(), "key-of-the-account"):
        assert secret not in told


async def test_a_failing_fsync_is_announced_once(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(fd: int) -> None:
        raise OSError(5, "Input/output error")

    async with play.running("a"):
        monkeypatch.setattr("kill_switch.journal.journal.os.fdatasync", fails)
        play.fire("a")
        await play.until(lambda: any("sync failed" in text for text in play.announced))
        await anyio.sleep(1.2)
        assert sum("sync failed" in text for text in play.announced) == 1


# ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_task_that_is_kept_again_under_its_name_ends_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kill_switch.tasks.RESTART_AFTER_S", 0.0)
    at_work: list[str] = []
    over: list[str] = []

    def work(name: str) -> Callable[[], Any]:
        async def work() -> None:
            at_work.append(name)
            try:
                await anyio.sleep_forever()
            finally:
                at_work.remove(name)
                over.append(name)

        return work

    async with anyio.create_task_group() as group:
        tasks = TaskSupervisor(group)
        tasks.supervise("lane", work("old"))
        await anyio.wait_all_tasks_blocked()
        tasks.supervise("lane", work("new"))
        await anyio.wait_all_tasks_blocked()
        assert at_work == ["new"]
        tasks.supervise("brief", work("brief"))
        tasks.cancel("brief")  # before it has begun
        tasks.cancel("nobody")
        with anyio.fail_after(5.0):
            while "brief" not in over:
                await anyio.lowlevel.checkpoint()
        assert at_work == ["new"]
        tasks.cancel("lane")
        await anyio.wait_all_tasks_blocked()
        assert at_work == []


async def test_a_task_that_ends_or_fails_is_started_again_and_no_other_notices(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kill_switch.tasks.RESTART_AFTER_S", 0.0)
    runs = {"ends": 0, "fails": 0}

    async def ends() -> None:
        runs["ends"] += 1

    async def fails() -> None:
        runs["fails"] += 1
        raise RuntimeError("a fault")

    async with anyio.create_task_group() as group:
        tasks = TaskSupervisor(group)
        tasks.supervise("ends", ends)
        tasks.supervise("fails", fails)
        with anyio.fail_after(5.0):
            while min(runs.values()) < 3:
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert {"task ends ended; it is started again", "task fails failed; it is started again"} <= set(caplog.messages)
