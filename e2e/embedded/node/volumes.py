"""A Pod's volumes, as directories of the node: written like a kubelet writes them, and kept up to date.

A directory of files swaps all its contents at once: the files are links into `..data`, itself a link that is replaced
by one rename when the contents change. A reader sees the old files or the new ones, never some of each.
"""

import asyncio
import base64
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from e2e.embedded.errors import ApiError, PodSetupError
from e2e.embedded.node.api import Api
from e2e.embedded.node.environment import field
from e2e.embedded.node.model import (
    ConfigMapSource,
    DownwardSource,
    KeyToPath,
    Pod,
    Projection,
    SecretSource,
    TokenSource,
    Volume,
)

log = logging.getLogger(__name__)

TOKEN_RENEWED_AT = 0.8  # of its lifetime, as a kubelet does it
Files = dict[str, tuple[bytes, int]]  # path: (content, mode)


class Volumes:
    """All volumes of one Pod."""

    def __init__(self, api: Api, pod: Pod, root: Path, address: str) -> None:
        self._api = api
        self._pod = pod
        self._root = root
        self._address = address
        self._tokens: dict[TokenSource, tuple[float, bytes]] = {}  # until when it is used, token

    def path(self, name: str) -> Path:
        """The directory of a volume."""
        return self._root / name

    async def make(self) -> None:
        """All of them, filled; PodSetupError while something they need is missing."""
        for volume in self._pod.spec.volumes:
            self.path(volume.name).mkdir(parents=True, exist_ok=True)
            if volume.empty_dir is not None:
                self.path(volume.name).chmod(0o777)
                continue
            publish(self.path(volume.name), await self._files(volume))

    async def refresh(self) -> None:
        """What has changed since; what has gone stays as it was, as with a kubelet."""
        for volume in self._pod.spec.volumes:
            if volume.empty_dir is None:
                try:
                    publish(self.path(volume.name), await self._files(volume))
                except PodSetupError as error:
                    log.warning("%s: volume %s is left as it was: %s", self._pod.full_name, volume.name, error)

    def uses(self, kind: str, name: str) -> bool:
        """Whether a ConfigMap or Secret (`kind` in the plural) of the Pod's namespace is in one of them."""
        return (kind, name) in {reference for volume in self._pod.spec.volumes for reference in _references(volume)}

    def next_token_renewal(self) -> float | None:
        """When `refresh` is due even though nothing has changed, in the loop's time."""
        return min((until for until, _ in self._tokens.values()), default=None)

    def remove(self) -> None:
        """With everything in them."""
        shutil.rmtree(self._root, ignore_errors=True)

    async def _files(self, volume: Volume) -> Files:
        if volume.projected is not None:
            files: Files = {}
            for source in volume.projected.sources:
                files |= await self._projection(source, volume.projected.default_mode)
            return files
        projection = Projection(config_map=volume.config_map, secret=volume.secret, downward_api=volume.downward_api)
        if not any((projection.config_map, projection.secret, projection.downward_api)):
            raise PodSetupError("FailedMount", f"volume {volume.name} is of a kind the embedded node does not know")
        return await self._projection(projection, None)

    async def _projection(self, source: Projection, mode: int | None) -> Files:
        files: Files = {}
        if source.config_map is not None:
            files |= await self._from_object("configmaps", source.config_map.name, source.config_map, mode)
        if source.secret is not None:
            name = source.secret.secret_name or source.secret.name
            files |= await self._from_object("secrets", name, source.secret, mode)
        if source.downward_api is not None:
            files |= self._downward(source.downward_api, mode)
        if source.service_account_token is not None:
            token = await self._token(source.service_account_token)
            files[source.service_account_token.path] = (token, 0o600)
        return files

    async def _from_object(
        self, kind: str, name: str, source: ConfigMapSource | SecretSource, mode: int | None
    ) -> Files:
        default = source.default_mode if mode is None else mode
        try:
            found = await self._api.get(f"/api/v1/namespaces/{self._pod.metadata.namespace}/{kind}/{name}")
        except ApiError as error:
            if error.status == 404 and source.optional:
                return {}
            raise PodSetupError("FailedMount", f"{kind[:-1]} {name!r}: {error}") from error
        contents = {key: value.encode() for key, value in found.get("data", {}).items()}
        encoded = found.get("binaryData", {})
        if kind == "secrets":
            contents, encoded = {}, found.get("data", {})
        contents |= {key: base64.b64decode(value) for key, value in encoded.items()}
        if source.items is None:
            return {key: (value, default) for key, value in contents.items()}
        return _chosen(contents, source.items, default, f"{kind[:-1]} {name!r}", optional=source.optional)

    def _downward(self, source: DownwardSource, mode: int | None) -> Files:
        default = source.default_mode if mode is None else mode
        files: Files = {}
        for file in source.items:
            if file.field_ref is not None:
                value = field(self._pod, file.field_ref.field_path, self._address)
                files[file.path] = (value.encode(), default if file.mode is None else file.mode)
        return files

    async def _token(self, source: TokenSource) -> bytes:
        now = asyncio.get_running_loop().time()
        until, token = self._tokens.get(source, (0.0, b""))
        if now < until:
            return token
        metadata = self._pod.metadata
        bound = {"kind": "Pod", "apiVersion": "v1", "name": metadata.name, "uid": metadata.uid}
        spec = {"expirationSeconds": source.expiration_seconds, "boundObjectRef": bound}
        if source.audience:
            spec["audiences"] = [source.audience]
        account = f"/api/v1/namespaces/{metadata.namespace}/serviceaccounts/{self._pod.spec.service_account_name}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        try:
            answer = await self._api.post(account, request)
        except ApiError as error:
            raise PodSetupError("FailedMount", f"service account token: {error}") from error
        token = str(answer["status"]["token"]).encode()
        self._tokens[source] = (now + TOKEN_RENEWED_AT * source.expiration_seconds, token)
        return token


