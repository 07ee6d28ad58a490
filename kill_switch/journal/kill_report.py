"""Build the reports of kills from the journal's records alone, as they are written or as they are read back. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from kill_switch import clock
from kill_switch.core.domain import Phase
from kill_switch.core.order_tracker import OrderTally
from kill_switch.core.records import (
    AnswerRecord,
    CheckpointRecord,
    ClearRecord,
    IdentityRecord,
    ReadRecord,
    RearmApprovedRecord,
    RearmRecord,
    ReasonRecord,
    ReloadRecord,
    RepeatsRecord,
    ResidueRecord,
    ResumeRecord,
    SeenRecord,
    StartRecord,
    StrikeRecord,
)
from kill_switch.journal import records
from kill_switch.journal.account_report import AccountReport
from kill_switch.journal.kill_fold import KillFold, Stamp
from kill_switch.journal.kill_head import ApprovalList, config_hash, fired_by
from kill_switch.journal.records import AmendmentRecord, DirectRecord, Entry, Record, Unreadable, UserRecord

MAX_KILLS = 32  # kills in memory; the journal has all kills
MAX_REASONS_EACH_END = 50  # how many of a kill's first and of its last reasons are kept
MAX_CHECKPOINT_BYTES = 1 << 17  # bytes of the kills in a checkpoint; the oldest kills beyond are left out


class _AccountPlace(NamedTuple):
    """The kill in which an account was struck, and the account's name at that time."""

    kill: str
    name: str


