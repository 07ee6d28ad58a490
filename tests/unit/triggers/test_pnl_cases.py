"""Each row of the table in docs/guides/triggers/pnl.md: what the trigger sees, its state, and whether it fires."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import anyio
import pytest

from kill_switch.core.domain import Phase
from kill_switch.triggers import stall_clock
from kill_switch.triggers.base import TriggerState, Unseen
from kill_switch.triggers.pnl.baseline import ResetTime
from tests.unit.triggers.test_pnl import Desk, limits, watching

pytestmark = pytest.mark.anyio

AT_1715 = ResetTime(17, 15, "America/New_York")  # 22:15 UTC: 100 s after the start of virtual time
DAY_S = 86_400


@pytest.fixture(autouse=True)
def coarse_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stall clock tick once a second, because no test here stalls, and its ticks are half of the work."""
    monkeypatch.setattr(stall_clock, "TICK_S", 1.0)


def move(desk: Desk, amount: int | str, account: str = "a", currency: str = "USD") -> None:
    desk.trigger.on_transfer(account, currency, Decimal(amount))


def warnings(desk: Desk) -> list[str]:
    return [said for said in desk.words if said.startswith("warn")]


# ── transfers ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("amount", [1, -1, 20, -20, 500, -500])
async def test_a_transfer_after_each_figure_does_not_switch_the_limit_off(amount: int) -> None:
    async with watching() as desk:
        held, lost = 100_000, 0
        while not desk.reasons and lost < 700:
            await desk.samples(held)
            held += amount - 10
            lost += 10
            move(desk, amount)
        assert desk.reasons
        assert lost <= 100 + 30 + 30 * abs(amount if abs(amount) < 30 else 0)


async def test_a_transfer_between_question_and_answer_of_each_figure_does_not_either() -> None:
    async with watching() as desk:
        held, lost = 100_000, 0
        while not desk.reasons and lost < 700:
            await anyio.sleep(5)
            move(desk, 300)
            desk.tell(held, age_s=0.05)  # asked for before the word; the venue has not counted it yet
            await anyio.sleep(0.15)
            held += 300 - 10
            lost += 10
        assert 100 <= lost <= 150


@pytest.mark.parametrize("amount", [5, -5, 1000, -1000])
async def test_a_transfer_each_fifty_seconds_from_the_start_does_not_switch_the_limit_off(amount: int) -> None:
    async with watching() as desk:
        held, lost = 100_000, 0
        while not desk.reasons and lost < 700:
            for _ in range(10):
                await anyio.sleep(5)
                desk.tell(held)
                held -= 1
                lost += 1
            held += amount
            move(desk, amount)
        assert 100 <= lost <= 150


@pytest.mark.parametrize("amount", [500, -500])
@pytest.mark.parametrize(("every_s", "lag_s"), [(20, 0), (50, 0), (20, 5), (90, 45)])
async def test_equal_transfers_again_and_again_are_no_loss_and_none_is_left_out(
    amount: int, every_s: int, lag_s: int
) -> None:
    async with watching(limits=limits(100, 100, None)) as desk:
        await desk.samples(100_000, 100_000, 100_000)
        shown = 0
        for second in range(5, 900, 5):
            moved, shown = second % every_s == 0, shown + ((second - lag_s) % every_s == 0 and second > lag_s)
            await anyio.sleep(4.9)
            if moved:
                move(desk, amount)
            await anyio.sleep(0.1)
            desk.tell(100_000 + shown * amount + second % 3 - 1)  # the market moves a little
        assert (desk.reasons, warnings(desk)) == ([], [])


