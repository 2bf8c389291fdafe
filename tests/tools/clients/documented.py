"""Configurations of clients as their pages have them (docs/clients): what people are told is what tests run."""

from __future__ import annotations

import re
from pathlib import Path

from tests.tools.foreign import RUN

PAGES = Path(__file__).resolve().parents[3] / "docs" / "clients"
URI, SERVER, PASSWORD = "sip:bob@example.com", "sip:voice.example.com:5061;transport=tls", "…"
UNASKED = "-"  # a password of somebody who is asked for none
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


def configurations(page: str, uri: str, server: str, password: str) -> list[str]:
    """All on that page, with the user `uri` and the SIP URI `server` in the example's place."""
    text = (PAGES / page).read_text()
    user = uri.removeprefix("sip:").partition("@")[0]
    values = {
        URI: uri,
        "username=bob": f"username={user}",
        SERVER: server,
        PASSWORD: password,
        AUTHORITIES: f"{RUN}/ca.crt",
    }
    for example, value in values.items():
        text = text.replace(example, value)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [block for language, block in blocks if not language]
