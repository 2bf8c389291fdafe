"""The SIPp scenarios, checked without a proxy between: their statistics tell what became of each call."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.tools import answers
from tests.tools.addresses import PHONES
from tests.tools.dialog import dialog_of_caller
from tests.tools.rtp import describe
from tests.tools.sip import Phone
from tests.tools.sipp import answerer, caller
from tests.tools.wait import until

CALLER, CALLED, SECOND = f"{PHONES}.11", f"{PHONES}.12", f"{PHONES}.13"


async def test_calls(tmp_path: Path) -> None:
    """Calls that are answered and ended count as completed."""
    with (
        answerer(CALLED, tmp_path, ring_seconds=0.1),
        caller(f"{CALLED}:5060", CALLER, tmp_path, calls=10, rate=50, hold_seconds=0.2) as load,
    ):
        result = await asyncio.to_thread(load.wait, 20)
    assert (result.offered, result.answered, result.completed, result.failed) == (10, 10, 10, 0), load.errors()


async def test_redirects(tmp_path: Path) -> None:
    """A 302 is followed; a caller that hangs up instead counts as abandoned."""
    async with Phone.at(CALLED, 5060, user="pool") as pool:
        pool.script = answers.refuse(302, (("Contact", f"<sip:echo@{SECOND}:5060;x=1>"),))
        with (
            answerer(SECOND, tmp_path),
            caller(f"{CALLED}:5060", CALLER, tmp_path, calls=40, rate=100, hold_seconds=0.1, lost=0.5) as load,
        ):
            result = await asyncio.to_thread(load.wait, 20)
    assert result.redirected == result.offered == 40, load.errors()
    assert result.completed + result.abandoned == 40
    assert 5 <= result.abandoned <= 35


async def test_refusals(tmp_path: Path) -> None:
    """The pool's status for saturation counts as refused; any other as failed, with SIPp's word for the cause."""
    async with Phone.at(CALLED, 5060, user="pool") as pool:
        pool.script = answers.refuse(503)
        with caller(f"{CALLED}:5060", CALLER, tmp_path, calls=5, rate=50) as load:
            refused = await asyncio.to_thread(load.wait, 20)
        pool.script = answers.refuse(480)
        with caller(f"{CALLED}:5060", CALLER, tmp_path, calls=5, rate=50, refused_status=480) as load:
            configured = await asyncio.to_thread(load.wait, 20)
        with caller(f"{CALLED}:5060", CALLER, tmp_path, calls=5, rate=50) as load:
            failed = await asyncio.to_thread(load.wait, 20)
    assert (refused.offered, refused.refused, refused.failed) == (5, 5, 0)
    assert (configured.offered, configured.refused, configured.failed) == (5, 5, 0)
    assert (failed.offered, failed.refused, failed.failed) == (5, 0, 5)
    assert failed.causes == {"UnexpectedMessage": 5}
    assert (refused + failed).offered == 10


async def test_ringing_lost(tmp_path: Path) -> None:
    """An attempt that rings and then hears nothing more counts as ringing_lost, not as failed."""
    async with Phone.at(CALLED, 5060, user="pool") as pool:
        pool.script = answers.ring
        with caller(f"{CALLED}:5060", CALLER, tmp_path, calls=3, rate=50, ring_limit_seconds=0.3) as load:
            result = await asyncio.to_thread(load.wait, 20)
    assert (result.offered, result.ringing_lost, result.failed, result.completed) == (3, 3, 0, 0)


async def test_an_invite_that_crossed_its_answer(tmp_path: Path) -> None:
    """An INVITE that is sent again when it has been answered is answered again, and the call goes on."""
    async with Phone.at(CALLER, 5060) as alice:
        with answerer(CALLED, tmp_path) as called:
            invite = await alice.request("INVITE", f"sip:echo@{CALLED}:5060", body=describe(CALLER))
            answer = (await invite.final()).message
            await alice.endpoint.send(invite.request, invite.to)
            await until(lambda: [one.message.status for one in invite.responses].count(200) == 2, "the 200 again")
            dialog = dialog_of_caller(alice.endpoint, invite.request, answer)
            await alice.endpoint.send(dialog.compose("ACK", cseq=1), dialog.next_hop)
            assert (await (await alice.in_dialog(dialog, "BYE")).final()).message.status == 200, called.errors()
