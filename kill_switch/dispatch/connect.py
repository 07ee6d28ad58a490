"""Build the accounts of a process; the daemon, direct kills, connect checks and the benchmark do it here.

In this order: `build_adapters`, `sweep_timings` for the engine's state, `load_authorities`, and with the dispatcher
`connect_accounts`. Nothing here sends anything.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Coroutine, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kill_switch import clock
from kill_switch.config.loader import Config
from kill_switch.core.domain import SweepTiming
from kill_switch.dispatch.dispatcher import Dispatcher
from kill_switch.dispatch.no_web_socket import NoWebSocket
from kill_switch.dispatch.ports import WsPort
from kill_switch.dispatch.session import AccountSession
from kill_switch.errors import ConfigError, KillSwitchError, Problem
from kill_switch.transports.connection_count import ConnectionCount
from kill_switch.transports.fresh import FreshRoute
from kill_switch.transports.http import HttpLane
from kill_switch.transports.lane import ConnectionNotWanted
from kill_switch.transports.network import Network
from kill_switch.transports.ws import WsLane
from kill_switch.unexpected import brief
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.kit.pool_count import PoolCount
from kill_switch.venues.request import Upgrade
from kill_switch.venues.sharing import plan_cadences, share_connections

Work = Callable[[], Coroutine[Any, Any, None]]


def build_adapters(
    config: Config, names: Iterable[str] | None = None, failed: dict[str, str] | None = None
) -> dict[str, Adapter]:
    """Return new adapters of the accounts in `names`, or of all accounts, by name.

    With `failed`, an account that cannot be built is put there, with the reason; without it, the error is raised.
    """
    adapters: dict[str, Adapter] = {}
    for name in config.accounts if names is None else names:
        with _isolated_failure(name, failed, "it cannot be built: "):
            adapters[name] = config.accounts[name].build_adapter(config.daemon.second_route_after_s)
    return adapters


def sweep_timings(adapters: Mapping[str, Adapter], measured: Container[str] | None = None) -> dict[str, SweepTiming]:
    """Return each account's sweep timing; make accounts that a venue counts together share counts and connections.

    `adapters` is account → adapter. The count of an adapter that has started calls goes on, through reloads too.
    `measured` has the accounts whose equity a trigger needs; None: all.
    """
    counts: dict[Hashable, PoolCount] = {}
    for adapter in sorted(adapters.values(), key=lambda adapter: not adapter.calls.has_started):
        for pool, key in adapter.member.pool_keys().items():
            counts.setdefault(key, adapter.budget.counts[pool])
    members = {name: adapter.member for name, adapter in adapters.items()}
    cadences, connections = plan_cadences(members, measured), share_connections(members)
    for name, adapter in adapters.items():
        adapter.connections = connections[name]
        adapter.limits.share(cadences[name], {pool: counts[key] for pool, key in adapter.member.pool_keys().items()})
    return {name: cadence.timing for name, cadence in cadences.items()}


def connect_accounts(
    dispatcher: Dispatcher,
    config: Config,
    adapters: Mapping[str, Adapter],
    spawn: Callable[[Work], object],
    network: Network,
    failed: dict[str, str] | None = None,
) -> list[tuple[str, Work]]:
    """Register a session with lanes for each adapter; return the lanes' tasks by name, which the caller must run.

    `spawn` starts a coroutine in the caller's task group. With `failed`, an account without lanes is put there, with
    the reason; without it, this raises `ConfigError` for a `ca_file` that cannot be used.
    """
    tasks: list[tuple[str, Work]] = []
    for name, adapter in adapters.items():
        with _isolated_failure(name, failed):
            session, lanes = connect_account(dispatcher, config, name, adapter, spawn, network)
            dispatcher.register(session)
            tasks += lanes
    return tasks


def connect_account(
    dispatcher: Dispatcher,
    config: Config,
    name: str,
    adapter: Adapter,
    spawn: Callable[[Work], object],
    network: Network,
) -> tuple[AccountSession, list[tuple[str, Work]]]:
    """Return one account's session with its lanes, and the lanes' tasks by name; the caller registers the session.

    Await `load_authorities` first: otherwise this call reads the `ca_file` itself, and blocks. Raises `ConfigError` as
    `connect_accounts` does.
    """
    options = config.accounts[name].options
    tasks: list[tuple[str, Work]] = []

    def make_ws_lane(session: AccountSession) -> WsPort:
        if not adapter.ws_url:
            return NoWebSocket()
        ws = WsLane(
            adapter.ws_url,
            _upgrade(adapter),
            session,
            ca_file=options.ca_file,
            max_age_s=adapter.WS_MAX_AGE_S,
            overlap=adapter.WS_OVERLAP,
            connections=adapter.WS_CONNECTIONS,
            network=network,
        )
        tasks.append((f"{name} ws", ws.run))
        return ws

    def make_lanes(session: AccountSession) -> tuple[WsPort, HttpLane, FreshRoute]:
        ws = make_ws_lane(session)
        http = HttpLane(
            options.rest_url,
            session,
            ca_file=options.ca_file,
            warm_every_s=adapter.WARM_EVERY_S,
            connections=adapter.CONNECTIONS,
            count=ConnectionCount(
                lambda: session.pacer.wanted_connections(),
                per_s=lambda: adapter.connections.per_s,
                pinned=lambda: session.is_tripped,
                idle_s=adapter.IDLE_S,
            ),
            wanted=session.should_still_send,
            network=network,
        )
        fresh = FreshRoute(
            options.rest_url,
            session,
            spawn,
            ca_file=options.ca_file,
            wanted=session.should_still_send,
            spare=lambda: http.spare,
            quiet=lambda: session.status.quiet(),
            network=network,
        )
        http.pool.most_late = lambda: adapter.connections.late
        fresh.most_reads = lambda: adapter.connections.copies
        tasks.append((f"{name} http", http.run))
        return ws, http, fresh

    try:
        return AccountSession(name, adapter, dispatcher, make_lanes), tasks
    except OSError as error:
        actual = error.strerror or "holds no certificate"
        problem = Problem(f"accounts.{name}.ca_file", actual, "expected a file with PEM certificates")
        raise ConfigError(str(config.source), [problem]) from None


async def load_authorities(network: Network, config: Config) -> None:
    """Read the accounts' certificate authorities in threads within 10 s, so that `connect_account` does not block."""
    await network.trusts.prepare(account.options.ca_file for account in config.accounts.values())


@contextmanager
def _isolated_failure(name: str, failed: dict[str, str] | None, prefix: str = "") -> Iterator[None]:
    """Add an account's error to `failed`, so that the others go on; without `failed`, raise it."""
    try:
        yield
    except Exception as error:  # because another account's kill must not depend on it
        if failed is None:
            raise
        failed[name] = prefix + (str(error) if isinstance(error, KillSwitchError) else brief(error))


def _upgrade(adapter: Adapter) -> Callable[[], Upgrade]:
    def upgrade() -> Upgrade:
        now = clock.now()
        if why := adapter.reason_to_stay_disconnected(now):
            raise ConnectionNotWanted(why, is_expected=adapter.waits_for_token)
        return adapter.upgrade(now)

    return upgrade
