"""What is wrong with a lane is said alike by the status, its JSON, the check, the ping's condition and the log."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.system.e2e.conftest import Play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 19\r\n\r\naddress not allowed"
REFUSED = "upgrade refused: HTTP 403 Forbidden: address not allowed"
EXPIRED = "certificate: expired on 2020-01-01 00:00Z"


@contextlib.contextmanager
def refusing(leaf: trustme.LeafCert) -> Iterator[int]:
    """Listen with a certificate, and refuse every upgrade; yield the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listening.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as peer:
                    peer.recv(10_000)
                    peer.sendall(REFUSAL)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_an_expired_certificate_and_a_refused_upgrade_have_the_same_words_in_every_view(tmp_path: Path) -> None:
    authority = trustme.CA()
    gone = authority.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    soon = authority.issue_cert("127.0.0.1", not_after=datetime.now(UTC) + timedelta(days=13))
    with Play(["oxfun", "roxom"]) as play, refusing(gone) as expired, refusing(soon) as refuses:
        both = tmp_path / "both.pem"
        both.write_bytes(Path(play.ready["ca_file"]).read_bytes() + authority.cert_pem.bytes())
        play.ready["ca_file"] = str(both)
        play.venues["roxom"]["ws_url"] = f"wss://127.0.0.1:{expired}/ws"
        play.venues["oxfun"]["ws_url"] = f"wss://127.0.0.1:{refuses}/ws"
        play.write_config(daemon='ready = "degraded"')
        play.start_daemon(wait=False)
        play.until(lambda: play.log.exists() and " ready: " in play.log.read_text())
        status = play.wait_for(
            lambda s: all("ws" in account["trouble"] for account in s["accounts"].values()) and bool(s["trouble"]), 15.0
        )
        roxom, oxfun = (status["accounts"][name]["trouble"]["ws"] for name in ("roxom", "oxfun"))
        assert roxom.startswith(EXPIRED) and oxfun == REFUSED
        [warning] = [line for line in status["trouble"] if line.startswith("certificate: ")]
        assert "expires on" in warning and "in 13 days: from then on no connection of oxfun comes up" in warning
        text = " ".join(play.command("status").out.split())
        for account, why in (("roxom", EXPIRED), ("oxfun", REFUSED)):
            assert f"{account}: the ws lane is down ({why}" in text, text
        assert "in 13 days" in text, text
        asked = play.command("check", "--connect", "--json", "--wait", "1").json["connect"]
        assert (asked["accounts"]["oxfun"]["trouble"]["ws"], asked["warnings"]) == (oxfun, status["trouble"])
        log = play.log.read_text()
        assert log.count(f"account oxfun: ws lane: {REFUSED}") == 1
        assert log.count(f"account roxom: ws lane: {EXPIRED}") == 1 and log.count("in 13 days") == 1
        assert play.stop_daemon() == 0
        alone = play.command("check", "--connect", "--json", "--wait", "3")
        assert alone.exit_code == 1
        found = alone.json["connect"]["accounts"]
        assert (found["roxom"]["trouble"]["ws"][: len(EXPIRED)], found["oxfun"]["trouble"]["ws"]) == (EXPIRED, REFUSED)
        assert alone.json["connect"]["warnings"] == [warning]
