"""Accounts that share a limit of their venue keep below it in every state, and leave half of it for cancels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from itertools import pairwise, takewhile

import pytest

from kill_switch.config.cross_checks import MEASURES_TO_STALE
from kill_switch.config.schema import PnlConfig
from kill_switch.core.domain import Phase
from kill_switch.core.sweep_state import LATEST_S
from kill_switch.dispatch.connect import sweep_timings
from kill_switch.venues import EVERY_VENUE, VENUES
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.kit.cadence import Cadence
from kill_switch.venues.oxfun.adapter import OxFun
from kill_switch.venues.sharing import Member, plan_cadences, share_connections
from tests.harness import shared_address
from tests.harness.shared_address import SIMULATORS, Address, Asked, Caller
from tests.harness.venue_playbook import START
from tests.harness.venue_profiles import STANDS

# what the venue allows one of those who count together, and whether that is all accounts of the address
LIMITS = {
    "oxfun": (2500, 300.0, True),
    "binance-usdm": (2400, 60.0, True),  # both products together, of which 40 is a list's
    "binance-coinm": (2400, 60.0, True),
    "binance-spot": (6000, 60.0, True),  # of which 86 is a read's
    "kuna": (300, 60.0, False),
    "kraken-futures": (500, 10.0, False),
    "kraken": (34, 60.0, False),  # 15 at once, and 0.33 a second
    "roxom": (300, 60.0, False),
    "crosstrade": (200, 60.0, False),  # 20 at once, and 3 a second
}
SETTLE_S = 15.0  # until an account is proven clear, from its orders' end on, where lists do not lag

Make = Callable[..., Address]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    def made(
        name: str | tuple[str, ...], accounts: int, *, alone: bool = False, one_key: bool = False, bots: bool = False
    ) -> Address:
        address = Address(name, accounts, monkeypatch, alone=alone, one_key=one_key)
        if bots:
            address.start_bot()
        address.run(20)
        assert address.refused == 0
        return address

    return made


def settle(address: Address, name: str, seconds: float = SETTLE_S) -> None:
    """Run until the accounts are proven clear: clean reads span the lists' lag, and may have to wait for room."""
    address.run(seconds + 3 * VENUES[name].TIMING.list_lag_s)


def longest_gap_s(address: Address) -> float:
    """Return the longest gap between two strikes of an account, as slow as the use of other programs makes it."""
    now, accounts = address.time.now(), address.dispatcher.state.accounts
    paced = [
        session.venue.limits.paced(accounts[name].timing, now) for name, session in address.dispatcher.sessions.items()
    ]
    return max(timing.gap_cap_s for timing in paced)


def reads(address: Address, name: str) -> tuple[int, float]:
    """Return the most reads within the limit's time, and the half of the limit."""
    count, seconds, together = LIMITS[name]
    return address.most(seconds, cancels=False, account="" if together else "a0"), count / 2


def chase(address: Address, fault: str, seconds: float) -> None:
    """Fire while the venue cancels nothing, for so long."""
    address.rest()
    if fault == "accept":
        address.fault("accept_but_keep", {})
    else:
        address.fault("refuse", {"status": 400})
    address.fire()
    address.run(seconds)
    assert address.phases() == {"RESIDUE"}


NAMES = sorted(VENUES.keys() & SIMULATORS)
HOUR_S = 3600.0
SITUATIONS = ["guard", "residue"]


def endure(address: Address, name: str, situation: str, seconds: float) -> None:
    """Kill, guard or chase for so long, then require the last cancel and its proof; no read is refused meanwhile."""
    if situation == "residue":
        address.rest(1)
        address.fault("accept_but_keep", {})
    address.fire()
    address.run(seconds)
    assert address.phases() == {"CLEAR" if situation == "guard" else "RESIDUE"}
    assert [one for one in address.asked if one.refused and not one.command] == []
    assert len(address.recorder.of("strike")) == 1 or situation == "residue"  # no guard has become unreadable
    address.clear_faults()
    if not address.open:
        address.rest(1)
        address.fire()
    address.run(longest_gap_s(address) + 1)
    assert address.open == 0
    settle(address, name)
    assert address.phases() == {"CLEAR"}
    assert [one for one in address.asked if one.refused and not one.command] == []


