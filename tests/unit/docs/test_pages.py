"""What the documentation says of the repository is so: its links lead somewhere, the tests it names exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from switchboard.pool.parse import parse

ROOT = Path(__file__).resolve().parents[3]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *(page for part in ("docs", "e2e", "helm", "manifests", "proxy") for page in sorted((ROOT / part).rglob("*.md"))),
]
KINDS = [page for part in ("clients", "gateways") for page in sorted((ROOT / "docs" / part).glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TEST = re.compile(r"`(tests/[\w/.]+\.py|e2e/kind/[\w/.]+\.py)(?:::(\w+))?`")


def anchors(page: Path) -> set[str]:
    """The headings of a page, as a browser of the repository names them."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every link within the repository names a file that is there, and a heading of it."""
    for link in LINK.findall(page.read_text()):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.relative_to(ROOT)} links to {link}, which is not there"
        assert not anchor or anchor in anchors(file), f"{page.relative_to(ROOT)}: no heading #{anchor} in {file.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_tests_exist(page: Path) -> None:
    """A test that a page gives as its evidence is in the file it names."""
    for name, function in TEST.findall(page.read_text()):
        file = ROOT / name
        assert file.exists(), f"{page.relative_to(ROOT)} names {name}, which is not there"
        if function:
            defined = {node.name for node in ast.walk(ast.parse(file.read_text())) if hasattr(node, "name")}
            assert function in defined, f"{page.relative_to(ROOT)}: no {function} in {name}"


@pytest.mark.parametrize("page", KINDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_kind_has_a_pool(page: Path) -> None:
    """The page of a kind of client or gateway has a whole pool, which the operator understands, and names its tests."""
    text = page.read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    whole = [part for part in map(yaml.safe_load, blocks) if "kind" in part]
    assert len(whole) == 1
    spec = parse(whole[0])
    assert page.parent.name == "clients" or page.stem in {gateway.kind for gateway in spec.gateways}
    assert TEST.search(text.partition("Shown by")[2])


def reasons() -> Iterator[str]:
    """What conditions, refused specs and Events give as their reason."""
    given = re.compile(r"""(?:\b(?:Note|SpecError|Problem)\(\s*|\byield |\.append\(\()"(\w+)",""")
    for file in (ROOT / "operator" / "switchboard").rglob("*.py"):
        text = file.read_text()
        yield from given.findall(text)
        if file.name == "conditions.py":
            yield from re.findall(r'"((?:[A-Z][a-z]+){2,})"', text)


def test_every_reason_is_explained() -> None:
    """Whatever a condition, a refused spec or an Event can say stands in the page about operating a pool."""
    page = (ROOT / "docs" / "operating.md").read_text()
    known = set(reasons())
    assert {"PoolReady", "SpecRejected", "OverlappingGateways", "ReconcileFailed"} <= known
    assert not (missing := {reason for reason in known if not re.search(rf"\b{reason}\b", page)}), missing
