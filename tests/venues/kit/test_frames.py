"""Test frames that wait for their answers."""

from __future__ import annotations

import pytest

from kill_switch.venues.kit.frames import FrameId, FrameTracker


@pytest.mark.parametrize("frame_id", [7, "k1-0"])
def test_a_frame_is_answered_once_and_only_on_its_own_connection(frame_id: FrameId) -> None:
    frames: FrameTracker[str] = FrameTracker()
    frames.add(frame_id, 1, "cancel")
    assert frames.take(frame_id, 2) is None
    assert frames.take(frame_id, 1) == "cancel"
    assert frames.take(frame_id, 1) is None


def test_a_closed_connection_loses_its_own_frames_only() -> None:
    frames: FrameTracker[str] = FrameTracker()
    frames.add("k1-0", 1, "cancel")
    frames.add("r1", 2, "list")
    frames.add("k1-1", 1, "other cancel")
    assert frames.take_lost(1) == ["cancel", "other cancel"]
    assert frames.take_lost(1) == []
    assert frames.take("r1", 2) == "list"
