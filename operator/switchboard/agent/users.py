"""The users who authenticate, as the Secret in the pod's volume has them now.

The volume changes as a whole, some time after the Secret (a kubelet takes up to two minutes). What cannot be used
changes nothing: the users before stay in effect. A proxy whose pod has no such volume, because it was made before the
pool had `clients.auth`, asks nobody: it is about to be replaced.
"""

from __future__ import annotations

from pathlib import Path

from switchboard.errors import ConfigurationError
from switchboard.pool.spec import Authentication
from switchboard.resources.users import Users, read_users


class MountedUsers:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read_from: Path | None = None
        self._good: Users = {}
        self._problem = ""

    @property
    def changed(self) -> bool:
        """Whether the volume is not the one that was read."""
        return self._read_from is not None and self._volume() != self._read_from

    def read(self, wanted: Authentication | None) -> Users | None:
        """The users, or those before where they cannot be used; None: nobody is to be asked."""
        self._problem, self._read_from = "", None
        if wanted is None or not self._directory.is_dir():
            return None
        volume = self._read_from = self._volume()
        try:
            files = {path.name: path.read_bytes() for path in volume.iterdir() if path.is_file()}
            self._good = read_users(files, wanted)
        except (ValueError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self._problem = f"Secret {wanted.secret_name}: {reason}; the users before stay in effect: mend the Secret"
        return self._good

    def require_usable(self) -> None:
        """ConfigurationError when what was read last could not be used."""
        if self._problem:
            raise ConfigurationError(self._problem)

    def _volume(self) -> Path:
        """One state of it, whatever becomes of it meanwhile."""
        return (self._directory / "..data").resolve()