@pytest.mark.parametrize(
    ("amount", "every_s", "lag_s"), [(-500, 20, 20), (-500, 20, 50), (-800, 45, 45), (900, 20, 20)]
)
async def test_transfers_without_end_that_are_always_on_their_way_hide_a_loss_for_two_minutes_at_most(
    amount: int, every_s: int, lag_s: int
) -> None:
    async with watching() as desk:
        await desk.samples(100_000, 100_000, 100_000)
        shown = lost = 0
        for second in range(5, 900, 5):
            await anyio.sleep(4.9)
            if second % every_s == 0:
                move(desk, amount)
            await anyio.sleep(0.1)
            shown += (second - lag_s) % every_s == 0 and second > lag_s
            lost += 1 if second > 100 else 0
            desk.tell(100_000 + shown * amount - 10 * lost)
            if desk.reasons:
                break
        assert 100 <= 10 * lost <= 100 + 10 * 27


@pytest.mark.parametrize("limit", [limits(200, None, None), limits(None, 200, None)])
async def test_a_crowd_of_transfers_without_end_that_may_hide_a_loss_makes_it_blind_after_three_minutes(
    limit: Any,
) -> None:
    async with watching(limits=limit) as desk:
        await desk.samples(*[100_000] * 16)
        held, blind_s = 100_000, None
        for number in range(120):
            for amount in (300 + number % 7, -301 - number % 11):  # 48 in two minutes
                move(desk, amount)
                held += amount
            held -= 10 if 20 <= number < 60 else 0  # 200 are lost at 40
            await desk.samples(held)
            if desk.reasons:
                return  # it has found out
            if desk.state == "blind":
                blind_s = desk.s if blind_s is None else blind_s
                assert "is reached has been unknown for more than" in desk.trigger.state()[1]
                assert isinstance(desk.trigger.rearm_blocker(), Unseen)
            else:
                assert (blind_s, desk.state) == (None, "ok")
        assert blind_s is not None
        assert 180 <= blind_s <= 80 + 5 * 40 + 180 + 60
        await desk.samples(*[held] * 26)  # no more transfers: what was lost is seen
        assert desk.reasons


async def test_a_crowd_of_transfers_without_end_that_cannot_hide_a_loss_is_no_blindness() -> None:
    async with watching(limits=limits(20_000, 20_000, None)) as desk:
        await desk.samples(*[100_000] * 16)
        held = 100_000
        for number in range(100):
            for amount in (300 + number % 7, -301 - number % 11):
                move(desk, amount)
                held += amount
            await desk.samples(held)
            assert (desk.state, desk.reasons) == ("ok", [])


