"""A kind cluster for tests.

python -m e2e.kind up                    the engine, the node image, a cluster of three nodes
python -m e2e.kind down                  all of that ended again; an engine that ran before keeps running
python -m e2e.kind engine start|stop     the engine alone
python -m e2e.kind load IMAGE...         images of the engine into every node
python -m e2e.kind enter -- COMMAND...   a command with KUBECONFIG and kubectl
python -m e2e.kind collect FOLDER        logs, events and objects
python -m e2e.kind possible              whether there can be an engine here; prints why not
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from e2e.errors import E2eError
from e2e.kind import cluster, collect, engine


def main(arguments: list[str]) -> int:
    """The command line: 0, or a command's own exit status."""
    match arguments:
        case ["up"]:
            cluster.up()
        case ["down"]:
            cluster.down()
            engine.stop()
        case ["engine", "start"]:
            engine.start()
        case ["engine", "stop"]:
            engine.stop()
        case ["load", *names] if names:
            cluster.environment()
            cluster.load(*names)
        case ["enter", "--", *command] if command:
            cluster.environment()
            return subprocess.run(command, check=False, env=os.environ).returncode
        case ["collect", folder]:
            cluster.environment()
            collect.collect(Path(folder))
        case ["possible"]:
            against = engine.reason_against()
            print(against or "a container engine runs or can be started")
            return 1 if against else 0
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except E2eError as error:
        sys.exit(f"kind: {error}")
