"""Where a running cluster keeps its things: one directory, given to every program of the cluster and to COMMAND."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.embedded.errors import EmbeddedError

VARIABLE = "SWITCHBOARD_CLUSTER"


@dataclass(frozen=True)
class State:
    """The directory of one cluster."""

    root: Path

    @classmethod
    def current(cls) -> "State":
        """The cluster this process runs in."""
        if not (root := os.environ.get(VARIABLE)):
            raise EmbeddedError(
                f"{VARIABLE} is not set: run this inside a cluster, `python -m e2e.embedded -- COMMAND`"
            )
        return cls(Path(root))

    @property
    def kubeconfig(self) -> Path:
        """For kubectl and clients: cluster-admin."""
        return self.root / "kubeconfig"

    @property
    def pki(self) -> Path:
        """The cluster's CA, certificates and keys."""
        return self.root / "pki"

    @property
    def images(self) -> Path:
        """Images that Pods may name; read again at every container start."""
        return self.root / "images.json"

    @property
    def settings(self) -> Path:
        """`Settings` as JSON."""
        return self.root / "settings.json"

    @property
    def layers(self) -> Path:
        """What containers write over their images: a tmpfs that only the cluster sees."""
        return self.root / "layers"

    @property
    def init(self) -> Path:
        """The host's process id of the cluster's first process, for `enter`."""
        return self.root / "init.pid"

    @property
    def ready(self) -> Path:
        """Exists once the cluster is up."""
        return self.root / "ready"

    def log(self, component: str) -> Path:
        """A component's standard output and error."""
        return self.root / "logs" / f"{component}.log"

    def run(self, component: str) -> Path:
        """A component's command and process id (as the cluster numbers it)."""
        return self.root / "run" / f"{component}.json"

    def pod(self, namespace: str, name: str) -> Path:
        """A Pod's logs (`<container>.log`), volumes and process ids."""
        return self.root / "pods" / f"{namespace}_{name}"

    def make(self) -> None:
        """The directories that everything else is put into."""
        for name in ("pki", "logs", "run", "pods", "layers"):
            (self.root / name).mkdir(parents=True, exist_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Nobody reads half a file, not even at the wrong moment."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(path)


def write_json(path: Path, value: Any) -> None:
    """As `write_atomically`."""
    write_atomically(path, json.dumps(value, indent=1) + "\n")
