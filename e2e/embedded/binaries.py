"""The control plane's programs, built once from their Go modules and kept in the project's cache.

`tools/*/go.mod` pin every version. A set of programs lives in a directory named after a hash of those files, and
appears there by one rename, so an interrupted build is never mistaken for a finished one. What was built before an
interruption is used again by the next.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

from e2e.embedded.errors import BuildError, RequirementError

TOOLS = Path(__file__).parent / "tools"

PROGRAMS = {  # name: (directory under tools/, Go package)
    "kube-apiserver": ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": ("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-scheduler": ("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kube-proxy": ("kubernetes", "k8s.io/kubernetes/cmd/kube-proxy"),
    "kubectl": ("kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
}


def cache() -> Path:
    """The project's cache: SWITCHBOARD_CACHE, or `switchboard` in the user's."""
    if own := os.environ.get("SWITCHBOARD_CACHE"):
        return Path(own).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "switchboard"


def directory() -> Path:
    """Where the programs of the versions pinned now are, or will be once built."""
    pinned = hashlib.sha256()
    for file in sorted(TOOLS.glob("*/go.*")):
        pinned.update(file.name.encode() + b"\0" + file.read_bytes())
    return cache() / f"kubernetes-{pinned.hexdigest()[:12]}"


def ensure() -> Path:
    """The directory with all programs, built first where they are not there yet."""
    done = directory()
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
            _build_all(go, done)
    return done


def _build_all(go: str, done: Path) -> None:
    print("Building the Kubernetes control plane from its Go modules (once; minutes the first time)", flush=True)
    partial = done.with_suffix(".partial")
    partial.mkdir(exist_ok=True)
    version = _kubernetes_version(go)
    for number, (name, (module, package)) in enumerate(PROGRAMS.items(), start=1):
        if (partial / name).exists():
            continue
        print(f"  {number}/{len(PROGRAMS)} {name} ", end="", flush=True)
        started = time.monotonic()
        _build(go, TOOLS / module, package, partial / f"{name}.building", version)
        (partial / f"{name}.building").rename(partial / name)
        print(f"{time.monotonic() - started:.0f} s", flush=True)
    partial.rename(done)


def _kubernetes_version(go: str) -> str:
    listed = _go([go, "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes"], TOOLS / "kubernetes")
    return listed.strip()


def _build(go: str, module: Path, package: str, output: Path, version: str) -> None:
    # `go build` leaves Kubernetes' version at v0.0.0-master: set it the way its own build does.
    flags = ["-s", "-w"]
    for owner in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        minor = version.split(".")[1]
        for key, value in (("gitVersion", version), ("gitMajor", "1"), ("gitMinor", minor)):
            flags += ["-X", f"{owner}.{key}={value}"]
    _go([go, "build", "-trimpath", "-buildvcs=false", "-ldflags", " ".join(flags), "-o", str(output), package], module)


def _go(command: list[str], where: Path) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
    ran = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        last = " | ".join(ran.stderr.strip().splitlines()[-5:])
        raise BuildError(f"`{' '.join(command[:3])} ... {command[-1]}` failed in {where}: {last}")
    return ran.stdout
