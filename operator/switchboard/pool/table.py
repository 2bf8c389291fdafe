"""The routing table: one row per proxy that may be given a call, in policy order."""

from __future__ import annotations

import msgspec

Version = tuple[int, int]  # (term of the Lease, number of the table within the term); compared as a pair


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One proxy in the routing table. The assigner computes the limit from it (docs/contracts.md):

    limit = room + assigned up to and including tick `closed` + received; assign while assigned in total < limit.
    """

    id: str  # <pod>~<boot>
    uri: str  # where peers reach it: sip:198.18.1.4:5060
    advertise: str  # host:port that clients are given in a 302
    room: int
    received: int  # of this assigner, in live ticks (after `closed`)
    closed: int  # the newest closed tick; 0 when none is
    weight: int  # free capacity, for policy weighted