def publish(directory: Path, files: Files) -> None:
    """Makes `files` the contents of a volume, all at once; nothing is touched when they are already."""
    data = directory / "..data"
    if data.is_symlink() and _read(data) == files:
        return
    fresh = Path(tempfile.mkdtemp(prefix="..", dir=directory))
    fresh.chmod(0o755)
    for path, (content, mode) in files.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)
    old = data.readlink() if data.is_symlink() else None
    new_link = directory / "..data_tmp"
    new_link.symlink_to(fresh.name)
    new_link.replace(data)
    tops = {path.partition("/")[0] for path in files}
    for top in tops:
        if not (directory / top).is_symlink():
            (directory / top).symlink_to(Path("..data") / top)
    for entry in directory.iterdir():
        if not entry.name.startswith("..") and entry.name not in tops:
            entry.unlink()
    if old is not None:
        shutil.rmtree(directory / old, ignore_errors=True)


def _read(data: Path) -> Files:
    files = (Path(where) / name for where, _, names in os.walk(f"{data}/") for name in names)
    return {str(file.relative_to(data)): (file.read_bytes(), file.stat().st_mode & 0o7777) for file in files}


def _chosen(
    contents: dict[str, bytes], items: Sequence[KeyToPath], default: int, what: str, *, optional: bool
) -> Files:
    files: Files = {}
    for item in items:
        if item.key in contents:
            files[item.path] = (contents[item.key], default if item.mode is None else item.mode)
        elif not optional:
            raise PodSetupError("FailedMount", f"{what} has no key {item.key!r}")
    return files


def _references(volume: Volume) -> set[tuple[str, str]]:
    sources = volume.projected.sources if volume.projected else []
    config_maps = [volume.config_map, *(source.config_map for source in sources)]
    secrets = [volume.secret, *(source.secret for source in sources)]
    found = {("configmaps", one.name) for one in config_maps if one}
    return found | {("secrets", one.secret_name or one.name) for one in secrets if one}
