"""The page of what a recipe chooses by name."""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib.util import find_spec
from inspect import getdoc
from pathlib import Path
from typing import Any

from curation.algorithms.kmeans.backends import BACKENDS
from curation.engine.params_base import key_of
from curation.engine.registry import Registry
from curation.inspect.audit.edits import EDITS
from curation.media.encoders import ENCODERS
from curation.media.encoders.params import EncoderSpec
from curation.stages.fetch.detectors import DETECTORS
from curation.stages.ingest.sources import FORMATS
from curation.stages.ingest.sources.presets import PRESETS
from curation.stages.retrieve.strategies import STRATEGIES
from curation.stages.retrieve.strategies.arm import Arm
from curation.stages.score.heads import HEADS
from curation.stages.screen.filters import DEFAULT_FILTERS, FILTERS
from scripts.reference.markdown import GENERATED, code, codes, heading, page, table


def registries_page() -> str:
    """Return the page of what a recipe chooses by name."""
    sections: dict[str, tuple[str, Callable[[], str]]] = {
        "Filters": ("Named in `screen.filters`; thresholds stand under `select`.", _filters),
        "Heads": ("Named as `kind` under `score.heads`.", _heads),
        "Encoder families": ("The first part of `model` under `embed.encoders`.", _encoders),
        "Strategies": ("Named as `strategy` in an entry of `retrieve`.", _strategies),
        "Formats": ("Named as `format` of a source.", _formats),
        "Published lists": (
            "Named as `format` of a source: a format with its columns mapped.",
            _presets,
        ),
        "Face detectors": ("Named as `fetch.faces.detector`.", _detectors),
        "k-means back ends": ("Named as `cluster.backend`; all give the same clusters.", _backends),
        "Audit edits": ("The edited copies that `curation audit dedup` makes.", _edits),
    }
    blocks = (
        block
        for title, (text, make) in sections.items()
        for block in (heading(2, title, title.lower().replace(" ", "-")), text, make())
    )
    lead = "What a recipe chooses by name. [Extending](../extending.md) says how to add to each."
    return page("Registries", GENERATED, lead, *blocks)


def _module_doc(registry: Registry[Any], name: str) -> str:
    """Return the first paragraph of the docstring of a member's module, which is not imported."""
    spec = find_spec(registry.module_of(name).partition(":")[0])
    assert spec is not None and spec.origin is not None
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return (text or "").partition("\n\n")[0]


def _filters() -> str:
    rows = []
    for name in FILTERS:
        one = FILTERS.load(name).FILTER
        default = "yes" if name in DEFAULT_FILTERS else "no"
        rows.append([code(name), one.doc, one.unit, one.type, one.usual, default])
    return table(("filter", "score", "unit", "type", "usual threshold", "on by default"), rows)


def _heads() -> str:
    rows = [
        [code(n), _module_doc(HEADS, n), codes(e.needs), codes((*e.takes, *e.options))]
        for n, e in HEADS.items()
    ]
    return table(("kind", "score", "needs", "may have"), rows)


def _encoders() -> str:
    rows = []
    for name, entry in ENCODERS.items():
        needs = [key_of(EncoderSpec, field) for field, _ in entry.needs]
        needs += ["sha256"] * entry.program
        text = "yes" if entry.text else ""
        weights = "in the package" if entry.packaged else ""
        takes = codes((*entry.takes, *entry.options))
        rows.append(
            [
                code(name),
                _module_doc(ENCODERS, name),
                entry.model,
                codes(needs),
                takes,
                text,
                weights,
            ]
        )
    columns = ("family", "what", "form of `model`", "needs", "may have", "text tower", "weights")
    return table(columns, rows)


def _strategies() -> str:
    rows = []
    for name, entry in STRATEGIES.items():
        arm = STRATEGIES.load(name).StrategyArm
        expected = (getdoc(arm.expected) or "").partition("\n\n")[0].removeprefix("Return ")
        if arm.expected is Arm.expected:
            expected = "unknown before a run"
        link = f"[{code(name)}](recipe.md#strategy-{name})"
        rows.append([link, _module_doc(STRATEGIES, name), expected, entry.grouped_by])
    return table(("strategy", "what", "what a plan expects", "contact sheets by"), rows)


def _formats() -> str:
    rows = []
    for name, entry in FORMATS.items():
        maps = (
            "url, image or path, and more"
            if entry.optional_columns is None
            else ", ".join(entry.optional_columns)
        )
        endings = codes(end for end in entry.endings if end.count(".") == 1)
        rows.append([code(name), _module_doc(FORMATS, name), endings, maps or "nothing"])
    return table(("format", "what", "file endings", "`columns` may map"), rows)


def _presets() -> str:
    rows = []
    for name, preset in PRESETS.items():
        columns = "; ".join(f"{what}: {codes(names)}" for what, names in preset.columns.items())
        rows.append([code(name), preset.doc, code(preset.reader), columns])
    return table(("format", "what", "read as", "columns"), rows)


def _detectors() -> str:
    rows = [
        [code(n), _module_doc(DETECTORS, n), "a file" if e.weights else "part of OpenCV"]
        for n, e in DETECTORS.items()
    ]
    return table(("detector", "what", "weights"), rows)


def _backends() -> str:
    return table(("back end", "what"), [[code(n), _module_doc(BACKENDS, n)] for n in BACKENDS])


def _edits() -> str:
    return table(
        ("edit", "strength"), [[code(name), edit.strength] for name, edit in EDITS.items()]
    )
