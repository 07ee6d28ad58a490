"""`kill-switch init`: what it writes for each venue passes `check` once the secrets are in their places."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kill_switch.cli import main
from kill_switch.config import loader, template
from kill_switch.venues import VENUES
from tests.harness.keys import rsa_pem

BASE64 = (
    "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="  # docs/venues/kraken.md
)


@pytest.fixture(autouse=True)
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def parsed(directory: Path) -> dict[str, Any]:
    return tomllib.loads((directory / "config.toml").read_text())


def put_secret(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text((rsa_pem(2048) if "private" in path.name else BASE64) + "\n")
    path.chmod(0o600)


def named_places(done: Result) -> list[Path]:
    """Return the secrets' places that the next steps name."""
    return [Path(found) for found in re.findall(r"install -D -m 0600 /dev/stdin (\S+)", done.output)]


def test_the_example_and_init_have_the_same_name_for_each_secret() -> None:
    uncommented = re.sub(r"(?m)^#(\[accounts\.|\w+ *= )", r"\1", template.example())
    example = {table["venue"]: table for table in _accounts(uncommented)}
    for venue, kind in VENUES.items():
        if venue not in example:
            continue
        written = re.sub(r"(?m)^#(\w+ *= )", r"\1", template.with_accounts(template.example(), [kind]))
        [account] = [table for table in _accounts(written) if table["venue"] == venue]
        names = {key: value for key, value in account.items() if isinstance(value, dict) and "credential" in value}
        assert names and {key: example[venue].get(key, value) for key, value in names.items()} == names


def _accounts(text: str) -> list[dict[str, Any]]:
    tables = [part.partition("\n[")[0] for part in text.split("\n[accounts.")[1:]]
    return [tomllib.loads(f"[accounts.{table}")["accounts"].popitem()[1] for table in tables]


@pytest.mark.parametrize("venue", VENUES)
def test_the_file_for_a_venue_passes_check_once_the_secret_files_that_init_names_are_there(
    tmp_path: Path, venue: str
) -> None:
    done = invoke("init", tmp_path / "new", "--venue", venue)
    assert done.exit_code == 0
    assert [line[:2] for line in done.output.splitlines() if line[:1].isdigit()] == ["1.", "2.", "3."]
    file = tmp_path / "new" / "config.toml"
    before = invoke("check", "-c", file)
    assert before.exit_code == 78
    assert before.stderr.count("its file does not exist") == len(named_places(done)) > 0
    for place in named_places(done):
        put_secret(place)
    after = invoke("check", "-c", file)
    assert (after.exit_code, after.stderr) == (0, "")
    assert f"account {venue}: {venue}" in after.output


@pytest.mark.parametrize("venue", VENUES)
def test_the_file_for_a_venue_passes_check_once_the_credentials_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, venue: str
) -> None:
    done = invoke("init", tmp_path / "new", "--venue", venue, "--secrets", "credentials")
    for place in named_places(done):
        assert f"LoadCredential={place.name}:{place}" in done.output
        put_secret(tmp_path / "credentials" / place.name)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    after = invoke("check", "-c", tmp_path / "new" / "config.toml")
    assert (after.exit_code, after.stderr) == (0, "")


@pytest.mark.parametrize("venue", VENUES)
def test_the_account_of_a_venue_shows_every_option_with_its_default(tmp_path: Path, venue: str) -> None:
    kind = VENUES[venue]
    done = invoke("init", tmp_path, "--venue", venue)
    for place in named_places(done):
        put_secret(place)
    file = tmp_path / "config.toml"
    plain = loader.load(file, environ={}).accounts[venue].options
    head, account, rest = re.split(r"(?m)^(?=\[accounts\.|\[triggers\.panic)", file.read_text())
    shown = "".join(line for line in account.splitlines(True) if "only with" not in line).replace("\n#", "\n")
    file.write_text(head + shown.replace("/etc/ssl/certs/ca-certificates.crt", "") + rest)
    options = set(kind.Options.model_fields) - (set() if kind.Options.TESTNET else {"environment"})
    assert options <= set(parsed(tmp_path)["accounts"][venue])
    shown_options = loader.load(file, environ={}).accounts[venue].options
    assert shown_options.model_copy(update={"ca_file": None}) == plain


@pytest.mark.parametrize("venue", VENUES)
def test_each_option_of_a_venue_has_a_description(venue: str) -> None:
    """The reference page and `init` print `Field(description=…)`; a comment behind the field reaches neither."""
    options = VENUES[venue].Options
    assert [name for name in options.model_fields if not options.describe(name)] == []


def test_secrets_that_another_choice_of_an_option_needs_are_comments(tmp_path: Path) -> None:
    invoke("init", tmp_path, "--venue", "kuna", "--venue", "roxom")
    text = (tmp_path / "config.toml").read_text()
    assert re.search(r'(?m)^#public_key +=.*/kuna-public-key" \} +# only with auth = "hmac"$', text)
    assert re.search(r'(?m)^private_key +=.*# .*not with auth = "api-key"$', text)


