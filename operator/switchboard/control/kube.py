"""The Kubernetes API as this operator uses it: plain dicts in and out, server-side apply under one field manager.

The official client brings the configuration, credentials and connections; its thousand generated methods are not needed
for seven verbs, and without its models an answer of 1000 pods is decoded once, not twice.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlencode

import aiohttp
import kopf
import msgspec
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config
from prometheus_client import Counter

from switchboard.errors import ConfigurationError, SwitchboardError
from switchboard.resources.names import FIELD_MANAGER

logger = logging.getLogger(__name__)

WATCH_SECONDS = 300  # a watch is asked to end after this
PAGE = 100  # objects of a list at a time: a thousand nodes together are 12 MB
REQUEST_SECONDS = 10.0  # no request of ours is large; the Lease's have a shorter limit of their own

WRITES = Counter("switchboard_api_writes", "Writes to the Kubernetes API.", ["verb", "kind"])

Object = dict[str, Any]

_PLURALS = {"NetworkPolicy": "networkpolicies"}


class KubeError(SwitchboardError):
    """The API server refused a request, or did not answer (`status` 0)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


def path(api_version: str, kind: str, namespace: str, name: str = "", subresource: str = "") -> str:
    """Where an object is served; with no name its collection, with no namespace either that of all namespaces."""
    root = "/api/v1" if api_version == "v1" else f"/apis/{api_version}"
    plural = _PLURALS.get(kind, kind.lower() + "s")
    where = ["namespaces", namespace] if namespace else []
    return "/".join(part for part in (root, *where, plural, name, subresource) if part)


