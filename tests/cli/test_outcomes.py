"""What a run prints of the rows of a stage."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from curation.cli.outcomes import OutcomePrinter
from curation.engine.table import open_table
from curation.store.store import Store
from curation.terminal import Terminal

from .conftest import World


@pytest.mark.parametrize(
    ("table", "column", "passing"), [("images", "status", "ok"), ("eligible", "status", "eligible")]
)
def test_only_rows_that_are_dropped_have_a_reason(
    base: World, table: str, column: str, passing: str
) -> None:
    opened = open_table(Store(base.store), table)
    out = io.StringIO()
    result = SimpleNamespace(manifests=[opened.manifest])
    OutcomePrinter(Terminal(file=out), with_rows=False).step_ended(result)  # type: ignore[arg-type]
    rows = [line.split()[:2] for line in out.getvalue().splitlines()]
    statuses = opened.read([column]).column(column).to_pylist()
    assert sum(int(count.replace(",", "")) for count, _ in rows) == sum(
        status != passing for status in statuses
    )
    assert passing in statuses
