"""A tiny plan of real steps: a map stage, a global one with work tables and states, and a dataset.

Rows depend on the recipe's seed and on what the source holds when they are made, so a table that mixes
two recipes or two contents of the source shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.params_base import StrictModel
from curation.engine.stage import FunctionPath, Read, Stage
from curation.engine.table import Table
from curation.engine.table_name import TableName
from curation.engine.units import StageOutput
from curation.flow import Step
from curation.store.digest import digest
from curation.store.fragment import Fragment
from curation.store.work_folder import WorkFolder

PARTS = {"part-0": 2, "part-1": 1}
"""The fragments, with their numbers of rows."""


class Params(StrictModel):
    """Parameters of all three stages."""

    seed: int


class FolderGoneError(Exception):
    """Somebody deleted the work folder of an attempt that is going on."""


class SimulatedStage(Stage[Params]):
    """A stage whose function is in this module."""

    @property
    def function(self) -> FunctionPath:
        """See `Stage.function`."""
        return FunctionPath(f"{__name__}:{self.name}")


def mark(seed: int, source: int) -> str:
    """What all rows of a run say."""
    return f"{seed}-{source}"


def ids(part: str) -> list[str]:
    """The pairs of a fragment."""
    return [f"{part}-{row}" for row in range(PARTS[part])]


def _batch(table: str, rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=contract(table).arrow_schema())


def read_units(params: Params, context: Context) -> dict[str, dict[str, Any]]:
    """Units of the first stage: they read the source as it is now."""
    source = context.store.storage.server.source  # type: ignore[attr-defined]
    return {part: {"part": part, "source": source} for part in PARTS}


def read(part: str, source: int, params: Params, workdir: WorkFolder) -> StageOutput:
    """Write eligible pairs, and a file of unfinished work on the way."""
    storage = workdir.store.storage
    for folder in workdir.earlier():
        storage.files(folder)
    storage.write(f"{workdir.attempt}/half", part.encode())
    values = {"role": "pool", "source": mark(params.seed, source), "status": "eligible"}
    yield _batch("eligible", [values | {"pair_id": pair} for pair in ids(part)])
    if storage.read(f"{workdir.attempt}/half") is None:
        raise FolderGoneError
    return {}


def _copy(fragment: Fragment) -> StageOutput:
    yield fragment.read(["pair_id", "source"]).combine_chunks().to_batches()[0]
    return {}


def group(eligible: Table, params: Params, context: Context) -> Iterator[Any]:
    """Write assignments, by way of work tables of both kinds and of a state."""
    items = {name: {"fragment": fragment} for name, fragment in eligible.fragments.items()}
    context.compute("shared", _copy, items)
    private = context.private().compute("private", _copy, items)
    state = context.load_state("rounds", eligible)
    done = 0 if state is None else state.read().column("done")[0].as_py()
    for number in range(done, 2):
        context.save_state("rounds", eligible, pa.RecordBatch.from_pydict({"done": [number + 1]}))
    for name, table in private.items():
        rows = table.read().to_pylist()
        # The columns of the contract are few, so the mark goes where an id of an image would be.
        made = [{"pair_id": r["pair_id"], "image_id": r["source"], "cluster_id": 0} for r in rows]
        yield name, _batch("assignments", made)
    context.delete_tables(private.values())


def pack_units(
    assignments: Table, params: Params, context: Context
) -> dict[str, dict[str, Fragment]]:
    """Units of the last stage."""
    return {name: {"part": fragment} for name, fragment in assignments.fragments.items()}


def pack(part: Fragment, params: Params) -> StageOutput:
    """Write the dataset, a file for each row."""
    values = {"role": "pool", "width": 1, "height": 1, "sha256": "", "weight": 1, "claims": []}
    rows = part.read().to_pylist()
    yield _batch(
        "dataset",
        [
            values
            | {"image_id": r["pair_id"], "pair_id": r["pair_id"]}
            | {"source": r["image_id"], "run": str(params.seed)}
            for r in rows
        ],
    )
    return {}


def _module(name: str) -> FunctionPath:
    return FunctionPath(f"{__name__}:{name}")


STAGES = (
    SimulatedStage(
        1, "read", "map", Params, "eligible", work_folder=True, units=_module("read_units")
    ),
    SimulatedStage(2, "group", "global", Params, "assignments", (Read("eligible"),)),
    SimulatedStage(
        3,
        "pack",
        "map",
        Params,
        "dataset",
        (Read("assignments"),),
        rows_per_file=lambda params: 1,
        units=_module("pack_units"),
    ),
)
TABLES = tuple(str(stage.writes) for stage in STAGES)
MARKED = {"eligible": "source", "assignments": "image_id", "dataset": "source"}
"""The column of each table that holds the mark of its rows."""


def steps_of(seed: int) -> list[Step]:
    """The plan of the recipe with a seed."""
    params, steps = Params(seed=seed), []
    writers: dict[str, str] = {}
    for stage in STAGES:
        fingerprint = digest([stage.name, seed])
        tables = (TableName(str(stage.writes)),)
        reads = {read.argument: (TableName(read.argument),) for read in stage.reads}
        inputs = {name: writers[name] for name in reads}
        recipe = f"recipe-{seed}"
        steps.append(
            Step(stage, params, tables, reads, inputs, (), fingerprint, (), recipe, f"run-{seed}")
        )
        writers[tables[0]] = fingerprint
    return steps


def expected_pairs() -> list[str]:
    """The ids of every table of a run, sorted."""
    return sorted(pair for part in PARTS for pair in ids(part))


def check_rows(table: str, rows: pa.Table) -> str:
    """Check that a table is whole and of one piece; return its mark."""
    columns: Mapping[str, list[Any]] = rows.to_pydict()
    assert sorted(columns["pair_id"]) == expected_pairs(), f"{table} is not whole: {columns}"
    marks = set(columns[MARKED[table]])
    assert len(marks) == 1, f"{table} mixes {marks}"
    return str(marks.pop())
