"""Beyond this machine metrics take a token and TLS, or a private address and a word for it; all else is an error."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from kill_switch.config.loader import Config, load
from kill_switch.errors import ConfigError

BASE = """
[accounts.mm1]
venue = "oxfun"
api_key = { env = "KEY" }
api_secret = { env = "KEY" }
"""
TOKEN = "9f2c" * 16
ALL = "metrics_token_file and metrics_cert_file and metrics_key_file"
PRIVATE = 'expected a private one of this host, such as "10.0.0.5:9464"; any other needs metrics_token_file, '
PRIVATE += "metrics_cert_file and metrics_key_file"
REMOTE = "an address that other hosts can reach, without"


LOCKED_KEY = (
    load_pem_private_key(trustme.CA().issue_cert("guard").private_key_pem.bytes(), None)
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    .decode()
)


class Directory:
    """A directory with the files that metrics beyond this machine take."""

    def __init__(self, path: Path) -> None:
        self.path = path
        leaf = trustme.CA().issue_cert("guard.desk.example")
        self.write("token", f"{TOKEN}\n")
        self.write("key", leaf.private_key_pem.bytes().decode())
        self.write("cert", "".join(pem.bytes().decode() for pem in leaf.cert_chain_pems))

    def write(self, name: str, text: str, mode: int = 0o600) -> None:
        file = self.path / name
        file.write_text(text)
        file.chmod(mode)

    def load(self, metrics: str | None, *given: str) -> Config:
        """Load a configuration with an address, and the keys `token`, `cert`, `key` and `plain`."""
        lines = [] if metrics is None else [f'metrics = "{metrics}"']
        lines += [f'metrics_{key}_file = "{self.path / key}"' for key in given if key != "plain"]
        lines += ["metrics_plain = true"] if "plain" in given else []
        file = self.path / "config.toml"
        file.write_text("\n".join(["[daemon]", *lines, BASE]))
        return load(file, environ={"KEY": "a-key-that-is-long-enough"})

    def wrong(self, metrics: str | None, *given: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(metrics, *given)
        assert TOKEN not in str(caught.value)
        return [str(problem).replace(f"{self.path}/", "") for problem in caught.value.problems]


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


@pytest.mark.parametrize(
    ("metrics", "given"),
    [
        *((metrics, ()) for metrics in ("127.0.0.1:9464", "[::1]:9464", "127.8.7.6:1", "[::ffff:127.0.0.1]:9464")),
        *(("127.0.0.1:9464", given) for given in (("token",), ("cert", "key"), ("plain",))),
        *((metrics, ("token", "cert", "key")) for metrics in ("0.0.0.0:9464", "[::]:9464", "203.0.113.5:9464")),
        *((metrics, ("plain",)) for metrics in ("10.0.0.5:9464", "172.31.255.255:9464", "192.168.1.1:9464")),
        *((metrics, ("plain",)) for metrics in ("169.254.1.1:9464", "[fd00::5]:9464", "[fe80::1%eth0]:9464")),
        ("[::ffff:10.0.0.5]:9464", ("plain",)),
        ("10.0.0.5:9464", ("plain", "token")),
        ("10.0.0.5:9464", ("token", "cert", "key")),
    ],
)
def test_an_address_is_taken_if_only_those_can_read_who_should(
    directory: Directory, metrics: str, given: tuple[str, ...]
) -> None:
    daemon = directory.load(metrics, *given).daemon
    assert daemon.metrics is not None and daemon.metrics_plain == ("plain" in given)


@pytest.mark.parametrize(
    ("metrics", "given", "problems"),
    [
        ("0.0.0.0:9464", (), [
            f'daemon.metrics: "0.0.0.0", {REMOTE} metrics_token_file, metrics_cert_file, metrics_key_file; '
            f"set {ALL}, or listen on 127.0.0.1",
        ]),
        ("10.0.0.5:9464", (), [
            f'daemon.metrics: "10.0.0.5", {REMOTE} metrics_token_file, metrics_cert_file, metrics_key_file; '
            f"set {ALL}, or listen on 127.0.0.1, or set metrics_plain = true",
        ]),
        ("0.0.0.0:9464", ("token",), [
            f'daemon.metrics: "0.0.0.0", {REMOTE} metrics_cert_file, metrics_key_file; '
            "set metrics_cert_file and metrics_key_file, or listen on 127.0.0.1",
        ]),
        ("0.0.0.0:9464", ("cert", "key"), [
            f'daemon.metrics: "0.0.0.0", {REMOTE} metrics_token_file; set metrics_token_file, or listen on 127.0.0.1',
        ]),
        ("0.0.0.0:9464", ("plain",), [
            f'daemon.metrics: "0.0.0.0", every address of this host, with metrics_plain = true; {PRIVATE}',
        ]),
        ("[::]:9464", ("plain",), [
            f'daemon.metrics: "::", every address of this host, with metrics_plain = true; {PRIVATE}',
        ]),
        *(
            (f"{host}:9464", ("plain",), [
                f'daemon.metrics: "{host.strip("[]")}", not a private address, with metrics_plain = true; {PRIVATE}',
            ])
            for host in ("203.0.113.5", "172.32.0.1", "100.64.0.1", "[2001:db8::5]", "192.0.2.1", "[::ffff:8.8.8.8]")
        ),
        ("10.0.0.5:9464", ("plain", "cert", "key"), [
            "daemon.metrics_plain: true, although metrics_cert_file or metrics_key_file is set; leave one of both out",
        ]),
        ("127.0.0.1:9464", ("cert",), [
            "daemon.metrics_key_file: missing, although metrics_cert_file is set; set both, or leave both out",
        ]),
        ("127.0.0.1:9464", ("key",), [
            "daemon.metrics_cert_file: missing, although metrics_key_file is set; set both, or leave both out",
        ]),
        (None, ("token", "plain"), [
            'daemon.metrics_token_file: given, without an address; set metrics = "HOST:PORT", or leave it out',
            'daemon.metrics_plain: given, without an address; set metrics = "HOST:PORT", or leave it out',
        ]),
    ],
)  # fmt: skip
def test_any_other_address_is_an_error_with_the_keys_that_would_do(
    directory: Directory, metrics: str | None, given: tuple[str, ...], problems: list[str]
) -> None:
    assert directory.wrong(metrics, *given) == problems


@pytest.mark.parametrize(
    ("name", "text", "mode", "problem"),
    [
        ("token", "short", 0o600, "its token has 5 characters; expected 16 to 256; write one: openssl rand -hex 32"),
        ("token", "", 0o600, "an empty secret"),
        ("token", f"{TOKEN} {TOKEN}", 0o600, "its file has spaces within the secret"),
        ("token", "<put the token of Prometheus here>", 0o600, "its file has a placeholder"),
        ("token", TOKEN, 0o644, "its file can be read by everyone (mode 0644)"),
        ("key", "", 0o644, "its file can be read by everyone (mode 0644)"),
        ("cert", "nonsense", 0o644, "metrics_cert_file: its file has no certificate in PEM"),
        ("key", "nonsense", 0o600, "metrics_key_file: its file has no private key in PEM"),
        ("key", LOCKED_KEY, 0o600, "metrics_key_file: its file has a key with a password; expected one without"),
    ],
)
def test_an_unusable_file_is_an_error_of_the_configuration(
    directory: Directory, name: str, text: str, mode: int, problem: str
) -> None:
    key = directory.path / "key"
    directory.write(name, text or (key.read_text() if name == "key" else ""), mode)
    (found,) = directory.wrong("0.0.0.0:9464", "token", "cert", "key")
    assert problem in found


def test_a_certificate_and_the_key_of_another_are_refused(directory: Directory) -> None:
    directory.write("key", trustme.CA().issue_cert("guard").private_key_pem.bytes().decode())
    (found,) = directory.wrong("0.0.0.0:9464", "token", "cert", "key")
    assert "daemon.metrics_cert_file: it does not go with metrics_key_file: key values mismatch" in found


def test_missing_files_are_an_error_each(directory: Directory) -> None:
    for name in ("token", "key"):
        (directory.path / name).unlink()
    found = directory.wrong("0.0.0.0:9464", "token", "cert", "key")
    assert [problem.count("its file does not exist") for problem in found] == [1, 1]
