"""A made-up venue on `KitAdapter`, which has what the kit's parts need, and as little as possible else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import orjson

from kill_switch.core.domain import Instant, Order, OrderState, Route
from kill_switch.venues.kit.calls import Build
from kill_switch.venues.kit.cancel_result import CancelResult
from kill_switch.venues.kit.order_list import OrderList
from kill_switch.venues.kit.replies import FrameReply, Reply, ReplyOutcome
from kill_switch.venues.kit.session_token import Token
from kill_switch.venues.kit.sessions import LoginRefused, LoginStep, Message, Ping
from kill_switch.venues.kit.strike import CancelCommand, StrikeStep
from kill_switch.venues.kit_adapter import KitAdapter
from kill_switch.venues.messages import Call, Opened, Output, Outputs, Send, WakeAfter
from kill_switch.venues.options import VenueOptions
from kill_switch.venues.request import Request
from tests.harness.venue_playbook import Player, answer, hears

SECRET = "tiny-secret-0123456789"
HEDGE_S = 0.06


class TinyOptions(VenueOptions):
    ws_url: str = "wss://tiny.test/ws"
    rest_url: str = "https://tiny.test"


class Tiny(KitAdapter[TinyOptions]):
    """Its answers are `{"code": …, "data": …}`; 0 is success."""

    NAME = "tiny"
    Options = TinyOptions
    CODES: Mapping[int, Reply] = {
        1: Reply(ReplyOutcome.REFUSED, "no"),
        2: Reply(ReplyOutcome.UNKNOWN, "too fast", pause_s=10.0),
        3: Reply(ReplyOutcome.REFUSED, "no such order", not_found=True),
        4: Reply(ReplyOutcome.WRONG_TIME, "wrong nonce"),
        5: Reply(ReplyOutcome.REFUSED, "session ended", session_ended=True),
        6: Reply(ReplyOutcome.REFUSED, "wrong key", key_refused=True),
    }

    @classmethod
    def secrets(cls, options: TinyOptions) -> tuple[str, ...]:
        return ("secret",)

    def __init__(self, *, token: bool = False, lists: int = 1, full: int = 0) -> None:
        super().__init__(TinyOptions(), {"secret": SECRET}, HEDGE_S)
        self.tries: list[int] = []
        self.more: list[StrikeStep] = []  # commands of a strike beside the account-wide one
        self.account_wide = CancelCommand(
            "all",
            self.post("/all"),
            _count,
            frame=lambda number: orjson.dumps({"id": number, "do": "all"}),
            line="POST /all",
            frame_line="all",
        )
        self.lists = tuple(
            OrderList(f"list{number}", self._page(number), _items, _cursor if not full else lambda data: "", full)
            for number in range(lists)
        )
        self.look_up = lambda order_id: self.get(f"/order/{order_id}")
        self.login = (
            LoginStep(lambda conn, now: None, lambda message: message.get("hello") is True, 0.5, optional=True),
            LoginStep(lambda conn, now: b'{"login":1}', lambda message: message.get("login") == "ok"),
        )
        self.ping = Ping(
            15.0, b"ping", lambda text: text in ("pong", b"pong"), is_beat=lambda message: "beat" in message
        )
        self.harmless = self.post("/none")
        self.harmless_frame = lambda number: orjson.dumps({"id": number, "do": "none"})
        self.equity_request = self.get("/equity")
        self.token_request = self.get("/token") if token else None
        self.assemble()

    def post(self, target: str) -> Build:
        return lambda now: Request("POST", target, {"Host": self.host})

    def get(self, target: str) -> Build:
        return lambda now: Request("GET", target, {"Host": self.host})

    def _page(self, number: int) -> Any:
        return lambda cursor: self.get(f"/list{number}?{cursor}")

    def cancels(self, now: Instant) -> Iterable[StrikeStep]:
        yield from super().cancels(now)
        yield from self.more

    def read_reply(self, status: int, body: Any) -> Reply:
        if status >= 500 or not isinstance(body, dict):
            return Reply(ReplyOutcome.NO_ANSWER, f"HTTP {status}")
        return self._judged(body)

    def _judged(self, body: Mapping[str, Any]) -> Reply:
        return self.CODES.get(body.get("code", 0), Reply(ReplyOutcome.ACCEPTED, "accepted"))._replace(
            data=body.get("data")
        )

    def frame_reply(self, message: Message) -> FrameReply | None:
        return FrameReply(message["id"], self._judged(message)) if "id" in message else None

    def login_refusal(self, message: Message) -> LoginRefused | None:
        if message.get("login") != "refused":
            return None
        return LoginRefused(
            "refused",
            session_ended="token" in message,
            optional="optional" in message,
            before_ready="before ready" in message,
        )

    def read_order(self, item: object) -> Order | None:
        return Order(item, "X", OrderState.LIVE, "open") if isinstance(item, str) else None

    def read_equity(self, data: Any) -> Mapping[str, Decimal] | str:
        return {"USD": Decimal(data)} if isinstance(data, str) else "no figure"

    def read_token(self, data: Any) -> Token | None:
        return Token(data, 900.0) if isinstance(data, str) else None

    def on_wrong_time(self, reply: Any, tries: int, now: Instant) -> None:
        self.tries.append(tries)

    def on_push(self, conn: int, message: Message, now: Instant) -> Outputs:
        return self.book.apply_push(Order(message["order"], "X", OrderState.LIVE, "open")) if "order" in message else ()


def _count(reply: Reply) -> CancelResult:
    data = reply.data if isinstance(reply.data, dict) else {}
    return CancelResult(reply, data.get("count"), data.get("ids", ()))


def _items(data: Any) -> object:
    return data.get("orders") if isinstance(data, dict) else None


def _cursor(data: Any) -> str:
    return str(data.get("next", "")) if isinstance(data, dict) else ""


def calls_of(outputs: Iterable[Output]) -> list[Call]:
    return [output for output in outputs if isinstance(output, Call)]


def frames_of(outputs: Iterable[Output]) -> list[Send]:
    return [output for output in outputs if isinstance(output, Send)]


def timers_of(outputs: Iterable[Output], seconds: float) -> list[WakeAfter]:
    return [output for output in outputs if isinstance(output, WakeAfter) and output.seconds == seconds]


def accepted(tag: str, **data: object) -> object:
    return answer(tag, {"code": 0, "data": data})


def ready(adapter: Tiny | None = None) -> Player:
    """Return a player whose lanes are ready, and whose book is empty."""
    player = Player(adapter or Tiny())
    for output in calls_of(player.put(Opened(Route.WS, 1))):
        player.put(answer(output.tag, {"code": 0, "data": "token-0123456789"}))
    player.put(hears(1, {"hello": True}))
    player.put(hears(1, {"login": "ok"}))
    for call in calls_of(player.put(Opened(Route.HTTP, 0))):
        player.put(accepted(call.tag, orders=[]))
    return player
