"""A start without an operator: what the mounted ConfigMaps say (DESIGN: a proxy that starts while nobody commands).

They may lag by minutes, so they count only until somebody commands. A proxy that starts so is a member, unless the load
document names it primary.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TypeVar

import msgspec

from switchboard.agent.environment import Environment
from switchboard.agent.wanted import Wanted
from switchboard.link.codec import MALFORMED
from switchboard.link.messages import Peer, Settings
from switchboard.pool.load import LoadDocument, ProxyLoad
from switchboard.pool.table import WEIGHT_STEPS, Row, sip_uri

FIRST_TICK = 1  # under tick 0 nothing is assigned

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Mounted(msgspec.Struct, frozen=True):
    """The files' contents; None where there is none, or none that can be read."""

    settings: Settings | None
    load: LoadDocument | None

    @classmethod
    def read(cls, environment: Environment) -> Mounted:
        return cls(_read(environment.settings, Settings), _read(environment.load, LoadDocument))

    def wanted(self, proxy: str) -> Wanted | None:
        """What this proxy should be by these files; None when they do not say how to run."""
        if self.settings is None:
            return None
        if self.load is None:
            return Wanted(settings=self.settings)
        proxies = self.load.proxies
        return Wanted(
            term=self.load.version[0],
            settings=self.settings,
            peers=tuple(Peer(name=one.name, address=one.address) for one in proxies if one.name != proxy),
            role="primary" if self.load.primary == proxy else "member",
            primary=next((sip_uri(one.address, one.port) for one in proxies if one.name == self.load.primary), ""),
            tick=FIRST_TICK,
            version=self.load.version,
            rows=tuple(_row(one) for one in proxies if one.state in ("ready", "saturated", "stale")),
        )


def _row(one: ProxyLoad) -> Row:
    """A row to start from. Nothing is known of ticks, so all that this proxy assigns from now on stays pending."""
    return Row(
        id=one.id,
        uri=sip_uri(one.address, one.port),
        advertise=one.advertise,
        room=max(0, one.limit - one.calls),
        received=0,
        closed=FIRST_TICK - 1,
        weight=WEIGHT_STEPS,
    )


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, *MALFORMED) as error:
        _log.warning("%s is not used: %s", path, error)
        return None