def test_every_venue_is_in_this_table() -> None:
    assert VENUES.keys() <= SIMULATORS.keys()
    assert all(stand.make().budget.counts for stand in STANDS.values())


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_three_accounts_beside_bots_that_use_half_of_the_limit_have_no_read_refused(
    make: Make, name: str, situation: str
) -> None:
    address = make(name, 3, bots=True)
    pools = [count.pool for count in STANDS[name].make().budget.counts.values()]
    endure(address, name, situation, max(pool.size / pool.rate for pool in pools) + 60.0)


def most_used(address: Address, seconds: float) -> float:
    """Run for so long; return the largest part of a venue's pool that was in use."""
    most, peer = 0.0, address._connection.peer
    for _ in range(round(seconds)):
        address.run(1)
        most = max(most, *(venue.limits.used(peer) / venue.options.pool for venue in address.venues.values()))
    return most


def endure_at_binance(make: Make, situation: str, seconds: float) -> None:
    """Have an account at each of Binance's products, all at one address, stay within half of what they share."""
    address = make(("binance-usdm", "binance-coinm", "binance-spot"), 1)
    if situation == "residue":
        address.rest(1, symbols=40)
        address.fault("accept_but_keep", {})
    address.fire()
    assert most_used(address, 60) <= (0.5 if situation == "guard" else 0.6)  # first strikes draw from what is kept
    assert most_used(address, seconds) <= 0.5
    assert address.phases() == {"CLEAR" if situation == "guard" else "RESIDUE"}
    assert address.refused == 0
    address.clear_faults()
    if not address.open:
        address.rest(1)
        address.fire()
    address.run(2 * longest_gap_s(address) + 1)  # in RESIDUE, a strike takes some of the 40 symbols
    assert address.open == 0
    settle(address, "binance-usdm")
    assert (address.phases(), address.refused) == ({"CLEAR"}, 0)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_accounts_at_three_of_binances_products_use_half_of_their_shared_limits_at_most(
    make: Make, situation: str
) -> None:
    endure_at_binance(make, situation, 120)


@pytest.mark.hours
@pytest.mark.parametrize("situation", SITUATIONS)
def test_for_an_hour_accounts_at_three_of_binances_products_use_half_of_their_shared_limits_at_most(
    make: Make, situation: str
) -> None:
    endure_at_binance(make, situation, HOUR_S)


def use_binances_pool(address: Address, part: float = 0.5) -> None:
    """Let a bot begin to use this part of the pool."""
    address.venue.charge(Caller.peer, 1.0)
    address.time.later(60.0 / (part * address.venue.options.pool), use_binances_pool, address, part)


def list_reads(address: Address, since_ns: int) -> Iterator[Asked]:
    """Yield the requests for the list of all orders since then, the last first."""
    return (one for one in takewhile(lambda one: one.at_ns > since_ns, reversed(address.asked)) if one.weight == 40)


def at_half_of_binances_pool(
    patch: pytest.MonkeyPatch, names: str | tuple[str, ...], accounts: int, bot_first_s: float = 61.0
) -> Address:
    """Return accounts whose process has not started, beside a bot that has used half of their pool for so long."""
    address = Address(names, accounts, patch, starts=False)
    use_binances_pool(address)
    address.time.advance(bot_first_s * 1000)
    return address


def require_the_last_cancel(address: Address) -> None:
    """Require that ours used half of the pool at most, that no read was refused, and that the orders now end."""
    assert address.most_weight(60) <= address.venue.options.pool / 2
    assert address.phases() == {"RESIDUE"} and address.refused == 0
    address.clear_faults()
    address.run(200)
    assert (address.phases(), address.open, address.refused) == ({"CLEAR"}, 0, 0)


@pytest.mark.parametrize(
    ("names", "accounts"),
    [("binance-usdm", 3), (("binance-usdm", "binance-coinm"), 2)],
    ids=["three of USD-M", "two of USD-M and of COIN-M"],
)
@pytest.mark.parametrize(("fault", "symbols"), [("accept_but_keep", 40), ("requote", 3)])
def test_accounts_that_are_tripped_as_they_start_use_half_of_the_pool_that_a_bot_shares_and_are_refused_nothing(
    monkeypatch: pytest.MonkeyPatch, names: str | tuple[str, ...], accounts: int, fault: str, symbols: int
) -> None:
    address = at_half_of_binances_pool(monkeypatch, names, accounts)
    address.rest(symbols=symbols)
    address.fault(fault, {} if fault == "accept_but_keep" else {"times": 10**6})
    address.start()
    address.run(0.5)
    address.fire()
    address.run(60)
    require_the_last_cancel(address)


