"""What can be chosen about a cluster. Every field is an option of the command line, under the same name."""

import json
from dataclasses import asdict, dataclass

from e2e.embedded.state import State, write_json


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Defaults suit a demonstration; where a kubelet's differ, they are named."""

    nodes: int = 1  # all in the one node program; one that is taken away while the cluster runs dies without a word
    volume_refresh_seconds: float = (
        60.0  # from a ConfigMap's or Secret's change to the files: a kubelet's longest delay
    )
    restart_base_seconds: float = 1.0  # first back-off of a container that ended; a kubelet: 10
    restart_most_seconds: float = 300.0  # it doubles up to this, and starts again after twice this long without an end
    service_sync_milliseconds: int = 50  # kube-proxy's minSyncPeriod; its own default: 1000

    def save(self, state: State) -> None:
        """For the node program and whoever else asks."""
        write_json(state.settings, asdict(self))

    @classmethod
    def load(cls, state: State) -> "Settings":
        """What the cluster was started with."""
        return cls(**json.loads(state.settings.read_text()))
