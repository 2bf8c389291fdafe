"""The record of a call that has ended: who, through which proxies, how long, and why it ended."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.tools import answers
from tests.tools.addresses import CLIENTS, PSTN
from tests.tools.pool import Pool, idle
from tests.tools.proxies import Proxy
from tests.tools.sip import Phone
from tests.tools.wait import until


def records(proxy: Proxy, call_id: str) -> list[dict[str, Any]]:
    """The proxy's own records of a call."""
    assert proxy.kamailio is not None
    lines = Path(proxy.kamailio.log).read_text(errors="replace").splitlines()
    found = [json.loads(line) for line in lines if line.startswith('{"event":"call"')]
    return [record for record in found if record["callId"] == call_id]


async def the_record(proxy: Proxy, call_id: str) -> dict[str, Any]:
    await until(lambda: len(records(proxy, call_id)) > 0, "the record is written")
    await idle(proxy)
    (record,) = records(proxy, call_id)
    return record


async def test_a_call_has_one_record(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """At the proxy that carried it, with the client's own address though the primary forwarded it; nowhere else."""
    pool.table(0, 5)
    call = await alice.call(pool.uri)
    assert await call.bye() == 200
    record = await the_record(pool.members[0], call.call_id)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record.pop("start"))
    assert record.pop("end") >= "2026"
    assert record.pop("seconds") in (0, 1)
    assert record.pop("from").startswith("sip:alice@")
    assert record == {
        "event": "call",
        "callId": call.call_id,
        "proxy": pool.members[0].name,
        "to": record["to"],
        "client": f"{CLIENTS}.1:{alice.endpoint.address[1]}",
        "gateway": "",
        "proxies": [pool.primary.name, pool.members[0].name],
        "status": 200,
        "ended": "caller",
    }
    assert records(pool.primary, call.call_id) == []


async def test_the_gateway_and_who_hung_up(pool: Pool, pbx: Phone) -> None:
    """A call from a gateway names it; the callee's BYE is told from the caller's."""
    pool.table(5)
    async with Phone.at(f"{PSTN}.1") as trunk:
        call = await trunk.call(pool.uri)
        assert await pbx.incoming[0].bye() == 200
        record = await the_record(pool.primary, call.call_id)
    assert (record["gateway"], record["ended"]) == ("pstn-1", "callee")


async def test_a_call_that_is_not_answered(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Its status is the final answer's, and it took no time."""
    pool.table(5)
    pbx.script = answers.refuse(486)
    call = await alice.call(pool.uri)
    record = await the_record(pool.primary, call.call_id)
    assert (record["status"], record["ended"], record["seconds"]) == (486, "not answered", 0)
    pbx.script = answers.ring
    ringing = await alice.dial(pool.uri)
    await ringing.ringing()
    await ringing.cancel()
    record = await the_record(pool.primary, ringing.call_id)
    assert (record["status"], record["ended"]) == (487, "not answered")


async def test_a_log_line_names_its_call(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Whatever Kamailio logs about a call, at any hop, carries its Call-ID: one search finds all of it."""
    pool.table(0, 5)
    pool.members[0].kill()
    call = await alice.call(pool.uri, within=12)
    assert pool.primary.kamailio is not None
    warnings = [line for line in pool.primary.kamailio.log.read_text().splitlines() if "does not answer" in line]
    assert call.call_id in warnings[-1]
