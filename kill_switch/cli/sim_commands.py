"""The commands that need no venue: `sim`, `demo`, `bench`.

They need the extra `sim`; without it, an error names what to install. No configuration of the user is read.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import click

from kill_switch.cli.common import json_option
from kill_switch.errors import CannotCreate, KillSwitchError


@click.command()
@click.option(
    "--venue",
    "venues",
    multiple=True,
    required=True,
    help="A venue to simulate, as an account's `venue`; repeatable. For an unknown one, all are named.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address on which the venues listen. The admin API listens on 127.0.0.1 in any case.",
)
@click.option(
    "--write",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Also write DIR/config.toml, key files and directories, for `kill-switch run -c DIR/config.toml`.",
)
@click.option(
    "--tls-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory for the throw-away CA; default: DIR/tls with `--write DIR`, else a temporary one.",
)
@click.option("--accounts", default=1, show_default=True, help="Accounts at each venue.")
@click.option(
    "--key-type",
    "key_types",
    multiple=True,
    metavar="VENUE=ed25519|rsa",
    help="The type of a venue's API keys, where it has several; repeatable.",
)
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="VENUE.KEY=VALUE",
    help="A switch of a simulator, such as VENUE.unknown; repeatable.",
)
def sim(
    venues: Sequence[str],
    host: str,
    write: Path | None,
    tls_dir: Path | None,
    accounts: int,
    key_types: Sequence[str],
    options: Sequence[str],
) -> None:
    """Simulate venues on this machine, for tests and trials.

    The simulators use real TLS. Once they listen, they print one JSON line with `admin`, `ca_file` and the venues. Each
    venue has its addresses, `credentials`, the other `options` of an account, `symbols` and `kinds` of orders.
    `not_covered` names the orders that no kill reaches. SIGTERM or Ctrl-C ends the simulators.

    With `--write DIR`, DIR/config.toml has an account for each simulated one, and a flag trigger at DIR/run/flag/KILL.
    Each start writes it again. A file that something else wrote is never overwritten: the command ends with 73.

    `admin` is the address of the admin API, for this machine only. Bodies are JSON, and so are answers:

    \b
          POST   /orders {"venue","count","account"?,"symbol"?,"kind"?}  rest orders
          GET    /orders?venue=                                          the book
          POST   /equity {"venue","equity","unrealised"?}                set the account's equity
          POST   /faults {"venue","fault", ...}                          switch a fault on
          DELETE /faults?venue=                                          switch all off
          GET    /requests?venue=, DELETE /requests                      what was received
          GET    /deadman?venue=                                         the venue's own countdown

    VENUE.unknown sets how the simulator behaves where a venue's documents are silent: kind or harsh.
    docs/reference/simulators.md lists all calls, faults and switches.

    \b
    Examples:
        kill-switch sim --venue oxfun --venue roxom
        kill-switch sim --venue oxfun --write lab
        kill-switch sim --venue roxom --key-type roxom=rsa
        kill-switch sim --venue kuna --option kuna.unknown=harsh
    """
    simulators = _simulators()
    from kill_switch.testbed import sim_directory

    try:
        switches = simulators.with_key_types(simulators.read_options(options), key_types)
        with ExitStack() as stack:
            place = stack.enter_context(sim_directory.claimed(write)) if write is not None else None
            exit_code = simulators.run(
                venues,
                host=host,
                tls_dir=tls_dir or (place.tls if place is not None else None),
                accounts=accounts,
                options=switches,
                on_ready=place.fill if place is not None else None,
            )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CannotCreate(f"the simulators cannot start: {where}{error.strerror}") from None
    sys.exit(exit_code)


@click.command()
@json_option
@click.option(
    "--venue",
    "venues",
    multiple=True,
    help="An account's venue, as kraken or ccxt:kraken; repeatable, also for several accounts at one. Default: all.",
)
@click.option("--ccxt", is_flag=True, help="Six venues with ten more accounts, which are served through ccxt.")
@click.option("--orders", default=50, show_default=True, help="Resting orders in each account.")
@click.option("--explain", is_flag=True, help="Also say what each column and word of the report means.")
def demo(as_json: bool, venues: Sequence[str], ccxt: bool, orders: int, explain: bool) -> None:
    """Show a whole kill on this machine, against simulators.

    The demo starts simulators and a daemon, rests orders, runs a bot that keeps quoting, touches the flag, and shows
    the kill and its proof.

    \b
    Examples:
      kill-switch demo
      kill-switch demo --orders 500 --json
      kill-switch demo --venue kraken --venue ccxt:kraken --venue ccxt:deribit
    """
    _simulators()
    from kill_switch.testbed import demo as show

    venues = (*venues, *(show.CCXT_BESIDE_OWN if ccxt else ())) or show.DEFAULT_VENUES
    try:
        show.require_playable(venues)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    sys.exit(show.run(venues, as_json=as_json, orders=orders, explain=explain))


@click.command()
@json_option
@click.option("--accounts", default="1,4,16,64,256", show_default=True, help="Numbers of accounts to measure.")
@click.option("--rounds", default=100, show_default=True, help="Kills for each number of accounts; the median counts.")
@click.option("--peers", is_flag=True, help="Also measure aiohttp, requests and ccxt; needs the extra `bench`.")
@click.option("--end-to-end", is_flag=True, help="Also measure the daemon as a process: touch, heartbeat, fire, idle.")
@click.option("--mixed", is_flag=True, help="Also measure accounts that are spread over every venue.")
@click.option(
    "--rtt",
    metavar="DURATION",
    help="Instead, put every venue this round trip away, as 50ms, and count the round trips of a kill.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw a picture of the result; needs the extra `bench`.",
)
def bench(
    as_json: bool,
    accounts: str,
    rounds: int,
    peers: bool,
    end_to_end: bool,
    mixed: bool,
    rtt: str | None,
    plot: Path | None,
) -> None:
    """Measure how long a kill takes on this machine.

    The kill is compared, in the same run, with the least time that sockets need.

    \b
    Examples:
      kill-switch bench
      kill-switch bench --accounts 16 --rounds 40 --peers --end-to-end
      kill-switch bench --accounts 10,40 --rounds 20 --mixed
      kill-switch bench --rtt 50ms --rounds 5
    """
    _simulators()
    from kill_switch.bench import runner as measure

    if rtt is not None:
        from kill_switch.config.messages import InvalidValue
        from kill_switch.config.parsers import duration

        try:
            rtt_s = duration("bench.rtt")(rtt)
        except InvalidValue as invalid:
            raise click.BadParameter(str(invalid), param_hint="--rtt") from None
        sys.exit(measure.run_at_distance(rtt_s, rounds, as_json=as_json))

    try:
        sizes = tuple(int(size) for size in accounts.split(","))
    except ValueError:
        raise click.BadParameter(f"{accounts!r} is not a list of numbers", param_hint="--accounts") from None
    if not sizes or min(sizes) < 1 or rounds < 1:
        raise click.BadParameter("sizes and rounds must be 1 or more", param_hint="--accounts, --rounds")
    whole = {"peers": peers, "end_to_end": end_to_end, "is_mixed": mixed}
    sys.exit(measure.run(sizes, rounds, **whole, as_json=as_json, plot=plot))


def _simulators() -> ModuleType:
    """Import the simulators, or raise `KillSwitchError` that names the extra to install."""
    try:
        from kill_switch.sim import main as simulators
    except ImportError as error:
        raise KillSwitchError(f"simulators need an extra; in the checkout: pip install '.[sim]' ({error})") from None
    return simulators
