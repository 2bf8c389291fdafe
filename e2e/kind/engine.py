"""The container engine: the one that runs, or dockerd started here as root and stopped again at the end.

It is started with addresses of the test range only, and with a route that keeps every packet to that range from leaving
the machine: a Service's address, before kube-proxy has its rules, would follow the default route out.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.embedded.waiting import wait_for
from e2e.kind import settings
from e2e.kind.command import run, step, succeeds
from e2e.kind.errors import KindError

START_SECONDS = 60
RUNTIME = settings.RUN / "runtime"
PID = settings.RUN / "dockerd.pid"
LOG = settings.RUN / "dockerd.log"


def runs() -> bool:
    """Whether an engine answers."""
    return succeeds("docker", "info")


def reason_against() -> str:
    """Why there can be no engine here; empty when one runs or can be started."""
    if os.geteuid() != 0:
        return "only root can start a container engine, set routes, and enter pods' networks"
    if not runs() and shutil.which("dockerd") is None and shutil.which("apt-get") is None:
        return "no container engine runs, and there is no apt-get to install one with"
    return ""


def start() -> None:
    """An engine that answers, and the network of the nodes."""
    if against := reason_against():
        raise KindError(against)
    if not runs():
        if not all(shutil.which(program) for program in ("dockerd", "mmdebstrap", "tcpdump")):
            with step("installing the container engine"):
                _install()
        with step("starting the container engine"):
            _start()
    run("ip", "route", "replace", "unreachable", settings.EVERYTHING)
    if not succeeds("docker", "network", "inspect", settings.NETWORK):
        run(
            *("docker", "network", "create", "--driver", "bridge"),
            *("--subnet", settings.NODE_RANGE, "--gateway", settings.NODE_GATEWAY),
            *("--opt", "com.docker.network.bridge.enable_ip_masquerade=true"),
            *("--opt", f"com.docker.network.driver.mtu={settings.MTU}"),
            *("--opt", f"com.docker.network.bridge.name={settings.INTERFACE}", settings.NETWORK),
        )


def stop() -> None:
    """Undoes `start`; an engine that ran before keeps running."""
    if succeeds("docker", "network", "inspect", settings.NETWORK):
        run("docker", "network", "rm", settings.NETWORK)
    if PID.exists():
        process = int(PID.read_text())
        if Path(f"/proc/{process}/comm").exists() and "dockerd" in Path(f"/proc/{process}/comm").read_text():
            os.kill(process, signal.SIGTERM)
            wait_for(lambda: not _alive(process), START_SECONDS, "the container engine's end")
        shutil.rmtree(settings.RUN)
        # dockerd leaves its bridge behind.
        subprocess.run(["ip", "link", "del", "docker0"], check=False, capture_output=True)
    subprocess.run(["ip", "route", "del", "unreachable", settings.EVERYTHING], check=False, capture_output=True)


def _alive(process: int) -> bool:
    """A process that has ended and was not waited for counts as gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _install() -> None:
    words = (line.split("#")[0].strip() for line in (settings.HERE / "packages").read_text().splitlines())
    run("apt-get", "update", "-qq", timeout_seconds=600)
    with _services_stay_off():
        run(
            *("apt-get", "install", "-y", "-qq", "--no-install-recommends"),
            *(word for word in words if word),
            timeout_seconds=900,
        )


@contextmanager
def _services_stay_off() -> Iterator[None]:
    """Debian starts a service when its package is installed, unless this file says no."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def _start() -> None:
    settings.RUN.mkdir(parents=True, exist_ok=True)
    shutil.copy(settings.HERE / "runtime.py", RUNTIME)
    # Before the engine has any network: its own are more specific and go first.
    run("ip", "route", "replace", "unreachable", settings.EVERYTHING)
    with LOG.open("wb") as log:
        process = subprocess.Popen(
            [
                *("dockerd", "--bip", settings.BRIDGE, "--default-address-pool", settings.POOL),
                *("--exec-opt", "native.cgroupdriver=cgroupfs", "--storage-driver", "overlay2"),
                *("--add-runtime", f"switchboard={RUNTIME}", "--default-runtime", "switchboard"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it outlives the command that started it
        )
    PID.write_text(str(process.pid))
    wait_for(lambda: process.poll() is not None or runs(), START_SECONDS, f"the container engine ({LOG})")
    if process.poll() is not None:
        raise KindError(f"dockerd ended at once: {' | '.join(LOG.read_text().splitlines()[-3:])}")
