"""What nobody can read keeps no command from its work, and changes no exit code of a command that acts."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from kill_switch.cli import direct_fire, kill_verb, main, next_steps
from kill_switch.cli.next_steps import HostFacts
from kill_switch.client import control_socket
from kill_switch.control import paths
from kill_switch.journal.kill_report import ReportBuilder
from kill_switch.journal.segments import JournalReader
from kill_switch.journal.selection import Selection
from kill_switch.terminal import record_views, status_view, streams
from tests.harness.core_playbook import Run, answered, armed, due, read, reported
from tests.harness.fake_daemon import answering

CONFIG = '[daemon]\nstate_dir = "{0}/state"\nruntime_dir = "{0}/run"\n[accounts.mm1]\nvenue = "roxom"\n'
CLEAR = {"accounts": {"mm1": {"state": "CLEAR"}}, "asked": ["mm1"]}
REPORT: Any = ReportBuilder(
    250_000, Run(armed("a"))(reported("a"), answered("a", 100), read("a", 200), due("a", 450), read("a", 500)).entries
).render()
PROBLEM = {"problems": [{"text": "no latch", "do": "look at it", "note": True}]}
TRIPPED = {"state": "TRIPPED", "since": "2026-01-02T12:00:00.000000Z", "accounts": {}, "triggers": {}, "why": []}
TRIPPED |= {"trouble": [], "journal": "ok"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(tmp_path))
    return path


kept_open: list[io.TextIOWrapper] = []


def kept(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Keep a stream open until the end of the test."""
    kept_open.append(stream)
    return stream


def a_closed_pipe() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.close(reader)
    return kept(open(writer, "w"))


def a_full_disk() -> io.TextIOWrapper:
    return kept(open("/dev/full", "w"))


def a_pipe_that_nobody_reads() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, b"." * 4096)
        except BlockingIOError:
            break
    os.set_blocking(writer, True)
    kept(os.fdopen(reader))
    return kept(open(writer, "w"))


Stream = Callable[[], io.TextIOWrapper]
lost = pytest.mark.parametrize("stream", [a_closed_pipe, a_full_disk])


@pytest.fixture(autouse=True)
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(streams, "STUCK_AFTER_S", 0.01)
    yield
    while kept_open:
        with suppress(OSError):  # of what is still to be written
            kept_open.pop().close()


def end(*words: object, out: io.TextIOWrapper | None = None, err: io.TextIOWrapper | None = None) -> tuple[Any, str]:
    """Run a command with streams of the operating system; return its exit code and what it prints on the others."""
    with ExitStack() as stack:
        read_end, write_end = os.pipe()
        printed = stack.enter_context(open(read_end, encoding="utf-8"))
        write = open(write_end, "w")  # noqa: SIM115 - closed below, before the read
        with redirect_stdout(out or write), redirect_stderr(err or write), pytest.raises(SystemExit) as ending:
            main([str(word) for word in words])
        write.close()
        return ending.value.code, printed.read()


@pytest.mark.parametrize(
    ("word", "stream"),
    [
        *(
            (verb, stream)
            for verb in kill_verb.VERBS
            for stream in (a_closed_pipe, a_full_disk, a_pipe_that_nobody_reads)
        ),
        *(("rearm", stream) for stream in (a_closed_pipe, a_full_disk)),
    ],
)
def test_a_command_is_carried_out_and_answered_though_standard_error_is_lost(
    config: Path, tmp_path: Path, word: str, stream: Stream
) -> None:
    answer = {**CLEAR, **PROBLEM, "rearmed": ["mm1"]}
    with answering(tmp_path / "run" / paths.CONTROL_SOCKET, dict.fromkeys(("fire", "rearm"), answer)) as asked:
        code, printed = end(word, "-c", config, "--reason", "x", "--json", err=stream())
    assert (code, json.loads(printed), len(asked)) == (0, answer, 1)


@pytest.mark.parametrize("stream", [a_closed_pipe, a_full_disk, a_pipe_that_nobody_reads])
@pytest.mark.parametrize("how", [("--direct",), ("--direct-after", "0")], ids=" ".join)
def test_a_kill_goes_on_without_the_daemon_though_standard_error_is_lost(
    config: Path, monkeypatch: pytest.MonkeyPatch, how: Sequence[str], stream: Stream
) -> None:
    kills: list[str] = []

    def fire_directly(*request: Any) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        request[-1]()
        kills.append(request[1])
        return CLEAR, {}

    monkeypatch.setattr(direct_fire, "fire_directly", fire_directly)
    only_root_may = HostFacts(is_root=False, has_unit=True, needs_unit=True)
    monkeypatch.setattr(next_steps, "look", lambda path: only_root_may)
    code, printed = end("fire", "-c", config, "--reason", "gone", "--json", *how, err=stream())
    assert (code, kills, json.loads(printed)) == (0, ["gone"], CLEAR)


SHOWING_STDERR = """
import atexit, os, sys
from kill_switch.__main__ import main
atexit.register(lambda: os.write(1, os.readlink("/proc/self/fd/2").encode()))
main()
"""


