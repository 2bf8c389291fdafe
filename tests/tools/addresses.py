"""Who is where in tests on the loopback network: a /16 of its own for each run, so that two runs do not meet."""

from __future__ import annotations

import os

NETWORK = f"127.{1 + os.getpid() % 250}"
PROXIES = f"{NETWORK}.1"  # .1, .2, ...
IMPATIENT = f"{NETWORK}.2"  # proxies with a short media time-out
ADVERTISED = f"{NETWORK}.3"  # proxies whose clients know them by another address
TRACED = f"{NETWORK}.4"  # proxies that send copies to a collector
LISTENING = f"{NETWORK}.5"  # proxies with every kind of listener
CERTIFIED = f"{NETWORK}.6"  # proxies that ask for certificates, and have one for targets
CHALLENGED = f"{NETWORK}.7"  # proxies that have passwords at gateways
CUT_OFF = f"{NETWORK}.8"  # proxies with a short media time-out, for clients that are cut off
TRUNKING = f"{NETWORK}.10"  # proxies with listeners, and certificates for targets
HIDING = f"{NETWORK}.11"  # proxies that hide what is behind them from gateways that ask for it
HIDING_SOON = f"{NETWORK}.12"  # one of these with a short media time-out
ENCRYPTED = f"{NETWORK}.13"  # like those of TRUNKING, and passwords at gateways
PEER = f"{PROXIES}.99"  # a phone that plays a proxy
SERVICE = f"{NETWORK}.30.1"  # the address of the pool's Service, had it one
TARGETS = f"{NETWORK}.40"  # where routes lead: PBX, trunk, registrar
CLIENTS = f"{NETWORK}.50"  # the client network, /24
PSTN = f"{NETWORK}.60"  # a gateway's network, /24
VOIP = f"{NETWORK}.61"  # another's
H323 = f"{NETWORK}.62"  # and one that has H.323 on its other side
STRANGERS = f"{NETWORK}.99"  # nobody the pool knows
PHONES = f"{NETWORK}.9"  # for tests without a proxy
