"""Mutated SIP messages against a real proxy.

    python3 -m tests.fuzz --messages 1000000 --seed 1 --users

Runs in a network namespace of its own: what a damaged address leads to is not reached. Prints one line of JSON, and
ends with 1 if the proxy crashed, hangs, or has not let go of what it took.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.fuzz.run import Kind, Outcome, run, with_users
from tests.fuzz.traffic import StuckError
from tests.tools.addresses import PROXIES
from tests.tools.certificates import HOST, Authority
from tests.tools.listeners import LISTEN, SECRET
from tests.tools.proxies import fleet

INSIDE = "SWITCHBOARD_FUZZ_INSIDE"
SUSPECTS = Path("build/fuzz")
SHARED_BYTES = 512 << 10  # that allocators may keep beyond what they kept before
PRIVATE_BYTES = 128 << 10
RESIDENT_BYTES = 8 << 20


def verdict(outcome: Outcome) -> list[str]:
    """What is wrong, a line each."""
    before, after = outcome.before, outcome.after
    wrong = []
    if before.processes != after.processes:
        wrong.append(f"processes were {before.processes}, are {after.processes}: one has crashed")
    if after.shared_bytes > before.shared_bytes + SHARED_BYTES:
        wrong.append(f"shared memory grew from {before.shared_bytes} to {after.shared_bytes} bytes")
    if after.private_bytes > before.private_bytes + PRIVATE_BYTES:
        wrong.append(f"a process' memory grew from {before.private_bytes} to {after.private_bytes} bytes")
    if after.resident_bytes > before.resident_bytes + RESIDENT_BYTES:
        wrong.append(f"resident memory grew from {before.resident_bytes} to {after.resident_bytes} bytes")
    if outcome.unasked_bytes:
        wrong.append(f"strangers were sent {outcome.unasked_bytes} bytes over UDP, where nothing may come")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000, help="how many, besides the first 2000")
    parser.add_argument("--seed", type=int, default=1, help="another one gives other messages")
    parser.add_argument("--answer-every", type=int, default=20, help="so many calls apart; 0: all are refused")
    parser.add_argument("--users", action="store_true", help="the pool has passwords, a registrar, TLS and WebSockets")
    parser.add_argument(
        "--hiding", action="store_true", help="gateway and target see nothing of what is behind the proxy"
    )
    arguments = parser.parse_args()
    hiding = "1" if arguments.hiding else ""
    if INSIDE not in os.environ:
        inside = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        again = [sys.executable, "-m", "tests.fuzz", *sys.argv[1:]]
        return subprocess.run([*inside, *again], env={**os.environ, INSIDE: "1"}, check=False).returncode
    if arguments.users:
        authority = Authority()
        kind = with_users(authority.client())
        secrets = {SECRET: authority.secret(HOST, f"{PROXIES}.1")}
        started = fleet(1, PROXIES, secrets=secrets, LISTEN=LISTEN, HIDE_TOPOLOGY=hiding)
    else:
        kind, started = Kind(), fleet(1, PROXIES, HIDE_TOPOLOGY=hiding)
    kind = dataclasses.replace(kind, hides=arguments.hiding)
    with started as (proxy,):
        try:
            outcome = asyncio.run(
                run(
                    proxy,
                    kind,
                    seed=arguments.seed,
                    count=arguments.messages,
                    answer_every=arguments.answer_every,
                    suspects=SUSPECTS,
                )
            )
        except StuckError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    sys.stdout.write(json.dumps(dataclasses.asdict(outcome)) + "\n")
    wrong = verdict(outcome)
    sys.stderr.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
