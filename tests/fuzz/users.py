"""Messages to a pool with passwords, a registrar, and modes of its clients: what its users, a gateway that is known by
a password, and other proxies send. A password's proof has the time in it, which all proxies check.
"""

from __future__ import annotations

import time

from switchboard.pool.spec import ClientMode, Gateway, Rights
from tests.fuzz.seeds import ENCRYPTED, OFFER, PORT, TICK, Make, Sender, Site, mac, message
from tests.tools.addresses import TARGETS
from tests.tools.digest import REALM, Challenge, credentials
from tests.tools.pool import Pool, to

USERS = ("alice", "bob", "carol")
TRUNK = "trunk-1"
PASSWORD = "battery-staple"
REDIRECTED = "Redirected/1.0"
EXPIRES_SECONDS = 600
INSTANCE = "urn:uuid:00000000-0000-1000-8000-00000000000{}"


def give_users(pool: Pool) -> None:
    pool.asks(*USERS, TRUNK, password=PASSWORD)
    trunk = Gateway(name="trunk", kind="pstn", username=TRUNK, rights=Rights(prefixes=("+4930",)))
    pool.routes(to(f"sip:{TARGETS}.1:5060"), gateways=[trunk])
    pool.modes(ClientMode(mode="redirect", user_agents=(REDIRECTED,)))
    pool.set(registrar=1, expires=EXPIRES_SECONDS, learn=1, learned=1)


def forget_users(pool: Pool) -> None:
    """The registrations, and who has tried too many passwords."""
    for proxy in pool.proxies:
        for aor in proxy.control.dump("aor"):
            proxy.control("ul.rm", "location", aor)
        for table in ("aor", "flow"):
            proxy.control("htable.flush", table)


def _address(user: str) -> str:
    return f"sip:{user}@{REALM}"


def _proof(site: Site, n: int, user: str, method: str, uri: str) -> str:
    """The header with which a user proves its password, as if it had just been asked for it."""
    now = int(time.time())
    challenge = Challenge(
        realm=REALM,
        nonce=f"{now}.{mac(f'nonce|{now}|{site.client}')}",
        algorithm=("SHA-256", "MD5")[n % 2],
        stale=False,
    )
    return ": ".join(credentials(challenge, method, uri, PASSWORD, user=user))


def _registers(*headers: str, contact: str = "") -> Make:
    """One of the users does."""

    def make(site: Site, n: int) -> str:
        user = USERS[n % len(USERS)]
        of = _address(user)
        uri = f"sip:{REALM}"
        where = contact.format(ip=site.client, port=PORT, n=n % 8, instance=INSTANCE.format(n % 8))
        proof = _proof(site, n, user, "REGISTER", uri)
        return message(site, "client", "REGISTER", n, proof, *headers, uri=uri, whose=of, to=of, contact=where)

    return make


