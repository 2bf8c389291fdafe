"""Writes docs/reference.md, every field of VoipProxyPool, from the definition in crds/.

scripts/reference.py            # write it
scripts/reference.py --check    # exit 1 when it is out of date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
DEFINITION = ROOT / "crds" / "voipproxypools.switchboard.dev.yaml"
PAGE = ROOT / "docs" / "reference.md"

HEAD = """# Every field of a VoipProxyPool

<!-- Made by scripts/reference.py from crds/. Change the descriptions there. -->

`apiVersion: {group}/{version}`, `kind: {kind}`, short name `{short}`. In a cluster: `kubectl explain {short}.spec`.
A field in **bold** is required. A wrong value is refused when it is applied, with the field's name and what is allowed.
"""


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, bool, dict[str, Any]]]:
    """Each field below `schema`, depth first: path (`listen[].port`), whether it is required, its own schema."""
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield here, name in schema.get("required", ()), field
        yield from fields(field, here)
        yield from fields(field.get("items", {}), f"{here}[]")


def kind_of(schema: dict[str, Any]) -> str:
    """The type, as a reader of YAML says it."""
    if "items" in schema:
        return f"list of {kind_of(schema['items'])}s"
    return "integer or string" if schema.get("x-kubernetes-int-or-string") else str(schema["type"])


def allowed(schema: dict[str, Any]) -> str:
    """What the API server checks: bounds, words, and the rules by their own messages."""
    schema = {**schema.get("items", {}), **schema} if "items" in schema else schema
    said = []
    if "enum" in schema:
        said.append(", ".join(f"`{word}`" for word in schema["enum"]))
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None or high is not None:
        said.append(f"from {low} to {high}" if high is not None else f"{low} or more")
    rules = [*schema.get("x-kubernetes-validations", ()), *schema.get("items", {}).get("x-kubernetes-validations", ())]
    unique = {re.sub(r"^\w+ must be ", "", rule["message"]): None for rule in rules}
    return "; ".join([*said, *unique])


def default(value: object) -> str:
    """A default in one line of YAML."""
    if value == "":
        return '`""`'
    return f"`{yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix('...' + chr(10)).strip()}`"


def row(*cells: str) -> str:
    """One line of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def asked(schema: dict[str, Any]) -> Iterator[str]:
    """The rows of what a user writes."""
    yield row("field", "type", "default", "what it is", "allowed")
    yield row(*["---"] * 5)
    for path, required, field in fields(schema):
        name = f"**`{path}`**" if required else f"`{path}`"
        shown = default(field["default"]) if field.get("default") not in (None, {}) else ""
        yield row(name, kind_of(field), shown, field.get("description", ""), allowed(field))


def told(schema: dict[str, Any]) -> Iterator[str]:
    """The rows of what the operator writes."""
    yield row("field", "type", "what it is")
    yield row(*["---"] * 3)
    for path, _, field in fields(schema):
        yield row(f"`{path}`", kind_of(field), field.get("description", ""))


def page() -> str:
    """The whole page."""
    spec = yaml.safe_load(DEFINITION.read_text())["spec"]
    [version] = spec["versions"]
    root = version["schema"]["openAPIV3Schema"]["properties"]
    columns = version["additionalPrinterColumns"]
    names = spec["names"]
    head = HEAD.format(group=spec["group"], version=version["name"], kind=names["kind"], short=names["shortNames"][0])
    lines = [head, "## spec", "", *asked(root["spec"]), "", "## status", "", *told(root["status"]), ""]
    lines += ["## Columns of `kubectl get`", "", "Those marked wide are shown with `-o wide`.", ""]
    lines += [row("column", "", "what it is"), row(*["---"] * 3)]
    for column in columns:
        wide = "wide" if column.get("priority") else ""
        lines.append(row(column["name"], wide, column.get("description", f"`{column['jsonPath']}`")))
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    if sys.argv[1:] == ["--check"]:
        if not PAGE.exists() or PAGE.read_text() != page():
            sys.exit("docs/reference.md is not what crds/ says: run .venv/bin/python scripts/reference.py")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        PAGE.write_text(page())


if __name__ == "__main__":
    main()