class Kube:
    """One connection pool to the API server; `close` it."""

    def __init__(self, configuration: Any) -> None:
        self.configuration = configuration
        self._client = kubernetes_client.ApiClient(configuration)

    async def close(self) -> None:
        await self._client.close()

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Object | None:
        try:
            return await self._request("GET", path(api_version, kind, namespace, name))
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, api_version: str, kind: str, namespace: str, selector: str) -> list[Object]:
        answer = await self._request("GET", path(api_version, kind, namespace), {"labelSelector": selector})
        return [{"apiVersion": api_version, "kind": kind, **item} for item in answer["items"]]

    async def watch_names(
        self, api_version: str, kind: str, chosen: Callable[[Object], bool]
    ) -> AsyncIterator[frozenset[str]]:
        """The names of the chosen ones among all such objects of the cluster: those there are, then after every change.

        Ends when the API server ends its watch; begin anew then.
        """
        where, query = path(api_version, kind, ""), {"limit": str(PAGE)}
        names: frozenset[str] = frozenset()
        while True:
            listed = await self._request("GET", where, query)
            names |= {item["metadata"]["name"] for item in listed["items"] or () if chosen(item)}
            if not (following := listed["metadata"].get("continue")):
                break
            query["continue"] = following
        yield names
        since = listed["metadata"]["resourceVersion"]
        query = {"watch": "1", "resourceVersion": since, "timeoutSeconds": str(WATCH_SECONDS)}
        response = await self._open("GET", where, query, within_seconds=WATCH_SECONDS + REQUEST_SECONDS)
        try:
            async for line in _lines(response.content):
                change = msgspec.json.decode(line)
                if change["type"] == "ERROR":  # the resource version is too old: list again
                    return
                name = frozenset({change["object"]["metadata"]["name"]})
                names = names | name if change["type"] != "DELETED" and chosen(change["object"]) else names - name
                yield names
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable("GET", where, error) from error
        finally:
            response.close()

    async def create(self, obj: Object) -> Object:
        return await self._write("POST", obj, _path_of(obj, named=False), {"fieldManager": FIELD_MANAGER})

    async def replace(self, obj: Object) -> Object:
        """Refused with status 409 when `resourceVersion` is given and no longer the newest."""
        return await self._write("PUT", obj, _path_of(obj), {"fieldManager": FIELD_MANAGER})

    async def apply(self, obj: Object, subresource: str = "") -> Object:
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        where = _path_of(obj, subresource=subresource)
        return await self._write("PATCH", obj, where, query, content_type="application/apply-patch+yaml")

    async def merge(self, obj: Object, patch: Object, subresource: str = "") -> Object:
        """A JSON merge patch of `obj`, of which only the identity is read."""
        where = _path_of(obj, subresource=subresource)
        query = {"fieldManager": FIELD_MANAGER}
        WRITES.labels("PATCH", obj["kind"]).inc()
        return await self._request("PATCH", where, query, patch, "application/merge-patch+json")

    async def delete_pod(self, namespace: str, name: str, uid: str, grace_seconds: int) -> Object | None:
        """Deletes that very pod; the pod as it is then, or None when it is gone."""
        WRITES.labels("DELETE", "Pod").inc()
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "preconditions": {"uid": uid},
            "gracePeriodSeconds": grace_seconds,
        }
        try:
            answer = await self._request("DELETE", path("v1", "Pod", namespace, name), {}, body)
        except KubeError as error:
            if error.status not in {404, 409}:
                raise
            return None
        return answer if "deletionTimestamp" in answer["metadata"] else None

    async def version(self) -> str:
        return str((await self._request("GET", "/version"))["gitVersion"])

    async def _write(
        self, method: str, obj: Object, where: str, query: dict[str, str], content_type: str = "application/json"
    ) -> Object:
        WRITES.labels(method, obj["kind"]).inc()
        return await self._request(method, where, query, obj, content_type)

    async def _request(
        self,
        method: str,
        where: str,
        query: dict[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        response = await self._open(method, where, query, body, content_type=content_type)
        try:
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(method, where, error) from error
        answer: Object = msgspec.json.decode(data)
        return answer

    async def _open(  # noqa: PLR0913 - what a request is made of
        self,
        method: str,
        where: str,
        query: dict[str, str] | None = None,
        body: Object | None = None,
        *,
        content_type: str = "application/json",
        within_seconds: float = REQUEST_SECONDS,
    ) -> aiohttp.ClientResponse:
        """The answer's head; one that is a refusal is raised."""
        headers = {"Content-Type": content_type, "Accept": "application/json", "User-Agent": "switchboard-operator"}
        for auth in (await self.configuration.auth_settings()).values():
            headers[auth["key"]] = auth["value"]
        url = f"{self.configuration.host}{where}" + (f"?{urlencode(query)}" if query else "")
        try:
            wrapped = await self._client.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=within_seconds
            )
            response: aiohttp.ClientResponse = wrapped.response
            if response.status >= 400:
                raise _refused(method, where, response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(method, where, error) from error
        return response

    def _unreachable(self, method: str, where: str, error: Exception) -> KubeError:
        message = f"{method} {where}: no answer from the API server at {self.configuration.host}: {error!r}"
        return KubeError(0, "Unreachable", message)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Of any length, which aiohttp's own are not."""
    begun = b""
    async for data in content.iter_any():
        *lines, begun = (begun + data).split(b"\n")
        for line in lines:
            yield line


def _path_of(obj: Object, *, named: bool = True, subresource: str = "") -> str:
    metadata = obj["metadata"]
    name = metadata["name"] if named else ""
    return path(obj["apiVersion"], obj["kind"], metadata["namespace"], name, subresource)


def _refused(method: str, where: str, status: int, data: bytes) -> KubeError:
    try:
        answer = msgspec.json.decode(data)
        reason, message = answer.get("reason") or "", answer.get("message") or ""
    except msgspec.DecodeError:
        reason, message = "", data[:200].decode(errors="replace")
    return KubeError(status, reason, f"{method} {where}: the API server answered {status} {reason}: {message}")


async def configure() -> Any:
    """The API server's address and our credentials: from the service account in a pod, else from KUBECONFIG."""
    configuration = kubernetes_client.Configuration()
    try:
        kubernetes_config.load_incluster_config(client_configuration=configuration)
    except kubernetes_config.ConfigException:
        try:
            await kubernetes_config.load_kube_config(client_configuration=configuration)
        except (kubernetes_config.ConfigException, OSError) as error:
            raise ConfigurationError(
                f"no Kubernetes API to talk to: neither a service account is mounted nor does KUBECONFIG work: {error}"
            ) from error
    return configuration


async def login() -> kopf.ConnectionInfo:
    """The same credentials for kopf; it asks again when the API server no longer takes them (a rotated token)."""
    configuration = await configure()
    header = ""
    for auth in (await configuration.auth_settings()).values():
        header = auth["value"]
    scheme, _, token = header.partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )
