"""Who writes the journal can make its hashes fit: reading it does not hang, and fails in no unplanned way."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from kill_switch.cli import main
from kill_switch.journal import segments

COMMANDS = (["journal"], ["journal", "--json"], ["journal", "--verify"], ["report"])


def line(data: bytes, *, seq: int = 1, prev: str = segments.GENESIS) -> bytes:
    """Return a record whose hash fits its content, whatever that is."""
    body = b'{"seq":%d,"at":"2026-11-21T00:00:00Z","mono_ns":1,"boot":"b","kind":"note","data":%b,"prev":"%b"}'
    body %= seq, data, prev.encode()
    return b'%b,"hash":"%b"}\n' % (body[:-1], hashlib.sha256(body).hexdigest().encode())


@pytest.fixture
def site(tmp_path: Path) -> Path:
    config = tmp_path / "config.toml"
    config.write_text(f'[daemon]\nstate_dir = "{tmp_path}"\nruntime_dir = "{tmp_path}/run"\n')
    return tmp_path


def run(site: Path, words: list[str]) -> tuple[int, str]:
    done = CliRunner().invoke(main, [*words, "-c", str(site / "config.toml")])
    return done.exit_code, done.output


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_journal_that_goes_on_without_a_newline_is_broken_at_that_line_in_bounded_memory(
    site: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MAX_LINE", 3 << 20)
    with (site / segments.NAME).open("wb") as file:
        file.write(line(b"{}"))
        file.truncate(1 << 40)  # a hole: whoever reads it to its end never comes back
    code, output = run(site, words)
    assert code == 1
    assert "longer than any record" in output


def test_a_daemon_that_finds_a_journal_without_a_newline_takes_it_for_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MAX_LINE", 3 << 20)
    path = tmp_path / segments.NAME
    with path.open("wb") as file:
        file.truncate(1 << 40)
    broken = segments.read_at_start(path).broken
    assert broken is not None and (broken.line, broken.why) == (1, "longer than any record")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("depth", [260, 1000])
def test_a_record_that_is_nested_deeper_than_we_write_is_broken_and_no_failure_of_ours(
    site: Path, words: list[str], depth: int
) -> None:
    (site / segments.NAME).write_bytes(line(b'{"a":' * depth + b"0" + b"}" * depth))
    code, output = run(site, words)
    assert code == 1
    assert "nested too deeply" in output


def test_a_record_with_escape_sequences_is_shown_without_them(site: Path) -> None:
    (site / segments.NAME).write_bytes(line(rb'{"text":"\u001b[2J\u001b]0;owned\u0007\u202e\nforged"}'))
    code, output = run(site, ["journal"])
    assert code == 0 and output.count("\n") == 1
    assert output.removesuffix("\n").isprintable()


def test_a_link_in_the_journals_place_shows_nothing_of_the_file_that_it_leads_to(site: Path) -> None:
    secret = site / "secret"
    secret.write_text("root:$6$not-for-you:19000\n")
    (site / segments.NAME).symlink_to(secret)
    for words in COMMANDS:
        code, output = run(site, words)
        assert code == 1
        assert "not-for-you" not in output
