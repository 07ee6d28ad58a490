"""A channel's name shows no token, and a test message takes the way of every message, each channel by itself."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from kill_switch.config.schema import NotifyConfig
from kill_switch.core.domain import Severity
from kill_switch.outbound.channel_probe import ChannelResult, in_json, probe_channels
from kill_switch.outbound.digest import Message
from kill_switch.outbound.targets import CommandTarget, UrlTarget
from kill_switch.worker.client import JobResult
from tests.harness.worker_double import OK, Beside, Run

MESSAGE = Message(Severity.TEST, "subject", "text", "", "1-test", "host1")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("tgram://123456789:abcdefg/12315544/", "tgram://…"),
        ("slack://TokenA/TokenB/TokenC", "slack://…"),
        ("discord://webhook_id/webhook_token", "discord://…"),
        ("ntfys://secret-topic", "ntfys://…"),
        ("json://desk.example:8080/token", "json://desk.example"),
        ("jsons://user:pass@desk.example/token?key=x", "jsons://desk.example"),
        ("mailtos://al:pass@mail.example?to=desk@mail.example", "mailtos://mail.example"),
        ("mailto://al:pa/ss@mail.example", "mailto://…"),
        ("gotify://[::1/token", "gotify://…"),
        ("json://", "json://…"),
    ],
)
def test_the_name_of_a_url_is_its_scheme_and_its_host_where_no_token_can_be(url: str, name: str) -> None:
    assert UrlTarget(Beside(), url).name == name


def test_the_name_of_a_command_is_its_program() -> None:
    assert CommandTarget(Beside(), ("/usr/bin/page", "--token", "x")).name == "/usr/bin/page"


@pytest.mark.anyio
async def test_a_channel_that_hangs_delays_no_other_and_each_result_is_passed_on_at_once() -> None:
    beside, seen = Beside(), list[ChannelResult]()
    beside.takes = lambda run: 20.0 if "hung" in str(run.errand.get("url")) else 1.0

    def answer(run: Run) -> JobResult:
        return JobResult(False, "no outcome within 23 s") if "hung" in str(run.errand.get("url")) else OK

    beside.answer = answer
    urls = tuple(map(SecretStr, ("json://hung/token", "json://well/token")))
    config = NotifyConfig().model_copy(update={"urls": urls, "command": ("page",)})
    results = await probe_channels(config, beside, MESSAGE, seen.append)
    assert [result.channel for result in results] == ["urls[0]", "urls[1]", "command"]
    assert [result.ok for result in results] == [False, True, True]
    assert seen[-1] is results[0] and results[0].line() == "urls[0] json://hung: FAILED: no outcome within 23 s"
    assert [run.at_s for run in beside.runs] == [pytest.approx(0.0, abs=0.1)] * 3
    shown = in_json(results)
    assert shown["ok"] is False and "token" not in str(shown)
