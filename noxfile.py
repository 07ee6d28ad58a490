"""Sessions for contributors and for CI: `nox -l` lists them, `nox -s unit` runs one, `-- WORDS` passes words on.

Most sessions use the environment that nox itself is in: `.venv/bin/nox -s unit`. `clients`, `recipes`, `newest`,
`lowest` and `lock` make their own, and need the network. `tests/repository/test_suites.py` checks that each test is in
a session.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nox

UNIT = (
    "tests/repository",
    "tests/unit/test_*.py",
    *(f"tests/unit/{folder}" for folder in "cli client config control core daemon direct dispatch".split()),
    *(f"tests/unit/{folder}" for folder in "harness health journal system terminal triggers".split()),
)
VENUES = ("tests/venues",)
DETERMINISTIC = ("tests/deterministic",)
SYSTEM = (  # real sockets and processes
    *(f"tests/unit/{folder}" for folder in "outbound worker transports sim".split()),
    *(f"tests/system/{folder}" for folder in "security e2e fault_matrix crash fuzz".split()),
    "tests/recipes/test_local.py",
)
SYSTEMD = ("tests/system/systemd",)
MONITORING = ("tests/monitoring",)
CLIENTS = {  # tests of clients that others wrote; no two can live in one environment
    "sdks": tuple(f"tests/clients/test_{venue}_clients.py" for venue in "binance deribit kraken".split()),
    "connector": ("tests/clients/test_binance_connector.py",),
    "futures-connector": ("tests/clients/test_binance_futures_connector.py",),
    "ccxt": ("tests/clients/test_older_ccxt.py",),
}
RECIPES = {  # packages that a recipe is for, and the Python that they take; each needs an environment of its own
    "freqtrade": ("freqtrade==2026.9", "3.11", "tests/recipes/test_freqtrade.py"),
    "nautilus_trader": ("nautilus_trader==1.221.0", "3.11", "tests/recipes/test_nautilus_trader.py"),
    "hummingbot": ("hummingbot==20260922", "3.12", "tests/recipes/test_hummingbot.py"),  # built from source, 30 min
}
LONG = {  # the full figures, shortest first
    "many-orders": ("tests.system.load.many_orders",),
    "flood": ("tests.system.load.flood",),
    "scrapes": ("tests.system.load.scrapes",),
    "simulation": ("tests.deterministic", "--seeds", "10000", "--jobs", "2"),
    "crash": ("tests.system.crash", "all"),
    "year": ("tests.deterministic.year", "--years", "1", "--seed", "1"),
    "limits": ("pytest", "-m", "hours", "tests/venues"),
    "faults": ("tests.system.fault_matrix", "--jobs", "2"),
    "soak": ("tests.system.load.soak", "--minutes", "60"),
    "fuzz": ("tests.system.fuzz", "--inputs", "100000", "--jobs", "2"),
}
COVERAGE = {  # per cent of lines and branches that the fast tests must reach, by folder; it only rises
    **{"core": 99, "venues": 99},
    **{"config": 97, "dispatch": 97, "journal": 97, "triggers": 97},
}
EXTRAS = {
    "run": (),
    "notify": ("--extra", "notify"),
    "ccxt": ("--extra", "ccxt"),
}  # a lock file for each; requirements/dev.txt has all extras
COMPILE = (
    "uv pip compile --quiet --universal --python-version 3.11 --upgrade "
    "--generate-hashes --no-emit-index-url --no-header --no-annotate"
).split()

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "unit", "venues"]


def python(session: nox.Session, *words: str, env: dict[str, str] | None = None) -> None:
    """Run Python of the environment that nox is in; it keeps bytecode, because to compile the tests takes 10 s."""
    session.run(sys.executable, *words, env={"PYTHONDONTWRITEBYTECODE": "", **(env or {})}, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, format, layers, docstrings and names."""
    python(session, "-m", "ruff", "check")
    python(session, "-m", "ruff", "format", "--check")
    session.run(str(Path(sys.executable).with_name("lint-imports")), external=True)
    python(session, "-m", "pytest", "-n", "0", "tests/repository/test_prose.py")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types, of the tests too."""
    python(session, "-m", "mypy")


@nox.session
def unit(session: nox.Session) -> None:
    """Decisions, journal, triggers and control, without processes: under a minute."""
    python(session, "-m", "pytest", "-m", "not e2e and not long and not hours", *expand(UNIT), *session.posargs)


@nox.session
def venues(session: nox.Session) -> None:
    """Adapters against their venues' documented messages."""
    python(session, "-m", "pytest", *VENUES, *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Lines and branches that the fast tests reach, of the folders that decide."""
    python(session, "-m", "pytest", "--cov", "--cov-report=", *session.posargs)
    for folder, percent in COVERAGE.items():
        python(session, "-m", "coverage", "report", f"--include=kill_switch/{folder}/*", f"--fail-under={percent}")


@nox.session
def deterministic(session: nox.Session) -> None:
    """Whole lives by seed, as many as begin in a minute, a short year, and generated cases."""
    python(session, "-m", "pytest", *DETERMINISTIC)
    python(session, "-m", "pytest", "-m", "long", *expand(UNIT), *VENUES)
    python(session, "-m", "tests.deterministic", *(session.posargs or ("--minutes", "1")), "--jobs", "2")


@nox.session
def system(session: nox.Session) -> None:
    """Real sockets and processes, in small; a kill and a re-arm each second, for half a minute."""
    python(session, "-m", "pytest", *SYSTEM, *session.posargs)
    python(session, "-m", "tests.system.load.soak", "--minutes", "0.5")


@nox.session
def systemd(session: nox.Session) -> None:
    """A whole systemd in a container; takes root and systemd-nspawn."""
    env = {"KILL_SWITCH_NEEDS_SYSTEMD": "1"}
    python(session, "-m", "pytest", "-n", "0", "-m", "systemd", *SYSTEMD, *session.posargs, env=env)


@nox.session
def monitoring(session: nox.Session) -> None:
    """Alert rules, board and metrics, by the tools of Debian's Prometheus; a real Prometheus beside a daemon."""
    fetch = (sys.executable, "-m", "tests.monitoring.tools")
    if "NOT RUN" in str(session.run(*fetch, silent=True, external=True, log=False) or ""):
        session.run(*fetch, external=True)
        session.skip("the reason is above")
    env = {"KILL_SWITCH_NEEDS_PROMETHEUS": "1"}
    python(session, "-m", "pytest", "-n", "0", *MONITORING, *session.posargs, env=env)


@nox.session(venv_backend="virtualenv")
@nox.parametrize("of", [nox.param(name, id=name) for name in CLIENTS])
def clients(session: nox.Session, of: str) -> None:
    """Clients that others wrote, at the simulators: the venues' SDKs, older connectors, a ccxt with OX.FUN and KUNA."""
    session.install("--require-hashes", "-r", f"requirements/clients-{of}.txt")
    session.install("--no-deps", "-e", ".")
    session.run("pytest", "-W", "default", *CLIENTS[of], *session.posargs)  # their warnings are their own


@nox.session(venv_backend="virtualenv")
@nox.parametrize("python,of", [nox.param(needs[1], name, id=name) for name, needs in RECIPES.items()])
def recipes(session: nox.Session, of: str) -> None:
    """The recipes of docs/recipes in the trading packages that they are for."""
    package, _, tests = RECIPES[of]
    session.install(package, "-r", "requirements/clients.in")
    session.install("--no-deps", "-e", ".")
    session.run("pytest", "-W", "default", tests, *session.posargs)  # their warnings are their own


@nox.session
def docs(session: nox.Session) -> None:
    """The site, strict, and the pages that are made from the code."""
    python(session, "-m", "zensical", "build", "--strict")
    python(session, "-m", "pytest", "-n", "0", "tests/repository/test_docs.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Latency of this machine against the least that sockets can do."""
    python(session, "-m", "kill_switch", "bench", *session.posargs)


@nox.session
def long(session: nox.Session) -> None:
    """The full figures, about five hours; `-- soak fuzz` runs some of them."""
    for name in session.posargs or LONG:
        python(session, "-m", *LONG[name])


@nox.session(venv_backend="virtualenv")
def newest(session: nox.Session) -> None:
    """The fast tests with the newest versions of all dependencies, without the lock."""
    session.install("--upgrade", "-e", ".[dev]")
    session.run("pytest", *session.posargs)


@nox.session(venv_backend="virtualenv")
def lowest(session: nox.Session) -> None:
    """The fast tests with the lowest versions that pyproject.toml allows."""
    session.install("uv")
    session.run("uv", "pip", "install", "--resolution", "lowest-direct", "-e", ".[dev]")
    session.run("pytest", *session.posargs)


@nox.session(venv_backend="virtualenv")
def lock(session: nox.Session) -> None:
    """Make the lock files anew, with the newest versions that fit."""
    session.install("uv")
    sources = ("pyproject.toml", "requirements/build.in")
    session.run(*COMPILE, "--all-extras", *sources, "-o", "requirements/dev.txt")
    for name, extras in EXTRAS.items():
        constrained = ("-c", "requirements/dev.txt", "-o", f"requirements/{name}.txt")
        session.run(*COMPILE, *extras, *sources, *constrained)
    for name in CLIENTS:
        inputs = (*sources, "requirements/clients.in", f"requirements/clients-{name}.in")
        session.run(*COMPILE, "--extra", "sim", *inputs, "-o", f"requirements/clients-{name}.txt")


def expand(paths: tuple[str, ...]) -> list[str]:
    """Return the paths, with patterns resolved: pytest knows those in its configuration only."""
    return [str(path) for pattern in paths for path in sorted(Path().glob(pattern))]
