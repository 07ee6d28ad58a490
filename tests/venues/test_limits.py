"""What a venue sends costs no more to read than ten thousand orders would, however it is made."""

from __future__ import annotations

import pytest

from kill_switch.venues.decode import MAX_MARKS, parse_json, to_text, truncate

ORDER = b'{"orderId":"%d","a":1,"b":"2","c":null,"d":[1,2],"e":{"f":"g"},"h":1,"i":2,"j":3,"k":4,"l":5,"m":6,"n":7}'


def test_ten_thousand_talkative_orders_are_read() -> None:
    body = b"[" + b",".join(ORDER % number for number in range(10_000)) + b"]"
    assert len(parse_json(body)) == 10_000


@pytest.mark.parametrize("piece", [b'{"a":[]},', b"[],", b"0,", b"{},"])
def test_an_answer_of_more_values_than_any_venue_has_to_tell_is_none(piece: bytes) -> None:
    count = MAX_MARKS // sum(piece.count(mark) for mark in (b"{", b"[", b","))
    assert parse_json(b"[" + piece * (count - 1) + b"0]") is not None
    assert parse_json(b"[" + piece * (count + 1) + b"0]") is None
    assert parse_json((b"[" + piece * (count + 1) + b"0]").decode()) is None


def test_a_long_text_is_no_large_answer() -> None:
    assert parse_json(b'["' + b"x" * 2 * MAX_MARKS + b'"]') == ["x" * 2 * MAX_MARKS]


def test_of_endless_words_only_the_first_are_looked_at() -> None:
    class Counted(str):
        looked = 0

        def __iter__(self) -> object:  # type: ignore[override]
            raise AssertionError("all of it was looked at")

    assert truncate(Counted("a\x00" * 1_000_000)) == ("a\ufffd" * 80)[:159] + "…"
    assert len(to_text(["x" * 1_000_000])) < 100_000
    assert len(to_text("x" * 1_000_000)) < 100_000


def test_a_json_value_of_a_venue_is_shown_as_json() -> None:
    assert to_text({"code": [1, None, True]}) == '{"code":[1,null,true]}'
    assert (to_text(None), to_text(True), to_text("a'b")) == ("None", "True", "a'b")
