"""The ConfigMaps that proxies mount: shared workload data, and settings for a start without the operator."""

from __future__ import annotations

from typing import Any

import msgspec

from switchboard.link.messages import Settings
from switchboard.resources import names
from switchboard.resources.names import Manifest, PoolRef

LOAD_KEY = "load.json"
SETTINGS_KEY = "settings.json"


def build_load(pool: PoolRef, document: msgspec.Struct | dict[str, Any]) -> Manifest:
    """`<pool>-load`: the durable record of workload data, from the document as the operator composed it."""
    return _configmap(pool, names.load(pool), LOAD_KEY, document)


def build_settings(pool: PoolRef, settings: Settings) -> Manifest:
    """`<pool>-settings`: what an agent runs by until a listener configures it."""
    return _configmap(pool, names.settings(pool), SETTINGS_KEY, settings)


def _configmap(pool: PoolRef, name: str, key: str, document: msgspec.Struct | dict[str, Any]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": names.metadata(pool, name, "proxy"),
        # Deterministic, so that equal documents are equal text and an unchanged apply stays one.
        "data": {key: msgspec.json.encode(document, order="deterministic").decode()},
    }
