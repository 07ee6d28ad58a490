"""A pnl trigger fires for what the figures of its accounts say together, and for nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest

from kill_switch.core.commands import Announce
from kill_switch.core.domain import Phase, Reason
from kill_switch.triggers.base import TriggerState
from kill_switch.triggers.pnl.baseline import ResetTime
from kill_switch.triggers.pnl.limits import PnlLimits
from kill_switch.triggers.pnl.terms import PnlTerms
from kill_switch.triggers.pnl.trigger import PnlTrigger
from kill_switch.triggers.stall_clock import StallClock
from tests.harness.virtual_time import running

pytestmark = pytest.mark.anyio

START = "2023-11-14T22:13:"  # virtual time begins at :20


def terms(**changed: Any) -> PnlTerms:
    """A hundred may be lost; figures are asked for every five seconds."""
    plain = PnlTerms(
        currency="USD",
        rates={"BTC": Decimal(50_000)},
        limits=limits(max_loss=100),
        confirm=2,
        stale_after_s=30.0,
        warn_at=(),
        reset=ResetTime(0, 0, "UTC"),
        from_accounts=True,
        window_s=6.0,
    )
    return plain._replace(**changed)


def fresh(text: str) -> str:
    """Leave the age of a figure out that has just come."""
    return re.sub(r", 0\.[0-2] s old", "", text)


def limits(max_loss: int | None = None, max_drawdown: int | None = None, floor: int | None = None) -> PnlLimits:
    return PnlLimits(*(None if limit is None else Decimal(limit) for limit in (max_loss, max_drawdown, floor)))


class Desk:
    """A trigger at work; accounts are worth what a test says, and are asked every five seconds."""

    def __init__(
        self,
        accounts: tuple[str, ...] = ("a",),
        *,
        past: Mapping[str, object] | None = None,
        tripped: tuple[str, ...] = (),
        **changed: Any,
    ) -> None:
        self.loop = running()
        self.began_s = self.loop.time()
        self.attention = StallClock(self.loop.now)
        self.records: list[Mapping[str, Any]] = []
        self.said: list[Announce] = []
        self.reasons: list[Reason] = []
        self.phases = dict.fromkeys(tripped, Phase.CLEAR)
        self.trigger = PnlTrigger(
            "daily-loss",
            accounts,
            terms(**changed),
            clock=self.loop.now,
            attention=self.attention,
            record=self.records.append,
            announce=self.said.append,
            past=past,
            phase=lambda name: self.phases.get(name, Phase.ARMED),
        )

    def tell(self, usd: int | str | None = None, account: str = "a", age_s: float = 0.0, **amounts: str) -> None:
        """Let a venue tell what an account is worth."""
        held = {currency: Decimal(amount) for currency, amount in amounts.items()}
        if usd is not None:
            held["USD"] = Decimal(usd)
        self.trigger.on_equity(account, held, self.loop.now().mono_ns - int(age_s * 1e9))

    def report(self, equity: object, age_s: float = 0.0) -> bool:
        return self.trigger.on_external_equity(equity, self.loop.now().wall_ns / 1e9 - age_s)

    async def samples(self, *worths: int | str) -> None:
        """Let account a be worth so much, a sample every five seconds."""
        for usd in worths:
            await anyio.sleep(5)
            self.tell(usd)
        await anyio.sleep(0.15)

    async def reports(self, *worths: int | str) -> None:
        for equity in worths:
            await anyio.sleep(5)
            assert self.report(str(equity))
        await anyio.sleep(0.15)

    @property
    def s(self) -> float:
        return round(self.loop.time() - self.began_s, 3)

    @property
    def state(self) -> str:
        return str(self.trigger.state()[0])

    @property
    def detail(self) -> str:
        return fresh(self.trigger.state()[1])

    @property
    def words(self) -> list[str]:
        return [fresh(f"{announcement.level}: {announcement.text}") for announcement in self.said]

    @property
    def baselines(self) -> list[tuple[str, str]]:
        """Why each day began, and with how much."""
        return [(r["why"], r["day"]["baseline"]) for r in self.records if r["why"] == r.get("day", {}).get("why")]


@asynccontextmanager
async def watching(accounts: tuple[str, ...] = ("a",), **more: Any) -> AsyncIterator[Desk]:
    desk = Desk(accounts, **more)
    async with anyio.create_task_group() as group:
        group.start_soon(desk.attention.run)
        group.start_soon(desk.trigger.run, desk.reasons.append)
        yield desk
        group.cancel_scope.cancel()


# ── it fires, and it does not ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("most", "not_yet", "too_far", "text"),
    [
        (
            limits(max_loss=100),
            "900.01",
            "900",
            "max_loss reached: equity 900 USD, loss 100 of 100 (100%), since 2023-11-14T22:13:35Z (first)",
        ),
        (
            limits(max_drawdown=150),
            "950.01",
            "950",
            "max_drawdown reached: equity 950 USD, drawdown 150 of 150 (100%), since 2023-11-14T22:13:35Z (first)",
        ),
        (
            limits(floor=800),
            "800.01",
            "800",
            "floor reached: equity 800 USD, floor 800, since 2023-11-14T22:13:35Z (first)",
        ),
    ],
)
async def test_it_fires_at_each_limit_and_a_cent_above_it_never(
    most: PnlLimits, not_yet: str, too_far: str, text: str
) -> None:
    async with watching(limits=most) as desk:
        await desk.samples(1000, 1000, 1000, 1100, 1100, *[not_yet] * 50)
        assert (desk.reasons, desk.state) == ([], TriggerState.OK)
        await desk.samples(too_far)
        assert desk.reasons == []
        await desk.samples(too_far)
        (reason,) = desk.reasons
        assert (reason.trigger, reason.accounts) == ("daily-loss", ("a",))
        assert fresh(reason.text) == text
        assert desk.trigger.state()[0] is TriggerState.TRIPPED
        await desk.samples(*[too_far] * 10)
        assert len(desk.reasons) == 1


async def test_the_reason_has_the_inputs_of_every_sample_that_confirmed_it() -> None:
    async with watching(("a", "b"), limits=limits(max_loss=100, floor=10)) as desk:
        for a, btc in ((500, "0.01"), (500, "0.01"), (500, "0.01"), (450, "0.009"), (420, "0.009")):
            await anyio.sleep(3)
            desk.tell(a)
            await anyio.sleep(2)
            desk.tell(None, "b", BTC=btc, USD="5")
        await anyio.sleep(0.2)
        (reason,) = desk.reasons
        evidence = dict(reason.evidence)
        samples = evidence.pop("samples")
        assert evidence == {
            "reached": ("max_loss",),
            "currency": "USD",
            "rates": {"BTC": "50000"},
            "limits": {"max_loss": "100", "floor": "10"},
            "baseline": "1005.00",
            "peak": "1005.00",
            "since": f"{START}35Z",
            "confirm": 2,
            "ignored": 0,
        }
        assert isinstance(samples, list)
        assert [sample["equity"] for sample in samples] == ["905.000", "875.000"]
        assert samples[1]["accounts"] == {
            "a": {"amounts": {"USD": "420"}, "worth": "420", "age_ms": pytest.approx(2050, abs=60)},
            "b": {"amounts": {"BTC": "0.009", "USD": "5"}, "worth": "455.000", "age_ms": pytest.approx(50, abs=60)},
        }
        assert reason.observed_at.mono_ns == samples[1]["mono_ns"] > samples[0]["mono_ns"]
        assert desk.records[-1]["why"] == "fired" and desk.records[-1]["fired"] == reason.text


async def test_one_figure_is_one_sample_however_long_it_is_valid() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000, 1)
        await anyio.sleep(20)
        assert desk.reasons == []
        await desk.samples(1)
        assert len(desk.reasons) == 1


async def test_figures_of_several_accounts_count_together() -> None:
    async with watching(("a", "b")) as desk:
        for a, b in ((1000, 1000), (1000, 1000), (1000, 1000), (500, 1500), (500, 1500), (2000, -99), (2000, -99)):
            await anyio.sleep(5)
            desk.tell(a)
            desk.tell(b, "b")
        await anyio.sleep(0.2)
        assert desk.reasons == []
        assert "loss 99 of 100" in desk.detail


async def test_figures_of_different_windows_make_no_sample() -> None:
    async with watching(("a", "b")) as desk:
        for _ in range(3):
            await anyio.sleep(5)
            desk.tell(1000)
            desk.tell(1000, "b")
        await anyio.sleep(5)
        desk.tell(500)  # what has gone over to b, of which the figure is seven seconds late
        await anyio.sleep(7)
        desk.tell(1501, "b")
        await anyio.sleep(7)
        desk.tell(500)
        await anyio.sleep(10)
        assert "equity 2000 USD" in desk.detail
        await anyio.sleep(13)
        assert desk.trigger.state() == (
            TriggerState.BLIND,
            "the figures of a, b are never from the same 6 s",
        )
        assert desk.reasons == []


async def test_figures_of_accounts_that_are_not_watched_are_nothing_to_it() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000)
        desk.tell(1, "b")
        desk.trigger.on_transfer("b", "USD", Decimal(-500))
        await desk.samples(1000)
        assert desk.detail == f"equity 1000 USD, profit 0, max_loss 100, since {START}35Z (first)"


@pytest.mark.long
async def test_many_seconds_of_good_figures_trip_nothing() -> None:
    async with watching(limits=limits(100, 100, 900)) as desk:
        await desk.samples(*[1000 + (n * 37) % 99 for n in range(2000)])
        assert desk.reasons == []
        assert [baseline[0] for baseline in desk.baselines] == ["first", "reset"]


# ── rates ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_currency_without_a_rate_is_blindness_with_clear_words() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000)
        assert desk.state == TriggerState.OK
        for _ in range(7):
            await anyio.sleep(5)
            desk.tell(100, ETH="3", XRP="2.5")
            if desk.state == TriggerState.OK:
                assert "; a holds 3 ETH, 2.5 XRP, and rates has none" in desk.detail
        state, detail = desk.trigger.state()
        assert state is TriggerState.BLIND
        assert detail.startswith("a holds 3 ETH, 2.5 XRP, and rates has none")
        await desk.samples(1000)
        assert (desk.state, desk.reasons) == (TriggerState.OK, [])


async def test_before_the_first_figure_with_a_rate_the_trigger_waits_and_names_the_rate() -> None:
    async with watching() as desk:
        assert desk.trigger.state() == (TriggerState.WAITING, "waits for figure of a")
        desk.tell(100, ETH="3")
        assert desk.detail.startswith("waits for figure of a; a holds 3 ETH, and rates has none")


# ── blind ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_without_a_figure_it_is_blind_after_the_time_allowed_and_not_before() -> None:
    async with watching(("a", "b")) as desk:
        await anyio.sleep(5)
        desk.tell(1000)
        desk.tell(1000, "b")
        await anyio.sleep(0.2)
        for _ in range(5):
            await anyio.sleep(5)
            desk.tell(1000)
        await anyio.sleep(4.7)
        assert desk.state == TriggerState.WAITING  # for its baseline
        await anyio.sleep(0.2)
        assert desk.trigger.state() == (TriggerState.BLIND, "no figure of b for 30 s")
        for _ in range(2):
            await anyio.sleep(5)
            desk.tell(1000)
            desk.tell(1000, "b")
        await anyio.sleep(0.2)
        assert (desk.state, desk.reasons) == (TriggerState.OK, [])


async def test_an_account_without_any_figure_is_blindness() -> None:
    async with watching(("a", "b")) as desk:
        await anyio.sleep(30)
        assert desk.state == TriggerState.WAITING
        await anyio.sleep(0.1)
        assert desk.trigger.state() == (TriggerState.BLIND, "no figures of a, b for 30 s")


async def test_samples_on_both_sides_of_a_blind_time_are_in_a_row() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000, 900)
        await anyio.sleep(31)
        assert desk.state == TriggerState.BLIND
        await desk.samples(901)
        assert desk.reasons == []
        await desk.samples(900)
        await anyio.sleep(31)
        await desk.samples(900)
        assert len(desk.reasons) == 1


async def test_a_figure_that_was_asked_for_long_ago_is_no_sample() -> None:
    async with watching() as desk:
        desk.tell(1000, age_s=30.1)
        await anyio.sleep(1)
        assert desk.state == TriggerState.WAITING


@pytest.mark.parametrize("stall_s", [20.0, 60.0, 3600.0])
async def test_time_in_which_we_were_deaf_does_not_count(stall_s: float) -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000)
        await anyio.sleep(20)
        desk.loop.stall(stall_s)
        assert desk.state == TriggerState.OK
        await anyio.sleep(9)
        assert desk.state == TriggerState.OK
        await anyio.sleep(2)
        assert desk.state == TriggerState.BLIND


async def test_a_wall_clock_that_jumps_trips_and_hides_nothing() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000)
        for jump_s in (-3600, 7200, -3600):
            desk.loop.jump_wall(jump_s)
            await desk.samples(950, 950)
        assert (desk.reasons, desk.state) == ([], TriggerState.OK)
        await desk.samples(900, 900)
        assert len(desk.reasons) == 1


# ── figures from outside ──────────────────────────────────────────────────────────────────────────────────────────


async def test_figures_from_outside_fire_and_do_not() -> None:
    async with watching(from_accounts=False) as desk:
        assert desk.trigger.state() == (TriggerState.WAITING, "waits for figure from outside")
        desk.tell(5)  # a venue's figure is nothing to it, nor is a transfer
        desk.trigger.on_transfer("a", "USD", Decimal(500))
        await desk.reports(1000, "1000.5", 1000, "900.01", "900.01", "900.01", 900)
        assert desk.reasons == []
        await desk.reports(900)
        (reason,) = desk.reasons
        samples = reason.evidence["samples"]
        assert isinstance(samples, list)
        assert samples[0]["accounts"]["intake"]["amounts"] == {"USD": "900"}


async def test_a_trigger_with_figures_of_its_accounts_takes_none_from_outside() -> None:
    async with watching() as desk:
        assert not desk.report("1000")
        await anyio.sleep(1)
        assert desk.detail == "waits for figure of a"


@pytest.mark.parametrize(
    ("equity", "at_s", "why"),
    [
        ("NaN", 0.0, '"equity" is no plain decimal number'),
        (None, 0.0, '"equity" is no plain decimal number'),
        ("1000", None, '"at" is no time'),
        ("1000", "now", '"at" is no time'),
        ("1000", True, '"at" is no time'),
        ("1000", math.inf, '"at" is no time'),
        ("1000", math.nan, '"at" is no time'),
        ("1000", 1.5, "from the future"),
        ("1000", -30.5, "too old"),
        ("1000", -1.0, "not newer than the one before"),
        ("1000", -2.0, "not newer than the one before"),
    ],
)
async def test_an_invalid_figure_is_ignored_counted_and_reported(equity: object, at_s: Any, why: str) -> None:
    async with watching(from_accounts=False) as desk:
        assert why == "too old" or desk.report("1000", age_s=1.0)
        await anyio.sleep(0.2)
        now_s = desk.loop.now().wall_ns / 1e9 - 0.2
        exact = isinstance(at_s, float) and math.isfinite(at_s)
        assert not desk.trigger.on_external_equity(equity, now_s + at_s if exact else at_s)
        assert desk.detail.endswith(f"; 1 figure(s) ignored, the last: {why}")
        await anyio.sleep(30)
        assert desk.trigger.state() == (
            TriggerState.BLIND,
            f"no figure from outside for 30 s; 1 figure(s) ignored, the last: {why}",
        )


async def test_a_figures_age_is_that_of_its_sender() -> None:
    async with watching(from_accounts=False) as desk:
        assert desk.report("1000", age_s=29.0)
        await anyio.sleep(0.2)
        assert desk.detail.startswith("equity 1000 USD, 29.2 s old")
        await anyio.sleep(1)
        assert desk.state == TriggerState.BLIND


async def test_a_clock_that_is_set_back_does_not_exclude_figures_from_outside() -> None:
    async with watching(from_accounts=False) as desk:
        assert desk.report("1000")
        desk.loop.jump_wall(-3600)
        await desk.reports(1000, 1000)
        assert desk.trigger.state()[0] is TriggerState.OK


async def test_a_senders_clock_may_be_a_little_ahead() -> None:
    async with watching(from_accounts=False) as desk:
        assert desk.report("1000", age_s=-0.9)
        await desk.reports(1000, 1000)
        assert [baseline for _, baseline in desk.baselines] == ["1000"]


# ── warnings, and what is said ────────────────────────────────────────────────────────────────────────────────────


async def test_a_warning_is_announced_once_and_recorded() -> None:
    async with watching(warn_at=(50, 90)) as desk:
        await desk.samples(1000, 1000, 1000, 950, 950, 950, 1000, 1000, 940, 940)
        assert desk.words == [
            "info: trigger daily-loss: baseline 1000 USD (first)",
            "warn: trigger daily-loss: 50% of max_loss is used up: equity 950 USD, loss 50 of 100 (50%), "
            f"since {START}35Z (first)",
        ]
        assert desk.records[-1]["why"] == "warn"
        assert desk.records[-1]["day"]["warned"] == {"max_loss": 50}


async def test_figures_are_shown_with_their_limits() -> None:
    async with watching(limits=limits(100, 200, 300)) as desk:
        assert desk.trigger.measurements() == {}
        await desk.samples(1000, 1000, 1000, 1100, 1100, 970)
        await anyio.sleep(0.85)
        assert desk.trigger.measurements() == {
            "equity": (970.0, 300.0),
            "age_s": (pytest.approx(1.0), 30.0),
            "loss": (30.0, 100.0),
            "drawdown": (130.0, 200.0),
        }
    async with watching(limits=limits(max_loss=1)) as desk:
        await desk.samples(1000)
        assert set(desk.trigger.measurements()) == {"equity", "age_s"}
        assert math.isnan(desk.trigger.measurements()["equity"][1])


async def test_before_the_baseline_it_says_how_many_samples_are_missing() -> None:
    async with watching(limits=limits(max_loss=100, floor=5)) as desk:
        await desk.samples(1000)
        assert desk.detail == "equity 1000 USD, the baseline stands after 2 more sample(s), floor 5"


async def test_small_amounts_are_shown_with_their_places() -> None:
    pnl_limits = PnlLimits(Decimal("0.05"), None, None)
    async with watching(currency="BTC", rates={}, limits=pnl_limits) as desk:
        for btc in ("1.5", "1.5", "1.5", "1.4876543219"):
            await anyio.sleep(5)
            desk.tell(None, BTC=btc)
        await anyio.sleep(0.15)
        assert desk.detail.startswith("equity 1.48765432 BTC, loss 0.01234568 of 0.05 (25%)")


async def test_tripped_it_goes_on_telling_where_equity_is_and_that_it_is_blind() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000, 900, 900, 950)
        fired = fresh(desk.reasons[0].text)
        assert desk.detail == (f"{fired}; now equity 950 USD, loss 50 of 100 (50%), since {START}35Z (first)")
        await anyio.sleep(31)
        assert (desk.state, desk.detail) == (TriggerState.TRIPPED, f"{fired}; now no figure of a for 30 s")


@pytest.mark.parametrize("wild", ["999999999999999999", "-999999999999999998.5"])
async def test_the_largest_figures_that_are_taken_can_be_shown(wild: str) -> None:
    async with watching(rates={"BTC": Decimal("999999999999999999")}) as desk:
        await desk.samples(wild)
        desk.tell(None, BTC=wild)
        await desk.samples(wild, wild)
        assert desk.state == TriggerState.OK
        assert "1 figure(s) ignored" in desk.detail


# ── deposits and withdrawals ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_withdrawal_that_the_venue_tells_is_no_loss() -> None:
    async with watching(limits=limits(100, 100, None)) as desk:
        await desk.samples(1000, 1000, 1000)
        await anyio.sleep(60)
        desk.trigger.on_transfer("a", "USD", Decimal(-600))
        assert desk.records[-1]["why"] == "transfer"
        assert desk.records[-1]["moved"] == {"account": "a", "currency": "USD", "amount": "-600"}
        assert desk.records[-1]["day"]["baseline"] == "400"
        await desk.samples(400, 400, 301, 301)
        assert desk.reasons == []
        await desk.samples(300, 300)
        assert len(desk.reasons) == 1


async def test_a_deposit_in_another_currency_counts_at_its_rate_and_hides_no_loss() -> None:
    async with watching(("a", "b")) as desk:
        for _ in range(3):
            await anyio.sleep(5)
            desk.tell(1000)
            desk.tell(0, "b")
        await anyio.sleep(61)
        desk.trigger.on_transfer("b", "BTC", Decimal("0.01"))
        for _ in range(2):
            await anyio.sleep(5)
            desk.tell(900)
            desk.tell(None, "b", BTC="0.01")
        await anyio.sleep(0.2)
        assert "max_loss reached: equity 1400 USD" in desk.reasons[0].text


async def test_a_figure_that_was_asked_for_before_the_word_counts_with_the_transfer_or_without() -> None:
    for usd in (1000, 1600):
        async with watching() as desk:
            await desk.samples(1000, 1000, 1000)
            await anyio.sleep(61)
            desk.trigger.on_transfer("a", "USD", Decimal(600))
            desk.tell(usd, age_s=0.1)
            await desk.samples(1600, 1600)
            assert desk.reasons == []
            await desk.samples(1500, 1500)
            assert len(desk.reasons) == 1


@pytest.mark.parametrize(("currency", "amount"), [("ETH", "5"), ("USD", "0"), ("USD", "NaN"), ("USD", "1e30")])
async def test_a_transfer_that_cannot_be_counted_moves_nothing(currency: str, amount: str) -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000)
        known = len(desk.records)
        desk.trigger.on_transfer("a", currency, Decimal(amount))
        await desk.samples(1000, 1000)
        assert len(desk.records) == known
        assert "profit 0" in desk.detail


# ── the day ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_day_begins_at_the_reset_and_as_much_may_be_lost_again() -> None:
    async with watching(reset=ResetTime(17, 15, "America/New_York")) as desk:  # 22:15 UTC
        await desk.samples(1000, 1000, 1000, *[920] * 30, *[840] * 30)
        assert desk.reasons == []
        assert desk.baselines == [("first", "1000"), ("reset", "920")]
        day = desk.records[-1]["day"]
        there = datetime.fromtimestamp(day["since_ns"] / 1e9, ZoneInfo("America/New_York"))
        assert f"{there:%H:%M}" == "17:15"


# ── the re-arm ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_rearm_begins_anew_and_as_much_may_be_lost_again() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000, 900, 900)
        assert desk.trigger.rearm_blocker() is None
        desk.trigger.on_rearmed()
        assert desk.records[-1]["why"] == "re-arm" and desk.records[-1]["fired"] == ""
        assert "day" not in desk.records[-1]
        await desk.samples(900, 900, 900)
        assert desk.baselines[-1] == ("re-arm", "900")
        await desk.samples(*["800.01"] * 5)
        assert len(desk.reasons) == 1
        await desk.samples(800, 800)
        assert len(desk.reasons) == 2


async def test_a_rearm_for_another_reason_is_no_profit() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000, 950, 950)
        desk.trigger.on_rearmed()
        await desk.samples(900, 900)
        assert len(desk.reasons) == 1


async def test_a_floor_refuses_the_rearm_until_equity_is_above_it() -> None:
    async with watching(limits=limits(floor=800)) as desk:
        await desk.samples(1000, 1000, 1000)
        assert desk.trigger.rearm_blocker() is None
        await desk.samples(800, 800)
        assert fresh(desk.trigger.rearm_blocker() or "") == (
            f"equity 800 USD, floor 800, since {START}35Z (first); "
            "it would fire again as long as equity is not above the floor"
        )
        await desk.samples(801)
        assert desk.trigger.rearm_blocker() is None


# ── the restart ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_day_goes_on_after_a_restart() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000, 950, 950)
    async with watching(past=desk.records[-1]) as again:
        await again.samples("900.01", "900.01", 900)
        assert (again.reasons, again.records, again.said) == ([], [], [])
        await again.samples(900)
        assert "loss 100 of 100 (100%)" in again.reasons[0].text


async def test_a_peak_outlives_an_orderly_stop_and_of_a_crash_nearly() -> None:
    async with watching(limits=limits(max_drawdown=1000)) as desk:
        await desk.samples(5000, 5000, 5000, 5009, 5009)
        assert desk.records[-1]["day"]["peak"] == "5000"
        await desk.samples(5010, 5010, 5019, 5019)
        assert desk.records[-1]["why"] == "peak"
        crashed = desk.records[-1]
        assert crashed["day"]["peak"] == "5010"
    assert desk.records[-1]["why"] == "stop"
    assert desk.records[-1]["day"]["peak"] == "5019"
    async with watching(limits=limits(max_drawdown=1000), past=desk.records[-1]) as again:
        await again.samples("4019.01", "4019.01", 4019, 4019)
        assert len(again.reasons) == 1
    assert again.records[-1]["why"] == "fired"  # nothing more to say at the stop


@pytest.mark.parametrize(
    ("changed", "accounts"),
    [
        ({}, ("a", "b")),
        ({"rates": {"BTC": Decimal(60_000)}}, ("a",)),
        ({"currency": "BTC", "rates": {"USD": Decimal(1)}}, ("a",)),
        ({"from_accounts": False}, ("a",)),
    ],
)
async def test_changed_figures_start_a_new_baseline_which_is_announced(
    changed: dict[str, Any], accounts: tuple[str, ...]
) -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000)
    async with watching(accounts, past=desk.records[-1], **changed) as again:
        for _ in range(3):
            await anyio.sleep(5)
            again.report("800")
            for account in accounts:
                again.tell(800 // len(accounts), account)
        await anyio.sleep(0.2)
        assert again.reasons == []
        currency = changed.get("currency", "USD")
        assert again.words == [
            f"warn: trigger daily-loss: baseline 800 {currency} (other figures than before); nothing was lost before"
        ]


async def test_other_limits_than_before_keep_the_day() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000)
    async with watching(limits=limits(max_loss=50), confirm=1, past=desk.records[-1]) as again:
        await again.samples(950)
        assert len(again.reasons) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"baseline": "much"},
        {"peak": "NaN"},
        {"peak": "1e999999"},
        {"date": None},
        {"since_ns": 10**30},
        {"warned": 5},
        {"warned": {"max_loss": None}},
    ],
)
async def test_an_unreadable_record_starts_a_new_baseline_which_is_announced(wrong: dict[str, Any]) -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000)
    past = {**desk.records[-1], "day": {**desk.records[-1]["day"], **wrong}}
    async with watching(past=past) as again:
        await again.samples(800, 800, 800)
        [said] = again.words
        assert said.startswith(
            "warn: trigger daily-loss: baseline 800 USD (the record of the day cannot be understood); "
        )
        assert said.endswith(("nothing was lost before", "is not counted any more"))


async def test_a_trigger_that_fired_stays_tripped_over_a_restart_with_its_reason() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000, 900, 900)
    fired = desk.reasons[0].text
    async with watching(past=desk.records[-1], tripped=("a",)) as again:
        assert again.trigger.state() == (TriggerState.TRIPPED, f"{fired}; now no equity is known yet")
        await again.samples(900, 900, 900)
        assert again.reasons == []
        again.phases.clear()
        again.trigger.on_rearmed()
        await again.samples(900, 900, 900)
        assert again.baselines == [("re-arm", "900")]


async def both(desk: Desk, *worths: int) -> None:
    """Let accounts a and b be worth so much each, a sample every five seconds."""
    for usd in worths:
        await anyio.sleep(5)
        desk.tell(usd, "a")
        desk.tell(usd, "b")
    await anyio.sleep(0.15)


async def test_some_accounts_cannot_be_rearmed_alone_while_a_limit_is_reached() -> None:
    async with watching(("a", "b")) as desk:
        await both(desk, 500, 500, 500, 450, 450)
        assert len(desk.reasons) == 1
        desk.phases.update(a=Phase.CLEAR, b=Phase.RESIDUE)
        assert fresh(desk.trigger.partial_rearm_blocker({"a"}) or "") == (
            "equity 900 USD, loss 100 of 100 (100%), since 2023-11-14T22:13:35Z (first); "
            "a new day begins only if b is re-armed with it"
        )
        assert desk.trigger.partial_rearm_blocker({"a", "b"}) is None
        desk.phases["b"] = Phase.ARMED
        assert desk.trigger.partial_rearm_blocker({"a"}) is None  # the last of them
        desk.phases.clear()
        desk.trigger.on_rearmed()
        await both(desk, 450, 450, 450)
        assert desk.baselines[-1] == ("re-arm", "900")
        assert len(desk.reasons) == 1


async def test_after_a_rearm_of_some_accounts_the_day_goes_on_and_it_fires_again() -> None:
    async with watching(("a", "b")) as desk:
        await both(desk, 500, 500, 500, 450, 450, 455)
        desk.phases["b"] = Phase.CLEAR
        assert desk.trigger.partial_rearm_blocker({"a"}) is None  # equity has come back
        desk.trigger.on_rearmed()
        assert desk.state == TriggerState.OK
        assert [(r["why"], r["fired"], r["day"]["baseline"]) for r in desk.records[-1:]] == [("re-arm", "", "1000")]
        await both(desk, 455, 450)
        assert len(desk.reasons) == 1
        await both(desk, 450)
        assert len(desk.reasons) == 2
        assert desk.baselines == [("first", "1000")]


async def test_a_loss_before_a_rearm_does_not_fire_again_when_a_transfer_is_explained_later() -> None:
    async with watching(("a", "b")) as desk:

        async def samples(count: int, a: int, b: int) -> None:
            for _ in range(count):
                await anyio.sleep(5)
                desk.tell(a, "a")
                desk.tell(b, "b")
            await anyio.sleep(0.15)

        await samples(3, 500, 500)
        desk.trigger.on_transfer("a", "USD", Decimal(200))
        await samples(26, 700, 500)
        await samples(2, 700, 400)
        assert len(desk.reasons) == 1
        await samples(1, 700, 500)  # it has come back
        desk.phases["b"] = Phase.CLEAR
        assert desk.trigger.partial_rearm_blocker({"a"}) is None
        desk.trigger.on_rearmed()
        await samples(20, 700, 500)
        assert len(desk.reasons) == 1
        await samples(2, 700, 400)
        assert len(desk.reasons) == 2


async def test_a_trigger_that_has_not_fired_allows_a_rearm_of_some_accounts() -> None:
    async with watching(("a", "b")) as desk:
        await both(desk, 500, 500, 500)
        desk.phases.update(a=Phase.CLEAR, b=Phase.CLEAR)
        await both(desk, 450)  # once is not confirmed
        assert desk.trigger.partial_rearm_blocker({"a"}) is None
        desk.phases.clear()
        await both(desk, 450)
        desk.phases.update(a=Phase.CLEAR, b=Phase.CLEAR)
        assert desk.trigger.partial_rearm_blocker({"a"}) is not None


async def test_a_rearm_of_some_accounts_while_the_daemon_was_down_keeps_the_day() -> None:
    async with watching(("a", "b")) as desk:
        await both(desk, 500, 500, 500, 450, 450)
    async with watching(("a", "b"), past=desk.records[-1], tripped=("b",)) as again:
        assert again.state == TriggerState.WAITING
        await both(again, 455, 455)
        assert again.baselines == []
        await both(again, 450, 450)
        assert len(again.reasons) == 1


async def test_a_rearm_while_the_daemon_was_down_starts_a_new_baseline() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000, 900, 900)
    async with watching(past=desk.records[-1]) as again:
        await again.samples(900, 900, 900)
        assert (again.reasons, again.state) == ([], TriggerState.OK)
        assert again.baselines == [("re-arm", "900")]


async def test_a_restart_after_a_rearm_and_before_the_new_baseline_begins_anew() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000, 900, 900)
        desk.trigger.on_rearmed()
    async with watching(past=desk.records[-1]) as again:
        await again.samples(900, 900, 900)
        assert again.baselines == [("re-arm", "900")]


async def test_a_restart_does_not_confirm_a_single_sample_before_it() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000, 900)
    async with watching(past=desk.records[-1]) as again:
        await again.samples(900)
        assert again.reasons == []


async def test_a_crash_right_behind_the_reason_fires_again_and_not_otherwise() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000, 900, 900)
    assert desk.records[-1]["why"] == "fired"
    async with watching(past=desk.records[-2], tripped=("a",)) as again:
        await again.samples(900, 900)
        assert len(again.reasons) == 1
