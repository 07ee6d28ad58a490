"""Probe an account's HTTP lane: by its lists in turn, or by a light request and the lists that have become old.

A `KitAdapter` owns one `Probes`. A light request's answer states the venue's limits before the lists draw from them.
"""

from __future__ import annotations

from typing import NamedTuple

from kill_switch.core.domain import Instant, Route
from kill_switch.venues.kit.calls import Build, CallStarter, PendingCall
from kill_switch.venues.kit.order_list import ListReader, read_page
from kill_switch.venues.kit.replies import Reply
from kill_switch.venues.messages import NotReady, Outputs, Replied

UNDER_WAY_NS = 10_000_000_000  # a list that was requested without a kill is answered by then


class Probes:
    """The probes of one account."""

    def __init__(
        self, reader: ListReader, calls: CallStarter, light: Build | None, lists_every_s: float, unpushed_every_s: float
    ) -> None:
        """Make them; `light` builds the light request, a part of the first list; None: the lists are the probes.

        A list is read again `lists_every_s` seconds after its last whole answer, or `unpushed_every_s` while no
        connection pushes orders. A list that could not be read is read with each probe, and keeps the lane unready.
        """
        reader.is_read_seldom = light is not None
        self._reader = reader
        self._calls = calls
        self._light = light
        self._every_ns = round(lists_every_s * 1e9)
        self._unpushed_every_ns = round(unpushed_every_s * 1e9)

    def probe(self, now: Instant) -> Outputs:
        """Request what proves the key; ends in `Ready` or `NotReady`."""
        if self._light is None:
            return self._reader.probe(now)
        part = LightProbePart(self)
        return self._calls.start_call("probe", self._light, now, context=part, on_loss=part.on_loss)

    def on_light_reply(self, reply: Reply, now: Instant) -> Outputs:
        """Report the lane, and read the lists that are due if the venue answers."""
        reader = self._reader
        why = read_page(next(iter(reader.by_name.values())), reply, reader.read_order).why
        lane = reader.lane(why or reader.trouble, is_key_refused=reply.key_refused)
        return (lane, *(() if why else (*self._read_lists(now), *reader.read_backs.look_over(now))))

    def _read_lists(self, now: Instant) -> Outputs:
        """Read the lists that are old, as far as the venue's limits have room; the next probe reads the others."""
        reader, book = self._reader, self._reader.book
        under_way = now.mono_ns - reader.read_backs.refreshed_ns < UNDER_WAY_NS
        if not book.is_known and not reader.troubles:
            return () if under_way else reader.read_backs.refresh_with_pushes(now)
        age_ns = self._every_ns if book.is_pushed else self._unpushed_every_ns
        old_ns, troubles = now.mono_ns - age_ns, reader.troubles
        names = [name for name in reader.by_name if name in troubles or book.rounds.is_old(name, old_ns)]
        due = list(dict.fromkeys([*names, *book.stale]))
        budget = self._calls.budget
        if not due or under_way or budget.wait_s(budget.demand.read, now):
            return ()
        return tuple(output for name in due for output in reader.probe_list(name, now))


class LightProbePart(NamedTuple):
    """A request of next to no weight that keeps the HTTP lane warm, and proves the key."""

    probes: Probes

    def on_reply(self, call: PendingCall, reply: Reply, replied: Replied, now: Instant) -> Outputs:
        return self.probes.on_light_reply(reply, now)

    def on_loss(self, call: PendingCall, why: str, now: Instant) -> Outputs:
        return (NotReady(Route.HTTP, 0, why),)
