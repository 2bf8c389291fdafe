"""The listeners' certificates, which Kamailio reads from the pod's volume: at its start, and when they have changed.

The volume changes as a whole, some time after its Secrets (a kubelet takes up to two minutes). What Kamailio could not
use it is not told to read: it goes on with what it has. (After one reload that has failed, Kamailio 6.0.1 refuses every
other until it is restarted.) Connections that stand are left alone.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
from collections.abc import Mapping
from pathlib import Path

from switchboard.agent.kamailio import Kamailio
from switchboard.errors import ConfigurationError
from switchboard.resources.listeners import CERTIFICATE, KEY, fault

_log = logging.getLogger(__name__)


class ListenerCertificates:
    """`wanted`: the Secrets by name, each with whether clients are verified by it."""

    def __init__(self, directory: Path, wanted: Mapping[str, bool], kamailio: Kamailio) -> None:
        self._directory, self._wanted, self._kamailio = directory, wanted, kamailio
        self._loaded: tuple[str, str] | None = None  # the run of Kamailio, and what it has

    async def look(self, boot: str) -> None:
        """Has this run of Kamailio read what has changed.

        ConfigurationError when it could not use that, KamailioError when it does not.
        """
        if not self._wanted or not boot:
            return
        volume = (self._directory / "..data").resolve()  # one state of it, whatever becomes of it meanwhile
        found = {name: _files(volume / name) for name in self._wanted}
        state = hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()
        if (boot, state) == self._loaded:
            return
        for name, verifies in self._wanted.items():
            wrong = fault(found[name], verifies=verifies) or _refused(volume / name)
            if wrong:
                raise ConfigurationError(f"Secret {name}: {wrong}; the one before stays in use: mend the Secret")
        await self._kamailio.call("tls.reload")
        if self._loaded is not None and self._loaded[0] == boot:
            _log.info("the listeners' certificates have changed: connections made from now on get the new ones")
        self._loaded = (boot, state)


def _files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*"))}


def _refused(directory: Path) -> str:
    """What OpenSSL has against the files, the same that Kamailio uses: a key that is too short, for one."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(directory / CERTIFICATE, directory / KEY)
    except OSError as error:  # ssl.SSLError is one
        return f"OpenSSL does not take it: {error}"
    return ""
