#!/usr/bin/env python3
"""The container runtime of an engine whose root lacks some capability: takes it out of what is asked for, becomes runc.

`docker run --privileged` asks for all capabilities, and runc refuses what the machine's own root does not have.
Where it has them all, nothing is changed. Run by the engine, as it would run runc; needs nothing but Python itself.
"""

import json
import os
import sys
from pathlib import Path

NAMES = {24: "CAP_SYS_RESOURCE"}  # by number; the one that virtual machines' roots are known to lack


def missing() -> set[str]:
    """Those of NAMES outside this process's bounding set."""
    status = Path("/proc/self/status").read_text()
    bounding = int(next(line for line in status.splitlines() if line.startswith("CapBnd")).split()[1], 16)
    return {name for number, name in NAMES.items() if not bounding >> number & 1}


def asked(arguments: list[str]) -> Path | None:
    """The file that says which capabilities the process to start is to have."""
    bundle, process = ".", ""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, same_word, value = word.partition("=")
        if name in ("--bundle", "-b"):
            bundle = value if same_word else following
        elif name in ("--process", "-p"):
            process = value if same_word else following
    if "exec" in arguments:
        return Path(process) if process else None
    return Path(bundle) / "config.json" if {"create", "run"} & set(arguments) else None


def without(wanted: set[str], file: Path) -> None:
    """Takes the capabilities out of the file, in place."""
    configuration = json.loads(file.read_text())
    capabilities = configuration.get("process", configuration).get("capabilities") or {}
    for kind, names in capabilities.items():
        capabilities[kind] = [name for name in names if name not in wanted]
    file.write_text(json.dumps(configuration))


def main() -> None:
    lacking, file = missing(), asked(sys.argv[1:])
    if lacking and file is not None and file.exists():
        without(lacking, file)
    os.execvp("runc", ["runc", *sys.argv[1:]])  # noqa: S606 - becoming it is the point


if __name__ == "__main__":
    main()
