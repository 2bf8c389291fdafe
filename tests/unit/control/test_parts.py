"""The operator's smaller parts: settings, Events, the spec in effect, handlers, the manager."""

from __future__ import annotations

import asyncio
import socket
from base64 import b64encode
from typing import Any

import kopf
import pytest

from switchboard.control import handlers
from switchboard.control.accept import accept, build_kept
from switchboard.control.handlers import build_registry
from switchboard.control.http import serving
from switchboard.control.kube import path
from switchboard.control.lease import is_free
from switchboard.control.listening import judge, judge_credentials, judge_database, judge_users
from switchboard.control.manager import Manager
from switchboard.control.nodes import cordoned
from switchboard.control.observed import Observed, PodView, PoolKey, format_time, parse_time
from switchboard.control.recorder import BURST, REFILL_SECONDS, Bucket, Note, event_name
from switchboard.control.settings import from_environment
from switchboard.errors import ConfigurationError
from switchboard.pool.conditions import Problem
from switchboard.pool.spec import Authentication
from switchboard.resources.names import PoolRef
from switchboard.resources.pods import build_pod
from switchboard.resources.settings import settings
from tests.tools.certificates import Authority
from tests.unit.control.simulated import SPEC

POOL = PoolRef(name="edge", namespace="voice", uid="u-1")


def resource(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "switchboard.dev/v1alpha1",
        "kind": "VoipProxyPool",
        "metadata": {"name": "edge", "namespace": "voice", "uid": "u-1", "generation": 1},
        "spec": {
            "replicas": 2,
            "threshold": "80%",
            "capacity": {"calls": 100},
            "listen": [{"transport": "UDP", "port": 5060}],
            "clients": {"networks": ["198.51.100.0/24"]},
            "proxy": {"image": "proxy:test"},
            **spec,
        },
    }


def test_a_secret_that_cannot_be_used_is_named() -> None:
    """The one that does not exist, and the one with the wrong contents; a right one is no problem."""
    missing, wrong = judge("edge-tls", None, verifies=False), judge("edge-tls", {}, verifies=False)
    assert missing is not None
    assert (missing.reason, missing.message.partition(":")[0]) == (
        "CertificateMissing",
        "Secret edge-tls with a certificate does not exist",
    )
    assert wrong is not None
    assert (wrong.reason, "it has no tls.crt and no tls.key" in wrong.message) == ("CertificateInvalid", True)
    right = {"data": {name: b64encode(content).decode() for name, content in Authority().secret().items()}}
    assert judge("edge-tls", right, verifies=True) is None


def test_users_that_cannot_be_used_are_told_without_their_names() -> None:
    """Their Secret is missing, or wrong: where, and what to do; a right one is no problem."""
    wanted = Authentication(secret_name="edge-users", realm="voice.example.com")

    def judged(passwords: bytes) -> Problem | None:
        return judge_users(wanted, {"data": {"passwords": b64encode(passwords).decode()}})

    missing, wrong = judge_users(wanted, None), judged(b"alice")
    assert missing is not None
    assert missing.reason == "UsersMissing"
    assert "edge-users in spec.clients.auth does not exist" in missing.message
    assert wrong is not None
    assert (wrong.reason, "line 1, is not user:password" in wrong.message) == ("UsersInvalid", True)
    assert "alice" not in wrong.message
    assert judged(b"alice:secret") is None


def test_passwords_at_gateways_that_cannot_be_used() -> None:
    """Their Secret is missing, or wrong: where, and what to do."""
    missing, wrong = judge_credentials("carrier", None), judge_credentials("carrier", {"data": {}})
    assert missing is not None
    assert missing.reason == "CredentialsMissing"
    assert "carrier in credentials of spec.gateways does not exist" in missing.message
    assert wrong is not None
    assert (wrong.reason, "it has no username and no password" in wrong.message) == ("CredentialsInvalid", True)
    right = {"data": {name: b64encode(b"x").decode() for name in ("username", "password")}}
    assert judge_credentials("carrier", right) is None


def test_a_database_that_cannot_be_used() -> None:
    """Its Secret is missing, or wrong: where, and what to do."""
    missing, wrong = judge_database("locations", None), judge_database("locations", {"data": {}})
    assert missing is not None
    assert missing.reason == "DatabaseMissing"
    assert "locations in spec.registrar.database does not exist" in missing.message
    assert wrong is not None
    assert (wrong.reason, "it has no uri, and no host" in wrong.message) == ("DatabaseInvalid", True)
    uri = b64encode(b"postgresql://u:p@db/locations").decode()
    assert judge_database("locations", {"data": {"uri": uri}}) is None


