"""Two users of a pool, at an address of their own: bob has registered, and for each line on stdin alice calls him.

    python -m tests.tools.subscribers <service's address> <own address> <realm> <password>

Prints the status of bob's registration, then of each call, a line each.
"""

from __future__ import annotations

import asyncio
import sys

from tests.tools.digest import challenges, credentials
from tests.tools.sip import Phone


async def register(bob: Phone, service: str, realm: str, password: str) -> int:
    """As a client does that is asked for its password."""
    where, own = f"sip:{service}:5060", f"sip:bob@{realm}"
    asked = (await (await bob.request("REGISTER", where, from_uri=own, to_uri=own)).final()).message
    if asked.status != 401:
        return asked.status
    answer = credentials(challenges(asked)[0], "REGISTER", where, password, user="bob")
    again = await bob.request("REGISTER", where, from_uri=own, to_uri=own, headers=[answer], cseq=2)
    return (await again.final()).message.status


async def call(alice: Phone, service: str, realm: str, password: str) -> int:
    """A call to bob, answered and ended; 0 where its end is not answered."""
    where, uri, own = (service, 5060), f"sip:bob@{realm}", f"sip:alice@{realm}"
    asked = await alice.call(uri, to=where, from_uri=own)
    if asked.status != 407:
        return asked.status
    answer = credentials(challenges(asked.final)[0], "INVITE", uri, password)
    made = await alice.call(uri, to=where, from_uri=own, headers=[answer])
    return made.status if made.status != 200 or await made.bye() == 200 else 0


async def main(service: str, address: str, realm: str, password: str) -> None:
    async with Phone.at(address, user="alice") as alice, Phone.at(address, user="bob") as bob:
        print(await register(bob, service, realm, password), flush=True)  # noqa: T201  # what it is asked for
        while await asyncio.to_thread(sys.stdin.readline):
            print(await call(alice, service, realm, password), flush=True)  # noqa: T201  # likewise


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
