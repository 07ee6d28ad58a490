"""Write the directory of `kill-switch sim --write`, and leave alone what something else wrote."""

from __future__ import annotations

import shutil
import stat
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kill_switch.config import loader
from kill_switch.errors import CannotCreate
from kill_switch.sim.main import serve
from kill_switch.testbed import config_files
from kill_switch.testbed.sim_directory import MARK, claimed
from kill_switch.venues import VENUES

READY: dict[str, Any] = {
    "ca_file": "/ca.pem",
    "venues": {
        "oxfun": {
            "ws_url": "wss://127.0.0.1:1/v2/websocket",
            "rest_url": "https://127.0.0.1:1",
            "credentials": {"api_key": "k1", "api_secret": "s1"},
            "options": {},
        }
    },
}


def contents(directory: Path) -> dict[str, tuple[int, str | bytes]]:
    """Return what is below a directory: the mode of each part, and the content of a file or the target of a link."""
    return {
        str(path.relative_to(directory)): (
            path.lstat().st_mode,
            str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "",
        )
        for path in sorted(directory.rglob("*"))
    }


def accounts(directory: Path) -> dict[str, Any]:
    """Return the accounts of a written configuration."""
    tables: dict[str, Any] = tomllib.loads((directory / "config.toml").read_text())["accounts"]
    return tables


@pytest.mark.anyio
async def test_the_written_configuration_names_every_account_with_private_keys(tmp_path: Path) -> None:
    with claimed(tmp_path / "lab") as place:
        async with serve(sorted(VENUES), tls_dir=place.tls, accounts=2) as ready:
            place.fill(ready)
            config = loader.load(tmp_path / "lab/config.toml")
    assert config.daemon.state_dir == tmp_path / "lab/state"
    assert config.daemon.runtime_dir == tmp_path / "lab/run"
    assert [(kind.kind, str(kind.path)) for kind in config.triggers.values()] == [  # type: ignore[union-attr]
        ("flag", str(tmp_path / "lab/run/flag/KILL"))
    ]
    assert sorted(config.accounts) == sorted(f"{venue}{number}" for venue in VENUES for number in (1, 2))
    for venue, entry in ready["venues"].items():
        for number, login in enumerate((entry, *entry["accounts"]), 1):
            account = config.accounts[f"{venue}{number}"]
            assert account.secrets == {key: text.strip() for key, text in login["credentials"].items()}
            assert (account.venue, account.options.rest_url) == (venue, entry["rest_url"])
    keys = [*(tmp_path / "lab/keys").iterdir()]
    assert len(keys) == sum(len(config.accounts[name].secrets) for name in config.accounts)
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    for name in ("keys", "state", "run", "run/flag"):
        assert stat.S_IMODE((tmp_path / "lab" / name).stat().st_mode) == 0o700


def test_each_start_writes_the_new_ports_and_keys_and_leaves_state_and_flag(tmp_path: Path) -> None:
    with claimed(tmp_path) as place:
        place.fill(READY)
    journal, flag = tmp_path / "state/journal.jsonl", tmp_path / "run/flag/KILL"
    journal.write_text("records\n")
    flag.write_text("reason\n")
    entry = READY["venues"]["oxfun"]
    later = {**entry, "rest_url": "https://127.0.0.1:2", "credentials": {"api_key": "k2", "api_secret": "s2"}}
    with claimed(tmp_path) as place:
        assert "https://127.0.0.1:1" in (tmp_path / "config.toml").read_text()
        place.fill(READY | {"venues": {"oxfun": later}})
    account = accounts(tmp_path)["oxfun"]
    assert account["rest_url"] == "https://127.0.0.1:2"
    assert {key: Path(account[key]["file"]).read_text() for key in ("api_key", "api_secret")} == later["credentials"]
    assert (journal.read_text(), flag.read_text()) == ("records\n", "reason\n")


def _file(name: str) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("something else\n")

    return write


def _link(name: str) -> Callable[[Path], None]:
    def link(directory: Path) -> None:
        elsewhere = directory / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "config").write_text(MARK)
        (directory / name).symlink_to(elsewhere / "config" if name == "config.toml" else elsewhere)

    return link


