"""The proxy's entry points: every variant of the configuration loads, and a wrong environment is one clear line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.tools.certificates import Authority, mount
from tests.tools.proxies import PROJECT, rootfs

BIN = "/opt/switchboard/proxy/bin"
RUN_DIR = "/run/switchboard"
EVERY = "udp:5060 tcp:5060 tls:5061/edge-tls ws:8080 wss:8443/edge-tls/required"
ENVIRONMENT = {
    "POOL": "test",
    "POD_NAME": "edge-00001",
    "POD_IP": "127.78.1.1",
    "LISTEN": "udp:5060 tcp:5060",
    "ADVERTISE": "127.78.1.1",
    "MEDIA_PORTS": "20000-24999",
    "MEDIA_TIMEOUT": "60",
    "RUN_DIR": RUN_DIR,
    "ETC_DIR": f"{RUN_DIR}/etc",
    "NG_ADDRESS": "127.78.1.1:2223",
}


def run(program: str, *arguments: str, run_dir: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """The entry point in the image, with the pod's environment and these changes to it."""
    inside = ["bwrap", "--die-with-parent", "--unshare-pid", "--ro-bind", str(rootfs()), "/"]
    inside += ["--proc", "/proc", "--dev", "/dev", "--bind", str(run_dir), RUN_DIR]
    inside += ["--ro-bind", str(PROJECT / "proxy"), "/opt/switchboard/proxy", "--clearenv"]
    for name, value in ({"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"} | ENVIRONMENT | changes).items():
        inside += ["--setenv", name, value]
    return subprocess.run(
        [*inside, f"{BIN}/{program}", *arguments], check=False, capture_output=True, text=True, timeout=20
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"MEDIA_PORTS": ""},
        {"LISTEN": "udp:5060"},
        {"LISTEN": "tcp:5060"},
        {"LISTEN": "udp:5060 udp:5080 tcp:15060"},
        {"ADVERTISE": "localhost"},
        {"HEP_COLLECTOR": "127.78.1.9:9060"},
        {"HIDE_TOPOLOGY": "1"},
        {"HIDE_TOPOLOGY": "1", "CREDENTIALS": "carriers"},
        {"HIDE_TOPOLOGY": "1", "HEP_COLLECTOR": "127.78.1.9:9060", "LISTEN": "udp:5060 udp:5070@203.0.113.1 ws:8080"},
        {"POD_IPS": "127.78.1.1,::1"},
        {"POD_IPS": "127.78.1.1,::1", "ADVERTISE": "localhost"},
        {"POD_IP": "::1", "ADVERTISE": "::1", "NG_ADDRESS": "[::1]:2223"},
        {"LISTEN": "udp:5060 ws:8080"},
        {"LISTEN": "udp:5060 tls:5061/edge-tls"},
        {"LISTEN": EVERY, "POD_IPS": "127.78.1.1,::1"},
        {"LISTEN": EVERY, "MEDIA_PORTS": "", "ADVERTISE": "localhost"},
        {"LISTEN": f"{EVERY} udp:5070@203.0.113.1 tls:5071/edge-tls@localhost", "POD_IPS": "127.78.1.1,::1"},
        {"LISTEN": "udp:5060 tls:5061/edge-tls/optional", "TARGET_TLS": "edge-tls"},
        {"LISTEN": "udp:5070@2001:db8::1 tcp:5060", "POD_IPS": "127.78.1.1,::1", "MEDIA_PORTS": ""},
    ],
    ids=[
        "default",
        "no media",
        "udp",
        "tcp",
        "many",
        "advertised name",
        "hep",
        "hiding",
        "hiding and with passwords",
        "hiding, traced, two networks",
        "both families",
        "both families by name",
        "ipv6",
        "websocket",
        "tls",
        "every transport, both families",
        "every transport by name, no media",
        "several networks",
        "certificates of gateways and targets",
        "an ipv6 network",
    ],
)
def test_configuration_loads(changes: dict[str, str], tmp_path: Path) -> None:
    """Kamailio takes the configuration with every set of listeners, with media and without, and warns of nothing."""
    mount(tmp_path / "etc" / "listen", {"edge-tls": Authority().secret()})
    checked = run("kamailio", "-c", run_dir=tmp_path, **changes)
    assert checked.returncode == 0, checked.stderr
    assert "config file ok" in checked.stderr
    assert not [line for line in checked.stderr.splitlines() if "WARNING" in line or "ERROR" in line]


@pytest.mark.parametrize(
    ("program", "changes", "named"),
    [
        ("kamailio", {"POD_NAME": ""}, "POD_NAME is not set"),
        ("kamailio", {"LISTEN": ""}, "LISTEN is not set"),
        ("kamailio", {"LISTEN": "sctp:5060"}, "'sctp:5060'"),
        ("kamailio", {"LISTEN": "udp:5060/edge-tls"}, "has a Secret, and is not tls or wss"),
        ("kamailio", {"LISTEN": "udp:5060 wss:8443"}, "'wss:8443' has no Secret"),
        ("kamailio", {"LISTEN": "tls:5061/edge-tls"}, "no certificate at /run/switchboard/etc/listen/edge-tls"),
        ("kamailio", {"LISTEN": "udp:high"}, "'high' is not a port"),
        ("kamailio", {"LISTEN": "udp:70000"}, "70000"),
        ("kamailio", {"LISTEN": "udp:5060@203.0.113.1"}, "by one that has none"),
        ("kamailio", {"TARGET_TLS": "out-tls"}, "no ca.crt at /run/switchboard/etc/listen/out-tls"),
        ("kamailio", {"RUN_DIR": "/usr/nowhere"}, "not writable"),
        ("kamailio", {"NG_ADDRESS": "here"}, "NG_ADDRESS=here"),
        ("rtpengine", {"MEDIA_PORTS": ""}, "MEDIA_PORTS is not set"),
        ("rtpengine", {"MEDIA_PORTS": "20000"}, "MEDIA_PORTS=20000"),
        ("rtpengine", {"MEDIA_PORTS": "300-200"}, "MEDIA_PORTS=300-200"),
        ("rtpengine", {"MEDIA_TIMEOUT": "soon"}, "MEDIA_TIMEOUT=soon"),
        ("rtpengine", {"LISTEN": "udp:5060 udp:5070@edge.invalid"}, "edge.invalid has no address"),
    ],
)
def test_wrong_environment(program: str, changes: dict[str, str], named: str, tmp_path: Path) -> None:
    """A pod that is set up wrongly says what is wrong in one line, and does not start."""
    refused = run(program, run_dir=tmp_path, **changes)
    assert refused.returncode == 64
    assert refused.stderr.count("\n") == 1, refused.stderr
    assert refused.stderr.startswith(f"{program}: ")
    assert named in refused.stderr
