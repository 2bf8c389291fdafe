"""For tests and demonstrations that run inside a cluster: its files, kubectl, images and settings."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from e2e.embedded.errors import EmbeddedError
from e2e.embedded.requirements import program
from e2e.embedded.settings import Settings
from e2e.embedded.state import State, write_json

KUBECTL_SECONDS = 60.0


class Cluster:
    """The cluster that this process runs in."""

    def __init__(self, state: State | None = None) -> None:
        self.state = state or State.current()

    def kubectl(self, *words: str, text: str | None = None) -> str:
        """What kubectl prints; `text` is its standard input. EmbeddedError with its complaint when it fails."""
        command = [program("kubectl"), "--kubeconfig", str(self.state.kubeconfig), *words]
        ran = subprocess.run(command, input=text, capture_output=True, text=True, timeout=KUBECTL_SECONDS, check=False)
        if ran.returncode != 0:
            raise EmbeddedError(f"kubectl {' '.join(words)}: {ran.stderr.strip()}")
        return ran.stdout

    def add_image(self, name: str, root: Path, binds: dict[str, str] | None = None) -> None:
        """From now on, Pods may name it: a root file system, with directories laid over it read-only (from: to)."""
        images = json.loads(self.state.images.read_text())
        write_json(self.state.images, {**images, name: {"root": str(root), "binds": binds or {}}})

    def choose(self, **settings: Any) -> None:
        """Changes the node program's settings, from now on."""
        replace(Settings.load(self.state), **settings).save(self.state)

    def log(self, namespace: str, pod: str, container: str) -> str:
        """Everything that a container has written so far, in all its runs."""
        path = self.state.pod(namespace, pod) / f"{container}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def process(self, namespace: str, pod: str, container: str) -> int:
        """The main process of a running container, as this namespace numbers it."""
        path = self.state.pod(namespace, pod) / f"{container}.pid"
        try:
            return int(path.read_text())
        except FileNotFoundError:
            raise EmbeddedError(f"container {container} of pod {namespace}/{pod} does not run") from None
