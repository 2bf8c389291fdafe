"""Images: directories on this machine, named in the cluster's `images.json`. Nothing is ever pulled."""

import msgspec

from e2e.embedded.errors import ImageError
from e2e.embedded.state import State


class Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A root file system, with directories of this machine laid over it read-only (`binds`: from → to)."""

    root: str
    binds: dict[str, str] = {}
    env: dict[str, str] = {}
    entrypoint: list[str] = []


def parse(content: bytes) -> dict[str, Image]:
    """Images by their names, from JSON."""
    try:
        return msgspec.json.decode(content, type=dict[str, Image])
    except msgspec.DecodeError as error:
        raise ImageError(f"not a list of images: {error}") from error


def find(state: State, name: str) -> Image:
    """Read anew each time, so that images can be added while the cluster runs."""
    try:
        known = parse(state.images.read_bytes())
    except ImageError as error:
        raise ImageError(f"{state.images}: {error}") from error
    if name not in known:
        raise ImageError(f"image {name!r} is not one of this cluster's: {', '.join(sorted(known)) or 'it has none'}")
    return known[name]
