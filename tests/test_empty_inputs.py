"""The helper of tests that commits what a stage reads: every table of every stage, as contracts say."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.engine.contract import contract
from curation.engine.table import open_table
from curation.engine.table_name import Family
from curation.flow import STAGES
from curation.store.store import Store

from .tables import commit, commit_empty_inputs

ROWS = {
    "web-0": [
        {"pair_id": f"p{n}", "image_id": f"i{n}", "role": "pool", "source": "web", "status": "ok"}
        for n in range(3)
    ],
    "web-1": [],
}


@pytest.mark.parametrize("stage", STAGES)
def test_every_table_that_a_stage_reads_is_there(tmp_path: Path, stage: str) -> None:
    store = Store(tmp_path)
    commit_empty_inputs(store, [stage], ROWS)
    for read in STAGES[stage].reads:
        place = read.table
        table = open_table(store, place.table("semantic") if isinstance(place, Family) else place)
        assert list(table.fragments) == list(ROWS)
        expected = ["p0", "p1", "p2"] if contract(read.argument).aligned else []
        if "pair_id" in contract(read.argument).names:
            assert table.read(["pair_id"])["pair_id"].to_pylist() == expected


def test_tables_that_are_there_or_that_a_stage_writes_are_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit(store, "images", {"web-0": ROWS["web-0"]})
    commit_empty_inputs(store, ["tally", "select"], ROWS)
    assert list(open_table(store, "images").fragments) == ["web-0"]
    assert "tallies" not in store.tables()
    assert {"copies", "scores", "head_scores", "embeddings.semantic"} <= set(store.tables())
