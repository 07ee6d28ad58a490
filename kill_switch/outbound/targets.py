"""Where messages go: one of apprise's URLs, or the operator's command. The worker processes send; see `WorkerPool`.

`notifier` and `notify --test` use this, so that a test takes the way of every message. A target holds secrets, and its
`name` shows none.
"""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from kill_switch.outbound.digest import Message
from kill_switch.worker.client import JobResult, JobRunner

SEND_WITHIN_S = 20.0  # seconds for one attempt, of each channel by itself
# services of apprise whose URL has the address of a server behind "//" or "@"; elsewhere a token may be there
_WITH_HOST = ("json", "xml", "form", "mailto", "gotify", "mmost", "rocket", "apprise", "nctalk")


class UrlTarget:
    """A URL that apprise understands."""

    def __init__(self, jobs: JobRunner, url: str) -> None:
        self._jobs = jobs
        self._url = url

    @property
    def name(self) -> str:
        """Return the scheme, with the host where it is one: "json://desk.example", "tgram://…"."""
        scheme, _, address = self._url.partition("://")
        path = address.partition("/")[2]
        try:
            host = urlsplit(self._url).hostname or ""
        except ValueError:
            host = ""
        is_host = scheme.lower().removesuffix("s") in _WITH_HOST and "@" not in path and "@" not in host
        return f"{scheme}://{host if is_host and host else '…'}"

    async def send(self, message: Message) -> JobResult:
        """Send a message; return whether the service has accepted it. Never raises."""
        fields = {"subject": message.subject, "text": message.text, "type": message.type}
        return await self._jobs.run_job("tell", SEND_WITHIN_S, url=self._url, **fields)

    async def check(self) -> JobResult:
        """Return whether apprise understands the URL."""
        return await self._jobs.run_job("tell", SEND_WITHIN_S, url=self._url)


class CommandTarget:
    """The operator's command, which gets each message on standard input and in its environment."""

    def __init__(self, jobs: JobRunner, argv: tuple[str, ...]) -> None:
        self._jobs = jobs
        self._argv = argv

    @property
    def name(self) -> str:
        """Return the program, without its arguments, because they may hold a token."""
        return self._argv[0]

    async def send(self, message: Message) -> JobResult:
        """Run the command with a message; return whether it has ended with 0. Never raises."""
        environ = {
            "KILL_SWITCH_LEVEL": message.level,
            "KILL_SWITCH_SUBJECT": message.subject,
            "KILL_SWITCH_KILL": message.kill,
            "KILL_SWITCH_MESSAGE": message.id,
            "KILL_SWITCH_HOST": message.host,
            "KILL_SWITCH_ACCOUNTS": " ".join(message.accounts),
        }
        text = f"{message.subject}\n\n{message.text}\n"
        return await self._jobs.run_job("run", SEND_WITHIN_S, argv=self._argv, env=environ, text=text)

    async def check(self) -> JobResult:
        """Return whether the program is there."""
        return await self._jobs.run_job("find", SEND_WITHIN_S, argv=self._argv)


def host_name() -> str:
    """Return this host's name, without its domain, as messages show it."""
    return socket.gethostname().partition(".")[0]
