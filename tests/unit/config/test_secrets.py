"""Prove that secrets are fetched only from where they are safe, and shown nowhere."""

from __future__ import annotations

import copy
import os
import pickle
import shlex
import subprocess
from pathlib import Path

import pytest

from kill_switch.config.loader import load
from kill_switch.config.messages import InvalidValue
from kill_switch.config.rescue import rescue
from kill_switch.config.secrets import LIMIT, WHERE, Secrets, refuse_exposed, refuse_unlikely, resolve
from kill_switch.errors import ConfigError

SECRET = "sEcReT-0123456789-aBcDeF"
PEM = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----"
ONLY = "expected the secret and nothing else"
FILE_ONLY = "expected a file that holds the secret and nothing else"


def keep(path: Path, content: str | bytes = SECRET, mode: int = 0o600) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def refusal(source: object, environ: dict[str, str] | None = None) -> tuple[str, str]:
    with pytest.raises(InvalidValue) as caught:
        resolve(source, environ or {})
    assert SECRET not in caught.value.description + caught.value.hint
    assert caught.value.__cause__ is None
    return caught.value.description, caught.value.hint


def test_a_variable_is_read_from_the_environment_given() -> None:
    assert resolve({"env": "KEY"}, {"KEY": SECRET}) == SECRET


def test_a_credential_is_read_from_the_service_managers_directory(tmp_path: Path) -> None:
    keep(tmp_path / "oxfun-key", SECRET + "\n", 0o444)  # its mode is the service manager's business
    assert resolve({"credential": "oxfun-key"}, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == SECRET


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o440])
def test_a_file_that_only_its_owner_and_group_can_read_is_accepted(tmp_path: Path, mode: int) -> None:
    assert resolve({"file": str(keep(tmp_path / "key", mode=mode))}, {}) == SECRET


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(keep(tmp_path / "key"))
    assert resolve({"file": str(tmp_path / "link")}, {}) == SECRET


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
def test_newlines_at_the_end_are_not_part_of_a_secret(ending: str) -> None:
    assert resolve({"env": "KEY"}, {"KEY": SECRET + ending}) == SECRET


@pytest.mark.parametrize("text", [PEM, PEM.replace("\n", "\r\n")])
def test_pem_may_have_many_lines(text: str) -> None:
    assert resolve({"env": "KEY"}, {"KEY": text + "\n"}) == text


def test_a_secret_of_64_kib_is_not_too_long() -> None:
    assert len(resolve({"env": "KEY"}, {"KEY": "x" * LIMIT})) == LIMIT


@pytest.mark.parametrize(
    ("source", "found", "hint"),
    [
        (SECRET, "a literal string, where no secret belongs", WHERE),
        (1234567, "a number", WHERE),
        (1.5, "a number", WHERE),
        (True, "a number", WHERE),
        ([SECRET], "an array", WHERE),
        ({}, "an empty table", WHERE),
        ({"env": "A", "file": "/a"}, "env and file together", WHERE),
        ({"credential": "a", "env": "A", "file": "/a"}, "credential and env and file together", WHERE),
        ({"credentail": SECRET}, "an unknown key in its table", 'did you mean "credential"?'),
        ({SECRET: "x"}, "an unknown key in its table", WHERE),
        ({"env": 5}, "env is a number", WHERE),
        ({"file": [SECRET]}, "file is an array", WHERE),
        ({"env": SECRET}, "not the name of a variable", "expected letters, digits and _, without $"),
        ({"env": "$KEY"}, "not the name of a variable", "expected letters, digits and _, without $"),
        ({"env": "MISSING"}, "its variable is not set", "set it in the environment of this process"),
        ({"file": SECRET}, "a file that is not an absolute path", 'it must begin with "/"'),
        ({"file": "/a\0b"}, "a file that is not an absolute path", 'it must begin with "/"'),
        ({"file": f"/nowhere/{SECRET}"}, "its file does not exist", "check the path"),
        ({"file": "/" + SECRET * 30}, "its file cannot be read", "check the path"),
        ({"file": "/dev/null"}, "not a regular file", FILE_ONLY),
        ({"file": "/"}, "not a regular file", FILE_ONLY),
        (
            {"credential": SECRET},
            "a credential, but $CREDENTIALS_DIRECTORY is not set",
            'systemd sets it where the unit has LoadCredential=; elsewhere use { file = "/PATH" } or { env = "NAME" }',
        ),
    ],
)
def test_an_invalid_source_of_a_secret_is_refused(source: object, found: str, hint: str) -> None:
    assert refusal(source) == (found, hint)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../key", "/etc/passwd", "a\nb"])