@pytest.mark.parametrize("lead_s", [0, 5, 30, 50])
async def test_a_deposit_that_figures_show_only_later_is_no_loss(lead_s: int) -> None:
    async with watching(limits=limits(100, 100, None)) as desk:
        await desk.samples(1000, 1000, 1000, *[1000] * 14)
        move(desk, 500)
        await desk.samples(*[1000] * (lead_s // 5), *[1500] * 20)
        assert desk.reasons == []
        await desk.samples(1400, 1400)
        assert len(desk.reasons) == 1


@pytest.mark.parametrize("early_s", [0, 5, 30, 50])
async def test_a_deposit_that_figures_show_before_its_word_is_no_peak(early_s: int) -> None:
    async with watching(limits=limits(100, 100, None)) as desk:
        await desk.samples(1000, 1000, 1000, *[1000] * 14, *[1500] * (early_s // 5))
        move(desk, 500)
        await desk.samples(*[1500] * 20, 1401, 1401)
        assert desk.reasons == []
        await desk.samples(1400, 1400)
        assert desk.reasons[0].text.startswith("max_loss and max_drawdown reached")


@pytest.mark.parametrize("lag_s", [0, 5, 30, 50])
async def test_a_withdrawal_that_figures_show_only_later_is_neither_profit_nor_peak(lag_s: int) -> None:
    async with watching(limits=limits(100, 100, None)) as desk:
        await desk.samples(1000, 1000, 1000, *[1000] * 14)
        move(desk, -500)
        await desk.samples(*[1000] * (lag_s // 5), *[500] * 20, 401, 401)
        assert desk.reasons == []
        await desk.samples(400, 400)
        assert desk.reasons[0].text.startswith("max_loss and max_drawdown reached")


@pytest.mark.parametrize("amount", [500, -500])
async def test_a_transfer_announced_twice_counts_once_with_a_warning(amount: int) -> None:
    async with watching(limits=limits(100, 100, None)) as desk:
        await desk.samples(1000, 1000, 1000, *[1000] * 14)
        move(desk, amount)
        await desk.samples(1000 + amount, 1000 + amount)
        move(desk, amount)
        await desk.samples(*[1000 + amount] * 20)
        assert desk.reasons == []
        assert [warning for warning in warnings(desk) if "twice, and its equity shows one" in warning]
        await desk.samples(901 + amount, 901 + amount)
        assert desk.reasons == []
        await desk.samples(900 + amount, 900 + amount)
        assert len(desk.reasons) == 1


async def test_two_transfers_of_the_same_amount_count_twice() -> None:
    async with watching(limits=limits(100, 100, None)) as desk:
        await desk.samples(1000, 1000, 1000, *[1000] * 14)
        move(desk, 500)
        move(desk, 500)
        await desk.samples(1500, *[2000] * 20, 1901, 1901)
        assert (desk.reasons, warnings(desk)) == ([], [])
        await desk.samples(1900, 1900)
        assert len(desk.reasons) == 1


async def test_words_of_two_transfers_in_another_order_than_their_figures_are_no_loss() -> None:
    async with watching(limits=limits(100, 100, None)) as desk:
        await desk.samples(1000, 1000, 1000, *[1000] * 14, 1300)
        move(desk, 500)  # the second one
        await desk.samples(1300)
        move(desk, 300)  # the first one
        await desk.samples(*[1800] * 20)
        assert desk.reasons == []
        await desk.samples(1700, 1700)
        assert len(desk.reasons) == 1


async def test_a_restart_between_a_deposits_word_and_its_figures_is_no_loss() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000, *[1000] * 14)
        move(desk, 500)
    async with watching(past=desk.records[-1]) as again:
        await again.samples(1000, 1000, 1000, *[1500] * 20)
        assert again.reasons == []
        await again.samples(1400, 1400)
        assert len(again.reasons) == 1


# ── slow figures ──────────────────────────────────────────────────────────────────────────────────────────────────


async def slowly(desk: Desk, *worths: int, every_s: float = 31.0) -> list[str]:
    """Tell figures slower than they go stale; return the states in between."""
    states = []
    for usd in worths:
        for _ in range(int(every_s)):
            await anyio.sleep(every_s / int(every_s))
            states.append(desk.state)
        desk.tell(usd)
        await anyio.sleep(0.15)
    return states


@pytest.mark.parametrize("every_s", [31.0, 45.0, 600.0])
@pytest.mark.parametrize("most", [limits(max_loss=100), limits(max_drawdown=100), limits(floor=900)])
async def test_figures_slower_than_stale_after_confirm_a_limit(most: Any, every_s: float) -> None:
    async with watching(limits=most) as desk:
        await slowly(desk, 1000, 1000, 1000, 900, 901, 900, every_s=every_s)
        assert desk.reasons == []
        await slowly(desk, 900, every_s=every_s)
        assert len(desk.reasons) == 1


async def test_figures_slower_than_stale_after_are_not_called_ok() -> None:
    async with watching() as desk:
        await slowly(desk, 1000, 1000, 1000)
        states = await slowly(desk, *[1000] * 10)
        assert states.count(TriggerState.OK) == 0
        assert "figures come every 31 s" in desk.detail
        await desk.samples(1000)
        assert desk.state == TriggerState.OK


async def test_a_trigger_without_a_baseline_waits_and_is_not_ok() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000)
        assert desk.state == TriggerState.WAITING
        await desk.samples(1000)
        assert desk.state == TriggerState.OK


# ── a gap, a reset, a restart ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_loss_in_a_short_gap_across_the_reset_belongs_to_the_day_before() -> None:
    async with watching(reset=AT_1715) as desk:
        await desk.samples(1000, 1000, 1000, *[1000] * 14)  # until 90 s
        await anyio.sleep(300)
        await desk.samples(899, 899)
        assert len(desk.reasons) == 1


async def test_after_a_short_gap_across_the_reset_without_a_loss_the_day_begins() -> None:
    async with watching(reset=AT_1715) as desk:
        await desk.samples(1000, 1000, 1000, *[1000] * 14)
        await anyio.sleep(300)
        await desk.samples(950, 950, 950, 860, 860)
        assert (desk.reasons, desk.baselines[-1]) == ([], ("reset", "950"))


@pytest.mark.parametrize("stopped", [True, False])  # in order, or by a crash a little after the last record
async def test_a_short_restart_across_the_reset_forgives_no_loss(stopped: bool) -> None:
    async with watching(reset=AT_1715) as desk:
        await desk.samples(1000, 1000, 1000, *[1000] * 14)
        crashed = desk.records[-1]
    past = desk.records[-1] if stopped else crashed
    async with watching(past=past, reset=AT_1715) as again:
        await anyio.sleep(300)
        await again.samples(899, 899)
        assert len(again.reasons) == 1


async def test_a_long_gap_across_the_reset_begins_anew_and_warns_with_the_amount() -> None:
    async with watching(reset=AT_1715) as desk:
        await desk.samples(1000, 1000, 1000, *[1000] * 14)
        await anyio.sleep(4000)
        assert desk.state == TriggerState.BLIND
        await desk.samples(700, 700, 700)
        assert desk.reasons == []
        [said] = warnings(desk)
        assert "baseline 700 USD (reset)" in said and "300 USD" in said and "for 1 h" in said
        await desk.samples(600, 600)
        assert len(desk.reasons) == 1


@pytest.mark.parametrize(
    ("changed", "amount"),
    [({"rates": {"BTC": Decimal(60_000)}}, "90 USD"), ({"currency": "BTC", "rates": {"USD": Decimal(1)}}, "90 USD")],
)
async def test_changed_figures_are_warned_of_with_the_losses_that_no_longer_count(
    changed: dict[str, Any], amount: str
) -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000, 910, 910)
    async with watching(past=desk.records[-1], **changed) as again:
        await again.samples(910, 910, 910)
        [said] = warnings(again)
        assert "other figures than before" in said and amount in said


async def test_a_re_arm_names_the_losses_that_no_longer_count() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000, 900, 900)
        desk.trigger.on_rearmed()
        await desk.samples(880, 880, 880)
        assert desk.words[-1] == (
            "info: trigger daily-loss: baseline 880 USD (re-arm); "
            "120 USD that were lost before are not counted any more"
        )


# ── the same figures by value ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rate", ["50000.0", "5E+4", "50000.000"])
async def test_the_same_rate_and_the_same_accounts_in_other_words_keep_the_day(rate: str) -> None:
    async with watching(("a", "b")) as desk:
        for usd in (500, 500, 500):
            await anyio.sleep(5)
            desk.tell(usd)
            desk.tell(usd, "b")
        await anyio.sleep(0.2)
    async with watching(("b", "a"), past=desk.records[-1], rates={"BTC": Decimal(rate)}) as again:
        for usd in (450, 450):
            await anyio.sleep(5)
            again.tell(usd)
            again.tell(usd, "b")
        await anyio.sleep(0.2)
        assert len(again.reasons) == 1


@pytest.mark.parametrize(
    "of",
    [None, [], {"accounts": 5}, {"accounts": ["a"], "currency": "USD", "rates": {"BTC": "x"}}, {"rates": None}],
)
async def test_a_record_without_its_figures_names_starts_a_new_baseline_and_warns(of: object) -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000)
    async with watching(past={**desk.records[-1], "of": of}) as again:
        await again.samples(800, 800, 800)
        assert len(warnings(again)) == 1


# ── clocks ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("off_s", [2 * DAY_S, -2 * DAY_S, 30 * DAY_S, -30 * DAY_S])
@pytest.mark.parametrize("meanwhile", ["nothing", "a gap", "a restart", "many days"])
async def test_a_clock_that_is_days_off_and_comes_back_forgives_no_loss(off_s: int, meanwhile: str) -> None:
    async def lose(desk: Desk) -> None:
        await desk.samples(940, 940, 940, 940)
        desk.loop.jump_wall(-off_s)
        await desk.samples(901, 901)
        assert desk.reasons == []
        await desk.samples(900, 900)
        assert len(desk.reasons) == 1

    async with watching() as desk:
        await desk.samples(1000, 1000, 1000)
        desk.loop.jump_wall(off_s)
        match meanwhile:
            case "a gap":
                await anyio.sleep(60)
            case "many days":
                await desk.samples(950, 950, 950)
                desk.loop.jump_wall(DAY_S)
                await desk.samples(950, 950, 950)
                desk.loop.jump_wall(-DAY_S)
            case _:
                pass
        if meanwhile != "a restart":
            await lose(desk)
            return
    async with watching(past=desk.records[-1]) as again:
        await lose(again)


@pytest.mark.parametrize("off_s", [2 * DAY_S, -2 * DAY_S])
async def test_a_clock_that_is_days_off_and_stays_so_forgives_no_loss_before_the_next_reset(off_s: int) -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000, 910, 910)
        desk.loop.jump_wall(off_s)
        await desk.samples(910, 910, 910, 901, 901)
        assert desk.reasons == []
        await desk.samples(900, 900)
        assert len(desk.reasons) == 1


