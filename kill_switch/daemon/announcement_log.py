"""Log the announcements to people, with the fields that the JSON form has."""

from __future__ import annotations

import logging

from kill_switch.core.commands import Announce

log = logging.getLogger(__name__)


def log_announcement(news: Announce) -> None:
    """Log an announcement with the level of its severity; call it after the strike that it may belong to."""
    fields = {"account": news.account, "kind": news.level, "by": news.by, "do": news.do}
    log.log(news.level.log_level, "%s", news.line(), extra=fields)
