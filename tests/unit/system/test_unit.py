"""A share of the processor is found where the kernel shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kill_switch.system.unit import has_weight


@pytest.mark.parametrize(
    ("groups", "file", "expected"),
    [
        ("0::/system.slice/kill-switch.service\n", "system.slice/kill-switch.service/cpu.weight", True),
        ("0::/system.slice/kill-switch.service\n", "system.slice/cpu.weight", False),
        ("0::/\n", "cpu.weight", False),  # a container's root: the strategy may be in it too
        ("4:cpu,cpuacct:/a:b.service\n0::/a:b.service\n", "cpu/a:b.service/cpu.shares", True),
        ("3:cpuset:/a.service\n1:name=systemd:/a.service\n", "cpu/a.service/cpu.shares", False),
        ("1:cpu:/\n", "cpu/cpu.shares", False),
        ("", "cpu.weight", False),
    ],
)
def test_a_share_of_the_processor_is_a_control_groups_own(
    groups: str, file: str, expected: bool, tmp_path: Path
) -> None:
    (tmp_path / "own").write_text(groups)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    assert has_weight(tmp_path / "own", tmp_path) is expected


def test_where_there_are_no_control_groups_there_is_no_share(tmp_path: Path) -> None:
    assert not has_weight(tmp_path / "none", tmp_path)