def test_a_standard_stream_that_the_caller_has_closed_is_given_to_no_socket(config: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", SHOWING_STDERR, "fire", "-c", str(config), "--json"]
    with answering(tmp_path / "run" / paths.CONTROL_SOCKET, {"fire": CLEAR}):
        done = subprocess.run(["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *words], stdout=subprocess.PIPE, check=False)
    answer, stderr = done.stdout.splitlines()
    assert (done.returncode, json.loads(answer), stderr) == (0, CLEAR, b"/dev/null")


@pytest.mark.parametrize("closed", ["", "<&- 2>&-"])
def test_a_machine_without_dev_null_keeps_no_command_from_its_work(closed: str, config: Path, tmp_path: Path) -> None:
    program = "import os; os.devnull = '/nonexistent'" + SHOWING_STDERR
    words = [sys.executable, "-c", program, "fire", "-c", str(config), "--json"]
    with answering(tmp_path / "run" / paths.CONTROL_SOCKET, {"fire": CLEAR}):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *words],
            capture_output=True,
            check=False,
        )
    answer, stderr = done.stdout.splitlines()
    assert (done.returncode, json.loads(answer), stderr[:5]) == (0, CLEAR, b"pipe:")


# ── standard output ───────────────────────────────────────────────────────────────────────────────────────────────────


@lost
@pytest.mark.parametrize(
    ("words", "answer", "code", "said"),
    [
        (("fire", "--scope", "a"), {**REPORT, "asked": ["a"], **PROBLEM}, 0, "no latch"),
        (
            ("fire", "--scope", "a"),
            {**REPORT, "accounts": {"a": {**REPORT["accounts"]["a"], "state": "RESIDUE"}}},
            1,
            "",
        ),
        (("rearm", "--reason", "x"), {"rearmed": ["mm1"], **PROBLEM}, 0, "no latch"),
        (("status",), TRIPPED, 3, ""),
        (("status", "--json"), TRIPPED, 3, ""),
    ],
    ids=["clear", "residue", "rearm", "status", "status as JSON"],
)
def test_a_command_keeps_its_exit_code_and_prints_its_problems_though_standard_output_is_lost(
    config: Path,
    tmp_path: Path,
    words: Sequence[str],
    answer: Mapping[str, Any],
    code: int,
    said: str,
    stream: Stream,
) -> None:
    with answering(tmp_path / "run" / paths.CONTROL_SOCKET, {words[0]: answer}):
        ended, printed = end(*words, "-c", config, out=stream())
    assert (ended, said in printed) == (code, True)
    assert printed.count("standard output cannot be written") == (stream is a_full_disk)


def test_a_command_that_only_prints_ends_with_74_if_it_could_not_and_with_0_if_its_reader_has_ended() -> None:
    for words in (["venues"], ["venues", "--json"], ["man"], ["completion", "bash"]):
        code, printed = end(*words, out=a_full_disk())
        assert (code, printed.count("No space left on device")) == (74, 1)
        assert end(*words, out=a_closed_pipe()) == (0, "")


@lost
def test_a_command_that_goes_on_and_on_ends_with_its_reader(stream: Stream) -> None:
    class EndlessReader:
        def entries(self, tick: Callable[[], object]) -> Iterator[Mapping[str, Any]]:
            while True:
                yield {"seq": 1, "at": "now", "kind": "note", "data": {}}
                tick()

    with redirect_stdout(stream()), streams.guarded():
        endless = cast("JournalReader", EndlessReader())
        assert record_views.print_entries(endless, Selection(), None, follow=True, as_json=True) == 1
        status_view.watch_status(lambda: TRIPPED)


# ── errors as JSON ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "refusal", "code"),
    [
        (["fire", "--scope", "nosuch"], {"error": "no such account"}, 1),
        (["drill", "--scope", "nosuch"], {"error": "no such account", "exit": 1}, 1),
        (["reload"], {"error": "not good", "exit": 78}, 78),
        (["silence", "--list"], {"error": "busy", "exit": 75}, 75),
        (["report"], None, 1),
        (["status"], None, 69),
        (["rearm", "--reason", "x"], None, 69),
        (["fire", "--direct"], None, 78),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_error_is_one_json_object_too(
    config: Path, tmp_path: Path, words: list[str], refusal: Mapping[str, Any] | None, code: int
) -> None:
    if refusal is None:
        ended, printed = end(*words, "-c", config, "--json", err=a_full_disk())
    else:
        with answering(tmp_path / "run" / paths.CONTROL_SOCKET, {words[0]: refusal}):
            ended, printed = end(*words, "-c", config, "--json", err=a_full_disk())
    answer = json.loads(printed)
    assert (ended, answer["exit"], bool(answer["error"])) == (code, code, True)


def test_a_configuration_that_is_not_there_is_an_error_in_json_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (["status"], ["journal"], ["report"], ["fire"]):
        code, printed = end(*words, "-c", tmp_path / "none.toml", "--json", err=a_full_disk())
        assert (code, json.loads(printed)["exit"]) == (78, 78)


def test_an_error_of_the_callers_own_function_is_not_taken_for_a_daemon_that_does_not_answer(
    config: Path, tmp_path: Path
) -> None:
    def fail() -> None:
        raise BrokenPipeError("of the caller")

    path = tmp_path / "run" / paths.CONTROL_SOCKET
    for when in ("sent", "acknowledged"):
        with answering(path, {"status": TRIPPED}), pytest.raises(BrokenPipeError, match="of the caller"):
            control_socket.send_request(path, {"cmd": "status"}, **cast("Any", {when: fail}))
        path.unlink()
