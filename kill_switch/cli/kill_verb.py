"""The verb of a kill: `fire`, `kill` and `trip` are one command, and wrong usage of it never fires.

A mistyped kill is answered by the line to type, and never by a guess. No suggestion leads from a kill to a
harmless command, or back. Nothing here sends anything.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import click

from kill_switch.cli.common import say, written

VERBS = ("fire", "kill", "trip")
_SYNONYMS = ("abort", "cancel", "cancel-all", "cancelall", "emergency", "halt", "kill-all", "killall", "panic")
SHOWN = 8  # accounts that are named
_CLOSE = 0.65  # similarity of two words, from 0 to 1, from which on one may be a misspelling of the other
_CLEAR_BY = 0.1  # by which the word that was meant is more similar than any other
_NEVER_FIRED = 2  # exit code; 0 would say that every account is clear


class KillCommand(click.Command):
    """A command that ends with 2, usage and the right line, unless every word of its command line is understood."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; `--help` too ends with 2, because 0 means that every account is clear."""
        typed = list(args)
        ctx.allow_extra_args = True  # because the words are named below
        try:
            words = super().parse_args(ctx, args)
            if not ctx.resilient_parsing:
                _refuse_words(ctx, self)
            return words
        except click.exceptions.Exit:  # of --help
            click.echo()
            self._say_lines(ctx, typed, ())
            ctx.exit(_NEVER_FIRED)
        except click.NoSuchOption as error:
            wrong = f"no such option: {error.option_name}"
            corrected = _corrected(typed, error.option_name, self)
            self._refuse(ctx, wrong, [corrected] if corrected else None, typed)
        except click.UsageError as error:
            self._refuse(ctx, error.format_message().rstrip("."), None, typed, getattr(error, "scope", ()))

    def _refuse(
        self,
        ctx: click.Context,
        wrong: str,
        lines: Sequence[str] | None,
        typed: Sequence[str],
        words: Sequence[str] = (),
    ) -> NoReturn:
        click.echo(ctx.get_usage(), err=True)
        say(f"kill-switch: nothing was fired: {wrong}", err=True)
        if lines is None:
            self._say_lines(ctx, typed, words, err=True)
        for line in lines or ():
            say(f"  did you mean:  {line}", err=True)
        ctx.exit(_NEVER_FIRED)

    def _say_lines(self, ctx: click.Context, typed: Sequence[str], words: Sequence[str], *, err: bool = False) -> None:
        """Print the lines to type: for every account, and for the accounts or tags that the words name."""
        kept = _kept(typed)
        verb = f"kill-switch {ctx.info_name}{kept}"
        is_harmless = "--dry-run" in typed
        does = "list what would be hit" if is_harmless else "kill"
        scope = "".join(f" --scope {shlex.quote(word)}" for word in words) or " --scope SEL"
        which = f"only {' and '.join(words)}" if words else "one account or tag"
        say(f"  to {does}, every account:  {verb}\n  to {does}, {which}:  {verb}{scope}", err=err)


class _UnwantedWords(click.UsageError):
    """A kill takes no words; `scope` are those that are accounts or tags, if all of them are."""

    def __init__(self, message: str, scope: Sequence[str]) -> None:
        super().__init__(message)
        self.scope = scope


def _refuse_words(ctx: click.Context, command: click.Command) -> None:
    """Raise `UsageError` for a word that is no option, and for an option in the place of another option's value."""
    options = {name for option in command.get_params(ctx) for name in option.opts}
    for name, value in ctx.params.items():
        values = value if isinstance(value, tuple) else (value,)
        if taken := [each for each in values if isinstance(each, str) and each in options]:
            raise click.UsageError(f"--{name} has no value: {taken[0]} follows it")
    if ctx.args:
        words = " ".join(map(shlex.quote, ctx.args))
        selectors = _selectors(ctx)
        scope = ctx.args if all(word in selectors for word in ctx.args) else []
        raise _UnwantedWords(f"{ctx.info_name} takes options only, and no word {words}", scope)


