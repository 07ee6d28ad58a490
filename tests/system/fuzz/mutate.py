"""Make input that is nearly right: bytes are flipped, cut, repeated and spliced, JSON is changed in its structure.

All randomness comes from the `Random` that is given, so that a seed and a number name an input for ever.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

BYTES = (
    0x00,
    0x0A,
    0x0D,
    0x20,
    0x22,
    0x2C,
    0x30,
    0x39,
    0x3A,
    0x5B,
    0x5C,
    0x5D,
    0x7B,
    0x7D,
    0x7F,
    0x80,
    0xC0,
    0xED,
    0xFF,
)
TOKENS = (
    *(b"null", b"true", b"false", b"NaN", b"Infinity", b"-0", b"0", b"-1", b"1e999", b"1E400", b"0.1", b"9" * 30),
    *(
        b"18446744073709551616",
        b"9223372036854775808",
        b"1" * 400,
        b'"\\ud800"',
        b'"\\u0000"',
        b"\xff\xfe",
        b"\xed\xa0\x80",
    ),
    *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"\r\n", b"\n", b"\x00", b"\\", b"%s", b"../..", b"{}", b"[]", b'""'),
)
LEAVES: tuple[object, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63 - 1, 2**63, 2**64, 10**30, 10**400, -(10**19), 0.0, -0.0),
    *(1e308, 5e-324),
    *(float("nan"), float("inf"), float("-inf"), "", " ", "0", "-0", "1e999", "1E-999", "NaN", "Infinity", "9" * 40),
    *("²", "٣"),
    *("\ud800", "\x00", "\u202e", "\U0010ffff", "a" * 300, "../..", "\r\nX: y", "null", "1_000", "0x10", "+1"),
    *(" 1", "1 "),
    *([], {}, [[]], [{}], [None], {"": None}),
)  # fmt: skip
DEPTHS = (3, 50, 500, 1100, 3000)  # orjson ends at 1024, Python's recursion at 1000


def mutate_bytes(random: Random, data: bytes, pool: Sequence[bytes], tokens: Sequence[bytes] = TOKENS) -> bytes:
    """Change a few bytes, or many; `pool` is spliced from."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        data = random.choice(_OF_BYTES)(random, data, pool, tokens)
    return data


def _span(random: Random, data: bytes) -> tuple[int, int]:
    start = random.randint(0, len(data))
    return start, min(len(data), start + random.choice((1, 2, 4, 16, 64, 1024)))


