"""The page of every table: its contract, and the stages that write and read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from curation.engine.contract import Column, Contract, contracts
from curation.flow import STAGES
from scripts.reference.markdown import GENERATED, code, codes, heading, page, table


def tables_page() -> str:
    """Return the page of every table's contract, and of the stages that write and read it."""
    return page(
        "Tables",
        GENERATED,
        "Each table has a contract in `schemas/`. The Arrow schema follows from it, and every write is "
        "checked against it. A table that is *aligned* has the same rows in the "
        "same order as the tables that it is aligned with, fragment by fragment.",
        *(block for terms in contracts().values() for block in _table_section(terms)),
    )


def _table_section(terms: Contract) -> Iterator[str]:
    name = terms.table
    writers = [stage.name for stage in STAGES.values() if stage.contract == name]
    readers = [s.name for s in STAGES.values() if name in {read.argument for read in s.reads}]
    yield heading(2, code(name), f"table-{name}")
    facts = [f"**One row:** {terms.grain}.", f"**Key:** {codes(terms.key)}."]
    facts += [f"**Written by:** {codes(writers)}.", f"**Read by:** {codes(readers) or 'no stage'}."]
    facts += [f"**Version:** {terms.version}" + (", aligned." if terms.aligned else ".")]
    facts += [f"**Further columns:** {terms.dynamic}."] if terms.dynamic else []
    yield "  \n".join(facts)
    columns = ("column", "type", "null", "unit", "description", "checks")
    yield table(columns, map(_column, terms.columns))


def _column(column: Column) -> list[str]:
    checks = [f"one of {codes(column.values)}"] if column.values else []
    checks += [f"≥ {column.low:g}"] if column.low is not None else []
    checks += [f"≤ {column.high:g}"] if column.high is not None else []
    null = "yes" if column.nullable else "no"
    null = "may be absent" if column.optional else null
    return [
        code(column.name),
        _column_type(column.type),
        null,
        column.unit,
        column.doc,
        ", ".join(checks),
    ]


def _column_type(declared: Any) -> str:
    if isinstance(declared, str):
        return declared
    if "list" in declared:
        return f"list of {_column_type(declared['list'])}"
    return "struct of " + ", ".join(
        f"{n}: {_column_type(t)}" for n, t in declared["struct"].items()
    )
