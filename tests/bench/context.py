"""What every group of rows is given."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import msgspec


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """`quick`: every row once, with samples too few for a verdict to stand on; shows that the bench itself works."""

    quick: bool
    work: pathlib.Path  # this run's own directory, removed at the end
    root: pathlib.Path  # the proxies' root file system
    say: Callable[[str], None]  # one line of progress
