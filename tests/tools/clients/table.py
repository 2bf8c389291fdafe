"""The table of clients, transports and modes at the end of a run: what the tests that passed have shown of each.

    @pytest.mark.client("baresip", transport="UDP", mode="forward", does=("registers", "calls"))

What is a parameter of the test (`kind`: the client's name or class; `protocol` or `transport`; `mode`) need not stand
in the mark, and a mark may name several transports. A run of a whole folder fails where it has not shown all that
CLIENTS has, a run of what failed in it where both together have not.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

TRANSPORTS = ("UDP", "TCP", "TLS", "WS", "WSS")
MODES = ("forward", "redirect")
DOES = ("registers", "calls", "is called", "media", "holds", "transfers", "hangs up", "is cut off")
SHOWN = "clients/shown"  # in pytest's cache: what the last run of the whole folder has shown


class Row(NamedTuple):
    client: str
    transport: str
    mode: str


class Client(NamedTuple):
    """A real program, and what a run of tests/<folder> shows of it."""

    name: str
    folder: str
    rows: Mapping[tuple[str, str], tuple[str, ...]]  # by transport and mode
    remarks: Mapping[str, str]  # by transport, mode, or both: how it is served, or why there is no such row

    def remark(self, transport: str, mode: str) -> str:
        keys = (f"{transport} {mode}", transport, mode)
        return next((self.remarks[key] for key in keys if key in self.remarks), "")


def every(
    *transports: str, modes: tuple[str, ...] = MODES, does: tuple[str, ...] = DOES
) -> dict[tuple[str, str], tuple[str, ...]]:
    return {(transport, mode): does for transport in transports for mode in modes}


SIPP_HAS_NO_TLS = "Debian 12's has none, Debian 13's cannot send over it"
NO_WEBSOCKETS = {"WS": "has no WebSockets", "WSS": "has no WebSockets"}
BROWSER = {
    **dict.fromkeys(("UDP", "TCP", "TLS"), "a browser has WebSockets alone"),
    "redirect": "by forwarding: a browser follows no 302",
}
NO_NAME = "by forwarding: no certificate is for an address"
SOFT_PHONE = {"TLS redirect": NO_NAME, **NO_WEBSOCKETS}
GATEWAY = ("calls", "is called", "media", "hangs up")
CLIENTS = (
    Client(
        name="SIPp",
        folder="sip",
        rows=every("UDP", "TCP"),
        remarks={"redirect": "follows the 302", "TLS": SIPP_HAS_NO_TLS, **NO_WEBSOCKETS},
    ),
    Client(
        name="SIPp, no 302",
        folder="sip",
        rows=every("UDP", "TCP"),
        remarks={"redirect": "by forwarding, when it comes back", "TLS": SIPP_HAS_NO_TLS, **NO_WEBSOCKETS},
    ),
    Client(
        name="Asterisk",
        folder="sip",
        rows=every("UDP", "TCP", "TLS", does=GATEWAY),
        remarks={"redirect": "follows the 302", "TLS redirect": NO_NAME, **NO_WEBSOCKETS},
    ),
    Client(
        name="ooh323",
        folder="sip",
        rows=every("UDP", does=GATEWAY),
        remarks={
            "redirect": "follows the 302",
            **dict.fromkeys(("TCP", "TLS"), "H.323 is its other side, this one is Asterisk's"),
            **NO_WEBSOCKETS,
        },
    ),
    Client(
        name="baresip",
        folder="networks",
        rows=every("UDP", "TCP", "TLS"),
        remarks={**SOFT_PHONE, "redirect": "follows the 302 to INVITE; its REGISTER is forwarded by a rule"},
    ),
    Client(
        name="linphone",
        folder="networks",
        rows=every("UDP", "TCP", "TLS"),
        remarks={**SOFT_PHONE, "redirect": "follows the 302 to REGISTER and to INVITE"},
    ),
    Client(name="Chromium", folder="networks", rows=every("WS", "WSS"), remarks=BROWSER),
)


class Table:
    """A pytest plugin, for the run of one folder."""

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._shown: dict[Row, set[str]] = defaultdict(set)
        self._clients = [client for client in CLIENTS if client.folder == folder.name]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" and report.passed:
            for mark in item.iter_markers("client"):
                for row, does in _shown_by(item, mark):
                    self._shown[row].update(does)
        return report

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """A slip of the pen in a mark is found before the tests run."""
        rows = {(client.name, *key) for client in self._clients for key in client.rows}
        for item in items:
            for mark in item.iter_markers("client"):
                for row, does in _shown_by(item, mark):
                    if (self._folder in item.path.parents and row not in rows) or not set(does) <= set(DOES):
                        raise pytest.UsageError(f"{item.nodeid}: {row} {does}: not in tests/tools/clients/table.py")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self._whole:
            return
        cache, again = self._config.cache, self._config.option.lf
        assert cache is not None
        for row, does in cache.get(SHOWN, []) if again else []:
            self._shown[Row(*row)].update(does)
        cache.set(SHOWN, [(row, sorted(does)) for row, does in self._shown.items()])
        if session.exitstatus == pytest.ExitCode.OK and any(self._missing(client) for client in self._clients):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._whole or self._shown:
            terminalreporter.section("clients")
            for client in self._clients:
                for line, missing in self._lines(client):
                    terminalreporter.write_line(line, red=missing)

    @property
    def _whole(self) -> bool:
        """All tests of the folder were asked for."""
        options = self._config.option
        some = options.keyword or options.markexpr or options.deselect or options.collectonly
        asked = [Path(argument).resolve() for argument in self._config.args]
        return not some and any(path in (self._folder, *self._folder.parents) for path in asked)

    def _missing(self, client: Client) -> bool:
        return any(missing for _, missing in self._lines(client))

    def _lines(self, client: Client) -> Iterator[tuple[str, bool]]:
        """One for each transport and mode, none left out; and whether it lacks something."""
        for transport, mode in itertools.product(TRANSPORTS, MODES):
            expected, remark = client.rows.get((transport, mode), ()), client.remark(transport, mode)
            assert expected or remark, f"{client.name}: {transport} in mode {mode} has neither a row nor a reason"
            shown = self._shown[Row(client.name, transport, mode)]
            if not self._whole and not shown:
                continue
            lacking = [what for what in expected if what not in shown]
            said = [", ".join(what for what in DOES if what in shown) or "-", f"({remark})" if remark else ""]
            said += [f"NOT SHOWN: {', '.join(lacking)}"] if lacking else []
            yield f"{client.name:12} {transport:4} {mode:9} {' '.join(filter(None, said))}", bool(lacking)


def register(config: pytest.Config, folder: Path) -> None:
    """For that folder's conftest."""
    config.pluginmanager.register(Table(config, folder), f"clients in {folder.name}")


def _shown_by(item: pytest.Item, mark: pytest.Mark) -> Iterator[tuple[Row, tuple[str, ...]]]:
    """What the mark does not say is the test's parameter."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    kind = mark.args[0] if mark.args else parameters["kind"]
    client = kind if isinstance(kind, str) else kind.__name__.lower()
    transports = mark.kwargs.get("transport") or (parameters.get("protocol") or parameters["transport"]).upper()
    mode = mark.kwargs.get("mode") or parameters.get("mode", "forward")
    for transport in (transports,) if isinstance(transports, str) else transports:
        yield Row(client, transport, mode), mark.kwargs["does"]