def test_a_gateway_whose_user_has_no_password_is_told() -> None:
    """It could never come in."""
    wanted = Authentication(secret_name="edge-users", realm="voice.example.com")
    secret = {"data": {"passwords": b64encode(b"trunk-1:secret").decode()}}
    assert judge_users(wanted, secret, {"carrier": "trunk-1"}) is None
    problem = judge_users(wanted, secret, {"carrier": "trunk-1", "partner": "trunk-2"})
    assert problem is not None
    assert "no password for the username of spec.gateways partner: add one" in problem.message


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, False),
        ({"unschedulable": True}, True),
        ({"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}, False),
        ({"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}, True),
        ({"taints": [{"key": "example.com/voice"}, {"key": "karpenter.sh/disrupted"}]}, True),
    ],
)
def test_nodes_that_are_emptied(spec: dict[str, Any], expected: bool) -> None:
    """A node counts as cordoned by kubectl's mark and by autoscalers' taints, not by a taint of another purpose."""
    assert cordoned({"metadata": {"name": "worker"}, "spec": spec}) is expected


WRONG = {"threshold": "1%", "capacity": {"calls": 20}}


def test_settings_have_defaults_and_take_the_environment() -> None:
    """An operator needs no setting, and takes each from its variable."""
    assert from_environment({}).watch_namespaces == ()
    given = from_environment({"WATCH_NAMESPACES": "voice, lab", "LEASE_SECONDS": "9", "POD_NAMESPACE": "ops"})
    assert (given.watch_namespaces, given.lease_seconds, given.lease_namespace) == (("voice", "lab"), 9.0, "ops")


@pytest.mark.parametrize("environment", [{"HTTP_PORT": "http"}, {"LEASE_SECONDS": "0"}])
def test_a_wrong_setting_is_named(environment: dict[str, str]) -> None:
    """A setting that makes no sense is refused with its name."""
    with pytest.raises(ConfigurationError, match=next(iter(environment))):
        from_environment(environment)


def test_a_pod_deleted_by_hand_tells_since_when() -> None:
    """The API server writes down when the grace period ends; a drain's time counts from the deletion itself."""
    manifest = build_pod(POOL, SPEC, "edge-abcde")
    meta = {"uid": "p", "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    deletion = {"deletionTimestamp": "2026-01-02T01:00:00Z", "deletionGracePeriodSeconds": 3600}
    pod = PodView.of({**manifest, "metadata": {**manifest["metadata"], **meta, **deletion}})
    assert (pod.deleting, pod.deleting_since, pod.grace_seconds) == (True, parse_time("2026-01-02T00:00:00Z"), 3600)


def test_events_are_limited_in_rate() -> None:
    """A pool that flaps writes a burst of Events and then one every two seconds."""
    now = 0.0
    bucket = Bucket(lambda: now)
    assert sum(bucket.take() for _ in range(100)) == BURST
    now = 10 * REFILL_SECONDS
    assert sum(bucket.take() for _ in range(100)) == 10


def test_a_repeated_event_is_the_same_event() -> None:
    """What happens again raises a count; another message is another Event."""
    one, other = Note("ProxyLost", "Proxy a is gone."), Note("ProxyLost", "Proxy b is gone.")
    assert event_name(resource(), one) == event_name(resource(), one)
    assert event_name(resource(), one) != event_name(resource(), other)


def test_a_good_spec_is_in_effect() -> None:
    """A spec that can be carried out is."""
    accepted, refused = accept(resource(), POOL, None, None)
    assert accepted is not None
    assert refused is None
    assert accepted.spec.replicas == 2


def test_a_wrong_spec_leaves_the_last_good_one_in_effect() -> None:
    """A spec that cannot be carried out changes nothing, and the reason is told."""
    last, _ = accept(resource(), POOL, None, None)
    accepted, refused = accept(resource(**WRONG), POOL, last, None)
    assert accepted is last
    assert refused is not None
    assert refused.reason == "NoRoomForCalls"


def test_the_last_good_spec_outlives_the_operator() -> None:
    """A new operator finds it in the settings ConfigMap."""
    last, _ = accept(resource(replicas=5), POOL, None, None)
    assert last is not None
    kept = build_kept(POOL, settings(POOL, last.spec), last)
    accepted, refused = accept(resource(**WRONG), POOL, None, kept)
    assert refused is not None
    assert accepted == last


@pytest.mark.parametrize("data", [{}, {"spec.json": "{"}, {"spec.json": '{"replicas": 1}'}])
def test_without_any_good_spec_nothing_is_in_effect(data: dict[str, str]) -> None:
    """A first spec that is wrong starts nothing, whatever is left in the ConfigMap."""
    accepted, refused = accept(resource(**WRONG), POOL, None, {"data": data})
    assert accepted is None
    assert refused is not None


def test_handlers_cannot_add_finalizers_or_annotations() -> None:
    """Kopf has event handlers and indices only: the kinds of handler that write to objects are not there."""
    registry = build_registry(Manager(lambda *_: Nothing(), 90))
    assert not registry._changing.get_all_handlers()
    assert not registry._spawning.get_all_handlers()
    assert registry._watching.get_all_handlers()


def test_watches_have_time_outs_and_posting_is_off() -> None:
    """A dead watch is noticed, and kopf writes no Events."""
    configured = kopf.OperatorSettings()
    handlers.configure(configured)
    assert configured.watching.server_timeout
    assert configured.watching.client_timeout
    assert not configured.posting.enabled
    assert configured.watching.label_selectors[handlers.PODS] == "switchboard.dev/pool"


def test_a_pod_is_read_as_far_as_decisions_need_it() -> None:
    """Address, readiness, template and drain of a pod are read from what the API server shows."""
    body = build_pod(POOL, SPEC, "edge-abcde")
    body["metadata"] |= {"uid": "p-1", "resourceVersion": "12", "creationTimestamp": "2026-01-02T03:04:05Z"}
    body["metadata"]["annotations"] = {"switchboard.dev/draining-since": "2026-01-02T04:00:00Z"}
    before = PodView.of(body)
    assert (before.phase, before.ready, before.running, before.address) == ("Pending", False, False, "")
    body["spec"]["nodeName"] = "local"
    body["status"] = {"phase": "Running", "podIP": "198.18.0.9", "conditions": [{"type": "Ready", "status": "True"}]}
    pod = PodView.of(body)
    assert (pod.ready, pod.running, pod.failed, pod.address, pod.owner) == (True, True, False, "198.18.0.9", "u-1")
    assert pod.template
    assert pod.draining_since == parse_time("2026-01-02T04:00:00Z")
    assert format_time(pod.created) == "2026-01-02T03:04:05Z"


def test_paths_are_those_of_the_api_server() -> None:
    """Core and grouped kinds, collections and subresources are found where the API server serves them."""
    assert path("v1", "Pod", "voice", "a") == "/api/v1/namespaces/voice/pods/a"
    assert path("networking.k8s.io/v1", "NetworkPolicy", "voice") == (
        "/apis/networking.k8s.io/v1/namespaces/voice/networkpolicies"
    )
    assert path("switchboard.dev/v1alpha1", "VoipProxyPool", "") == "/apis/switchboard.dev/v1alpha1/voipproxypools"


def test_a_lease_is_free_when_released_or_unchanged_for_its_duration() -> None:
    """No two clocks are compared: only how long the Lease has not changed counts."""
    held = {"spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2001-01-01T00:00:00.000000Z"}}
    assert not is_free(held, 14.9)
    assert is_free(held, 15.1)
    assert is_free({"spec": {"holderIdentity": "", "leaseDurationSeconds": 15}}, 0.0)


class Nothing:
    """A controller that waits until it is woken."""

    def __init__(self) -> None:
        self.last_success = 0.0
        self.woken = asyncio.Event()

    def wake(self) -> None:
        self.woken.set()

    async def run(self) -> None:
        await self.woken.wait()


class Controllers:
    """A manager whose controllers a test can see."""

    def __init__(self) -> None:
        self.made: list[tuple[PoolKey, int]] = []
        self.pools: dict[PoolKey, list[dict[str, Any]]] = {}
        self.manager = Manager(self.make, 90, clock=lambda: 100.0)
        self.manager.start(Observed(self.pools, {}, {}))

    def make(self, key: PoolKey, _: Observed, term: int) -> Nothing:
        self.made.append((key, term))
        return Nothing()


KEY = ("voice", "edge")


async def test_only_the_holder_of_the_lease_acts() -> None:
    """A pool gets its controller when the Lease is ours, and loses it at once when the Lease is lost."""
    controllers = Controllers()
    controllers.pools[KEY] = [resource()]
    controllers.manager.wake(KEY)
    assert controllers.made == []
    leading = asyncio.create_task(controllers.manager.lead(3))
    await asyncio.sleep(0)
    assert controllers.made == [(KEY, 3)]
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
    assert controllers.manager.controllers == {}


async def test_a_pool_that_appears_gets_a_controller_and_one_that_goes_loses_it() -> None:
    """Controllers come and go with the pools; a second wake wakes the one there is."""
    controllers = Controllers()
    leading = asyncio.create_task(controllers.manager.lead(3))
    await asyncio.sleep(0)
    controllers.pools[KEY] = [resource()]
    controllers.manager.wake(KEY)
    del controllers.pools[KEY]
    controllers.manager.wake(KEY)
    for _ in range(5):
        await asyncio.sleep(0)
    assert controllers.made == [(KEY, 3)]
    assert controllers.manager.controllers == {}
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)


async def test_health_names_the_pool_whose_reconciles_fail() -> None:
    """`/healthz` fails when reconciles stop succeeding, and says for which pool."""
    controllers = Controllers()
    controllers.pools[KEY] = [resource()]
    controllers.manager.wake(KEY)
    leading = asyncio.create_task(controllers.manager.lead(3))
    await asyncio.sleep(0)
    assert controllers.manager.unhealthy() == ["voice/edge"]
    controllers.manager.controllers[KEY].last_success = 99.0
    assert controllers.manager.unhealthy() == []
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)


async def test_a_port_in_use_is_named() -> None:
    """The operator's own HTTP port is another's: one line says which, and what to do."""
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"cannot listen on port {port}: .*; set HTTP_PORT"):
            async with serving(port, list):
                pass
