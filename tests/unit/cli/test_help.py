"""The commands explain themselves: help with examples that work, a manual page, completion."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from kill_switch.cli import main

CONFIG = """
[accounts.mm1]
venue = "oxfun"
tags = ["desk:mm", "algo:quoter"]
[accounts.rx1]
venue = "roxom"
tags = ["desk:mm"]
[triggers.panic]
kind = "flag"
[triggers.quoter-alive]
kind = "heartbeat"
"""


def examples(text: str) -> list[list[str]]:
    """Return the words of every `kill-switch …` in a help text, up to what is the shell's."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("kill-switch ")]
    words = [shlex.split(part) for line in lines for part in re.split(r"[|>]|&&", line)]
    return [split[1:] for split in words if split and split[0] == "kill-switch"]


def test_each_command_has_a_summary_that_fits_its_line_of_the_help() -> None:
    done = CliRunner().invoke(main, ["--help"], terminal_width=80)

    summaries = done.output.partition("Commands:")[2]
    assert "kill" in summaries and "..." not in summaries


@pytest.mark.parametrize("name", sorted(main.commands))
def test_each_commands_help_has_examples_that_the_command_takes(name: str) -> None:
    command = main.commands[name]
    text = command.help or ""
    assert "\b\n" in text
    found = [words for words in examples(text) if words[0] == name]
    assert found
    for words in found:
        with click.Context(main, info_name="kill-switch", **main.context_settings) as parent:
            command.make_context(name, words[1:], parent=parent)


@pytest.mark.parametrize("name", sorted(main.commands))
def test_each_option_of_a_command_has_a_purpose_in_the_help(name: str) -> None:
    options = [each for each in main.commands[name].params if isinstance(each, click.Option)]
    assert [option.opts for option in options if not option.help and not option.hidden] == []


def test_the_manual_page_has_a_section_for_each_command_and_man_finds_no_fault_in_it() -> None:
    done = CliRunner().invoke(main, ["man"])
    assert done.exit_code == 0
    for name, command in main.commands.items():
        assert f'.SS "{name}"'.replace("-", "\\-") in done.output
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[-1].replace("-", "\\-") in done.output
    if (groff := shutil.which("groff")) is not None:
        checked = subprocess.run(
            [groff, "-man", "-Tutf8", "-ww", "-z"], input=done.output, capture_output=True, text=True, timeout=10
        )
        assert checked.stderr == ""


def test_roff_takes_nothing_of_the_text_for_its_own() -> None:
    from kill_switch.cli import man_page

    group = click.Group("k", help="Do 'it'.", epilog="Exit codes:\n\n\b\n.dot -minus\n'quote \\back")
    page = man_page.page(group, "k", "1")
    assert "\\&.dot \\-minus" in page
    assert "\\&\\(aqquote \\eback" in page


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str) -> None:
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0
    assert "_KILL_SWITCH_COMPLETE" in done.output


def completed(tmp_path: Path, *words: str) -> list[str]:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    shell = BashComplete(main, {}, "kill-switch", "_KILL_SWITCH_COMPLETE")
    *before, last = words
    return [item.value for item in shell.get_completions([before[0], "-c", str(path), *before[1:]], last)]


def test_scopes_complete_to_accounts_and_tags(tmp_path: Path) -> None:
    assert completed(tmp_path, "fire", "--scope", "") == ["mm1", "rx1", "algo:quoter", "desk:mm"]
    assert completed(tmp_path, "fire", "--scope", "de") == ["desk:mm"]


def test_beat_completes_to_heartbeats(tmp_path: Path) -> None:
    assert completed(tmp_path, "beat", "q") == ["quoter-alive"]
    assert completed(tmp_path, "beat", "p") == []


def test_completion_without_a_configuration_is_no_error(tmp_path: Path) -> None:
    shell = BashComplete(main, {}, "kill-switch", "_KILL_SWITCH_COMPLETE")
    missing = str(tmp_path / "nothing.toml")
    assert shell.get_completions(["fire", "-c", missing, "--scope"], "") == []
