"""No field that is marked `execution_only` changes rows."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from curation.engine.parallel import InProcess
from curation.engine.params_base import StrictModel, has_mark
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.recipe.model import Recipe
from curation.runner.step import run_step
from curation.stages.retrieve.strategies import STRATEGIES
from curation.store.digest import digest
from curation.store.store import Store
from tests.e2e.small import build_small
from tests.ingest.helpers import table

CHANGES: dict[str, tuple[str, Any]] = {
    "IngestParams.rows_per_fragment": ("ingest.rows_per_fragment", 40),
    "Source.count": ("sources.0.count", 1000),
    "DedupParams.rows_at_once": ("dedup.rows_at_once", 10),
    "ClusterParams.memory_gib": ("cluster.memory_gib", 0.0),
    "AssignParams.assign_gib": ("cluster.assign_gib", 1e-9),
    "BlockParams.block_gib": ("match.block_gib", 1e-5),
    "NearestParams.backend": ("cluster.backend", "faiss"),
    "StrategyArm.expected_clusters": ("retrieve.3.expected_clusters", 2),
    "AssembleParams.rows_per_file": ("assemble.rows_per_file", 3),
    "AssembleParams.bytes_per_file": ("assemble.bytes_per_file", 5_000),
}
"""The marked fields: where they stand in a recipe, and another value than the one of the test."""
ELSEWHERE = {
    "OutboundParams.contact": "tests/fetch/test_content_decides.py",
    "FetchParams.per_host": "tests/fetch/test_content_decides.py",
    "FetchParams.concurrency": "tests/fetch/test_content_decides.py",
    "FetchParams.fail_over": "tests/fetch/test_retry.py",
    "FetchParams.retry_after_h": "tests/fetch/test_retry.py",
    "SearchParams.refine": "tests/match/test_match.py",
    "EncoderSpec.sha256": "a wrong one is refused",
    "HeadSpec.sha256": "a wrong one is refused",
    "FaceParams.sha256": "a wrong one is refused",
    "EncoderSpec.weights_from": "tests/embed/test_weights.py",
    "HeadSpec.weights_from": "tests/embed/test_weights.py",
    "FaceParams.weights_from": "tests/test_weights.py",
}
POSITIONS = {"lists": {"row"}}
"""Columns that say where a row is in a fragment."""


def marked_fields(model: type[StrictModel], seen: set[type]) -> Iterator[str]:
    """Yield the marked fields of a model and of the models within it, by class and name."""
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        if has_mark(model, name, "execution_only"):
            owner = next(
                c for c in reversed(model.__mro__) if name in getattr(c, "model_fields", {})
            )
            yield f"{owner.__name__}.{name}"
        for kind in _models(field.annotation):
            yield from marked_fields(kind, seen)


def _models(annotation: Any) -> Iterator[type[StrictModel]]:
    if isinstance(annotation, type) and issubclass(annotation, StrictModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def test_every_marked_field_is_tried() -> None:
    arms = [STRATEGIES.load(name).StrategyArm for name in STRATEGIES]
    marked = {field for model in (Recipe, *arms) for field in marked_fields(model, set())}
    assert marked == CHANGES.keys() | ELSEWHERE.keys()


def test_a_marked_field_changes_no_step(tmp_path: Path) -> None:
    """Otherwise the stages from there on would run again, also for what only plans read of an arm."""
    spec = build_small(tmp_path)
    before = [step.fingerprint for step in plan(parse_recipe(spec))]
    for field in CHANGES:
        after = [step.fingerprint for step in plan(parse_recipe(changed(spec, [field])))]
        assert after == before, field


def changed(spec: dict[str, Any], fields: list[str]) -> dict[str, Any]:
    """Return a recipe with other values in some marked fields."""
    spec = copy.deepcopy(spec)
    for field in fields:
        place, value = CHANGES[field]
        *path, last = place.split(".")
        block: Any = spec
        for part in path:
            block = block[int(part)] if part.isdigit() else block.setdefault(part, {})
        block[last] = value
    return spec


def contents(store: Path, spec: dict[str, Any]) -> dict[str, Counter[str]]:
    """Run a recipe on a fresh store; return the rows of all tables without their order."""
    steps = plan(parse_recipe(spec))
    for step in steps:
        run_step(step, Store(store), InProcess())
    by_table = {}
    for name in (str(name) for step in steps for name in step.tables):
        rows = table(store, name).read()
        rows = rows.drop_columns(sorted(POSITIONS.get(name, set())))
        by_table[name] = Counter(
            digest([repr(v) for v in row.values()]) for row in rows.to_pylist()
        )
    return by_table


@pytest.fixture(scope="module")
def small(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, Any], dict[str, Counter[str]]]:
    """A recipe, and the rows of its tables."""
    folder = tmp_path_factory.mktemp("small")
    spec = build_small(folder)
    return spec, contents(folder / "store", spec)


Small = tuple[dict[str, Any], dict[str, Counter[str]]]


@pytest.mark.nightly
def test_marked_fields_change_no_row(tmp_path: Path, small: Small) -> None:
    spec, rows = small
    other = contents(tmp_path / "store", changed(spec, list(CHANGES)))
    assert [name for name in rows if other[name] != rows[name]] == []


@pytest.mark.nightly
@pytest.mark.parametrize("field", CHANGES)
def test_a_marked_field_changes_no_row(tmp_path: Path, small: Small, field: str) -> None:
    spec, rows = small
    other = contents(tmp_path / "store", changed(spec, [field]))
    assert [name for name in rows if other[name] != rows[name]] == []
