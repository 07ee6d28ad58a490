"""Hand the replies to RPCs over CrossTrade's WebSocket to the parts that wait for them.

The adapter owns one `RpcReplies`. Each reply shows whether the user has request tokens, whichever part it is for.
"""

from __future__ import annotations

from kill_switch.core.domain import Instant
from kill_switch.venues.crosstrade.replies import Words, command_reply, is_limited, list_reply
from kill_switch.venues.crosstrade.strike import TokenStriker
from kill_switch.venues.crosstrade.user_wire import UserWire
from kill_switch.venues.kit.drill import DrillTracker
from kill_switch.venues.kit.sessions import Message
from kill_switch.venues.messages import Outputs


class RpcReplies:
    """The parts of one adapter that wait for the reply to an RPC: reads, strikes and drills."""

    def __init__(self, wire: UserWire, striker: TokenStriker, drills: DrillTracker, words: Words) -> None:
        self._wire = wire
        self._striker = striker
        self._drills = drills
        self._words = words

    def on_reply(self, conn: int, tag: str, message: Message, now: Instant) -> Outputs:
        """Hand the reply to its part by the RPC's id, `tag`; a reply that nothing waits for changes nothing."""
        body = {**message, "success": False} if message.get("error") else message.get("data")
        part = self._wire.frames.take(tag, conn)
        judge = list_reply if part is not None and part.reads else command_reply
        reply = judge(None, body, self._words)
        self._wire.on_answered(conn, tag, now, limited=is_limited(reply))
        if part is not None:
            return part.on_frame_reply(reply, now)
        number = tag[1:]
        if tag.startswith("k") and number.isascii() and number.isdigit():
            return self._striker.on_frame_reply(int(number[:18]), conn, reply, now) or ()
        return self._drills.end_frame(tag, reply.ok, reply.evidence, now)