@pytest.mark.parametrize("bot_first_s", [0.1, 2.0, 15.0])
@pytest.mark.parametrize(
    ("names", "accounts"), [(("binance-usdm", "binance-coinm"), 2), ("binance-usdm", 3), ("binance-spot", 3)]
)
def test_a_bot_that_takes_half_of_the_pool_and_begins_as_late_as_the_kill_leaves_no_more_than_half_to_ours(
    monkeypatch: pytest.MonkeyPatch, names: str | tuple[str, ...], accounts: int, bot_first_s: float
) -> None:
    address = at_half_of_binances_pool(monkeypatch, names, accounts, bot_first_s)
    address.rest(symbols=40)
    address.fault("accept_but_keep", {})
    address.start()
    address.run(0.5)
    address.fire()
    address.run(60)
    require_the_last_cancel(address)


@pytest.mark.parametrize("symbols", [3, 40])
def test_a_bot_that_begins_beside_a_kill_of_accounts_that_have_long_been_alone_leaves_no_more_than_half_to_ours(
    monkeypatch: pytest.MonkeyPatch, symbols: int
) -> None:
    address = Address("binance-usdm", 3, monkeypatch)
    address.run(120)
    address.rest(symbols=symbols)
    address.fault("accept_but_keep", {})
    use_binances_pool(address)
    address.fire()
    address.run(120)
    require_the_last_cancel(address)


def test_beside_a_bot_that_uses_60_percent_three_accounts_of_40_symbols_are_proven_clear_within_two_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = Address("binance-usdm", 3, monkeypatch)
    address.run(20)
    use_binances_pool(address, 0.6)
    address.run(60)
    address.rest(symbols=40)
    address.fire()
    address.run(120)
    assert (address.phases(), address.open, address.refused) == ({"CLEAR"}, 0, 0)


@pytest.mark.parametrize("orders_stay", [False, True])
def test_where_others_leave_next_to_nothing_each_accounts_kill_is_read_within_two_minutes_and_its_turn(
    monkeypatch: pytest.MonkeyPatch, orders_stay: bool
) -> None:
    address = Address("binance-usdm", 3, monkeypatch)
    address.run(20)
    use_binances_pool(address, 0.93)
    address.run(100)
    address.rest(symbols=3)
    if orders_stay:
        address.fault("accept_but_keep", {})
    address.fire()
    reads = {name: [address.time.ns] for name in address.dispatcher.sessions}
    for _ in range(600):
        address.run(1)
        for name, account in address.dispatcher.state.accounts.items():
            if account.phase is Phase.CLEAR or any(one.account == name for one in list_reads(address, reads[name][-1])):
                reads[name].append(address.time.ns)
    longest_s = max(later - one for times in reads.values() for one, later in pairwise(times)) / 1e9
    turn_s = 60.0  # until a read has left the venue's window: with the probes a second one does not fit
    assert longest_s <= LATEST_S + 3 * turn_s
    assert address.phases() == {"RESIDUE" if orders_stay else "CLEAR"}


