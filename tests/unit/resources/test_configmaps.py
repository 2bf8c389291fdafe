from __future__ import annotations

import msgspec

from switchboard.link.messages import Settings
from switchboard.pool.spec import PoolSpec
from switchboard.resources import configmaps
from switchboard.resources.names import PoolRef
from switchboard.resources.settings import settings


def test_an_agent_reads_back_what_the_operator_wrote(pool: PoolRef, spec: PoolSpec) -> None:
    """settings.json decodes to the very settings that a listener would send."""
    wanted = settings(pool, spec)
    configmap = configmaps.build_settings(pool, wanted)
    assert configmap["metadata"]["name"] == "edge-settings"
    assert msgspec.json.decode(configmap["data"]["settings.json"], type=Settings) == wanted


def test_equal_documents_are_equal_text(pool: PoolRef) -> None:
    """Publishing the same workload data in another order changes nothing, so proxies' mounts stay as they are."""
    one = configmaps.build_load(pool, {"pool": "edge", "proxies": []})
    other = configmaps.build_load(pool, {"proxies": [], "pool": "edge"})
    assert one == other
    assert one["metadata"]["name"] == "edge-load"
    assert one["data"] == {"load.json": '{"pool":"edge","proxies":[]}'}


def test_settings_are_all_that_may_change_at_run_time(pool: PoolRef, spec: PoolSpec) -> None:
    """Settings carry the pool's run-time fields as they are, and by which names and addresses the pool is meant."""
    made = settings(pool, spec, ["198.19.0.7"])
    for field in ("threshold", "capacity", "sharing", "assignment", "media", "client_networks", "gateways", "routes"):
        assert getattr(made, field) == getattr(spec, field)
    assert made.aliases == ("edge", "edge.voice", "edge.voice.svc", "edge.voice.svc.cluster.local", "198.19.0.7")