# ── the re-arm ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_with_a_floor_a_re_arm_is_refused_while_it_is_blind_and_force_may() -> None:
    async with watching(limits=limits(floor=800)) as desk:
        await desk.samples(1000, 1000, 1000, 800, 800)
        assert not isinstance(desk.trigger.rearm_blocker(), Unseen)  # seen: no force helps
        await anyio.sleep(31)
        why = desk.trigger.rearm_blocker()
        assert isinstance(why, Unseen)
        assert why.startswith("cannot see whether equity is above the floor 800") and why.endswith("--force")
        assert "800 USD" in why


@pytest.mark.parametrize("past", [True, False])
async def test_with_a_floor_a_re_arm_is_refused_right_after_the_start(past: bool) -> None:
    async with watching(limits=limits(floor=800)) as desk:
        await desk.samples(1000, 1000, 1000, 800, 800)
    async with watching(limits=limits(floor=800), past=desk.records[-1] if past else None, tripped=("a",)) as again:
        why = again.trigger.rearm_blocker()
        assert isinstance(why, Unseen)
        assert ("last seen at 800 USD" in why) is past
        await again.samples(801)
        assert again.trigger.rearm_blocker() is None


async def test_a_loss_of_the_day_that_goes_on_holds_against_a_re_arm_for_another_reason() -> None:
    async with watching() as desk:
        await desk.samples(1000, 1000, 1000)
        desk.phases["a"] = Phase.CLEAR
        await desk.samples(900)  # once: it has not fired
        assert desk.trigger.rearm_blocker() is not None
        await desk.samples(950)
        assert desk.trigger.rearm_blocker() is None
        await anyio.sleep(31)
        assert isinstance(desk.trigger.rearm_blocker(), Unseen)


async def test_some_accounts_are_not_re_armed_alone_while_the_trigger_is_blind() -> None:
    async with watching(("a", "b")) as desk:
        for usd in (500, 500, 500, 450, 450):
            await anyio.sleep(5)
            desk.tell(usd)
            desk.tell(usd, "b")
        await anyio.sleep(31)
        desk.phases.update(a=Phase.CLEAR, b=Phase.CLEAR)
        assert isinstance(desk.trigger.partial_rearm_blocker({"a"}), Unseen)
        assert desk.trigger.partial_rearm_blocker({"a", "b"}) is None


async def test_the_last_figure_survives_a_restart() -> None:
    async with watching(limits=limits(floor=800)) as desk:
        await desk.samples(1000, 1000, 1000, 990, 850)
    stopped: Mapping[str, Any] = desk.records[-1]
    assert (stopped["why"], stopped["equity"]) == ("stop", "850")
