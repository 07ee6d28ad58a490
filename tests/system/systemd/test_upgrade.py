"""Upgrade and uninstall as the README says; behind the others, since nothing is installed any more after it."""

from __future__ import annotations

import pytest

from .host import LAST_RESORT, Host

pytestmark = [pytest.mark.e2e, pytest.mark.systemd, pytest.mark.timeout(240)]


def test_an_upgrade_and_an_uninstall_go_as_the_readme_says(host: Host) -> None:
    host.run(host.block("upgrade"), timeout_s=200)
    host.until(lambda: host.show("ActiveState") == "active", 20, "READY after the upgrade")
    host.run(host.block("uninstall"))
    assert host.show("LoadState") == host.show("LoadState", LAST_RESORT) == "not-found"
    for path in ("/opt/kill-switch", "/run/kill-switch", "/etc/systemd/system/kill-switch.service.d"):
        assert not (host.root / path[1:]).exists()
    assert "journal.jsonl" in host.ask("ls /var/lib/kill-switch")