@pytest.mark.parametrize(
    ("venue", "key", "form"),
    [
        ("ccxt:gemini", "api_key", r"a key of one account \(account-…\)"),
        ("ccxt:backpack", "api_secret", "an Ed25519 seed: 32 bytes in base64"),
        ("kraken", "api_secret", "base64"),
        ("kraken-futures", "#unified_secret", "base64; optional; only with unified_key"),
        ("roxom", "private_key", 'an unencrypted RSA key in PEM; not with auth = "api-key"'),
    ],
)
def test_a_secret_that_must_have_a_form_is_written_with_it(tmp_path: Path, venue: str, key: str, form: str) -> None:
    invoke("init", tmp_path, "--venue", venue)
    assert re.search(rf"(?m)^{key} += \{{.*\}} +# {form}$", (tmp_path / "config.toml").read_text())


def test_an_option_without_a_default_has_an_example_that_the_next_steps_name(tmp_path: Path) -> None:
    done = invoke("init", tmp_path, "--venue", "crosstrade")
    assert "1. Edit the file: [accounts.crosstrade] nt_accounts; " in done.output
    assert parsed(tmp_path)["accounts"]["crosstrade"]["nt_accounts"] == ["Sim101"]


def test_several_venues_have_an_account_each_and_a_repeated_one_has_one(tmp_path: Path) -> None:
    done = invoke("init", tmp_path, "--venue", "roxom", "--venue", "crosstrade", "--venue", "roxom")
    for place in named_places(done):
        put_secret(place)
    assert list(parsed(tmp_path)["accounts"]) == ["roxom", "crosstrade"]
    assert invoke("check", "-c", tmp_path / "config.toml").exit_code == 0


def test_all_but_the_accounts_is_as_in_the_example(tmp_path: Path) -> None:
    invoke("init", tmp_path, "--venue", "roxom")
    ours, example = parsed(tmp_path), tomllib.loads(template.example())
    del ours["accounts"], example["accounts"]
    assert ours == example
    assert "mm1" not in (tmp_path / "config.toml").read_text()


def test_files_replace_every_credential_of_the_example_too(tmp_path: Path) -> None:
    assert invoke("init", tmp_path, "--secrets", "files").exit_code == 0
    assert parsed(tmp_path)["accounts"]["mm1"]["api_key"] == {"file": str(tmp_path / "secrets" / "kraken-key")}
    assert '= { credential = "' not in re.sub(r"(?m)^# .*", "", (tmp_path / "config.toml").read_text())


def test_a_directory_that_needs_quotes_is_quoted_in_the_file_and_in_the_steps(tmp_path: Path) -> None:
    done = invoke("init", tmp_path / 'my "own" desk', "--venue", "oxfun")
    place = tmp_path / 'my "own" desk' / "secrets" / "oxfun-key"
    assert parsed(tmp_path / 'my "own" desk')["accounts"]["oxfun"]["api_key"] == {"file": str(place)}
    assert f"/dev/stdin '{place}'" in done.output


@pytest.mark.parametrize(("venue", "near"), [("oxfan", "did you mean 'oxfun'?"), ("nowhere", "")])
def test_an_unknown_venue_is_one_line_with_the_known_ones_and_2(tmp_path: Path, venue: str, near: str) -> None:
    done = invoke("init", tmp_path, "--venue", venue)
    assert done.exit_code == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert f"no venue {venue!r}; {near}" in line and ", ".join(VENUES) in line
    assert not (tmp_path / "config.toml").exists()


def test_a_file_that_exists_is_73_and_the_message_names_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("mine")
    done = invoke("init", tmp_path, "--venue", "oxfun")
    assert done.exit_code == 73
    assert (tmp_path / "config.toml").read_text() == "mine"
    assert f"kill-switch check -c {tmp_path}/config.toml" in done.stderr


def test_the_hint_for_an_option_of_the_wrong_type_is_not_its_description(tmp_path: Path) -> None:
    invoke("init", tmp_path, "--venue", "crosstrade")
    file = tmp_path / "config.toml"
    file.write_text(re.sub(r"(?m)^#flatten +=.*", 'flatten = "yes"', file.read_text()))
    assert 'accounts.crosstrade.flatten: "yes"; expected true or false' in invoke("check", "-c", file).stderr


def test_a_user_who_is_not_root_gets_the_daemons_directories_and_its_flag_beside_the_file(tmp_path: Path) -> None:
    text = template.with_directories(template.example(), tmp_path)
    written = tomllib.loads(text)
    assert written["daemon"] == {"state_dir": str(tmp_path / "state"), "runtime_dir": str(tmp_path / "run")}
    assert written["triggers"]["panic"]["path"] == str(tmp_path / "run/flag/KILL")


def test_the_example_begins_with_no_closed_venue_and_its_secrets_are_where_the_readme_and_the_guide_have_them() -> None:
    root = Path(__file__).parents[3]
    closed = re.findall(r"\[([^]]+)\]\(docs/venues/\w+\.md\), closed", (root / "README.md").read_text())
    assert closed == ["KUNA", "OX.FUN"]
    first, *_ = _accounts(template.example())
    assert first["venue"] not in ("kuna", "oxfun")
    [name] = [table["credential"] for key, table in first.items() if key == "api_key"]
    assert f"/etc/kill-switch/credentials/{name} " in (root / "docs/guides/systemd.md").read_text()
    assert '"/etc/kill-switch/secrets/roxom-key"' in (root / "README.md").read_text()
