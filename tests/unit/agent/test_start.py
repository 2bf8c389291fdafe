from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from switchboard.agent.environment import Environment
from switchboard.agent.mounted import Mounted
from switchboard.agent.wanted import Wanted
from switchboard.errors import ConfigurationError
from switchboard.link.messages import Peer
from switchboard.pool.load import LoadDocument, ProxyLoad
from switchboard.pool.table import Row
from tests.unit.agent.test_wanted import SETTINGS


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "token").mkdir()
    (tmp_path / "token" / "key").write_text("5a" * 32 + "\n")
    return {
        "POOL": "edge",
        "POD_NAME": "edge-aaaaa",
        "POD_NAMESPACE": "voice",
        "POD_IP": "198.18.0.1",
        "LISTEN": "tcp:5061 udp:5060 tcp:5060",
        "ADVERTISE": "edge-1.example.org",
        "MEDIA_PORTS": "20000-24999",
        "RUN_DIR": str(tmp_path),
        "ETC_DIR": str(tmp_path),
    }


def test_a_pod_as_the_operator_makes_it(environ: Mapping[str, str], tmp_path: Path) -> None:
    """The agent learns all it needs from environment and mounts."""
    environment = Environment.read(environ)
    assert environment.sip_port == 5060
    assert environment.advertise == "edge-1.example.org:5060"
    assert environment.media
    assert environment.media_address == ("127.0.0.1", 2223)
    assert environment.key == "5a" * 32
    assert environment.load == tmp_path / "load" / "load.json"


def test_without_media_and_advertise(environ: Mapping[str, str]) -> None:
    """A pool without media has no rtpengine to ask; without ADVERTISE clients are given the pod's address."""
    environment = Environment.read({**environ, "MEDIA_PORTS": "", "ADVERTISE": "", "POD_IP": "2001:db8::1"})
    assert not environment.media
    assert environment.advertise == "[2001:db8::1]:5060"


def test_the_listeners_secrets(environ: Mapping[str, str], tmp_path: Path) -> None:
    """Each Secret once, with whether clients are verified by it; peers are reached in their own network."""
    listen = (
        "udp:5080@203.0.113.1 tls:5061/edge-tls wss:8443/edge-tls/required@a.test wss:8444/web-tls ws:8080 tcp:5070"
    )
    environment = Environment.read({**environ, "LISTEN": listen})
    assert environment.secrets == {"edge-tls": True, "web-tls": False}
    with_targets = Environment.read({**environ, "LISTEN": "udp:5060 tls:5061/a-tls/optional", "TARGET_TLS": "out-tls"})
    assert with_targets.secrets == {"a-tls": True, "out-tls": True}
    assert environment.listen == tmp_path / "listen"
    assert environment.sip_port == 5070


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"POOL": ""}, "environment variable POOL is not set; the operator sets it"),
        ({"LISTEN": "sctp:5060"}, "LISTEN: 'sctp:5060' is not like udp:5060"),
        ({"LISTEN": "tls:5061/edge-tls"}, "LISTEN has neither udp nor tcp"),
        ({"LISTEN": "udp:99999"}, "LISTEN: 'udp:99999' is not like udp:5060"),
        ({"NG_ADDRESS": "2223"}, "NG_ADDRESS: '2223' is not like"),
        ({"ETC_DIR": "/nowhere"}, "/nowhere/token/key: No such file or directory; mount"),
    ],
)
def test_a_wrong_environment_is_one_clear_line(
    environ: Mapping[str, str], change: Mapping[str, str], says: str
) -> None:
    """What is missing or wrong is named, with what to do."""
    with pytest.raises(ConfigurationError) as raised:
        Environment.read({**environ, **change})
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_wrong_key_is_not_used(environ: Mapping[str, str], tmp_path: Path) -> None:
    """A pool key that is no key stops the agent before it tells Kamailio."""
    (tmp_path / "token" / "key").write_text("secret")
    with pytest.raises(ConfigurationError, match="not 64 hex digits"):
        Environment.read(environ)


def proxy(name: str, number: int) -> ProxyLoad:
    address = f"198.18.0.{number}"
    return ProxyLoad(
        name=name,
        id=f"{name}~00000001",
        address=address,
        port=5060,
        advertise=f"{address}:5060",
        state="ready",
        calls=0,
        workload=0.0,
        limit=400,
        sampled_at="",
    )


LOAD = LoadDocument(
    pool="edge",
    version=(4, 17),
    published_at="2026-01-01T00:00:00.000Z",
    primary="edge-aaaaa",
    threshold=0.8,
    proxies=(proxy("edge-aaaaa", 1), proxy("edge-bbbbb", 2)),
)


def mount(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / f"{name}.json").write_bytes(content)


def test_a_start_without_an_operator(environ: Mapping[str, str], tmp_path: Path) -> None:
    """Settings, peers, term, table and primary come from the mounted files; who is not named primary is a member."""
    mount(tmp_path, "settings", msgspec.json.encode(SETTINGS))
    mount(tmp_path, "load", msgspec.json.encode(LOAD))
    mounted = Mounted.read(Environment.read(environ))
    assert mounted.wanted("edge-aaaaa") == Wanted(
        term=4,
        settings=SETTINGS,
        peers=(Peer(name="edge-bbbbb", address="198.18.0.2"),),
        role="primary",
        primary="sip:198.18.0.1:5060",
        tick=1,
        version=(4, 17),
        rows=(
            Row("edge-aaaaa~00000001", "sip:198.18.0.1:5060", "198.18.0.1:5060", 400, 0, 0, 20),
            Row("edge-bbbbb~00000001", "sip:198.18.0.2:5060", "198.18.0.2:5060", 400, 0, 0, 20),
        ),
    )
    member = mounted.wanted("edge-bbbbb")
    assert member is not None
    assert (member.role, member.primary) == ("member", "sip:198.18.0.1:5060")


def test_settings_without_a_load_document(environ: Mapping[str, str], tmp_path: Path) -> None:
    """Before anything was shared a proxy starts as a member without peers."""
    mount(tmp_path, "settings", msgspec.json.encode(SETTINGS))
    assert Mounted.read(Environment.read(environ)).wanted("edge-aaaaa") == Wanted(settings=SETTINGS)


@pytest.mark.parametrize("content", [None, b"{", b'{"threshold": "80%"}', b'{"threshold": "\xff"}'])
def test_files_that_say_nothing(environ: Mapping[str, str], tmp_path: Path, content: bytes | None) -> None:
    """A missing or malformed file is passed over: the proxy waits for an operator."""
    if content is not None:
        mount(tmp_path, "settings", content)
    assert Mounted.read(Environment.read(environ)).wanted("edge-aaaaa") is None
