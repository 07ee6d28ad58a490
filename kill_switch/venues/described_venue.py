"""Define what a venue states of itself for the kit's parts: requests, lists, judgements, pushes.

`KitAdapter` makes an adapter of it. This module has no mechanism.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple

from kill_switch.core.domain import Instant, Order
from kill_switch.venues.adapter import Adapter
from kill_switch.venues.kit.calls import Build, PendingCall
from kill_switch.venues.kit.nonce_watch import HINT, NonceWatch
from kill_switch.venues.kit.order_list import ListReader, OrderList
from kill_switch.venues.kit.replies import FrameReply, Reply
from kill_switch.venues.kit.session_token import Token
from kill_switch.venues.kit.sessions import LoginRefused, LoginStep, Message, Ping
from kill_switch.venues.kit.strike import CancelCommand, Striker, StrikeStep
from kill_switch.venues.messages import Outputs, Replied
from kill_switch.venues.profile import OptionsT

COMMAND_RETRIES = 4  # how often a kill's command is signed anew; any other call is signed anew once

LookUp = Callable[[str], Build | None]  # an order's id → the builder of the request for it; None: there is none


class ManyLookUp(NamedTuple):
    """A look-up of several orders by one request; an order that its answer leaves out is asked for alone."""

    build: Callable[[Sequence[str]], Build]  # the orders' ids → the builder of the request for them
    most: int  # ids of a request


class DescribedVenue(Adapter[OptionsT]):
    """A venue that sets these attributes in its `__init__`, and defines the functions that it needs."""

    STATUS_ACCEPTS: ClassVar[bool] = False  # only `read_reply` knows whether an answer accepts anything
    READS_ALONGSIDE: ClassVar[bool] = False  # the answer to a strike names no orders: the lists are read beside it
    FRAMES_SHARE_LIMITS: ClassVar[bool] = True  # what the venue says of its limits in a frame is said of requests too
    LISTS_EVERY_S: ClassVar[float] = 120.0  # with `probe_request`: the age at which a list is read again
    READER: ClassVar[type[ListReader]] = ListReader  # a venue may have its own
    STRIKER: ClassVar[type[Striker]] = Striker  # the same

    account_wide: CancelCommand | None = None  # the first command of each strike, if no knowledge changes it
    lists: Sequence[OrderList]
    probe_request: Build | None = None  # a read of next to no weight, that proves the key; None: the lists probe
    look_up: LookUp | ManyLookUp | None = None
    login: Sequence[LoginStep] = ()
    ping: Ping | None = None
    token_request: Build | None = None  # hands out the token that a login needs
    nonce_watch: NonceWatch | None = None  # of the key that signs reads, where the venue wants rising nonces
    harmless: Build | None = None  # the cancel of an order that cannot exist
    harmless_frame: Callable[[int], bytes] | None = None  # the same as a frame of this number
    equity_request: Build | None = None

    _warned: Mapping[str, str] = {}  # by name: see `warn`

    @abstractmethod
    def read_reply(self, status: int, body: Any) -> Reply:
        """Judge an HTTP answer; `body` is its JSON value, None if it has none. No other place judges error codes."""

    @abstractmethod
    def read_order(self, item: object) -> Order | None:
        """Read an order of a list; return None if it cannot be read. An unknown status is alive."""

    def cancels(self, now: Instant) -> Iterable[StrikeStep]:
        """Yield the commands of a strike, the widest first; with `account_wide`, that is the first."""
        return () if self.account_wide is None else (self.account_wide,)

    def cancels_by_id(self) -> Iterable[CancelCommand]:
        """Yield the cancels of single orders that have outlived a strike; they leave behind the other commands."""
        return ()

    def frame_reply(self, message: Message) -> FrameReply | None:
        """Judge the answer to a command's or a drill's frame; return None for any other message."""
        return None

    def read_looked_up(self, data: Any, order_id: str) -> Order | None:
        """Read an order of a look-up's reply; return None if it cannot be read, or if the reply lacks it."""
        return self.read_order(data)

    def read_equity(self, data: Any) -> Mapping[str, Decimal] | str:
        """Read the equity by currency, or return why it cannot be read."""
        raise NotImplementedError

    def read_token(self, data: Any) -> Token | None:
        """Read the token of a reply; return None if it cannot be read."""
        raise NotImplementedError

    def on_new_token(self, now: Instant) -> Outputs:
        """Do nothing further with a token that has just come: the next strike's first frame has it."""
        return ()

    def login_refusal(self, message: Message) -> LoginRefused | None:
        """Return what a message refuses of the login, or which session it ends; None: neither."""
        return None

    @abstractmethod
    def on_push(self, conn: int, message: Message, now: Instant) -> Outputs:
        """Process a message that is neither the session's nor the answer to a frame."""

    def is_drill_passed(self, reply: Reply) -> bool:
        """Return whether the answer to a drill proves the order path, by default that the venue has looked for it."""
        return reply.not_found

    def describe_drill(self, reply: Reply) -> str:
        """Return the evidence of a drill's answer, without secrets."""
        return reply.evidence

    def note_judged(self, call: PendingCall, reply: Reply, now: Instant) -> Reply:
        """Note how an answer was judged; return the judgement, whose evidence may say more."""
        return reply

    def pause_s(self, now: Instant) -> float:
        """Return for how long nothing but a kill's commands should leave, in seconds; 0: there is no pause."""
        return max(self.budget.pause_s(now), self._nonce_pause_s(now))

    def read_pause_s(self, now: Instant) -> float:
        """Return the same for a kill's read-backs: they keep to a pause that the venue has named, and to nonces."""
        return max(self.budget.named_pause_s(now), self._nonce_pause_s(now))

    def pause_reason(self, now: Instant) -> str:
        """Return why nothing but a kill's commands leaves now, for evidence."""
        left_s = self._nonce_pause_s(now)
        return (
            f"no read for {left_s:.1f} s: {HINT}"
            if left_s > self.budget.pause_s(now)
            else self.budget.pause_reason(now)
        )

    def _nonce_pause_s(self, now: Instant) -> float:
        return 0.0 if self.nonce_watch is None else self.nonce_watch.pause_s(now)

    def warn(self, name: str, words: str) -> None:
        """Set the warning of this name, a line that says how an operator should change the account; "" removes it."""
        self._warned = {**self._warned, name: words}
        self.warnings = tuple([line for line in self._warned.values() if line])

    def may_sign_again(self, call: PendingCall) -> bool:
        """Return whether a call whose signature was refused may be signed again."""
        return call.retries < (COMMAND_RETRIES if call.command else 1)

    def on_wrong_time(self, reply: Replied, tries: int, now: Instant) -> None:
        """Correct the time or nonce that was refused `tries` times in a row; the request is then signed again."""
        self.clock.note_reply(reply, now, refused=True)
