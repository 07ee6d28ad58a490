"""A start is announced at once; of a crash loop people get three messages, one an hour, and one when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kill_switch import clock
from kill_switch.core.commands import Announce
from kill_switch.core.domain import Instant, Severity
from kill_switch.core.records import ReloadRecord
from kill_switch.core.state import State
from kill_switch.daemon.start_and_stop import StartReporter
from kill_switch.journal.checkpoint import JournalSnapshot
from kill_switch.journal.journal import Journal
from kill_switch.journal.records import StopRecord

INVENTORY = {"accounts": {}, "triggers": {"panic": "flag"}, "config": {}, "changed": {}}
MINUTE, HOUR = 60.0, 3600.0


class Host:
    """A host with one journal, on which daemons start and end in virtual time; messages arrive unless it has no net."""

    def __init__(self) -> None:
        self.now = Instant(1_000_000_000_000, 1_700_000_000_000_000_000)
        self.snapshot = JournalSnapshot()
        self.messages: list[tuple[float, Announce]] = []  # seconds since the beginning, and what people have got
        self.log: list[Announce] = []
        self.has_net = True
        self._began = self.now
        self._outbox: list[Announce] = []
        self._sent = self._seq = 0

    @property
    def contents(self) -> Any:
        return SimpleNamespace(entries=self.snapshot.entries(), torn=None)

    def append(self, kind: str, data: Mapping[str, Any], at: Instant) -> None:
        self._seq += 1
        entry = {"seq": self._seq, "at": clock.iso(at.wall_ns), "mono_ns": at.mono_ns, "boot": "b"}
        self.snapshot.apply({**entry, "kind": kind, "data": data, "prev": "", "hash": "h"})

    def flush(self) -> bool:
        return True

    def live(self, seconds: float, *, ends: str = "killed", reloads: bool = False, others: int = 0) -> None:
        """Start a daemon that lives as long, sends `others` messages besides, and is killed or stopped."""
        self._sent, self._outbox = others, []
        starts = StartReporter(cast(Journal, self), lambda: self.now, self._announce, lambda: self._sent)
        starts.record(INVENTORY)
        starts.announce(State({}), 1)
        if reloads:
            self.append(ReloadRecord.kind, ReloadRecord(triggers={"panic": "flag"}).to_json(), self.now)
        while seconds > 0:
            self.pass_time(min(seconds, 2.0))
            seconds -= 2.0
            if self.has_net:
                self._sent += len(self._outbox)
                self.messages += [((self.now.wall_ns - self._began.wall_ns) / 1e9, news) for news in self._outbox]
                self._outbox = []
            starts.check()
        if ends == "stopped":
            self.append(StopRecord.kind, StopRecord(state="ARMED").to_json(), self.now)

    def pass_time(self, seconds: float) -> None:
        ns = round(seconds * 1e9)
        self.now = Instant(self.now.mono_ns + ns, self.now.wall_ns + ns)

    def set_clock(self, seconds: float) -> None:
        self.now = self.now._replace(wall_ns=self.now.wall_ns + round(seconds * 1e9))

    def roll_journal(self) -> None:
        """Begin another file of the journal, which has no more than the checkpoint."""
        moved, self.snapshot = self.snapshot, JournalSnapshot()
        self.append("checkpoint", moved.to_json(), self.now)

    def _announce(self, news: Announce) -> None:
        self.log.append(news)
        if news.level is not Severity.INFO:
            self._outbox.append(news)


@pytest.fixture
def host() -> Host:
    return Host()


def test_a_single_restart_is_announced_at_once(host: Host) -> None:
    host.live(HOUR)
    host.live(HOUR)
    assert [at for at, _ in host.messages] == [2.0, HOUR + 2.0]
    assert "without a stop, after" in host.messages[1][1].text and "from now on" not in host.messages[1][1].text


def test_the_third_message_of_a_crash_loop_says_so_and_names_the_next(host: Host) -> None:
    for _ in range(100):
        host.live(4.0)
    texts = [news.text for _, news in host.messages]
    assert len(texts) == 3 and all("starts without a stop" not in text for text in texts[:2])
    said = "; 3 starts without a stop since 2023-11-14T22:13:20.000000Z: the next message about it comes in 1 h"
    assert texts[2].endswith(f"{said}, or once it runs for 10 min")


def test_a_crash_loop_of_six_hours_is_announced_once_an_hour_though_the_journal_goes_on_in_other_files(
    host: Host,
) -> None:
    for _ in range(600):
        host.live(6.0, reloads=True)
        host.pass_time(30.0)
        host.roll_journal()
    times = [at for at, _ in host.messages]
    assert times == pytest.approx([2, 38, 74, *(74 + number * HOUR for number in range(1, 6))], abs=36)


def test_each_start_of_a_crash_loop_is_in_the_log(host: Host) -> None:
    for _ in range(10):
        host.live(4.0)
    assert len(host.log) == 10
    assert host.log[-1].level is Severity.INFO and "10 starts without a stop since" in host.log[-1].text


def test_the_end_of_a_crash_loop_is_announced_once_and_later_starts_are_announced_at_once(host: Host) -> None:
    for _ in range(10):
        host.live(4.0)
    host.messages.clear()
    host.live(HOUR)
    (at, over), *others = host.messages
    assert not others and at == pytest.approx(10 * 4.0 + 10 * MINUTE, abs=5.0)
    assert over.level is Severity.OVER
    assert (
        over.text == "the daemon has run for 10 min, after 11 starts without a stop since 2023-11-14T22:13:20.000000Z"
    )
    host.live(4.0)
    assert host.messages[-1][1].level is Severity.START and "starts without" not in host.messages[-1][1].text


def test_a_loop_of_two_starts_has_no_end_to_announce(host: Host) -> None:
    host.live(4.0)
    host.live(HOUR)
    assert [news.level for _, news in host.messages] == [Severity.START] * 2


@pytest.mark.parametrize("crashes", [1, 10])
def test_a_start_after_an_orderly_stop_is_announced_in_a_crash_loop_too(host: Host, crashes: int) -> None:
    for _ in range(crashes):
        host.live(4.0)
    for _ in range(5):
        host.live(4.0, ends="stopped")
        before = len(host.messages)
        host.live(4.0, ends="stopped")
        assert len(host.messages) == before + 1


def test_a_message_that_has_not_arrived_counts_for_nothing(host: Host) -> None:
    host.has_net = False
    for _ in range(50):
        host.live(4.0)
    host.has_net = True
    for _ in range(50):
        host.live(4.0)
    assert len(host.messages) == 3 and "53 starts without a stop since" in host.messages[-1][1].text


def test_messages_of_a_start_that_is_not_announced_do_not_put_off_the_next_one(host: Host) -> None:
    for number in range(1000):
        host.live(4.0, others=number > 5)
    assert [at for at, _ in host.messages] == pytest.approx([2, 6, 10, HOUR + 10], abs=4)


@pytest.mark.parametrize("seconds", [-30 * 86_400.0, 30 * 86_400.0])
def test_a_clock_that_is_set_silences_no_start(host: Host, seconds: float) -> None:
    for _ in range(10):
        host.live(4.0)
    host.messages.clear()
    host.set_clock(seconds)
    host.live(4.0)
    assert len(host.messages) == 1


def test_starts_of_an_earlier_version_are_no_row(host: Host) -> None:
    for _ in range(10):
        host.append("start", {"version": "0.1.0", "triggers": {}}, host.now)
    host.live(4.0)
    assert len(host.messages) == 1 and "starts without a stop" not in host.messages[0][1].text
