"""The API server as the node program sees it: requests, and watches that go on through whatever happens to it."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

from e2e.embedded.components import SERVER
from e2e.embedded.errors import ApiError
from e2e.embedded.state import State

log = logging.getLogger(__name__)

REQUEST_SECONDS = 10.0
WATCH_SECONDS = 300  # a watch is asked to end after this long, and taken for dead soon after
LONGEST_LINE = 8 << 20  # one object of a watch; the API server's own limit is 3 MiB
RETRY_FIRST_SECONDS, RETRY_MOST_SECONDS = 0.1, 2.0
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
METADATA_LIST_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
MERGE = "application/strategic-merge-patch+json"
Object = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """`kind`: ADDED, MODIFIED or DELETED; or LISTED with `objects`, all that there are (first, and after a gap)."""

    kind: str
    object: Object
    objects: list[Object]


class Api:
    """One connection pool, as the user `system:node-program`."""

    def __init__(self, state: State) -> None:
        self._context = ssl.create_default_context(cafile=str(state.pki / "ca.crt"))
        self._context.load_cert_chain(state.pki / "node.pem")

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._context, limit=0)
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        self._session = aiohttp.ClientSession(SERVER, connector=connector, timeout=timeout, read_bufsize=LONGEST_LINE)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str) -> Object:
        """An object; ApiError 404 where there is none."""
        return await self._request("GET", path)

    async def post(self, path: str, body: Object) -> Object:
        """Creates an object."""
        return await self._request("POST", path, body)

    async def patch(self, path: str, body: Object) -> Object:
        """A strategic merge patch."""
        return await self._request("PATCH", path, body, MERGE)

    async def delete(self, path: str, body: Object) -> Object:
        """`body`: DeleteOptions."""
        return await self._request("DELETE", path, body)

    async def _request(
        self, method: str, path: str, body: Object | None = None, kind: str = "application/json"
    ) -> Object:
        data = None if body is None else json.dumps(body)
        try:
            async with self._session.request(method, path, data=data, headers={"Content-Type": kind}) as answer:
                content: Object = await answer.json(content_type=None)
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            raise ApiError(0, f"{method} {path}: {error or type(error).__name__}") from error
        if answer.status >= 400:
            raise ApiError(answer.status, f"{method} {path}: {content.get('message', answer.status)}")
        return content

    async def watch(self, path: str, *, metadata_only: bool = False, **selectors: str) -> AsyncIterator[Event]:
        """Lists, then reports every change, for ever; after a gap it lists again."""
        pause = RETRY_FIRST_SECONDS
        while True:
            try:
                async for event in self._list_and_watch(path, selectors, metadata_only=metadata_only):
                    pause = RETRY_FIRST_SECONDS
                    yield event
            except (TimeoutError, aiohttp.ClientError, ApiError, ValueError) as error:
                log.warning("watch of %s: %s; again in %.1f s", path, error or type(error).__name__, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_MOST_SECONDS)

    async def _list_and_watch(
        self, path: str, selectors: dict[str, str], *, metadata_only: bool
    ) -> AsyncIterator[Event]:
        accept = METADATA_LIST_ONLY if metadata_only else "application/json"
        async with self._session.get(path, params=selectors, headers={"Accept": accept}) as answer:
            if answer.status != 200:
                raise ApiError(answer.status, await answer.text())
            listed: Object = await answer.json()
        yield Event("LISTED", {}, listed["items"] or [])  # null when there are none
        version = listed["metadata"]["resourceVersion"]
        while True:
            parameters = {**selectors, "watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version}
            parameters["timeoutSeconds"] = str(WATCH_SECONDS)
            accept = METADATA_ONLY if metadata_only else "application/json"
            timeout = aiohttp.ClientTimeout(total=WATCH_SECONDS + 30)
            async with self._session.get(
                path, params=parameters, headers={"Accept": accept}, timeout=timeout
            ) as answer:
                if answer.status != 200:
                    raise ApiError(answer.status, await answer.text())
                while line := await answer.content.readline():
                    change = json.loads(line)
                    if change["type"] == "ERROR":  # 410: the version is too old; list again
                        raise ApiError(change["object"].get("code", 0), change["object"].get("message", "watch failed"))
                    version = change["object"]["metadata"]["resourceVersion"]
                    if change["type"] != "BOOKMARK":
                        yield Event(change["type"], change["object"], [])