def test_a_credential_is_a_name_and_no_path(tmp_path: Path, name: str) -> None:
    assert refusal({"credential": name}, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == (
        "not the name of a credential",
        "expected the NAME of LoadCredential=NAME:PATH, without a path",
    )


def test_a_credential_that_was_not_passed_is_refused_without_its_name(tmp_path: Path) -> None:
    assert refusal({"credential": SECRET}, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == (
        "no such credential",
        "add LoadCredential=NAME:PATH to the unit",
    )


def test_a_file_that_this_process_may_not_open_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", denied)
    assert refusal({"file": f"/{SECRET}"}) == (
        "this process may not read its file",
        "run as the daemon's user, or change its owner",
    )


def test_a_pipe_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal({"file": str(tmp_path / "pipe")}) == ("not a regular file", FILE_ONLY)


@pytest.mark.parametrize(
    ("mode", "found"),
    [
        (0o644, "its file can be read by everyone (mode 0644)"),
        (0o604, "its file can be read by everyone (mode 0604)"),
        (0o660, "its file can be written by others (mode 0660)"),
        (0o602, "its file can be written by others (mode 0602)"),
        (0o666, "its file can be written by others (mode 0666)"),
    ],
)
def test_a_file_within_others_reach_is_refused_and_the_hint_repairs_it(tmp_path: Path, mode: int, found: str) -> None:
    path = keep(tmp_path / "a key", mode=mode)
    said, hint = refusal({"file": str(path)})
    assert said == found
    assert hint == f"chmod g-w,o-rwx '{path}'"
    subprocess.run(shlex.split(hint), check=True)
    assert resolve({"file": str(path)}, {}) == SECRET


@pytest.mark.parametrize(("owner", "fine"), [(0, True), (1000, True), (1001, False)])
def test_a_file_belongs_to_root_or_to_the_daemon(owner: int, fine: bool) -> None:
    status = os.stat_result((0o100600, 0, 0, 1, owner, 0, 0, 0, 0, 0))
    if fine:
        refuse_exposed(status, "/key", 1000)
        return
    with pytest.raises(InvalidValue, match="its file belongs to uid 1001") as caught:
        refuse_exposed(status, "/key", 1000)
    assert caught.value.hint == "chown 1000 /key"


@pytest.mark.parametrize(
    ("content", "found", "hint"),
    [
        (b"", "an empty secret", "expected the secret, in one line, or PEM"),
        (b"\n", "an empty secret", "expected the secret, in one line, or PEM"),
        (f"{SECRET}\n{SECRET}".encode(), "more than one line, and not PEM", ONLY),
        (f"{SECRET}\t".encode(), "control or invisible characters, or spaces at its ends", ONLY),
        (f"{SECRET}\0x".encode(), "control or invisible characters, or spaces at its ends", ONLY),
        (f"{SECRET} ".encode(), "control or invisible characters, or spaces at its ends", ONLY),
        (f"\ufeff{SECRET}".encode(), "control or invisible characters, or spaces at its ends", ONLY),
        (PEM.replace("-\n", "-\n\0", 1).encode(), "PEM with control characters", "export it again"),
        (SECRET.encode("utf-16"), "not UTF-8 text", "expected the secret as text, a binary key as PEM"),
        (b"x" * (LIMIT + 1), "longer than 64 KiB", FILE_ONLY),
    ],
)
def test_content_that_no_secret_has_is_refused(tmp_path: Path, content: bytes, found: str, hint: str) -> None:
    assert refusal({"file": str(keep(tmp_path / "key", content))}) == (found, hint)


def test_a_variable_that_is_not_utf_8_is_refused() -> None:
    assert refusal({"env": "KEY"}, {"KEY": SECRET + "\udcff"})[0] == "not UTF-8 text"


def test_secrets_are_a_mapping() -> None:
    secrets = Secrets({"api_key": SECRET})
    assert secrets["api_key"] == SECRET
    assert list(secrets) == ["api_key"]
    assert len(secrets) == 1
    assert "api_secret" not in secrets


def test_secrets_show_their_names_only() -> None:
    secrets = Secrets({"api_key": SECRET, "private_key": PEM})
    assert repr(secrets) == str(secrets) == f"{secrets}" == "Secrets(api_key, private_key)"
    for view in (secrets.values(), secrets.items(), [secrets], {"a": secrets}):
        assert SECRET not in repr(view)


@pytest.mark.parametrize("write", [pickle.dumps, copy.copy])
def test_secrets_are_not_written_anywhere(write: object) -> None:
    assert callable(write)
    with pytest.raises(TypeError, match="secrets are not written anywhere"):
        write(Secrets({"api_key": SECRET}))


# ── secrets that are none ─────────────────────────────────────────────────────────────────────────────────────────

HOLDERS = {"credential": "its credential", "file": "its file", "env": "its variable"}
UNLIKELY = {
    "quotes around the secret": [
        *(f"{one}{SECRET}{other}" for one, other in ('""', "''", "``", "“”", "„“", "»«")),
        f'"{PEM.replace(chr(10), "")}"',
    ],
    "a name before the secret, as in NAME=…": [
        *(
            f"{before}{SECRET}"
            for before in ("API_KEY=", "KEY=", "_K2=", "KEY = ", "OXFUN_SECRET==", "export API_KEY=")
        ),
        *(f"{before}{SECRET}" for before in ("api_key=", "api-secret: ", "token=", "Secret:", "export key=")),
    ],
    "a placeholder": [
        *("<your key>", "<API_KEY>", "<>", "<token-here>", "[api key]", "{api_key}", "{{ api_key }}", "${API_KEY}"),
        *("$API_KEY", "%API_KEY%", "YOUR_API_KEY", "your-api-key-here", "replace-me", "REPLACE_WITH_SECRET"),
        *("changeme", "change_me", "TODO", "****", "...", f"sk-<your key>-{SECRET}"),
    ],
    "letters outside ASCII: look-alikes, typographic quotes or dashes?": [
        *(f"{SECRET}{letter}{SECRET}" for letter in "éßаІ–—…“‑中🔑"),
    ],
    "spaces within the secret": [f"{SECRET} {SECRET}", f"key {SECRET}"],
}
LIKELY = [
    *(
        SECRET,
        PEM,
        PEM.replace("\n", "\r\n"),
        "c2VjcmV0LXNlY3JldA==",
        "QUJDREVGR0g=",
        "ABCDEFGHIJKLMNOP==",
        "AB/CD+EF==",
    ),
    *(
        "0123456789abcdef" * 4,
        "a",
        "K",
        "_",
        "a'b\"c",
        "a<b",
        "x>y<z",
        "p@ss:word=1",
        "aB=c",
        "eyJhbGciOi.J9-_x.y",
        "50%",
    ),
    *("https://hooks.example/T0/B0/x?a=b", "$ecret1", "keyboard", "tokenise", "yours-truly-1", "none-of-it", "token"),
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in UNLIKELY.items() for text in texts])
def test_a_secret_that_is_none_is_refused_with_its_holder_and_its_kind_and_is_never_shown(kind: str, text: str) -> None:
    for source, holder in HOLDERS.items():
        with pytest.raises(InvalidValue) as caught:
            refuse_unlikely(text, {source: "x"})
        assert (caught.value.description, SECRET in caught.value.hint) == (f"{holder} has {kind}", False)


@pytest.mark.parametrize("text", LIKELY)
def test_a_secret_that_may_be_one_is_taken(text: str) -> None:
    refuse_unlikely(text, {"env": "x"})


@pytest.mark.parametrize(
    "text",
    [
        *(
            "correct horse <battery> staple",
            "enter the dragon 99",
            "put it on 7!",
            "set sail at dawn",
            "export quality",
        ),
        *("change with the tide", "key to the highway", "a = b", "Paste, the third"),
    ],
)
def test_a_secret_that_people_choose_may_have_spaces_and_brackets_and_be_a_sentence(text: str) -> None:
    refuse_unlikely(text, {"env": "x"}, is_typed=True)


@pytest.mark.parametrize(
    "text", ["your key here", "put-your-key-here", "replace_with_secret", "export KEY=a b", "set k=1"]
)
def test_a_placeholder_sentence_is_no_secret(text: str) -> None:
    with pytest.raises(InvalidValue):
        refuse_unlikely(text, {"env": "x"}, is_typed=True)


SENDERS = ("from=Alert<alert@desk.example>", "name=Kill Switch", "name=Schön", "+X-Key=[abc]")


@pytest.mark.parametrize("sender", SENDERS)
def test_a_url_that_is_kept_as_a_secret_may_have_all_that_one_may_have_that_is_written(sender: str) -> None:
    refuse_unlikely(f"mailto://desk:{SECRET}@desk.example?{sender}", {"env": "x"}, is_url=True)


@pytest.mark.parametrize(
    "url", ["https://hc.example/<your-uuid>", "'https://hc.example/x'", "URL=https://hc.example/x"]
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidValue):
        refuse_unlikely(url, {"env": "x"}, is_url=True)


@pytest.mark.parametrize("kind", HOLDERS)
def test_check_refuses_such_a_secret_at_its_key_and_a_direct_kill_tries_it(tmp_path: Path, kind: str) -> None:
    keep(tmp_path / "secret", f'"{SECRET}"\n')
    environ = {"KEY": SECRET, "SECRET": f'"{SECRET}"', "CREDENTIALS_DIRECTORY": str(tmp_path)}
    where = {"credential": "secret", "file": str(tmp_path / "secret"), "env": "SECRET"}[kind]
    path = tmp_path / "config.toml"
    path.write_text(
        f'[accounts.mm1]\nvenue = "oxfun"\napi_key = {{ env = "KEY" }}\napi_secret = {{ {kind} = "{where}" }}\n'
        f'[intake]\nkey = {{ {kind} = "{where}" }}\n[ping]\nurl = {{ {kind} = "{where}" }}\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(path, environ=environ)
    found = [str(problem) for problem in caught.value.problems]
    assert [line for line in found if "quotes" in line] == [
        f"{key}: {HOLDERS[kind]} has quotes around the secret; remove them"
        for key in ("accounts.mm1.api_secret", "intake.key", "ping.url")
    ]
    assert SECRET not in str(caught.value)
    assert list(rescue(path, environ=environ).config.accounts) == ["mm1"]
