"""Answer on a control socket as a daemon would, so that a command's words and exit code can be tried without one.

Nothing is acknowledged, because the answer comes at once.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kill_switch.control.late_request import ASKED

Answers = Mapping[str, Mapping[str, Any] | Callable[[Mapping[str, Any]], Mapping[str, Any]]]


@contextmanager
def answering(path: Path, answers: Answers) -> Iterator[list[Mapping[str, Any]]]:
    """Serve `answers` by command on that socket; give the requests that came, without what each carries."""
    requests: list[Mapping[str, Any]] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                request = json.loads(line)
                requests.append({key: value for key, value in request.items() if key not in ("acknowledge", ASKED)})
                answer = answers[request["cmd"]] if request else {"error": "not a request", "exit": 1}
                said = answer(request) if callable(answer) else answer
                self.wfile.write(json.dumps(said).encode() + b"\n")

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    with Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield requests
        finally:
            server.shutdown()
            thread.join()
