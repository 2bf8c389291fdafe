"""Which entries of requirements.lock an image needs: debian.sh asks for them in two steps.

`roots pyproject.toml [EXTRA]` prints the project's own dependencies, with those of the named extra; pip resolves them
against the lock's versions and writes a report; `closure report.json requirements.lock` prints the lock's entries, with
hashes, for all that the report names.
"""

import json
import re
import sys
import tomllib
from pathlib import Path


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def roots(pyproject: Path, *extras: str) -> list[str]:
    project = tomllib.loads(pyproject.read_text())["project"]
    return [*project["dependencies"], *(name for extra in extras for name in project["optional-dependencies"][extra])]


def closure(report: Path, lock: Path) -> list[str]:
    needed = {normalised(item["metadata"]["name"]) for item in json.loads(report.read_text())["install"]}
    entries = re.split(r"\n(?=[A-Za-z0-9])", lock.read_text())
    chosen = [entry.strip() for entry in entries if normalised(entry.split("==")[0]) in needed]
    if len(chosen) != len(needed):
        sys.exit(f"requirements.lock has {len(chosen)} of the {len(needed)} packages that pip resolved")
    return chosen


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["roots", pyproject, *extras]:
            lines = roots(Path(pyproject), *extras)
        case ["closure", report, lock]:
            lines = closure(Path(report), Path(lock))
        case _:
            sys.exit(__doc__)
    sys.stdout.write("\n".join(lines) + "\n")
