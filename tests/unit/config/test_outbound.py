"""What the configuration may say of messages, hooks, the ping and metrics, and how it says what is wrong."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from kill_switch.config.loader import Config, load
from kill_switch.errors import ConfigError

SECRET = "sEcReT-0123456789"
ENVIRON = {"KEY": SECRET, "URL": f"slack://{SECRET}/b/c", "PING": f"https://hc.example/{SECRET}"}
BASE = """
[accounts.mm1]
venue = "oxfun"
api_key = { env = "KEY" }
api_secret = { env = "KEY" }
"""
KEPT = '{ credential = "NAME" }, { file = "/PATH" } or { env = "NAME" }'


def loaded(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(f"{text}\n{BASE}")
    return load(path, environ=ENVIRON)


def wrong(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    assert SECRET not in str(caught.value)
    return list(map(str, caught.value.problems))


def test_a_url_is_written_as_it_is_or_kept_where_secrets_are(tmp_path: Path) -> None:
    text = '[notify]\nurls = ["mailto://ops@example.org", { env = "URL" }]\ncommand = "/bin/page -v \'a b\'"\n'
    config = loaded(tmp_path, f'{text}[ping]\nurl = {{ env = "PING" }}\nevery = "30s"')
    urls = [url.get_secret_value() for url in config.notify.urls]
    assert urls == ["mailto://ops@example.org", ENVIRON["URL"]]
    assert config.notify.command == ("/bin/page", "-v", "a b")
    assert config.ping.url is not None and config.ping.url.get_secret_value() == ENVIRON["PING"]
    assert config.ping.every_s == 30
    assert SECRET not in repr(config)


def test_nothing_of_it_has_to_be_there(tmp_path: Path) -> None:
    config = loaded(tmp_path, "")
    assert (config.notify.urls, config.notify.command, config.ping.url, config.hooks.on_trip) == ((), None, None, ())
    assert config.daemon.metrics is None


def test_hooks_are_commands_without_a_shell(tmp_path: Path) -> None:
    config = loaded(
        tmp_path, '[hooks]\non_trip = ["systemctl stop quoter.service", "sh -c \'a && b\'"]\ntimeout = "5s"'
    )
    assert config.hooks.on_trip == (("systemctl", "stop", "quoter.service"), ("sh", "-c", "a && b"))
    assert config.hooks.timeout_s == 5


COMMAND = 'expected a command, such as "systemctl stop quoter.service"'
COMMANDS = 'expected an array of commands, such as ["systemctl stop quoter.service"]'
SHELL = "a command for a shell, and there is none here; put it into a script, or write sh -c '…'"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ('[hooks]\non_trip = "x"', [f'hooks.on_trip: "x"; {COMMANDS}']),
        ('[hooks]\non_trip = ["", "a \'b", 5]', [
            f"hooks.on_trip[0]: an empty command; {COMMAND}",
            f"hooks.on_trip[1]: quotes that do not match; {COMMAND}",
            f"hooks.on_trip[2]: 5; {COMMAND}",
        ]),
        ('[hooks]\non_trip = ["a | b", "a; b", "a && b", "echo $X", "a `b`", "a > b"]', [
            f"hooks.on_trip[0]: {SHELL}",
            f"hooks.on_trip[1]: {SHELL}",
            f"hooks.on_trip[2]: {SHELL}",
            f"hooks.on_trip[3]: {SHELL}",
            f"hooks.on_trip[4]: {SHELL}",
            f"hooks.on_trip[5]: {SHELL}",
        ]),
        ('[hooks]\non_tripp = []', ['hooks.on_tripp: unknown key; did you mean "on_trip"?']),
        (f'[notify]\nurls = "{SECRET}"', [f"notify.urls: a string; expected an array of URLs; each may be {KEPT}"]),
        (f'[notify]\nurls = ["{SECRET}", 5, {{ env = "NONE" }}]', [
            f"notify.urls[1]: 5; expected a URL, or {KEPT}",
            "notify.urls[2]: its variable is not set; set it in the environment of this process",
            'notify.urls[0]: not a URL; expected one of apprise\'s: "SERVICE://…"',
        ]),
        ('[notify]\ncommand = "a \'"', [f"notify.command: quotes that do not match; {COMMAND}"]),
        ('[notify]\nurl = []', ['notify.url: unknown key; did you mean "urls"?']),
        (f'[ping]\nurl = "http://hc.example/{SECRET}"', [
            "ping.url: not a https:// address; only one on this machine may be http://",
        ]),
        (f'[ping]\nurl = "https:///{SECRET}"', [
            "ping.url: not a https:// address; only one on this machine may be http://",
        ]),
        (f'[ping]\nurl = "https://[{SECRET}"', [
            "ping.url: not a https:// address; only one on this machine may be http://",
        ]),
        ('[ping]\nurl = 5', [f"ping.url: 5; expected a URL, or {KEPT}"]),
        ('[ping]\nevery = "10s"', ["ping.url: missing, although every is set; set url, or leave both keys out"]),
        ('[ping]\nurl = "https://hc.example/x"\nevery = "10ms"', ['ping.every: "10ms"; it must be "1s" or more']),
    ],
)  # fmt: skip
def test_an_invalid_table_is_reported_without_its_secrets(tmp_path: Path, text: str, problems: list[str]) -> None:
    assert wrong(tmp_path, text) == problems


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/x", "http://localhost/x", "http://[::1]:80/x"])
def test_a_monitor_on_this_machine_needs_no_tls(tmp_path: Path, url: str) -> None:
    assert loaded(tmp_path, f'[ping]\nurl = "{url}"').ping.url is not None


def test_urls_without_apprise_are_a_problem_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert wrong(tmp_path, '[notify]\nurls = ["mailto://x"]') == [
        "notify.urls: set, but apprise is not installed; in the checkout: pip install '.[notify]'; or use command"
    ]
    assert loaded(tmp_path, '[notify]\ncommand = "page"').notify.command == ("page",)
