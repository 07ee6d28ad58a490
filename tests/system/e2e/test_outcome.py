"""What a kill is worth is told in real processes: who fired, what is on record, and what is weaker than that."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.e2e.conftest import Play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

NAME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def play() -> Iterator[Play]:
    """Two venues with orders; a test starts the daemon."""
    with Play(["oxfun", "roxom"]) as made:
        made.write_config()
        made.state_dir.mkdir()
        for venue in made.venues:
            made.rest(venue, 5)
        yield made


def test_the_report_names_the_owner_of_a_flag_and_who_re_armed_and_keeps_the_kills_last_state(play: Play) -> None:
    play.start_daemon()
    play.flag.touch()
    play.until_tripped()
    play.until(lambda: play.command("report", "--json").json["by"]["user"] == NAME)
    told = play.command("report", "--json").json
    assert (told["by"]["trigger"], told["by"]["uid"]) == ("panic", os.getuid()) and told["by"]["at"].endswith("Z")
    assert (told["scope"], told["rearmed"]) == (["oxfun", "roxom"], None)
    assert play.command("report").exit_code == 0
    play.flag.unlink()
    assert play.command("rearm", "--reason", "all well").exit_code == 0
    after = play.command("report", told["id"], "--json").json
    assert (after["rearmed"]["user"], after["rearmed"]["forced"]) == (NAME, False)
    assert [approval["uid"] for approval in after["rearmed"]["approvals"]] == [os.getuid()]
    assert {account["state"] for account in after["accounts"].values()} == {"CLEAR"}
    assert len(after["config"]) == 64
    assert f"by panic, {NAME} (uid {os.getuid()})" in play.command("report").out
    play.stop_daemon()
    assert play.command("report", told["id"], "--json").json == after
    for venue in play.venues:
        play.rest(venue, 5)
    direct = play.command("fire", "--direct", "--reason", "by hand", "--json").json
    assert (direct["by"]["trigger"], direct["by"]["user"]) == ("direct", NAME)
    assert (direct["config"], direct["scope"]) == (after["config"], ["oxfun", "roxom"])


# ── a kill without the daemon ─────────────────────────────────────────────────────────────────────────────────────

FIRE = ("fire", "--direct", "--reason", "the daemon is gone")


@contextlib.contextmanager
def mounted(path: Path, *options: str) -> Iterator[None]:
    """Mount a file system there for a while; skip the test where that cannot be."""
    if os.geteuid() or subprocess.run(["mount", *options, str(path)], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def starts(play: Play) -> str:
    """Return the state in which a daemon starts now."""
    play.start_daemon(wait=False)
    state: str = play.wait_for(lambda s: True, 15.0)["state"]
    play.stop_daemon()
    return state


def test_a_direct_kill_that_can_leave_no_latch_ends_with_1_and_names_the_command_that_trips_the_start(
    play: Play,
) -> None:
    play.state_dir.rmdir()
    play.runtime_dir.rmdir()
    done = play.command(*FIRE, "--json")
    assert (done.exit_code, play.open_orders()) == (1, 0)
    assert {account["verdict"] for account in done.json["accounts"].values()} == {"CONFIRMED"}
    [problem] = done.json["problems"]
    assert "would start ARMED" in problem["text"] and problem["text"] in done.err and problem["do"] in done.err
    command = problem["do"].removeprefix("before the daemon starts: ").removesuffix("; it then starts tripped")
    in_text = play.command(*FIRE)
    assert in_text.exit_code == 1 and "would start ARMED" in " ".join(in_text.out.split())
    subprocess.run(["sh", "-c", command], check=True)
    assert starts(play) != "ARMED"


@pytest.mark.parametrize("how", ["read-only", "full", "a journal that is no file"])
def test_a_direct_kill_without_a_record_ends_with_0_and_names_its_latch_file(how: str, play: Play) -> None:
    mounting = contextlib.ExitStack()
    match how:
        case "read-only":
            mounting.enter_context(mounted(play.state_dir, "-t", "tmpfs", "-o", "ro", "tmpfs"))
        case "full":
            mounting.enter_context(mounted(play.state_dir, "-t", "tmpfs", "-o", "size=4k,mode=750", "tmpfs"))
            with contextlib.suppress(OSError), open(play.state_dir / "filler", "wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 512)
        case _:
            (play.state_dir / "journal.jsonl").mkdir()
            (play.state_dir / "latch.jsonl").mkdir()
    with mounting:
        done = play.command(*FIRE, "--json")
    assert (done.exit_code, play.open_orders()) == (0, 0)
    [problem] = done.json["problems"]
    assert problem["note"] and problem["text"] in done.err
    assert "not on record" in problem["text"] and str(play.runtime_dir / "latch.jsonl") in problem["do"]
    if how != "a journal that is no file":
        assert starts(play) != "ARMED"


def test_a_direct_kill_beside_a_daemon_that_lives_is_taken_over_and_ends_with_0(play: Play) -> None:
    play.start_daemon()
    done = play.command(*FIRE, "--json")
    assert (done.exit_code, done.json["problems"]) == (0, []), done.err
    play.until_tripped()
    told = play.command("report", "--json").json
    assert (told["by"]["trigger"], told["by"]["uid"]) == ("latch", os.getuid())
    play.until(lambda: play.command("report", "--json").json["by"]["user"] == NAME)


def test_a_direct_kill_beside_a_daemon_that_hangs_notes_that_the_latch_is_taken_over_later(play: Play) -> None:
    play.start_daemon()
    assert play.daemon is not None
    play.daemon.send_signal(signal.SIGSTOP)
    try:
        done = play.command(*FIRE, "--json", within_s=40.0)
    finally:
        play.daemon.send_signal(signal.SIGCONT)
    assert (done.exit_code, play.open_orders()) == (0, 0)
    [problem] = done.json["problems"]
    assert "has not taken this kill over" in problem["text"] and "systemctl restart" in problem["do"]
    play.until_tripped()
    assert play.command(*FIRE, "--json").exit_code == 0


def test_a_direct_kill_beside_a_daemon_that_it_cannot_tell_ends_with_1(play: Play) -> None:
    play.start_daemon()
    with contextlib.ExitStack() as mounting:
        for directory in (play.state_dir, play.runtime_dir):
            mounting.enter_context(mounted(directory, "--bind", str(directory)))
            subprocess.run(["mount", "-o", "remount,bind,ro", str(directory)], check=True)
        done = play.command(*FIRE, "--json")
    assert (done.exit_code, play.open_orders()) == (1, 0)
    [problem] = done.json["problems"]
    assert "was not told of this kill" in problem["text"] and problem["do"].startswith("kill-switch fire -c ")
    assert play.status()["state"] == "ARMED"


# ── a kill through the daemon whose disk is sick ──────────────────────────────────────────────────────────────────


def fill(directory: Path) -> None:
    with contextlib.suppress(OSError), open(directory / "filler", "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 64)


@pytest.mark.parametrize("how", ["full", "a directory", "removed", "replaced"])
def test_on_a_sick_disk_fire_and_report_show_this_kill_and_no_older_one_and_note_the_record(
    how: str, play: Play
) -> None:
    with mounted(play.state_dir, "-t", "tmpfs", "-o", "size=512k,mode=750", "tmpfs"):
        journal = play.state_dir / "journal.jsonl"
        play.start_daemon()
        old = play.command("fire", "--reason", "an earlier kill", "--json")
        assert (old.exit_code, old.json["problems"]) == (0, []), old.err
        assert play.command("rearm", "--reason", "well").exit_code == 0
        match how:
            case "full":
                fill(play.state_dir)
            case "a directory":
                journal.unlink()
                journal.mkdir()
            case "removed":
                journal.unlink()
            case _:
                (play.state_dir / "other").write_bytes(journal.read_bytes())
                (play.state_dir / "other").rename(journal)
        done = play.command("fire", "--reason", "this kill", "--json")
        assert (done.exit_code, done.json["reasons"][0]["text"]) == (0, "this kill"), done.err
        assert {account["state"] for account in done.json["accounts"].values()} == {"CLEAR"}
        assert "not on record" in done.json["problems"][0]["text"]
        for words in ("last", done.json["id"]):
            told = play.command("report", words, "--json")
            assert (told.exit_code, told.json["id"]) == (0, done.json["id"]), told.err
            assert "not on record" in told.json["problems"][0]["text"] and "not on record" in told.err
        assert play.command("report", old.json["id"], "--json").json["id"] == old.json["id"]
        play.stop_daemon(signal.SIGKILL)
        alone = play.command("report", "last", "--json")
        # an older kill is not shown as the last; a file that is removed may leave the journal room for the record
        is_recorded = how == "full" and alone.json["id"] == done.json["id"]
        assert alone.exit_code == (0 if is_recorded else 1), (alone.out, alone.err)
