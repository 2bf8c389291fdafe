"""Certificates on both sides: gateways that are known by theirs, and targets that are called over TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Sequence

import pytest

from switchboard.pool.spec import Gateway, Rights
from tests.tools import answers
from tests.tools.addresses import CERTIFIED, CLIENTS, PSTN, STRANGERS, TARGETS
from tests.tools.certificates import HOST, Authority
from tests.tools.digest import REALM, challenges, credentials
from tests.tools.listeners import SECRET
from tests.tools.pool import Pool, idle, to
from tests.tools.proxies import Proxy, fleet
from tests.tools.sip import Phone

LISTEN = f"udp:5060 tls:5061/{SECRET}/optional"
NAME = "sbc.carrier.test"
RIGHTS = Rights(prefixes=("+4930",))


@pytest.fixture(scope="module")
def proxies(authority: Authority) -> Iterator[Sequence[Proxy]]:
    """In place of those with UDP and TCP alone."""
    with fleet(2, CERTIFIED, secrets={SECRET: authority.secret()}, LISTEN=LISTEN, TARGET_TLS=SECRET) as started:
        yield started


async def statuses(pool: Pool, ip: str, tls: ssl.SSLContext) -> tuple[int, int]:
    """Of calls over TLS from there, to a number that is the gateway's right and to one that is not."""
    async with Phone.at(ip, protocol="tls", tls=tls) as phone:
        found = []
        for number in ("+4930", "+4940"):
            call = await phone.call(f"sip:{number}@{pool.primary.ip}:5061;transport=tls")
            found.append(call.status)
            if call.status == 200:
                assert await call.bye() == 200
    return found[0], found[1]


async def test_known_by_its_certificate(pool: Pool, pbx: Phone, authority: Authority, trusting: ssl.SSLContext) -> None:
    """A gateway without networks is let in with its rights from anywhere, by the name in its certificate; the same
    address without one, or with one for another name, is a stranger's; one of another authority gets no connection.
    """
    pool.table(0, 5)
    pool.routes(
        to(f"sip:{TARGETS}.1:5060"),
        gateways=[Gateway(name="carrier", kind="pstn", certificate_names=(NAME,), rights=RIGHTS)],
    )
    where = f"{STRANGERS}.1"
    assert await statuses(pool, where, authority.client(authority.secret(NAME))) == (200, 403)
    assert pool.primary.control.number("refused", "carrier:prefix") == 1
    assert await statuses(pool, where, trusting) == (403, 403)
    assert await statuses(pool, where, authority.client(authority.secret("other.test"))) == (403, 403)
    forged = authority.client(Authority().secret(NAME))
    reader, writer = await asyncio.open_connection(pool.primary.ip, 5061, ssl=forged, server_hostname=HOST)
    with pytest.raises(ssl.SSLError):
        await reader.read()
    writer.close()
    await idle(*pool.proxies)


async def test_known_by_both(pool: Pool, pbx: Phone, authority: Authority, trusting: ssl.SSLContext) -> None:
    """A gateway with networks and a name has to come from there and with the certificate."""
    both = Gateway(name="pstn-1", kind="pstn", networks=(f"{PSTN}.0/24",), certificate_names=(NAME,), rights=RIGHTS)
    pool.routes(to(f"sip:{TARGETS}.1:5060"), gateways=[both])
    own = authority.client(authority.secret(NAME))
    assert await statuses(pool, f"{PSTN}.1", own) == (200, 403)
    assert await statuses(pool, f"{PSTN}.1", trusting) == (403, 403)
    assert await statuses(pool, f"{STRANGERS}.1", own) == (403, 403)
    assert pool.primary.control.number("refused", "pstn-1:prefix") == 1
    await idle(*pool.proxies)


async def test_certificate_and_password(pool: Pool, pbx: Phone, authority: Authority, trusting: ssl.SSLContext) -> None:
    """A gateway with a name and a user is asked for the password once its certificate is there; without the certificate
    the password is of no use.
    """
    pool.asks("trunk-1", password="battery-staple")
    pool.table(0, 5)
    carrier = Gateway(name="carrier", kind="pstn", certificate_names=(NAME,), username="trunk-1")
    pool.routes(to(f"sip:{TARGETS}.1:5060"), gateways=[carrier])
    uri = f"sip:echo@{pool.primary.ip}:5061;transport=tls"
    for where, tls, expected in (
        (STRANGERS, authority.client(authority.secret(NAME)), 200),
        (STRANGERS, trusting, 403),
        (CLIENTS, trusting, 403),
    ):
        async with Phone.at(f"{where}.1", protocol="tls", tls=tls) as phone:
            made = await phone.call(uri)
            if made.status == 407:
                proof = credentials(challenges(made.final)[0], "INVITE", uri, "battery-staple", user="trunk-1")
                made = await phone.call(uri, headers=[proof])
            assert made.status == expected
            if expected == 200:
                assert await made.bye() == 200
    assert pool.primary.control.number("refused", "carrier:credentials") == 1
    await idle(*pool.proxies)


async def test_a_users_certificate(pool: Pool, pbx: Phone, authority: Authority, trusting: ssl.SSLContext) -> None:
    """Whose certificate has its SIP address is not asked for a password, where the pool takes that for as good, and may
    call as nobody else. Who has none, or one of another domain, or of a gateway's user, is asked.
    """
    pool.asks("alice", "trunk-1", password="battery-staple")
    pool.table(0, 5)
    pool.routes(to(f"sip:{TARGETS}.1:5060"), gateways=[Gateway(name="carrier", kind="pstn", username="trunk-1")])
    target = f"sip:echo@{pool.primary.ip}:5061;transport=tls"

    async def status(name: str, own: str = f"sip:alice@{REALM}") -> int:
        """Of a call from `own` by who has a certificate with that address."""
        tls = authority.client(authority.secret(HOST, uri=name)) if name else trusting
        async with Phone.at(f"{CLIENTS}.1", protocol="tls", tls=tls) as phone:
            made = await phone.call(target, from_uri=own)
            if made.status == 200:
                assert await made.bye() == 200
            return made.status

    assert await status(f"sip:alice@{REALM}") == 407
    pool.set(certified=1)
    assert await status(f"sip:alice@{REALM}") == 200
    assert await status(f"sip:alice@{REALM}", f"sip:bob@{REALM}") == 403
    for name in ("", "sip:alice@elsewhere.test", f"sip:trunk-1@{REALM}", "https://alice.test"):
        assert await status(name) == 407, name
    assert [theirs.invite.all("P-Asserted-Identity") for theirs in pbx.incoming] == [[f"<sip:alice@{REALM}>"]]
    await idle(*pool.proxies)


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_target_over_tls(pool: Pool, alice: Phone, pbx: Phone, authority: Authority, *, trusted: bool) -> None:
    """A target over TLS is shown the proxy's certificate; one whose own is of another authority gets no call, the next
    one does.
    """
    pool.table(0, 5)
    pool.routes(to(f"sip:{TARGETS}.5:5071;transport=tls", f"sip:{TARGETS}.1:5060"))
    issuer = authority if trusted else Authority()
    server = authority.server(issuer.secret("pbx.test"))
    async with Phone.at(f"{TARGETS}.5", 5071, protocol="tls", listening=True, tls=server, user="sbc") as sbc:
        sbc.script = answers.ring_then_answer
        call = await alice.call(pool.uri)
        assert call.status == 200
        assert (len(sbc.incoming), len(pbx.incoming)) == ((1, 0) if trusted else (0, 1))
        assert (await call.request("INVITE", body=call.sdp)).message.status == 200
        assert await call.bye() == 200
    await idle(*pool.proxies)
