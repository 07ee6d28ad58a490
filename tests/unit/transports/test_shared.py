"""Nothing that an account waits for is shared: the code that would share it is found in the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import kill_switch

ROOT = Path(kill_switch.__file__).parent
# processes of their own, which hold up no kill: simulators, the demonstration, the benchmark, errands
APART = ("sim/", "bench/", "testbed/", "worker/main.py", "worker/commands.py", "worker/metrics_server.py")

# a pool that all share, or a look-up that goes to one; `resolver` is the one module that looks names up
SHARED = {
    "to_thread": "asyncio's default executor",
    "getaddrinfo": "the event loop's pool of look-ups",
    "getnameinfo": "the event loop's pool of look-ups",
    "gethostbyname": "a look-up on the event loop's thread",
    "connect_tcp": "anyio's look-up",
    "open_tcp_stream": "a look-up",
    "open_connection": "the event loop's look-up",
    "sock_connect": "uvloop's look-up, even of a literal address",
    "set_default_executor": "a pool that all share",
    "create_default_context": "SSLKEYLOGFILE, and files that are read on the event loop's thread",
    "load_default_certs": "files that are read on the event loop's thread",
    "set_default_verify_paths": "files that are read on the event loop's thread",
}
ALLOWED = {("transports/resolver.py", "getaddrinfo")}


def faults(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each call of what is shared."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        keywords = {keyword.arg for keyword in node.keywords}
        reads = [one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute) and one.attr == "run_sync"]
        default_executor = (
            name == "run_in_executor" and isinstance(node.args[0], ast.Constant) and node.args[0].value is None
        )
        if name in SHARED or default_executor:
            yield node.lineno, name
        elif reads and (name in {"run_sync", "partial"}) and "limiter" not in keywords:
            yield node.lineno, "run_sync without a limiter of its own"
        elif name == "create_connection" and "sock" not in keywords:
            yield node.lineno, name
        elif name == "run_sync" and "limiter" not in keywords:
            yield node.lineno, "run_sync without a limiter of its own"


def modules() -> list[Path]:
    return [path for path in sorted(ROOT.rglob("*.py")) if not path.relative_to(ROOT).as_posix().startswith(APART)]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_uses_a_resource_that_all_accounts_share(path: Path) -> None:
    where = path.relative_to(ROOT).as_posix()
    found = [(line, name) for line, name in faults(ast.parse(path.read_text())) if (where, name) not in ALLOWED]
    assert not found


@pytest.mark.parametrize(
    "code",
    [
        "await asyncio.to_thread(f)",
        "loop.run_in_executor(None, f)",
        "await loop.getaddrinfo(host, 1)",
        "await anyio.connect_tcp(host, 1)",
        "await anyio.to_thread.run_sync(f)",
        "group.start_soon(partial(to_thread.run_sync, f, abandon_on_cancel=True))",
        "await loop.create_connection(make, host, 1)",
        "ssl.create_default_context()",
    ],
)
def test_a_resource_that_all_accounts_share_is_found(code: str) -> None:
    tree = ast.parse(f"async def f():\n    {code}")
    assert list(faults(tree))


@pytest.mark.parametrize(
    "code",
    [
        "await anyio.to_thread.run_sync(f, limiter=mine)",
        "group.start_soon(partial(to_thread.run_sync, f, limiter=mine))",
        "loop.run_in_executor(pool, f)",
        "await loop.create_connection(make, sock=sock, ssl=tls)",
    ],
)
def test_a_resource_of_its_own_is_not_found(code: str) -> None:
    tree = ast.parse(f"async def f():\n    {code}")
    assert not list(faults(tree))
