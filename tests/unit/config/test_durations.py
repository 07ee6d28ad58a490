"""Every duration of the configuration has bounds, takes what lies within them, and says in one line what does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kill_switch.config import schema
from kill_switch.config.loader import load
from kill_switch.config.messages import InvalidValue, validate
from kill_switch.config.parsers import BOUNDS, duration, seconds
from kill_switch.errors import ConfigError

WHOLE: Mapping[type[schema.ConfigTable], dict[str, Any]] = {  # what a table needs besides the duration
    schema.DaemonConfig: {},
    schema.HooksConfig: {},
    schema.SilenceConfig: {},
    schema.PingConfig: {},
    schema.HeartbeatConfig: {"kind": "heartbeat", "timeout": "3s"},
    schema.LinkConfig: {"kind": "link", "timeout": "10s"},
    schema.PnlConfig: {"kind": "pnl", "currency": "USD", "reset": "17:00 UTC", "on_blind": "alarm"},
    schema.OrderRateConfig: {"kind": "order-rate"},
}
ABSURD = ("0s", "0ms", "0.0h", "-1s", "999999999h", "999999999.999999999h", "1e9h", "inf", "", "10", 10, True)


def models() -> Iterator[type[schema.ConfigTable]]:
    """Yield every table of the configuration."""
    waiting: list[type[schema.ConfigTable]] = [schema.ConfigTable]
    while waiting:
        model = waiting.pop()
        yield model
        waiting += model.__subclasses__()


def durations() -> list[tuple[type[schema.ConfigTable], str, str]]:
    """List every duration: its table, its key and its line in `BOUNDS`."""
    found = []
    for model in models():
        for name, field in model.model_fields.items():
            if name.endswith("_s"):
                key = field.alias or name
                prefix = {
                    schema.HeartbeatConfig: "heartbeat.",
                    schema.LinkConfig: "link.",
                    schema.HooksConfig: "hooks.",
                    schema.SilenceConfig: "silence.",
                }.get(model, "")
                found.append((model, key, f"{'ping.' if model is schema.PingConfig else prefix}{key}"))
    return found


DURATIONS = durations()


def refused(model: type[schema.ConfigTable], key: str, value: object) -> str:
    config_table, problems, _ = validate(model, WHOLE[model] | {key: value}, "table")
    assert config_table is None
    (problem,) = problems
    return str(problem)


def test_every_duration_has_its_bounds_and_all_bounds_are_used() -> None:
    assert {bounds for _, _, bounds in DURATIONS} | {"beat.every", "bench.rtt", "silence.for"} == set(BOUNDS)
    assert all(model in WHOLE for model, _, _ in DURATIONS)


@pytest.mark.parametrize(("model", "key", "bounds"), DURATIONS)
def test_a_duration_takes_its_bounds_and_its_default_and_nothing_beyond(
    model: type[schema.ConfigTable], key: str, bounds: str
) -> None:
    least, most = BOUNDS[bounds]
    name = next(name for name, field in model.model_fields.items() if (field.alias or name) == key)
    for value in (least, most):
        config_table, problems, _ = validate(model, WHOLE[model] | {key: value}, "table")
        assert problems == [] and getattr(config_table, name) == pytest.approx(seconds(value))
    default = model.model_fields[name].default
    if isinstance(default, float):
        assert seconds(least) <= default <= seconds(most)
    short_ms, long_s = seconds(least) * 999, seconds(most) + 1
    assert refused(model, key, f"{short_ms:.6f}ms").endswith(f'it must be "{least}" or more')
    assert refused(model, key, f"{long_s:.0f}s").endswith(f'it must be "{most}" or less')
    for absurd in ABSURD:
        line = refused(model, key, absurd)
        assert (line.startswith(f"table.{key}: ") and "\n" not in line and " must be " in line) or "expected" in line


@pytest.mark.parametrize("value", ABSURD)
def test_a_beats_period_has_bounds_too(value: object) -> None:
    with pytest.raises(InvalidValue):
        duration("beat.every")(value)


def test_a_file_with_absurd_durations_is_refused_with_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        '[accounts.mm1]\nvenue = "oxfun"\napi_key = { env = "KEY" }\napi_secret = { env = "KEY" }\n'
        '[daemon]\nbudget = "999999999h"\n[hooks]\ntimeout = "0s"\n'
        '[triggers.beat]\nkind = "heartbeat"\ntimeout = "1ms"\n[triggers.lost]\nkind = "link"\ntimeout = "99999999h"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(path, environ={"KEY": "a-key-that-is-long-enough"})
    assert [str(problem) for problem in caught.value.problems] == [
        'daemon.budget: "999999999h"; it must be "1h" or less',
        'triggers.beat.timeout: "1ms"; it must be "10ms" or more',
        'triggers.lost.timeout: "99999999h"; it must be "24h" or less',
        'hooks.timeout: "0s"; it must be longer than zero',
    ]