def _asks(method: str, called: str, *headers: str, body: str = "") -> Make:
    """One of the users asks for something outside of a dialog."""

    def make(site: Site, n: int) -> str:
        user = USERS[n % len(USERS)]
        uri = called.format(
            realm=REALM, user=USERS[n // 3 % len(USERS)], instance=INSTANCE.format(n % 8), mac=mac(f"{n}")
        )
        proof = _proof(site, n, user, method, uri)
        own = _address(user)
        return message(site, "client", method, n, proof, *headers, uri=uri, whose=own, body=body.format(ip=site.client))

    return make


def _trunk(site: Site, n: int) -> str:
    uri = f"sip:+49301234@{site.proxy}:{PORT}"
    proof = _proof(site, n, TRUNK, "INVITE", uri)
    return message(site, "client", "INVITE", n, proof, uri=uri, body=OFFER.format(ip=site.client))


def _told(method: str, *headers: str, contact: str = "<sip:alice@{ip}:{port}>") -> Make:
    """What a proxy tells the others, signed with all that it says (tokens.lua)."""

    def make(site: Site, n: int) -> str:
        facts = {
            "ip": site.client,
            "port": PORT,
            "proxy": site.proxy,
            "peer": site.peer_id,
            "now": int(time.time()),
            "n": n,
        }
        where, *others = (text.format(**facts, path=mac("route|path")[:16]) for text in (contact, *headers))
        of = f"sip:{USERS[n % len(USERS)]}@pool.invalid" if method == "REGISTER" else "sip:pool.invalid"
        bound = [method, of, f"{n}@{site.peer}", "1", *sorted([f"Contact: {where}", *others])]
        unsigned = f"{site.peer_id}.{TICK}.l1x{n}"
        token = mac("|".join([unsigned, "pool", "", "", "\n".join(bound)]))
        uri = f"sip:{site.proxy}:{PORT}"
        return message(
            site, "peer", method, n, f"X-VP-Token: {unsigned}.{token}", *others, uri=uri, to=of, contact=where
        )

    return make


_AT_HOST = "<sip:alice@{ip}:{port}>"
_IN_BROWSER = '<sip:{n}@k{n}.invalid;transport=ws>;+sip.instance="<{instance}>";reg-id=1;expires=60'
_OUTBOUND = "Supported: path, outbound, gruu"

SEEDS: tuple[tuple[Sender, Make], ...] = (
    ("client", _registers("Expires: 60")),
    ("client", _registers(_OUTBOUND, contact=_IN_BROWSER)),
    (
        "client",
        _registers(_OUTBOUND, contact='<sip:{n}@{ip}:{port};transport=tcp;ob>;reg-id=2;+sip.instance="<{instance}>"'),
    ),
    (
        "client",
        _registers("Supported: gruu", contact='<sip:a@{ip}:{port}>;expires=60;q=0.5, "B" <sip:b@{ip}:5070>;expires=30'),
    ),
    ("client", _registers("Expires: 0", contact="*")),
    ("client", _registers("Expires: 0", contact=_AT_HOST)),
    ("client", _registers("Path: <sip:{ip}:{port};lr>", contact="<sip:[::1]:5070>, <tel:+1555>, <sips:c@{ip}>")),
    (
        "client",
        lambda s, n: message(s, "client", "REGISTER", n, uri=f"sip:{REALM}", whose=_address("bob"), to=_address("bob")),
    ),
    ("client", _asks("INVITE", "sip:{user}@{realm}", body=OFFER)),
    ("client", _asks("INVITE", "sip:{user}@{realm}", body=OFFER)),
    ("client", _asks("INVITE", "sip:{user}@{realm}", body=ENCRYPTED)),
    ("client", _asks("INVITE", "sip:{user}@{realm};gr={instance}", "Supported: gruu, 100rel", body=OFFER)),
    ("client", _asks("INVITE", "sip:gr-{mac}@{realm};gr", body=OFFER)),
    ("client", _asks("INVITE", "sip:+49301234@{realm}", f"User-Agent: {REDIRECTED}", body=OFFER)),
    ("client", _asks("MESSAGE", "sip:{user}@{realm}", "Content-Type: text/plain")),
    ("client", _asks("SUBSCRIBE", "sip:{user}@{realm}", "Event: message-summary", "Expires: 60")),
    ("client", _trunk),
    ("peer", _told("REGISTER", "Expires: 60")),
    (
        "peer",
        _told(
            "REGISTER",
            "Path: <sip:{path}@{proxy}:5060;lr;received=sip:{ip}:{port}%3Btransport%3Dtls;ob>",
            "Expires: 60",
        ),
    ),
    ("peer", _told("INFO", "X-VP-Teach: 1")),
    ("peer", _told("INFO", "X-VP-Taught: 3")),
    ("peer", _told("INFO", "X-VP-Source: {ip} alice {now} {now}.5")),
    ("peer", _told("INFO", "X-VP-Sent: {peer} {peer}.10.c1x{n}.0123456789abcdef0123456789abcdef")),
)
