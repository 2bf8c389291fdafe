"""The container images: what is in them, and that they run as they must. Needs Docker and `make images`."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
REPOSITORY = os.environ.get("REPOSITORY", "")
IMAGES = ["operator", "proxy"]
UNWANTED = ["cc", "gcc", "ld", "make", "apt-get", "pip", "pip3", "curl", "wget"]
SHARED = {"operator": ["operator/switchboard"], "proxy": ["operator/switchboard", "proxy/bin", "proxy/kamailio"]}


def reference(image: str) -> str:
    """As scripts/images names it."""
    return f"{REPOSITORY}/switchboard-{image}:{VERSION}".lstrip("/")


def run(image: str, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """In a container as a pod's is: read-only, without capabilities, network or a way to gain rights."""
    confined = ["--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", *options]
    return subprocess.run(
        ["docker", "run", "--rm", *confined, reference(image), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def shell(image: str, script: str) -> str:
    ran = run(image, "sh", "-c", script)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize("image", IMAGES)
def test_it_runs_without_any_right(image: str) -> None:
    """Uid and gid 10001, no capability, no program that gives more, nothing that its user could write to."""
    assert shell(image, "id -u; id -g").split() == ["10001", "10001"]
    assert shell(image, "awk '/^Cap(Eff|Prm|Bnd)/ { print $2 }' /proc/self/status | sort -u") == "0" * 16
    assert shell(image, "find / -xdev -type f -perm /6000 2>/dev/null; :") == ""
    assert (
        shell(
            image,
            "find / -xdev -writable ! -type l ! -path '/dev/*' ! -path /tmp ! -path /var/tmp ! -path /run/lock; :",
        )
        == ""
    )


@pytest.mark.parametrize("image", IMAGES)
def test_it_holds_nothing_to_build_with(image: str) -> None:
    """No compiler, package manager, downloader or cache."""
    assert shell(image, f"for name in {' '.join(UNWANTED)}; do command -v $name; done; :") == ""
    assert shell(image, "find /var/cache /var/log /var/lib/apt/lists -type f ! -name lock 2>/dev/null; :") == ""


@pytest.mark.parametrize("image", IMAGES)
def test_it_runs_this_trees_files(image: str) -> None:
    """Code and configuration are byte for byte those that the embedded cluster runs."""
    for part in SHARED[image]:
        files = {
            str(file.relative_to(ROOT)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in (ROOT / part).rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        }
        sums = shell(image, f"cd /opt/switchboard && find {part} -type f ! -name '*.pyc' -exec sha256sum {{}} +")
        assert {name: digest for digest, name in (line.split() for line in sums.splitlines())} == files


@pytest.mark.parametrize("image", IMAGES)
def test_it_is_labelled(image: str) -> None:
    """The labels of the OCI say what it is and which version."""
    asked = ["docker", "image", "inspect", "--format={{json .Config.Labels}}", reference(image)]
    labels = json.loads(subprocess.run(asked, capture_output=True, check=True, timeout=30).stdout)
    assert labels["org.opencontainers.image.title"] == f"switchboard-{image}"
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_each_has_only_its_own() -> None:
    """The operator's image has no Kamailio; the proxy's has no client for the Kubernetes API."""
    assert shell("operator", "command -v kamailio rtpengine; ls /opt/switchboard/proxy") == ""
    assert shell("proxy", "ls -d /opt/switchboard/lib/kubernetes /opt/switchboard/lib/kopf 2>/dev/null; :") == ""


def test_the_operator_says_what_it_lacks() -> None:
    """Outside a cluster it ends with one clear line."""
    ran = run("operator")
    assert ran.returncode == 1
    assert ran.stderr.strip().splitlines()[-1].startswith("switchboard-operator: no Kubernetes API to talk to")


def test_the_proxys_programs_start() -> None:
    """Kamailio accepts its configuration in the image; rtpengine and the agent run, and say what they are not given."""
    environment = {
        "POD_NAME": "edge-00001",
        "POD_IP": "127.0.0.1",
        "LISTEN": "udp:5060 tcp:5060",
        "MEDIA_PORTS": "20000-20999",
    }
    options = ("--tmpfs=/run/switchboard:uid=10001", *(f"--env={name}={value}" for name, value in environment.items()))
    checked = run("proxy", "/opt/switchboard/proxy/bin/kamailio", "-c", options=options)
    assert checked.returncode == 0, checked.stderr
    assert (
        "MEDIA_PORTS is not set"
        in run("proxy", "/opt/switchboard/proxy/bin/rtpengine", options=("--env=POD_IP=127.0.0.1",)).stderr
    )
    assert "Version" in run("proxy", "rtpengine", "--version").stderr
    assert "POD_IP is not set" in run("proxy", "switchboard-agent").stderr
