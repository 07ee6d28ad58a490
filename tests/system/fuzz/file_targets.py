"""Fuzz what is read from files: the configuration, the journal, latch files, the text in a flag."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import orjson

from kill_switch.config import loader
from kill_switch.core import recovery
from kill_switch.core.domain import Instant, Phase, Reason, SweepTiming
from kill_switch.errors import ConfigError, JournalBroken
from kill_switch.journal import journal, segments
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.journal.latch_file import MAX_BYTES, LatchFile
from kill_switch.journal.latch_lines import latch_line, latch_text, latched_accounts
from kill_switch.triggers.flag.trigger import TEXT_BYTES, FlagTrigger, look
from tests.harness.keys import rsa_pem
from tests.harness.recovered import tripped_accounts
from tests.harness.venue_playbook import START

from .mutate import TOKENS, mutate_bytes, mutate_json
from .target import Target, must

MEMORY_DISK = Path("/dev/shm")


class FileTarget(Target):
    """Have a directory of its own, in memory where there is such a thing."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None))
        self.path = self.directory / "file"

    def close(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


SECRET = "hidden-0123456789abcdef"  # in the environment
LITERAL = "literal-0123456789abcdef"  # in the file, where it must not be
VALUES = (
    *(b'"250ms"', b'"0s"', b'"-1s"', b'"1e9h"', b'"99999999999999999999d"', b'"5 m"', b"[]", b"{}", b'["a", 1]'),
    *(b"true", b"0", b"-1"),
    *(b"1e400", b"nan", b"inf", b'""', b'"\\u0000"', b'"\\U0010ffff"', b"9" * 5000, b"0x10"),
    *(b"1979-05-27T07:32:00Z", b"07:32:00"),
    *(b'"* * * * *"', b'"61 * * * *"', b'"*/0 * * * *"', b'"0 0 31 2 *"'),
    *(b'"17:00 America/New_York"', b'"25:00 Nowhere/Else"'),
    *(b'"127.0.0.1:9464"', b'"0.0.0.0:1"', b'"[::1]:99999"', b'"localhost:x"', b'{ env = "KEY" }'),
    *(b'{ env = "NONE" }', b"[[[[]]]]"),
    *(b'{ file = "/etc/passwd" }', b'{ file = "/dev/zero" }', b'{ file = "/" }'),
    *(b'{ credential = "../../etc/passwd" }', b'{ env = "PEM" }'),
    *(b'"https://venue.example"', b'"http://venue.example"', b'"https://user:pw@venue.example:1"'),
    *(b'"wss://[::1"', b'"mailto://x"'),
    *(b'"oxfun"', b'"roxom"', b'"kuna"', b'"crosstrade"', b'"heartbeat"', b'"flag"', b'"pnl"', b'"schedule"'),
    *(b'"link"', b'"order-rate"'),
    *(b'"all"', b'"desk:mm"', b'["mm1"]', b'["nobody"]', b'"fire"', b'"alarm"', b"[50, 75, 90]"),
    *(b"{ BTC = 1, BTC2 = \"x\" }", b'"""'),
    *(b'"' + LITERAL.encode() + b'"', b'{ env = "KEY", file = "x" }', b'"/run/\\u0000"'),
    *(b'"' + b"x" * 5000 + b'"', b"'''"),
)  # fmt: skip


class ConfigTarget(FileTarget):
    """Only `ConfigError` may come out of `load`, with words for people that show no secret."""

    NAME = "config"

    def __init__(self) -> None:
        super().__init__()
        (self.directory / "credentials").mkdir(mode=0o700)
        for name in (
            "kraken-key",
            "oxfun-key",
            "oxfun-secret",
            "roxom-key",
            "kuna-key",
            "crosstrade-token",
            "intake-key",
        ):
            path = self.directory / "credentials" / name
            path.write_text(SECRET)
            path.chmod(0o600)
        path = self.directory / "credentials" / "kraken-secret"
        path.write_text(base64.b64encode(SECRET.encode()).decode())
        path.chmod(0o600)
        self.environ = {
            "KEY": SECRET,
            "PEM": rsa_pem(2048),
            "CREDENTIALS_DIRECTORY": str(self.directory / "credentials"),
            "STATE_DIRECTORY": str(self.directory),
        }
        self.hidden = [SECRET, rsa_pem(2048)[64:128]]

    def seeds(self) -> Iterable[bytes]:
        example = (files("kill_switch.config") / "example.toml").read_text()
        for name in ("private_key", '"roxom-private-key"'):
            example = example.replace(name, f"#{name}") if name == "private_key" else example
        lines = [line.split("  # ")[0].rstrip() for line in example.splitlines()]
        lines = [line for line in lines if line and not line.startswith("# ")]
        bare = [line[1:] if line.startswith("#") else line for line in lines]
        tables: list[list[str]] = []
        for line in bare:
            if line.startswith("["):
                tables.append([])
            if tables:
                tables[-1].append(line)
        for table in tables:
            if "accounts.rx1" in table[0]:
                table[:] = [line for line in table if "private" not in line] + ['auth = "api-key"']
            table[:] = list({line.split("=")[0].strip(): line for line in table}.values())
        whole = ["\n".join(table) for table in tables]
        yield "\n\n".join(whole).encode()
        yield example.encode()
        account = next(one for one in whole if "accounts.mm1" in one)
        for one in whole:
            yield (account + "\n\n" + one if one is not account else one).encode()
        yield account.replace('{ credential = "kraken-key" }', f'"{LITERAL}"').encode()

    def steps(self, data: bytes) -> int:
        parts = max(line.count(b".") for line in data.split(b"\n"))
        return parts * parts // 500_000  # of a table's name, each of which `tomllib` looks up from the first one on

    def mutate(self, random: Random, data: bytes) -> bytes:
        lines = data.split(b"\n")
        for _ in range(random.choice((1, 1, 2, 3, 5))):
            at = random.randrange(len(lines))
            key, equals, _ = lines[at].partition(b"=")
            match random.randrange(8):
                case 0:
                    del lines[at]
                    lines = lines or [b""]
                case 1:
                    lines.insert(random.randrange(len(lines)), lines[at])
                case 2:
                    other = random.choice(self.pool).split(b"\n")
                    lines.insert(at, random.choice(other))
                case 3:
                    lines[at] = mutate_bytes(random, lines[at], self.pool, (*VALUES, *TOKENS))
                case 4 if random.random() < 0.2:
                    depth = random.choice((10, 500, 5000))
                    lines[at] = key + b"= " + b"[" * depth + b"]" * depth
                case _ if equals:
                    lines[at] = key + b"= " + random.choice(VALUES)
                case _:
                    lines[at] = lines[at].replace(b".", random.choice((b"", b"..", b'."x y".', b".\xff.", b'.""')))
        data = b"\n".join(lines)
        return data if random.random() < 0.9 else mutate_bytes(random, data, self.pool)

    def take(self, data: bytes) -> None:
        self.path.write_bytes(data)
        try:
            loaded = loader.load(self.path, environ=self.environ)
        except ConfigError as error:
            text = str(error)
            must(error.problems, "an error without a problem")
            must(error.__cause__ is None and error.__context__ is None, "an error that brings another along")
            for problem in error.problems:
                words = str(problem)
                must(words.isprintable(), f"words that are not for people: {words[:200]!r}")
                must(len(words) < 2000, f"a problem of {len(words)} characters: {words[:200]!r}")
        else:
            text = repr(loaded)
            must(loaded.accounts, "a configuration without accounts")
        must(not any(secret in text for secret in self.hidden), "a secret is shown")
        must(LITERAL not in text or not _only_value(data), "what stands where a secret belongs is shown")


def _only_value(data: bytes) -> bool:
    """Say whether the literal secret is in the file once, as the value of a key that is a secret's."""
    if data.count(LITERAL.encode()) != 1:
        return False
    try:
        accounts = tomllib.loads(data.decode()).get("accounts", {})
    except (ValueError, RecursionError):
        return False
    tables = accounts.values() if isinstance(accounts, dict) else ()
    keys = ("api_key", "api_secret", "token", "private_key", "public_key")
    return any(isinstance(table, dict) and LITERAL in [table.get(key) for key in keys] for table in tables)


PACES = {"a": SweepTiming(), "b": SweepTiming()}
KINDS = (
    "reason",
    "strike",
    "answer",
    "read",
    "seen",
    "clear",
    "residue",
    "rearm-approved",
    "rearm",
    "latch",
    "reload",
    "start",
)
NAMES = (
    "a",
    "b",
    "c",
    "",
    "reason",
    "accounts",
    "data",
    "kind",
    "account",
    "kill",
    "sent",
    "strike",
    "live",
    "pending",
    "complete",
)


class JournalTarget(FileTarget):
    """A journal yields what verifies, up to the first fault; every account that this trips is tripped.

    The bytes of a record are damaged, or its content is changed and the chain made to fit: another version of the
    program may have written that.
    """

    NAME = "journal"

    def seeds(self) -> Iterable[bytes]:
        at = {"observed_mono_ns": 5, "observed_wall_ns": START.wall_ns}
        reason = {"kill": "k1", "trigger": "panic", "text": "x", "accounts": ["a", "b"], "evidence": {}, **at}
        records: list[tuple[str, dict[str, Any]]] = [
            ("start", {"version": "0"}),
            ("reason", reason),
            ("strike", {"sent": [{"account": "a", "strike": 1}, {"account": "b", "strike": 1}]}),
            ("answer", {"account": "a", "answer": "ACCEPTED", "evidence": "ok", "cancelled": 2, "us": 5}),
            ("read", {"account": "a", "live": 0, "pending": 0, "complete": True, "asked_ns": 7}),
            ("clear", {"account": "a"}),
            ("read", {"account": "b", "live": 2, "pending": 1, "complete": False, "why": "x"}),
            ("residue", {"account": "b"}),
            ("rearm-approved", {"uid": 7, "user": "ann", "accounts": ["a", "b"], "text": "x"}),
            ("rearm", {"uid": 7, "user": "ann", "accounts": ["a"], "text": "x"}),
            ("reason", {**reason, "kill": "k2"}),
            ("seen", {"account": "a", "order": "1"}),
        ]
        for count in (0, 1, 2, 3, 6, 8, 10, 11, 12):
            yield chain([json.dumps({"kind": kind, "data": data}).encode() for kind, data in records[:count]])

    def mutate(self, random: Random, data: bytes) -> bytes:
        if random.random() < 0.4:
            return mutate_bytes(random, data, self.pool)
        entries = [line for line in data.split(b"\n") if line]
        contents: list[bytes] = []
        for line in entries:
            try:
                entry = json.loads(line)
                contents.append(json.dumps({"kind": entry["kind"], "data": entry["data"]}).encode())
            except (ValueError, TypeError, KeyError):
                contents.append(line)
        for _ in range(random.choice((1, 1, 2, 3))):
            at = random.randrange(len(contents)) if contents else 0
            match random.randrange(6):
                case 0 if contents:
                    del contents[at]
                case 1 if contents:
                    contents.insert(random.randint(0, len(contents)), contents[at])
                case _ if contents:
                    contents[at] = mutate_json(random, contents[at], contents, (*KINDS, *NAMES), NAMES)
                case _:
                    pass
        return chain(contents)

    def take(self, data: bytes) -> None:
        self.path.write_bytes(data)
        replay = journal.read_journal(self.path)
        must(replay.size + len(replay.torn) <= len(data), "more was read than there is")
        must(
            replay.broken is not None or replay.size + len(replay.torn) == len(data), "something is left out in silence"
        )
        must(data[: replay.size].count(b"\n") == len(replay.entries), "entries that are no lines")
        try:
            state = recovery.rebuild(replay.entries, PACES)
        except JournalBroken as broken:
            must(1 <= broken.line <= len(replay.entries), "broken at a line that is not there")
            known = segments.read_at_start(self.path)
            must(known.broken is not None and known.broken.line <= broken.line, "what is not understood is believed")
            recovery.rebuild(known.entries, PACES)
            return
        held = tripped_accounts(replay.entries)
        ReportBuilder(250_000, replay.entries)
        tripped = frozenset(name for name, account in state.accounts.items() if account.phase is not Phase.ARMED)
        must(tripped == held & PACES.keys(), "tripped, and not latched, or the other way round")
        wanted = _reasons(replay.entries)
        must(wanted <= tripped, f"armed, though a reason stands: {sorted(wanted - tripped)}")


def _reasons(entries: list[Any]) -> frozenset[str]:
    """Return the accounts that a reason names behind which there is no re-arm whatever."""
    named: set[str] = set()
    for entry in entries:
        data = entry["data"]
        if entry["kind"] == "rearm":
            named.clear()
        elif entry["kind"] == "reason" and isinstance(data, dict) and isinstance(data.get("accounts"), list):
            named.update(name for name in data["accounts"] if isinstance(name, str))
    return frozenset(named & PACES.keys())


def chain(contents: list[bytes]) -> bytes:
    """Make a journal whose numbers, links and hashes all hold, of contents `{"kind": …, "data": …}`."""
    prev, out = journal.GENESIS, b""
    for number, content in enumerate(contents, 1):
        inner = (
            content[1:-1]
            if content[:1] == b"{" and content[-1:] == b"}" and len(content) > 2
            else b'"kind":"x","data":{}'
        )
        head = b'{"seq":%d,"at":"2023-11-14T22:13:20Z","mono_ns":5,"boot":"b",' % number
        body = head + inner.replace(b"\n", b" ") + b',"prev":"%b"}' % prev.encode()
        prev = hashlib.sha256(body).hexdigest()
        out += body[:-1] + b',"hash":"%b"}\n' % prev.encode()
    return out


class LatchTarget(FileTarget):
    """A latch file that is there trips somebody, whatever is in it; taken over, it goes, and only then."""

    NAME = "latch"

    def seeds(self) -> Iterable[bytes]:
        one = latch_line("panic: touched", ["a"], START)
        yield one + b"\n"
        yield one + b"\n" + latch_line("other: x", "all", START) + b"\n"
        yield b""
        yield latch_line("x", ["a", "b", "nobody"], START)
        yield b"STOP\n"

    def mutate(self, random: Random, data: bytes) -> bytes:
        if random.random() < 0.3:
            return mutate_bytes(random, data, self.pool)
        lines = data.split(b"\n")
        at = random.randrange(len(lines))
        lines[at] = mutate_json(random, lines[at] or b"{}", self.pool, NAMES, ("text", "accounts", "at"))
        return b"\n".join(lines)

    def take(self, data: bytes) -> None:
        self.path.write_bytes(data)
        file = LatchFile(self.path)
        file.look()
        lines = file.unseen_lines()
        must(bool(lines), "a latch file that says nothing")
        said = "\n".join(lines)
        must(isinstance(latch_text(said), str), "a text that is none")
        accounts = latched_accounts(said, ("a", "b"))
        must(accounts and set(accounts) <= {"a", "b"}, f"a latch that trips {accounts}")
        file.remove(file.known())
        must(self.path.exists(), "a latch file is gone that nobody has taken over")
        file.acknowledge(said.split("\n"))
        must(not file.unseen_lines(), "a latch that is news twice")
        must(bool(file.append_line(b'{"text":"ours"}')), "no latch can be left")
        file.look()
        must(not file.unseen_lines() or len(data) > MAX_BYTES or not data.endswith(b"\n"), "our own latch is foreign")
        self.path.unlink(missing_ok=True)


class FlagTarget(FileTarget):
    """A flag fires once when it comes, whatever is in it; its text is one line for people."""

    NAME = "flag"

    def seeds(self) -> Iterable[bytes]:
        yield b""
        yield b"desk on fire\n"
        yield "µ → × ≤ \U0001f525\n".encode()
        yield b"line\nline\n" * 300

    def take(self, data: bytes) -> None:
        reasons: list[Reason] = []
        self.path.write_bytes(data)
        flag = FlagTrigger("panic", ("a",), self.path, clock=lambda: Instant(5, START.wall_ns))
        flag._report = reasons.append
        flag._on_state(look(self.path))
        flag._on_state(look(self.path))
        must(len(reasons) == 1, f"{len(reasons)} reasons for one flag")
        text = reasons[0].text
        must(
            text and text.isprintable() and len(text) <= max(TEXT_BYTES, 200),
            f"words that are not for people: {text!r}",
        )
        orjson.dumps(text)
        flag.state()
        os.unlink(self.path)
        flag._on_state(look(self.path))
        must(len(reasons) == 1, "a flag that goes is a reason")


FILE_TARGETS: tuple[type[Target], ...] = (ConfigTarget, JournalTarget, LatchTarget, FlagTarget)