class ReportBuilder:
    """The reports of the last kills, folded from records in their order."""

    def __init__(
        self,
        budget_us: int,
        entries: Iterable[Entry] = (),
        *,
        keep: int | None = MAX_KILLS,
        on_measured: Callable[[str, int], object] = lambda stage, us: None,
    ) -> None:
        """Fold `entries`; `budget_us` is the latency budget in µs, `keep` the number of kills in memory, None for all.

        `on_measured` is called once for each account, kill and stage of later records, with the µs since the reason.
        """
        self.budget_us = budget_us
        self._on_measured: Callable[[str, int], object] = lambda stage, us: None
        self._keep = keep
        self._kills: dict[str, KillFold] = {}
        self._latest: dict[str, KillFold] = {}  # account → the kill that it is in
        self._tripped: dict[str, dict[_AccountPlace, None]] = {}  # account → where it was struck since it was armed
        self.approvals = ApprovalList()  # of a re-arm that waits for another person
        self._config: str | None = None  # hash of the configuration in force
        for entry in entries:
            self.take(entry)
        self._on_measured = on_measured

    def set_budget(self, budget_us: int) -> None:
        """Judge reports by another latency budget from now on, after a reload."""
        self.budget_us = budget_us

    @property
    def last(self) -> str | None:
        return next(reversed(self._kills), None)

    def take(self, entry: Entry) -> None:
        """Apply the next entry of the journal; never raises."""
        self.apply(records.from_json(entry), Stamp(entry.get("at", ""), entry.get("boot", "")))

    def apply(self, record: Record | Unreadable, stamp: Stamp) -> None:
        """Apply the next record; a record of another version that cannot be applied is skipped."""
        try:  # noqa: SIM105 - `suppress` costs more, and every record passes here
            self._apply(record, stamp)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError):
            pass  # another version may write other fields into `stands` and `kills`, which only this module reads

    def _apply(self, record: Record | Unreadable, stamp: Stamp) -> None:
        match record:
            case StrikeRecord():
                self._strike(record, stamp)
            case AnswerRecord() | ReadRecord() | SeenRecord() | ClearRecord() | ResidueRecord():
                self._progress(record, stamp)
            case ReasonRecord():
                self._reason(record, stamp)
            case StartRecord() | ReloadRecord():
                self._configure(record)
            case DirectRecord():
                self._direct(record)
            case AmendmentRecord():
                self._amend(record)
            case UserRecord():
                self._name_user(record.uid, record.user)
            case RepeatsRecord():
                self._repeats(record)
            case CheckpointRecord():
                self.restore(record.kills)
            case RearmApprovedRecord() | RearmRecord():
                self._rearm(record, stamp)
            case ResumeRecord() | IdentityRecord():
                self._rename(record.moved)

    def _configure(self, record: StartRecord | ReloadRecord) -> None:
        if record.config is not None:
            self._config = config_hash(record.config)
        if isinstance(record, ReloadRecord):
            self.approvals.clear()

    def _strike(self, record: StrikeRecord, stamp: Stamp) -> None:
        for sent in record.sent:
            kill = self._kills.get(sent.kill or "")
            if kill is not None and (account := kill.accounts.get(sent.account)):
                sent_us = kill.elapsed_us(stamp, sent.mono_ns) if sent.mono_ns else None
                if account.on_sent(sent, sent_us) and sent_us is not None:
                    self._on_measured("sent", sent_us)

    def _progress(
        self, record: AnswerRecord | ReadRecord | SeenRecord | ClearRecord | ResidueRecord, stamp: Stamp
    ) -> None:
        kill = self._kills.get(record.kill or "")
        account = None if kill is None else kill.accounts.get(record.account)
        if kill is None or account is None or record.mono_ns is None:
            return
        match record:
            case AnswerRecord():
                at_us = kill.elapsed_us(stamp, record.mono_ns)
                if account.on_answer(record, at_us):
                    self._on_measured("answered", at_us)
            case ReadRecord():
                account.on_read(record)
            case SeenRecord():
                account.on_seen()
            case ClearRecord():
                at_us = kill.elapsed_us(stamp, record.mono_ns)
                if account.on_clear(at_us):
                    self._on_measured("clear", at_us)
            case ResidueRecord():
                account.on_residue(record.left)

    def render(self, wanted: str = "last") -> dict[str, object] | None:
        """Return the report of the kill with the id `wanted`, or of the last kill, as `report --json` prints it.

        None if there is no such kill.
        """
        kill = self._kills.get((self.last or "") if wanted == "last" else wanted)
        if kill is None:
            kill = next((item for item in self._kills.values() if item.known_as and item.known_as == wanted), None)
        if kill is None:
            return None
        accounts = {name: account.as_dict() for name, account in kill.accounts.items()}
        answered_us = _latest([item["answered_us"] for item in accounts.values()])
        return {
            "id": kill.id,
            "reasons": kill.reasons,
            "fired_at": clock.iso(kill.began_wall_ns),
            "budget_us": self.budget_us,
            "within_budget": answered_us is not None and answered_us <= self.budget_us,
            "last_sent_us": _latest([item["sent_us"] for item in accounts.values()]),
            "last_answered_us": answered_us,
            "all_clear_us": _latest([item["clear_us"] for item in accounts.values()]),
            "scope": [*kill.accounts, *(name for name in kill.head.unstruck if name not in kill.accounts)],
            "by": fired_by(kill.reasons[0]),
            "rearmed": kill.head.last_rearm(name for name, account in kill.accounts.items() if not account.rearmed),
            "config": kill.head.config,
            "accounts": accounts,
        }

    def reasons(self, kill: str) -> list[dict[str, object]]:
        """Return the reasons of a kill without their evidence; [] if there is no such kill."""
        known = self._kills.get(kill)
        reasons = () if known is None else known.reasons
        return [{key: reason[key] for key in ("trigger", "text", "observed_at")} for reason in reasons]

    def kill_ids(self) -> tuple[str, ...]:
        return tuple(self._kills)

    def account_state(self, kill: str, account: str, *, names: bool = True) -> dict[str, object] | None:
        """Return an account's part of a kill for the `stands` field of a `repeats` record; None if there is none.

        Without `names`, the ids of orders are left out, because earlier records have them.
        """
        account_report = self.account(kill, account)
        if account_report is None:
            return None
        state = account_report.to_json()
        if not names:
            state["tally"] = {**account_report.tally.to_json(names=False), "names": "as before"}
        return state

    def tally(self, kill: str, account: str) -> OrderTally | None:
        """Return the tally of an account's orders in a kill; None if there is no such kill."""
        account_report = self.account(kill, account)
        return None if account_report is None else account_report.tally

    def account(self, kill: str, account: str) -> AccountReport | None:
        """Return an account's part of a kill, None if there is none; it changes with later records."""
        known = self._kills.get(kill)
        if known is None:  # a kill that `_kills` has dropped is kept while it is an account's latest
            known = next((kill_report for kill_report in self._latest.values() if kill_report.id == kill), None)
        return None if known is None else known.accounts.get(account)

    def to_json(self) -> dict[str, object]:
        """Return the last kills in JSON's plain values, for a checkpoint of `MAX_CHECKPOINT_BYTES` at most."""
        latest = {name: kill.id for name, kill in self._latest.items()}
        older = {kill.id: kill for kill in self._latest.values() if kill.id not in self._kills}
        held = older | self._kills
        left, result = MAX_CHECKPOINT_BYTES, dict[str, object]()
        for kill in reversed(held.values()):
            item = kill.to_json()
            size = len(orjson.dumps(item, default=str))
            if size > left:  # it may name thousands of orders
                item = kill.to_json(names=False)
                size = len(orjson.dumps(item, default=str))
            left -= size
            if left < 0:  # a kill that is an account's latest is kept, without the evidence of later reasons
                if kill.id not in latest.values():
                    continue
                item["reasons"] = [*kill.reasons[:1], *({**reason, "evidence": {}} for reason in kill.reasons[1:])]
            result[kill.id] = item
        pruned = [name for name in result if name in older]
        places = {name: [[*place] for place in places] for name, places in self._tripped.items()}
        held_ones = {"held": list(reversed(result.values())), "latest": latest, "pruned": pruned, "tripped": places}
        return {**held_ones, "approvals": self.approvals.to_json(), "config": self._config}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Replace all kills by those of a checkpoint, the result of `to_json`.

        Data of another shape raises `LookupError`, `TypeError`, `ValueError` or `AttributeError`.
        """
        held = {kill["id"]: KillFold.from_json(kill) for kill in data["held"]}
        self._latest = {name: held[kill] for name, kill in data["latest"].items() if kill in held}
        self._kills = {name: kill for name, kill in held.items() if name not in data["pruned"]}
        self.approvals = ApprovalList(data.get("approvals", ()))
        self._config = data.get("config", self._config)
        if "tripped" in data:
            self._tripped = {
                name: {_AccountPlace(*place): None for place in places} for name, places in data["tripped"].items()
            }
        else:  # a checkpoint of an earlier version
            self._tripped = {
                name: {_AccountPlace(kill.id, name): None}
                for name, kill in self._latest.items()
                if name in kill.accounts and not kill.accounts[name].rearmed
            }

    def _repeats(self, record: RepeatsRecord) -> None:
        kill, stands = self._kills.get(record.kill or ""), record.stands
        if kill is None or record.account not in kill.accounts or stands is None:
            return
        before = kill.accounts[record.account].tally
        account = kill.accounts[record.account] = AccountReport.from_json(stands)
        if stands.get("tally", {}).get("names") == "as before":
            account.tally.copy_names(before)

    def _reason(self, record: ReasonRecord, stamp: Stamp) -> None:
        kill = self._kills.get(record.kill)
        if kill is None:
            kill = KillFold(record.kill, stamp.boot, record.observed_mono_ns, record.observed_wall_ns)
            kill.head.config = self._config
            self._kills[kill.id] = kill
            if self._keep is not None and len(self._kills) > self._keep:
                self._forget(next(iter(self._kills)))
        kill.known_as = record.known_as or kill.known_as
        kill.reasons.append(
            {
                "trigger": record.trigger,
                "text": record.text,
                "observed_at": clock.iso(record.observed_wall_ns),
                "evidence": record.evidence,
            }
        )
        if self._keep is not None and len(kill.reasons) > 2 * MAX_REASONS_EACH_END:
            del kill.reasons[MAX_REASONS_EACH_END]
        self.approvals.clear()
        for name in record.accounts:
            account = kill.accounts.setdefault(name, AccountReport())
            if account.state is Phase.CLEAR or account.rearmed:
                account.state, account.proven, account.rearmed = Phase.STRIKING, False, False
            self._tripped.setdefault(name, {})[_AccountPlace(kill.id, name)] = None
            before = self._latest.get(name)
            if before is not None and before is not kill:
                account.struck = before.accounts[name].struck
            self._latest[name] = kill

    def _forget(self, kill_id: str) -> None:
        """Drop a kill; its places too, unless it is the latest kill of an account."""
        del self._kills[kill_id]
        if all(kill.id != kill_id for kill in self._latest.values()):
            for places in self._tripped.values():
                for place in [place for place in places if place.kill == kill_id]:
                    del places[place]

    def _rearm(self, record: RearmApprovedRecord | RearmRecord, stamp: Stamp) -> None:
        """Keep an approval, or mark the accounts as re-armed in every kill that struck them since they were armed."""
        if isinstance(record, RearmApprovedRecord):
            self.approvals.add(record, stamp.at)
            return
        granted = self.approvals.grant(record, stamp.at)
        armed: dict[str, tuple[KillFold, list[str]]] = {}
        for name in record.accounts:
            latest = self._latest.get(name)
            for place in self._tripped.pop(name, ()):
                kill = self._kills.get(place.kill) or latest
                if kill is not None and kill.id == place.kill and place.name in kill.accounts:
                    kill.accounts[place.name].rearmed = True
                    armed.setdefault(kill.id, (kill, []))[1].append(place.name)
            if latest is not None:
                latest.accounts[name].rearmed, latest.accounts[name].struck = True, 0
                latest.accounts[name].attempts.on_rearmed()
        for kill, names in armed.values():
            kill.head.add_rearm(granted, names)

    def _rename(self, moved: Mapping[str, str]) -> None:
        """Rename accounts in their latest kills; earlier kills keep the names of their time."""
        known = [(name, self._latest.pop(was), was) for was, name in moved.items() if was in self._latest]
        moving = [(name, kill, kill.accounts.pop(was)) for name, kill, was in known]
        for name, kill, account in moving:
            self._latest[name], kill.accounts[name] = kill, account
        renamed = {_AccountPlace(kill.id, was): _AccountPlace(kill.id, name) for name, kill, was in known}
        places = [(moved[was], self._tripped.pop(was)) for was in moved if was in self._tripped]
        for name, ones in places:
            mine = {renamed.get(place, place): None for place in ones}
            self._tripped[name] = {**self._tripped.get(name, {}), **mine}

    def _direct(self, record: DirectRecord) -> None:
        """Set the configuration that `fire --direct` read, and the accounts that it could not strike."""
        if (kill := self._kills.get(record.kill)) is None:
            return
        kill.head.config = kill.head.config if len(kill.reasons) > 1 else config_hash(record.config)
        kill.head.unstruck += [name for name in record.unstruck if name not in kill.head.unstruck]

    def _amend(self, record: AmendmentRecord) -> None:
        """Set the text and add the evidence that were found after the kill was sent."""
        observed_at = clock.iso(record.observed_wall_ns)
        for kill in self._kills.values():
            for reason in kill.reasons:
                if (reason["trigger"], reason["observed_at"]) == (record.trigger, observed_at):
                    reason["text"] = record.text or reason["text"]
                    if isinstance(reason["evidence"], Mapping):
                        reason["evidence"] = {**reason["evidence"], **record.evidence}

    def _name_user(self, uid: int, user: str) -> None:
        """Set the user's name in the reasons that have only the uid."""
        for kill in self._kills.values():
            for reason in kill.reasons:
                evidence = reason["evidence"]
                if isinstance(evidence, dict) and evidence.get("uid") == uid and evidence.get("user") == str(uid):
                    reason["evidence"] = {**evidence, "user": user}


def _latest(figures: list[int | None]) -> int | None:
    """Return the largest figure; None if there are no figures or one is missing, because that account is not done."""
    known = [figure for figure in figures if figure is not None]
    return max(known) if known and len(known) == len(figures) else None
