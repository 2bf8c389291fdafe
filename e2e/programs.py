"""Programs built once from pinned Go modules and kept in the project's cache.

A `Module` is a directory whose go.mod and go.sum pin every version; a `Toolset` names the programs that are built from
such modules. It lives in a directory named after a hash of those files, and appears there by one rename, so an
interrupted build is never mistaken for a finished one. What was built before an interruption is used by the next.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.errors import BuildError, RequirementError


def cache() -> Path:
    """The project's cache: SWITCHBOARD_CACHE, or `switchboard` in the user's."""
    if own := os.environ.get("SWITCHBOARD_CACHE"):
        return Path(own).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "switchboard"


@dataclass(frozen=True)
class Module:
    """Where programs come from, and how they are told their version.

    `go build` leaves a program's own idea of its version at a development one: `stamps` are the linker's
    variables, as `variable={version}`, that its own build sets ({version}: `source`'s, as v1.34.4; {minor}: its 34).
    """

    directory: Path
    source: str
    stamps: tuple[str, ...] = ()

    def flags(self, go: str) -> str:
        """The linker's flags: no debugging symbols, and the version."""
        if not self.stamps:
            return "-s -w"
        version = _go([go, "list", "-m", "-f", "{{.Version}}", self.source], self.directory).strip()
        minor = version.split(".")[1]
        return " ".join(["-s -w", *(f"-X {stamp.format(version=version, minor=minor)}" for stamp in self.stamps)])


@dataclass(frozen=True)
class Toolset:
    """Programs that are built together; `programs` maps a program's name to its module and Go package."""

    name: str
    programs: Mapping[str, tuple[Module, str]]

    def directory(self) -> Path:
        """Where the programs of the versions pinned now are, or will be once built."""
        pinned = hashlib.sha256()
        for directory in sorted({module.directory for module, _ in self.programs.values()}):
            for file in sorted(directory.glob("go.*")):
                pinned.update(file.name.encode() + b"\0" + file.read_bytes())
        return cache() / f"{self.name}-{pinned.hexdigest()[:12]}"

    def ensure(self) -> Path:
        """The directory with all programs, built first where they are not there yet."""
        done = self.directory()
        if done.is_dir():
            return done
        go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
        if go is None:
            raise RequirementError(
                "the Go compiler is missing: apt-get install golang-go (1.24 or later), or see go.dev/dl"
            )
        done.parent.mkdir(parents=True, exist_ok=True)
        with done.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second caller waits for the first one's build
            if not done.is_dir():
                self._build(go, done)
        return done

    def _build(self, go: str, done: Path) -> None:
        print(f"Building {self.name} from its Go modules (once; minutes the first time)", flush=True)
        partial = done.with_suffix(".partial")
        partial.mkdir(exist_ok=True)
        for number, (name, (module, package)) in enumerate(self.programs.items(), start=1):
            if (partial / name).exists():
                continue
            print(f"  {number}/{len(self.programs)} {name} ", end="", flush=True)
            started = time.monotonic()
            output = partial / f"{name}.building"
            how = ["-trimpath", "-buildvcs=false", "-ldflags", module.flags(go), "-o", str(output)]
            _go([go, "build", *how, package], module.directory)
            output.rename(partial / name)
            print(f"{time.monotonic() - started:.0f} s", flush=True)
        partial.rename(done)


def _go(command: list[str], where: Path) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
    ran = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        last = " | ".join(ran.stderr.strip().splitlines()[-5:])
        raise BuildError(f"`{' '.join(command[:3])} ... {command[-1]}` failed in {where}: {last}")
    return ran.stdout
