"""Between IPv4 and IPv6, UDP and TCP: whatever the caller has and whatever the target has."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.sip.test_register import hop_of
from tests.tools import answers
from tests.tools.pool import ALIAS, Pool, idle, to
from tests.tools.proxies import Proxy, fleet
from tests.tools.rtp import Media, streams
from tests.tools.sessions import Incoming
from tests.tools.sip import Phone
from tests.tools.transport import Protocol
from tests.tools.wait import until

NETWORK = "198.18.2"
OWN = {4: f"{NETWORK}.1", 6: "::1"}  # the proxy's addresses
OTHERS = {4: f"{NETWORK}.9", 6: "::1"}  # of clients and targets
SIDES: list[tuple[int, Protocol]] = [(4, "udp"), (4, "tcp"), (6, "udp"), (6, "tcp")]
TARGET_PORT = 5080


@pytest.fixture(scope="module")
def proxy(network: None) -> Iterator[Proxy]:
    """One with addresses of both families."""
    for ip in (OWN[4], OTHERS[4]):
        subprocess.run(["ip", "address", "add", f"{ip}/32", "dev", "lo"], check=True)
    with fleet(1, NETWORK, POD_IPS=f"{OWN[4]},{OWN[6]}") as (started,):
        yield started


@pytest.mark.parametrize("caller", SIDES)
@pytest.mark.parametrize("target", SIDES)
async def test_a_call_between(proxy: Proxy, caller: tuple[int, Protocol], target: tuple[int, Protocol]) -> None:
    """Each side hears of its own family alone, in SIP and SDP; media goes both ways, either side ends it."""
    pool = Pool([proxy])
    await pool.reset()
    (here, protocol), (there, spoken) = caller, target
    host = f"[{OTHERS[6]}]" if there == 6 else OTHERS[4]
    pool.routes(to(f"sip:{host}:{TARGET_PORT}" + (";transport=tcp" if spoken == "tcp" else "")))
    proxy.networks([f"{OTHERS[4]}/32", f"{OTHERS[6]}/128"])
    async with (
        Phone.at(OTHERS[here], protocol=protocol) as carol,
        Phone.at(OTHERS[there], TARGET_PORT, protocol=spoken, listening=spoken == "tcp") as pbx,
        Media.at(OTHERS[here]) as mine,
        Media.at(OTHERS[there]) as theirs,
    ):

        async def script(incoming: Incoming) -> None:
            incoming.sdp = theirs.sdp
            await answers.ring_then_answer(incoming)

        pbx.script = script
        transport = ";transport=tcp" if protocol == "tcp" else ""
        for ends_it in ("caller", "target"):
            call = await carol.call(f"sip:echo@{ALIAS}{transport}", to=(OWN[here], 5060), body=mine.sdp)
            assert call.status == 200
            incoming = pbx.incoming[-1]
            assert {ip for ip, _ in streams(call.remote_sdp).values()} == {call.routes[0]} == {OWN[here]}
            assert {ip for ip, _ in streams(incoming.remote_sdp).values()} == {OWN[there]}
            assert hop_of(incoming.invite.all("Record-Route")[0])[0] == OWN[there]

            async def heard(sdp: str = call.remote_sdp, back: str = incoming.remote_sdp) -> bool:
                await mine.send(sdp, 5)
                await theirs.send(back, 5)
                return all(received for _, received in (*mine.counts().values(), *theirs.counts().values()))

            await until(heard, "voice and video at both ends")
            assert (await incoming.request("INVITE", body=theirs.sdp)).message.status == 200
            assert await (call if ends_it == "caller" else incoming).bye() == 200
    await idle(proxy)
