"""The client library: a strategy's heartbeat and equity, and status, kill and drill for programs.

Strategies and the package's own commands use this. It imports the standard library only. `aio` has asynchronous twins.
"""

from __future__ import annotations

from kill_switch.client.control import PROTOCOL as PROTOCOL
from kill_switch.client.control import Control as Control
from kill_switch.client.intake import Heartbeat as Heartbeat
from kill_switch.client.intake import equity as equity
from kill_switch.errors import KillSwitchError as KillSwitchError
from kill_switch.errors import NotAllowed as NotAllowed
from kill_switch.errors import Refused as Refused
from kill_switch.errors import UnknownProtocol as UnknownProtocol
from kill_switch.errors import Unreachable as Unreachable
from kill_switch.errors import Unresponsive as Unresponsive
