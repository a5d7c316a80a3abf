"""Pins each stage, registry member and contract to its version.

`python -m tests.pins` writes them anew; with `--check` it only prints what changed, and fails if
something did.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from curation.engine.contract import Contract, contracts
from curation.engine.params_base import StrictModel, has_mark, manifest_params
from curation.engine.registry import Entry, Registry
from curation.engine.stage import Stage
from curation.flow import STAGES
from scripts.closure import Code, Node, definitions, named

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "tests" / "pins.json"

Pins = dict[str, dict[str, dict[str, Any]]]
"""By kind and name: the version, and digests of what must not change without it."""


def stage_pins(code: Code) -> dict[str, dict[str, Any]]:
    """Return for each stage its version, the code that decides its rows, and its defaults."""
    return {
        name: {
            "version": stage.version,
            "code": code.digest(stage_roots(stage)),
            "defaults": _digest(defaults(stage.params)),
            "fields": sorted(defaults(stage.params)),
        }
        for name, stage in STAGES.items()
    }


def stage_roots(stage: Stage[Any]) -> list[Node]:
    """Return the function of a stage, what cuts its work into units, and its parameters."""
    paths = [stage.function, *([stage.units] if stage.units else [])]
    params = stage.params.__module__, stage.params.__name__
    return [*(named(path.path) for path in paths), params]


def defaults(model: type[BaseModel], place: str = "") -> dict[str, Any]:
    """Return the default of every field that decides rows, by its place."""
    by_place: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if has_mark(model, name, "execution_only"):
            continue
        here = f"{place}{name}"
        value = None if info.is_required() else info.get_default(call_default_factory=True)
        by_place[here] = "required" if info.is_required() else _plain(value)
    return by_place


def _plain(value: Any) -> Any:
    if isinstance(value, StrictModel):
        return manifest_params(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def member_pins(code: Code) -> dict[str, dict[str, Any]]:
    """Return for each member of a registry its version, and what decides what it gives."""
    pins = {}
    for module, name in sorted(code.registries):
        registry: Registry[Entry] = getattr(import_module(module), name)
        for member, entry in registry.items() if not registry.same_results else ():
            module_name = registry.module_of(member)
            roots = definitions(code, module_name) if module_name in code.modules else []
            pins[f"{registry.noun} {member}"] = {
                "version": entry.version,
                "code": code.digest(roots),
                "entry": _digest(_decisive(entry)),
            }
    return pins


def _decisive(entry: Entry) -> dict[str, Any]:
    """Return the fields of an entry without its version, its place, and what people read."""
    read = {field.name for field in fields(entry) if "display" in field.metadata}
    return {k: v for k, v in vars(entry).items() if k not in read | {"version", "module"}}


def contract_pins() -> dict[str, dict[str, Any]]:
    """Return for each contract its version, and its columns without their documentation."""
    return {
        name: {"version": terms.version, "columns": _digest(_terms(terms))}
        for name, terms in contracts().items()
    }


def _terms(terms: Contract) -> list[Any]:
    columns = [{**vars(column), "doc": None, "unit": None} for column in terms.columns]
    return [list(terms.key), terms.aligned, bool(terms.dynamic), columns]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def current_pins(code: Code | None = None) -> Pins:
    """Return all pins as the source has them now."""
    code = code or Code()
    return {
        "stage": stage_pins(code),
        "member": member_pins(code),
        "contract": contract_pins(),
    }


def changes(before: Pins, after: Pins) -> list[str]:
    """Return a line for each thing that is not as it was pinned, and whether its version moved."""
    lines = []
    for kind in after:
        for name in sorted({*before.get(kind, {}), *after[kind]}):
            old, new = before.get(kind, {}).get(name), after[kind].get(name)
            if old == new:
                continue
            if old is None or new is None:
                lines.append(f"{kind} {name}: {'new' if old is None else 'gone'}")
                continue
            what = [part for part in new if part != "version" and old.get(part) != new[part]]
            moved = old["version"] != new["version"]
            version = (
                f"version {old['version']} → {new['version']}"
                if moved
                else f"version {new['version']} not raised"
            )
            lines.append(
                f"{kind} {name}: {' and '.join(what) or 'nothing else'} changed, {version}"
            )
    return lines


def main(arguments: list[str]) -> int:
    """Print what changed; write the pins anew, or with `--check` return 1 where something changed."""
    if unknown := {*arguments} - {"--check"}:
        print(f"unknown: {', '.join(sorted(unknown))}; valid is --check", file=sys.stderr)
        return 2
    before = json.loads(PINS.read_text()) if PINS.is_file() else {}
    after = current_pins()
    lines = changes(before, after)
    if "--check" not in arguments:
        # First, because whoever reads the lines may stop reading: `head` does.
        PINS.write_text(json.dumps(after, indent=1) + "\n")
    print("\n".join(lines), end="\n" if lines else "")
    return int(bool(lines)) if "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
