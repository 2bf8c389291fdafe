"""Our own password at a gateway that asks for one: a Secret of Kubernetes' own type, `kubernetes.io/basic-auth`."""

from __future__ import annotations

import re
from collections.abc import Mapping

USERNAME, PASSWORD = "username", "password"

_USERNAME = re.compile(r'[^\s:"\\]+')  # as it can stand in a header, and before a colon


def read_credentials(files: Mapping[str, bytes]) -> tuple[str, str]:
    """Username and password; ValueError when they cannot be used, without what stands there."""
    missing = [name for name in (USERNAME, PASSWORD) if not files.get(name, b"").strip()]
    if missing:
        raise ValueError(f"it has no {' and no '.join(missing)}")
    try:
        username, password = (files[name].decode().rstrip("\n") for name in (USERNAME, PASSWORD))
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if not _USERNAME.fullmatch(username):
        raise ValueError(f"its {USERNAME} has a space, a colon, a quotation mark or a backslash")
    return username, password