def _selectors(ctx: click.Context) -> set[str]:
    """Return the accounts and tags of the configuration; empty if it cannot be read."""
    accounts = written(ctx).get("accounts", {})
    tables = accounts.values() if isinstance(accounts, dict) else ()
    tags = {str(tag) for table in tables if isinstance(table, dict) for tag in table.get("tags", ())}
    return {*accounts, *tags}


def _kept(typed: Sequence[str]) -> str:
    """Return the parts of a command line that belong into the right one.

    They are the configuration, --direct, --direct-after and --dry-run.
    """
    config, after = _value_of(typed, "--config", "-c"), _value_of(typed, "--direct-after")
    kept = ["-c", shlex.quote(config)] if config else []
    kept += ["--direct-after", shlex.quote(after)] if after else []
    kept += [flag for flag in ("--direct", "--dry-run") if flag in typed]
    return "".join(f" {word}" for word in kept)


def _value_of(typed: Sequence[str], name: str, short: str = "") -> str:
    """Return the value of an option on a command line; "" if it is not there."""
    for number, word in enumerate(typed):
        if word in (name, short):
            return "".join(typed[number + 1 : number + 2])
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if short and word.startswith(short) and len(word) > len(short):
            return word[len(short) :]
    return ""


def _corrected(typed: Sequence[str], wrong: str, command: click.Command) -> str:
    """Return the command line with the option that was meant; "" if that is unclear."""
    names = [name for option in command.params for name in option.opts if name.startswith("--")]
    ratios = sorted((difflib.SequenceMatcher(None, wrong, name).ratio(), name) for name in (*names, "--help"))
    (second, _), (first, meant) = ratios[-2:]
    if first < _CLOSE or first - second < _CLEAR_BY:
        return ""
    words = [meant + word[len(wrong) :] if word.partition("=")[0] == wrong else word for word in typed]
    return f"kill-switch {command.name} {shlex.join(words)}"


# ── commands that do not exist ────────────────────────────────────────────────────────────────────────────────────────


def no_such_command(word: str, commands: Collection[str]) -> str:
    """Return the message for an unknown command.

    It suggests a kill only for a slip of a kill's name, and something harmless only where no kill may be meant.
    """
    word_lower = word.lower()
    harmless = [name for name in commands if name not in VERBS]
    near = difflib.get_close_matches(word_lower, harmless, 1, _CLOSE)
    kills = [verb for verb in VERBS if _is_slip(word_lower, verb)]
    message = f"no such command: {word}"
    if word_lower in (*VERBS, *_SYNONYMS) or (kills and not near):
        return f"{message}. To cancel every order: kill-switch {kills[0] if kills else 'kill'}"
    if near and not kills:
        return f"{message}. Did you mean {near[0]}?"
    return message


def _is_slip(word: str, right: str) -> bool:
    """Return whether a word is the right one but for a letter too many, too few, wrong, or two exchanged."""
    if word == right:
        return True
    return word in _slips(right) or right in _slips(word, letters="")


def _slips(word: str, letters: str = "abcdefghijklmnopqrstuvwxyz") -> Iterator[str]:
    """Yield a word without one of its letters, with two exchanged, and with another letter of `letters`."""
    for at in range(len(word)):
        yield word[:at] + word[at + 1 :]
        yield word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :]
        yield from (word[:at] + letter + word[at + 1 :] for letter in letters)


# ── what a kill says first ────────────────────────────────────────────────────────────────────────────────────────────


def say_all_accounts(path: Path | None, scope: Sequence[str], *, dry_run: bool) -> None:
    """Print how many accounts a kill without a scope hits, and which; to be called once it is sent, or can be."""
    if scope or dry_run:
        return
    from kill_switch.control import paths

    names = paths.account_names(path)
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    say(f"kill-switch: killing {f'all accounts, {len(names)}: {shown}' if names else 'all accounts'}", err=True)


def alias(command: click.Command, verb: str) -> click.Command:
    """Return the same command under another name."""
    return KillCommand(
        verb,
        params=command.params,
        callback=command.callback,
        help=f"""Kill: the same as `fire`, with the same options.

        \b
        Examples:
          kill-switch {verb}
          kill-switch {verb} --scope desk:mm --reason "runaway quoter"
          kill-switch {verb} --dry-run""",
    )