@pytest.mark.parametrize("starts", [5, 12])
@pytest.mark.parametrize("names", ["binance-usdm", "binance-spot"])
def test_a_process_that_starts_again_and_again_leaves_room_for_the_kill_of_the_last_start(
    monkeypatch: pytest.MonkeyPatch, names: str, starts: int
) -> None:
    address = at_half_of_binances_pool(monkeypatch, names, 3)
    address.rest(symbols=3)
    address.fault("accept_but_keep", {})
    for _ in range(starts):
        address.start()
        address.run(60 // starts)
    address.fire()
    address.run(60)
    require_the_last_cancel(address)


@pytest.mark.parametrize("names", ["binance-usdm", "binance-spot"])
def test_a_start_reads_no_list_before_the_venue_has_stated_its_use(monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    address = at_half_of_binances_pool(monkeypatch, names, 3)
    address.start()
    address.time.advance(1000)
    firsts = {one.account: one for one in reversed(address.asked) if one.weight}
    assert len(firsts) == 3 and all(one.weight <= 6 for one in firsts.values())
    shares = {
        count.share
        for session in address.dispatcher.sessions.values()
        for count in session.venue.budget.counts.values()
    }
    assert shares == {0.5}


@pytest.mark.hours
@pytest.mark.parametrize("bots", [False, True], ids=["alone", "beside bots"])
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("accounts", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_an_hour_in_which_no_read_is_refused_ends_with_the_last_cancel_gone_through(
    make: Make, name: str, accounts: int, situation: str, bots: bool
) -> None:
    address = make(name, accounts, bots=bots)
    endure(address, name, situation, HOUR_S)
    assert bots or address.refused == 0


@pytest.mark.hours
@pytest.mark.parametrize(("part", "at_once"), [(0.3, 1), (0.7, 1), (0.5, 6), (0.3, 6)])
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_whatever_a_bot_takes_the_last_cancel_and_its_proof_go_through(
    make: Make, name: str, situation: str, part: float, at_once: int
) -> None:
    address = make(name, 3)
    address.start_bot(part, at_once)
    address.run(60)
    if situation == "residue":
        address.rest(1)
        address.fault("accept_but_keep", {})
    address.fire()
    address.run(900)
    reads = [one for one in address.asked if not one.command]
    if part < 0.5 and at_once == 1:
        assert not any(one.refused for one in reads)
    assert sum(one.refused for one in reads) <= 0.25 * len(reads)  # 70 % and our half do not fit together
    address.clear_faults()
    if not address.open:
        address.rest(1)
        address.fire()
    address.run(60)
    assert address.open == 0
    address.run(120)
    assert (address.phases(), address.open) == ({"CLEAR"}, 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_kill_whose_commands_were_refused_is_proven_soon_after_the_venue_accepts_again(make: Make, name: str) -> None:
    address = make(name, 1)
    address.rest()
    address.fault("refuse", {"status": 429})
    address.fire()
    address.run(7)
    assert address.refused and address.open
    address.clear_faults()
    refused = address.refused
    settle(address, name)
    assert (address.phases(), address.open) == ({"CLEAR"}, 0)
    assert address.refused == refused or name == "crosstrade"  # whose bucket the refused commands have emptied


@pytest.mark.parametrize("name", [name for name in NAMES if name != "crosstrade"])  # which has strikes of its own
def test_no_later_strike_sends_a_copy_because_the_venue_is_far_away(
    make: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(shared_address, "TRIP_MS", 150.0)
    address = make(name, 1)
    address.rest(30)
    address.fault("accept_but_keep", {})
    address.fire()
    address.run(60)
    strikes = len(address.recorder.of("strike"))
    widest = "cancel-multi" if name == "kuna" else "cancel-all"
    assert (address.phases(), address.refused) == ({"RESIDUE"}, 0) and strikes > 5
    assert sum(one.what == widest for one in address.asked) <= strikes + 2  # the first strike's copy, and one under way


@pytest.mark.hours
@pytest.mark.parametrize("fault", ["accept", "refuse"])
@pytest.mark.parametrize(
    ("name", "accounts", "seconds"),
    [
        ("oxfun", 1, 320),
        ("oxfun", 3, 320),
        ("oxfun", 10, 420),
        ("kuna", 1, 150),
        ("kuna", 3, 150),
        ("kraken", 1, 150),
        ("kraken", 3, 150),
        ("roxom", 1, 150),
        ("crosstrade", 1, 150),
        ("crosstrade", 3, 150),
    ],
)
def test_a_chase_that_gets_nowhere_uses_no_limit_up_and_ends_soon_after_the_venue_cancels_again(
    make: Make, name: str, accounts: int, seconds: float, fault: str
) -> None:
    address = make(name, accounts)
    chase(address, fault, seconds)
    assert address.refused == 0
    most, half = reads(address, name)
    assert most <= half
    address.clear_faults()
    address.run(max(account.timing.gap_cap_s for account in address.dispatcher.state.accounts.values()) + 1)
    assert address.open == 0
    settle(address, name)
    assert (address.phases(), address.refused) == ({"CLEAR"}, 0)


@pytest.mark.parametrize(
    ("name", "accounts", "seconds"),
    [("oxfun", 3, 320), ("oxfun", 10, 320), ("kraken", 3, 150), ("kuna", 3, 150), ("crosstrade", 3, 150)],
)
def test_a_guard_leaves_half_of_the_limit_for_cancels(make: Make, name: str, accounts: int, seconds: float) -> None:
    address = make(name, accounts)
    address.fire()
    address.run(seconds)
    assert (address.phases(), address.refused) == ({"CLEAR"}, 0)
    assert len(address.recorder.of("strike")) == 1  # none of them has become unreadable
    most, half = reads(address, name)
    assert most <= half
    for _ in range(3):  # what is left is enough for more than one kill
        address.rest()
        address.fire()
        address.run(4)
        assert (address.phases(), address.open, address.refused) == ({"CLEAR"}, 0, 0)


def test_ten_accounts_that_each_chase_as_if_they_were_alone_would_be_refused(make: Make) -> None:
    address = make("oxfun", 10, alone=True)
    address.rest()
    address.fault("accept_but_keep", {})
    address.fire()
    address.run(290)
    assert address.refused


@pytest.mark.parametrize("name", NAMES)
def test_many_accounts_are_proven_clear_as_fast_as_each_of_them_alone(make: Make, name: str) -> None:
    took = []
    for alone in (True, False):
        address = make(name, 10 if name == "oxfun" else 3, alone=alone)
        address.run(60)  # what was used when the lanes came up is back
        address.rest()
        fired_ns = address.time.ns
        address.fire()
        while address.phases() != {"CLEAR"}:
            address.time.advance(1)
        took.append((address.time.ns - fired_ns) // 1_000_000)
    # where a list costs 40 of a shared pool, accounts that know of each other wait for room
    assert took[0] == took[1] or (name.startswith("binance") and abs(took[0] - took[1]) <= 5000)


def test_parts_of_one_crosstrade_user_share_its_tokens(make: Make) -> None:
    address = make("crosstrade", 3, one_key=True)
    wires = [session.venue._wire for session in address.dispatcher.sessions.values()]  # type: ignore[attr-defined]
    assert len({id(wire.bucket) for wire in wires}) == 1
    address.rest()
    address.fault("accept_but_keep", {})
    address.fire()
    address.run(120)
    assert [one for one in address.asked if one.refused and not one.cancels] == []
    address.clear_faults()
    address.run(25)
    assert (address.phases(), address.open) == ({"CLEAR"}, 0)


def test_accounts_of_an_address_share_its_connections_and_the_pace_at_which_they_open() -> None:
    class Narrow(OxFun):
        ADDRESS_CONNECTIONS = 32

    def share(most: int, together: int, kind: type[OxFun] = Narrow) -> tuple[int, float]:
        options = kind.Options(max_connections=most)
        elsewhere = kind.Options(max_connections=most, rest_url="https://other.test")
        members = {str(number): Member(kind, options, number) for number in range(together)}
        return share_connections({**members, "other": Member(kind, elsewhere, "key")})["0"][:2]

    assert share(128, 1, OxFun) == (128, 10.0)
    assert share(128, 4, OxFun) == (128, 2.5)
    assert share(128, 1) == (32, 10.0)
    assert share(8, 1) == (8, 10.0)
    assert share(128, 4) == (8, 2.5)
    assert share(128, 40)[0] == Narrow.CONNECTIONS  # each account always has these


@pytest.mark.parametrize("together", [1, 2, 3])
def test_reads_that_wait_leave_room_for_commands_among_the_connections_that_deribit_allows_an_address(
    together: int,
) -> None:
    kind = VENUES["deribit"]
    options = kind.Options.model_validate({})
    members = {str(number): Member(kind, options, number) for number in range(together)}
    lane_and_copies = [share.late + share.copies for share in share_connections(members).values()]
    always = together * (kind.CONNECTIONS + kind.WS_CONNECTIONS)
    assert all(lane_and_copies) and sum(lane_and_copies) + always <= 32 - 2 * together


def test_a_reload_that_adds_accounts_of_an_address_gives_each_a_smaller_part() -> None:
    adapters = {str(number): _oxfun() for number in range(2)}
    sweep_timings({"0": adapters["0"]})
    alone = adapters["0"].connections.per_s
    sweep_timings(adapters)
    assert [adapter.connections.per_s for adapter in adapters.values()] == [alone / 2] * 2


def _oxfun() -> OxFun:
    return OxFun(OxFun.Options(), STANDS["oxfun"].secrets(), 0.06)


def cadence(name: str, together: int, *, is_measured: bool = True, **options: object) -> Cadence:
    kind = VENUES[name]
    made = kind.Options(**{**STANDS[name].options, **options})
    return kind.plan(made, {pool.name: together for pool in kind.pools(made)}, is_measured=is_measured)


def test_a_few_accounts_are_guarded_and_chased_as_closely_as_one() -> None:
    assert cadence("oxfun", 1).timing is cadence("oxfun", 4).timing is OxFun.TIMING
    closer, wider = cadence("oxfun", 8), cadence("oxfun", 200)
    assert OxFun.TIMING.guard_every_s < closer.timing.guard_every_s < wider.timing.guard_every_s
    assert OxFun.TIMING.gap_cap_s < closer.timing.gap_cap_s < wider.timing.gap_cap_s == 30.0
    assert closer.timing.read_gap_s == wider.timing.read_gap_s == OxFun.TIMING.read_gap_s  # a kill is as fast as ever
    assert closer.equity_every_s == OxFun.MEASURE_EVERY_S < wider.equity_every_s
    assert wider.probe_every_s == OxFun.IDLE_S / OxFun.CONNECTIONS  # a connection must not be closed as idle


@pytest.mark.parametrize(
    ("name", "together", "guard_s", "equity_s"),
    [
        ("kraken", 1, 20, 10),
        ("kraken", 2, 30, 23),
        ("crosstrade", 10, 30, 60),
        ("oxfun", 40, 30, 19),
        ("roxom", 10, 38, 60),
    ],
)
def test_equity_becomes_rare_before_the_guard_takes_more_than_half_a_minute(
    name: str, together: int, guard_s: float, equity_s: float
) -> None:
    found = cadence(name, together)
    assert found.timing.guard_every_s <= guard_s + 0.001 and found.equity_every_s <= equity_s + 0.001
    assert found.timing.guard_every_s <= 30.001 or found.equity_every_s == pytest.approx(60)


@pytest.mark.parametrize(
    ("name", "together", "guard_s"),
    [("kraken", 1, 8), ("kraken", 2, 19), ("oxfun", 40, 16), ("oxfun", 10, 4), ("roxom", 1, 3), ("roxom", 10, 32)],
)
def test_an_account_that_no_trigger_measures_is_guarded_in_the_time_that_equity_would_take(
    name: str, together: int, guard_s: float
) -> None:
    unmeasured, measured = cadence(name, together, is_measured=False), cadence(name, together)
    assert unmeasured.timing.guard_every_s <= min(guard_s + 0.1, measured.timing.guard_every_s)
    members = {f"a{n}": oxfun("one.test", n).member for n in range(40)}
    planned = plan_cadences(members, {"a0"})
    assert planned["a0"].timing.guard_every_s > planned["a1"].timing.guard_every_s


def test_the_default_staleness_of_a_pnl_trigger_suits_one_account_at_krakens_lowest_tier() -> None:
    stale_after_s = PnlConfig.model_fields["stale_after_s"].default
    assert MEASURES_TO_STALE * math.ceil(cadence("kraken", 1).equity_every_s) <= stale_after_s


@pytest.mark.parametrize(
    ("name", "accounts", "slower"),
    [("kraken", 1, 3), ("oxfun", 10, 1)],  # without a WebSocket, Kraken's ledger is read before each figure
)
def test_an_account_whose_guard_reads_replace_probes_is_measured_and_read_as_often_as_planned(
    make: Make, name: str, accounts: int, slower: int
) -> None:
    address = make(name, accounts)
    address.fire()
    address.run(60)
    began = len(address.asked)
    address.run(600)
    assert (address.phases(), address.refused) == ({"CLEAR"}, 0)
    planned = address.dispatcher.sessions["a0"].venue.limits.cadence
    asked = Counter(one.what for one in address.asked[began:] if one.account == "a0")
    equity = next(what for what in asked if what in ("balance", "account"))
    assert asked[equity] >= 0.8 * 600 / (slower * planned.equity_every_s)
    assert asked["orders"] >= 0.85 * 600 / planned.timing.guard_every_s


def test_parts_of_one_login_are_guarded_and_chased_in_turn() -> None:
    for name, together in (("kuna", 3), ("crosstrade", 5)):
        alone, shared = cadence(name, 1).timing, cadence(name, together).timing
        assert alone.guard_every_s < 1.3 * VENUES[name].TIMING.guard_every_s
        assert shared.guard_every_s > 2 * alone.guard_every_s
        assert shared.strike_gap_s > alone.strike_gap_s == VENUES[name].TIMING.strike_gap_s


def test_roxoms_six_lists_are_read_as_often_as_its_plan_allows() -> None:
    assert cadence("roxom", 1).timing.guard_every_s > 1.5 * VENUES["roxom"].TIMING.guard_every_s
    assert cadence("roxom", 1, inst_types=("perpetual",)).timing.guard_every_s == 2.0


def oxfun(host: str, number: int = 0) -> Adapter:
    options = OxFun.Options(rest_url=f"https://{host}")
    return OxFun(options, {"api_key": f"a-key-of-ours-{number}", "api_secret": "a-secret-of-ours"}, 0.06)


def test_accounts_on_other_addresses_and_of_other_venues_are_not_counted_together() -> None:
    hosts = ("one.test", "two.test")
    adapters = {f"{host}{n}": oxfun(host, n) for host in hosts for n in range(5)}
    found = sweep_timings({**adapters, "kuna": STANDS["kuna"].make()})
    assert {found[name] for name in adapters} == {cadence("oxfun", 5).timing}
    assert len({id(adapter.budget.counts["second"]) for adapter in adapters.values()}) == 2
    found = sweep_timings({f"a{n}": oxfun("one.test", n) for n in range(16)})
    assert len({id(pace) for pace in found.values()}) == 1
    assert found["a0"] == cadence("oxfun", 16).timing


@pytest.mark.parametrize(
    ("name", "shared"), [("oxfun", True), ("kraken", False), ("kuna", False), ("roxom", False), ("crosstrade", False)]
)
def test_a_limit_is_shared_by_address_or_by_key_as_the_venue_counts(name: str, shared: bool) -> None:
    stand = STANDS[name]
    adapter = stand.make()
    key = type(adapter).key_name(type(adapter).Options(**stand.options))
    other = stand.make({**stand.secrets(), key: "another-key-0123456789"})
    sweep_timings({"one": adapter, "other": other})
    pairs = zip(adapter.budget.counts.values(), other.budget.counts.values(), strict=True)
    assert {one is same for one, same in pairs} == {shared}


def test_an_account_that_joins_shares_the_pool_that_running_accounts_have_used() -> None:
    new, old = oxfun("one.test", 1), oxfun("one.test", 2)
    sweep_timings({"old": old})
    pool = old.budget.counts["second"]
    old.keep_warm(START)
    sweep_timings({"new": new, "old": old})
    assert new.budget.counts["second"] is old.budget.counts["second"] is pool
    assert pool.fullness(START.mono_ns) == 0.01


@pytest.mark.parametrize(
    ("accounts", "limits"),
    [
        ((("ccxt:binanceusdm", "linear"), ("ccxt:binancecoinm", "inverse"), ("ccxt:binance", "linear")), 1),
        ((("ccxt:binanceusdm", "linear"), ("binance-coinm", "")), 1),
        ((("ccxt:binance", "spot"), ("binance-spot", "")), 1),
        ((("ccxt:binance", "spot"), ("ccxt:binance", "linear"), ("ccxt:binanceus", "spot")), 3),
    ],
)
def test_accounts_through_ccxt_share_the_limit_of_their_address_with_all_that_the_venue_counts_with_them(
    accounts: tuple[tuple[str, str], ...], limits: int
) -> None:
    keys: set[Hashable] = set()
    for number, (venue, product) in enumerate(accounts):
        kind = EVERY_VENUE[venue]
        options = kind.Options.model_validate({"products": [product]} if product else {})
        keys.update(Member(kind, options, number).pool_keys().values())
    assert len(keys) == limits