@pytest.mark.parametrize(
    "make",
    [
        *map(_file, ("config.toml", "config.toml/x", "keys", "keys/mm1", "state/journal.jsonl", "run/flag/KILL")),
        *map(_file, ("tls/ca.pem", "run")),
        *map(_link, ("config.toml", "keys", "state", "run", "tls")),
    ],
)
def test_a_file_of_something_else_is_refused_by_its_name_and_stays_as_it_is(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path)
    before = contents(tmp_path)
    with (
        pytest.raises(CannotCreate, match="was not written by `kill-switch sim`") as refused,
        claimed(tmp_path),
    ):
        pass
    assert any(str(refused.value).startswith(f"{tmp_path / name} ") for name in before)
    assert contents(tmp_path) == before


def test_a_configuration_whose_first_line_was_changed_is_no_longer_ours(tmp_path: Path) -> None:
    with claimed(tmp_path) as place:
        place.fill(READY)
    config = tmp_path / "config.toml"
    config.write_text("# mine\n" + config.read_text())
    with pytest.raises(CannotCreate, match=r"config\.toml was not written by"), claimed(tmp_path):
        pass
    assert config.read_text().startswith("# mine\n")


@pytest.mark.parametrize("name", ["keys", "state", "run", "tls"])
def test_a_part_of_our_directory_that_has_become_a_link_is_refused(tmp_path: Path, name: str) -> None:
    lab, elsewhere = tmp_path / "lab", tmp_path / "elsewhere"
    with claimed(lab) as place:
        place.fill(READY)
    elsewhere.mkdir()
    shutil.rmtree(lab / name, ignore_errors=True)
    (lab / name).symlink_to(elsewhere)
    with pytest.raises(CannotCreate, match=f"lab/{name} was not written by"), claimed(lab):
        pass
    assert contents(elsewhere) == {}


def test_files_beside_those_of_the_directory_are_nobodys_business(tmp_path: Path) -> None:
    (tmp_path / "sim.json").write_text("")
    (tmp_path / "run/flag").mkdir(parents=True)
    with claimed(tmp_path) as place:
        place.fill(READY)
    assert (tmp_path / "sim.json").exists()


def test_a_start_that_fails_leaves_nothing_or_a_directory_for_the_next_start(tmp_path: Path) -> None:
    with suppress(RuntimeError), claimed(tmp_path):
        raise RuntimeError
    assert contents(tmp_path) == {}
    with suppress(RuntimeError), claimed(tmp_path):
        _file("tls/ca.pem")(tmp_path)
        raise RuntimeError
    with claimed(tmp_path) as place:
        place.fill(READY)
    assert list(accounts(tmp_path)) == ["oxfun"]


def test_a_second_simulator_is_refused_while_the_first_one_holds_the_directory(tmp_path: Path) -> None:
    with claimed(tmp_path) as place:
        with pytest.raises(CannotCreate, match="another `kill-switch sim --write` uses it"), claimed(tmp_path):
            pass
        place.fill(READY)
        with pytest.raises(CannotCreate, match="another"), claimed(tmp_path):
            pass
    with claimed(tmp_path):
        pass


def test_a_directory_that_cannot_be_made_or_written_is_one_line(tmp_path: Path) -> None:
    _file("file")(tmp_path)
    with pytest.raises(CannotCreate, match=r"file: File exists$"), claimed(tmp_path / "file"):
        pass
    with pytest.raises(CannotCreate, match="not UTF-8"), claimed(tmp_path / "\udcff"):
        pass
    with claimed(tmp_path / "lab") as place:
        shutil.rmtree(tmp_path / "lab")
        with pytest.raises(CannotCreate, match="No such file or directory"):
            place.fill(READY)


TEXTS = ("", 'a "quoted" \\ word', "line\nline\ttab", "\x00\x1f\x7f", "ü😀")


@pytest.mark.parametrize("value", [*TEXTS, True, 0, -7, 0.5, [], ["a", 1], {}, {"a": ["b", {"c d": 1}]}])
def test_a_value_is_read_back_from_its_toml(value: object) -> None:
    assert tomllib.loads(f"key = {config_files.toml(value)}") == {"key": value}


def test_a_key_is_put_in_the_place_of_a_link_and_not_where_it_points(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    (tmp_path / "key").symlink_to(tmp_path / "other")
    config_files.replace(tmp_path / "key", "secret", 0o600)
    assert ((tmp_path / "other").read_text(), (tmp_path / "key").read_text()) == ("other", "secret")
    assert not (tmp_path / "key").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "other"]
