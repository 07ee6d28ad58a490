"""What the lanes share: waiting between attempts, naming trouble, and the sockets' settings."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from kill_switch.system.host_port import HostPort
from kill_switch.transports.causes import describe_error
from kill_switch.transports.lane import Backoff, tls_context, tune


def test_waits_grow_with_jitter_up_to_the_cap() -> None:
    backoff = Backoff(first_s=0.1, cap_s=1.0)
    waits = [backoff.next_s() for _ in range(8)]
    for wait, longest in zip(waits, (0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0), strict=True):
        assert (0 if longest == 0.1 else longest / 2) <= wait <= longest
    backoff.reset()
    assert backoff.next_s() <= 0.1


def test_a_venue_that_is_away_for_days_does_not_break_the_arithmetic() -> None:
    backoff = Backoff()
    assert all(backoff.next_s() <= 10.0 for _ in range(20_000))


def test_many_lanes_do_not_come_back_in_step() -> None:
    assert len({Backoff(failures=5).next_s() for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError("secret"), "timed out"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (OSError("secret"), "OSError"),
        (ValueError("secret"), "ValueError"),
        (ssl.SSLError("secret"), "SSLError"),
    ],
)
def test_a_lanes_trouble_is_named_without_the_bytes_that_were_sent(error: BaseException, words: str) -> None:
    assert describe_error(error) == words


def test_an_address_has_the_port_of_tls_unless_it_says_another() -> None:
    assert HostPort.of_url("wss://venue.test/ws") == HostPort("venue.test", 443)
    assert HostPort.of_url("https://[::1]:8443") == HostPort("::1", 8443)


def test_certificates_and_host_names_are_verified_from_tls_1_2_on() -> None:
    context = tls_context(None)
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


class Transport(asyncio.BaseTransport):
    def __init__(self, sock: socket.socket | None) -> None:
        super().__init__({"socket": sock})


def test_small_writes_leave_at_once_and_a_dead_host_is_noticed_within_three_seconds() -> None:
    with socket.socket() as sock:
        tune(Transport(sock))
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        every = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        assert idle + 2 * every <= 3 and sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000


def test_a_transport_without_a_socket_is_left_alone() -> None:
    tune(Transport(None))
