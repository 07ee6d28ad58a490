"""A share of the processor is found where the kernel shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kill_switch.system.unit import has_share

OURS = "system.slice/kill-switch.service"


@pytest.mark.parametrize(
    ("groups", "file", "expected"),
    [
        (f"0::/{OURS}\n", f"{OURS}/cpu.weight", True),
        ("0::/user.slice/kill-switch@a:b.service\n", "user.slice/kill-switch@a:b.service/cpu.weight", True),
        (f"0::/{OURS}\n", "system.slice/cpu.weight", False),
        ("0::/system.slice/trading.service\n", "system.slice/trading.service/cpu.weight", False),  # with a strategy
        ("0::/kill-switch-bot.service\n", "kill-switch-bot.service/cpu.weight", False),
        ("0::/\n", "cpu.weight", False),  # a container's root
        (f"4:cpu,cpuacct:/{OURS}\n0::/{OURS}\n", f"cpu/{OURS}/cpu.shares", True),
        (f"3:cpuset:/{OURS}\n1:name=systemd:/{OURS}\n", f"cpu/{OURS}/cpu.shares", False),
        ("", "cpu.weight", False),
    ],
)
def test_a_share_of_the_processor_is_that_of_our_own_unit(
    groups: str, file: str, expected: bool, tmp_path: Path
) -> None:
    (tmp_path / "own").write_text(groups)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    assert has_share(tmp_path / "own", tmp_path) is expected


def test_where_there_are_no_control_groups_there_is_no_share(tmp_path: Path) -> None:
    assert not has_share(tmp_path / "none", tmp_path)
