"""Rows that are taken down while a notebook has the store open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import curation
from curation.inspect.api.store import OpenStore
from curation.inspect.api.table import StoredTable
from curation.store.store import Store

from ..takedown.helpers import forget, url_of
from .conftest import Made

READS: dict[str, Callable[[StoredTable], Any]] = {
    "arrow": lambda table: table.arrow().to_pylist(),
    "pandas": lambda table: table.pandas().to_dict("records"),
    "polars": lambda table: table.polars().to_dicts(),
    "duckdb": lambda table: table.duckdb().fetchall(),
    "batches": lambda table: [row for batch in table.batches() for row in batch.to_pylist()],
    "head": lambda table: table.head(100).to_pylist(),
}
QUERIES: dict[str, Callable[[OpenStore], Any]] = {
    "sql": lambda store: store.sql("SELECT * FROM pairs").fetchall(),
    "opened again": lambda store: store.table("pairs").arrow().to_pylist(),
    "page": lambda store: store.table("pairs")._repr_html_(),
}


@pytest.mark.parametrize("first", [pytest.param(False, marks=pytest.mark.nightly), True])
def test_no_reader_gets_them_from_then_on(own: Made, first: bool) -> None:
    with curation.open(own.store) as store:
        table = store.table("pairs")
        if first:
            # Other rows were taken down before, so there are views that leave those out.
            forget(Store(own.store), urls=[url_of("p0")])
        for read in READS.values():
            assert url_of("p3") in str(read(table))
        for query in QUERIES.values():
            assert url_of("p3") in str(query(store))
        before = len(store.vectors("semantic").pair_ids)
        forget(Store(own.store), urls=[url_of("p3")])
        for name, read in READS.items():
            assert url_of("p3") not in str(read(table)), name
        for name, query in QUERIES.items():
            assert url_of("p3") not in str(query(store)), name
        assert len(store.vectors("semantic").pair_ids) == before - 1