def _flip(random: Random, data: bytes, pool: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    if not data:
        return b"\x00"
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _set(random: Random, data: bytes, pool: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + bytes([random.choice(BYTES)]) + data[at + 1 :]


def _cut(random: Random, data: bytes, pool: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    start, end = _span(random, data)
    return data[:start] + data[end:]


def _truncate(random: Random, data: bytes, pool: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    return data[: random.randint(0, len(data))]


def _repeat(random: Random, data: bytes, pool: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    start, end = _span(random, data)
    times = random.choice((2, 2, 3, 10, 100, 1000))
    return data[:start] + data[start:end] * min(times, 1 + 20_000 // max(1, end - start)) + data[end:]


def _insert(random: Random, data: bytes, pool: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.choice(tokens) + data[at:]


def _replace(random: Random, data: bytes, pool: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    start, end = _span(random, data)
    return data[:start] + random.choice(tokens) + data[end:]


def _noise(random: Random, data: bytes, pool: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + random.randbytes(random.choice((1, 2, 8, 64))) + data[at:]


def _splice(random: Random, data: bytes, pool: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    other = random.choice(pool)
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


_OF_BYTES = (_flip, _flip, _set, _cut, _truncate, _repeat, _insert, _replace, _noise, _splice)


def mutate_json(
    random: Random, data: bytes, pool: Sequence[bytes], words: Sequence[str] = (), keys: Sequence[str] = ()
) -> bytes:
    """Change a JSON text in its structure; what is none is changed as bytes."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(random, data, pool)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        value = _change(random, value, pool, words, keys)
    try:
        text = json.dumps(value, ensure_ascii=random.random() < 0.7, separators=(",", ":"))
    except (ValueError, RecursionError):
        return data
    if "{" in text and random.random() < 0.08:  # the same key twice
        at = random.choice([n for n, c in enumerate(text[:4000]) if c == "{"] or [0])
        key = random.choice((*keys, *words, "id", "data", "success"))
        text = f"{text[: at + 1]}{json.dumps(key)}:{json.dumps(_leaf(random))},{text[at + 1 :]}"
    raw = text.encode("utf-8", "surrogatepass")
    if random.random() < 0.04:
        depth = random.choice(DEPTHS)
        raw = b'{"data":' * depth + raw + b"}" * depth if random.random() < 0.5 else b"[" * depth + raw + b"]" * depth
    return raw if random.random() < 0.85 else mutate_bytes(random, raw, pool)


def _change(random: Random, value: Any, pool: Sequence[bytes], words: Sequence[str], keys: Sequence[str]) -> Any:
    """Change one place somewhere within a value."""
    place: Any = None
    at: Any = None
    node = value
    for _ in range(random.randint(0, 8)):
        if isinstance(node, dict) and node:
            place, at = node, random.choice(list(node))
        elif isinstance(node, list) and node:
            place, at = node, random.randrange(len(node))
        else:
            break
        node = place[at]
    new = _other(random, node, pool, words)
    if place is None:
        return new if random.random() < 0.3 else value
    match random.randrange(8):
        case 0:
            del place[at]
        case 1 if isinstance(place, dict):
            place[random.choice((*keys, *words, "x"))] = place.pop(at)
        case 1 | 2 if isinstance(place, list):
            place[at:at] = [node] * random.choice((1, 2, 30))
        case 2:
            place[random.choice((*keys, *words, "x"))] = new
        case _:
            place[at] = new
    return value


def _other(random: Random, node: object, pool: Sequence[bytes], words: Sequence[str]) -> Any:
    match random.randrange(10):
        case 0:
            return [node]
        case 1:
            return {"data": node}
        case 2:
            return str(node) if not isinstance(node, str) else [*node[:40]]
        case 3 if isinstance(node, int | float) and not isinstance(node, bool):
            return node * random.choice((-1, 10**6, 1e-9)) if abs(node) < 1e200 else -1
        case 3 if isinstance(node, str):
            return node * random.choice((2, 40))
        case 4 | 5 if words:
            return random.choice(words)
        case 6:
            try:
                return json.loads(random.choice(pool))
            except (ValueError, RecursionError):
                return _leaf(random)
        case _:
            return _leaf(random)


def _leaf(random: Random) -> Any:
    """Choose a leaf; a list or a table is a new one each time, for what it is put into is changed later."""
    leaf = random.choice(LEAVES)
    return json.loads(json.dumps(leaf)) if isinstance(leaf, list | dict) else leaf


Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]

# ── scripts: what happens, and what is said meanwhile ──────────────────────────────────────────────────────────────

MARK = b"\x1e"


def records(data: bytes) -> list[tuple[bytes, bytes]]:
    """Split a script into its records, each a head line and a body."""
    return [(head, body) for head, _, body in (one.partition(b"\n") for one in data.split(MARK)[1:])]


def script(*parts: tuple[bytes, bytes]) -> bytes:
    return b"".join(MARK + head + b"\n" + body for head, body in parts)


def mutate_script(random: Random, data: bytes, pool: Sequence[bytes], heads: Sequence[bytes], body: Mutation) -> bytes:
    """Change what is said in a script, mostly, and the order of its records."""
    parts = records(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        at = random.randrange(len(parts)) if parts else 0
        match random.randrange(10):
            case 0 if parts:
                del parts[at]
            case 1 if parts:
                parts.insert(random.randint(0, len(parts)), parts[at])
            case 2:
                parts.insert(random.randint(0, len(parts)), (random.choice(heads), b""))
            case 3:
                parts[at:at] = records(random.choice(pool))
            case 4 if parts:
                parts[at] = (random.choice(heads), parts[at][1])
            case _:
                said = [n for n, part in enumerate(parts) if part[1]]
                if said:
                    at = random.choice(said)
                    parts[at] = (parts[at][0], body(random, parts[at][1], [one[1] for one in parts if one[1]]))
    return script(*parts[:40])
