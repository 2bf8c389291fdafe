"""RFC 4475: what is valid is served, however strange; what is not is answered as it says, or by nobody."""

from __future__ import annotations

import contextlib

from e2e.embedded.errors import DeadlineError
from tests.sip.torture import INVALID, SERVED, SILENT, VALID, Torture
from tests.tools import answers
from tests.tools.pool import Pool, idle
from tests.tools.sip import Phone
from tests.tools.wait import until

ASKED = 4  # OPTIONS, so that each worker has answered one


async def outcome(pool: Pool, phone: Phone, called: Phone, message: Torture) -> str | int:
    """What became of it: a status of the proxy's, SERVED or SILENT."""
    ip, port = phone.endpoint.address
    since, seen = len(phone.log), len(called.log)
    await phone.endpoint.send_raw(message.encode(pool.primary.ip, ip, port), (pool.primary.ip, 5060))

    def reached() -> bool:
        return any(packet.message.call_id == message.name for packet in called.log[seen:])

    def statuses() -> list[int]:
        answers = [packet.message for packet in phone.log[since:] if packet.message.is_response]
        return [answer.status for answer in answers if answer.call_id in (message.name, "") and answer.status > 199]

    for asked in range(ASKED):
        await (
            await phone.request("OPTIONS", pool.uri.replace("echo@", ""), call_id=f"{message.name}-after-{asked}")
        ).final()
    if message.expected != SILENT:
        with contextlib.suppress(DeadlineError):
            await until(lambda: reached() or bool(statuses()), f"something of {message.name}", within=2)
    return SERVED if reached() else next(iter(statuses()), SILENT)


async def test_torture(pool: Pool, alice: Phone, pbx: Phone) -> None:
    """Each message has the outcome that its row names, and leaves nothing behind; the proxies serve calls as before."""
    pool.table(100, 0, 0)
    pbx.script = answers.refuse(486)
    found = {message: await outcome(pool, alice, pbx, message) for message in (*VALID, *INVALID)}
    assert {one.name: (found[one], one.expected) for one in found if found[one] != one.expected} == {}
    await idle(*pool.proxies)
    pbx.script = answers.ring_then_answer
    call = await alice.call(pool.uri)
    assert call.status == 200
    assert await call.bye() == 200
