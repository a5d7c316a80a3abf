"""The command `sql`: one query, or a shell, on the current tables of a store."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain, count
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from rich.table import Table as Grid

from curation.cli.app import INSPECT_PANEL, RecipeName, app, err, out
from curation.cli.completion import complete_run
from curation.cli.errors import print_error
from curation.cli.output_file import as_parquet, whole_file
from curation.errors import CurationError, Detail, RecipeError
from curation.terminal import one_line, start_of

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    import pyarrow.parquet as pq

    from curation.inspect.api.store import OpenStore

MAX_CELL = 200
PRINTED_ROWS = 40
WIDE = ("HUGEINT", "UHUGEINT")
"""Types of whole numbers of 128 bits."""
PROMPT, CONTINUED = "sql> ", "...> "
HELP = """Statements end with a semicolon. Every table of the store is a view: SHOW ALL TABLES lists
them, and DESCRIBE copies lists the columns of one. Vectors are FLOAT[n]:
array_cosine_similarity(a.vector, b.vector). .quit ends the shell."""


QueriedRun = Annotated[
    str | None,
    typer.Option(
        "--run",
        help="Query the tables of this run: a tag, or the beginning of its name.",
        autocompletion=complete_run,
    ),
]


@app.command(rich_help_panel=INSPECT_PANEL)
def sql(
    store: Annotated[str, typer.Argument(metavar="STORE", help="Folder or URI of the store.")],
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="SQL",
            help="The query. Without it, statements are read from the terminal or standard input.",
        ),
    ] = None,
    recipe: RecipeName = None,
    run: QueriedRun = None,
    rows: Annotated[
        int | None,
        typer.Option(
            "--rows",
            "-n",
            min=0,
            help="Number of rows. By default 40 are printed, and all with --json and --out.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the rows as JSON, one object a row.")
    ] = False,
    parquet: Annotated[
        str | None,
        typer.Option(
            "--out",
            help="Parquet file to write the rows to, instead of printing them.",
            callback=as_parquet,
        ),
    ] = None,
) -> None:
    """Query the current tables of a store with SQL (DuckDB), or open a shell for queries."""
    from curation.inspect.api.store import OpenStore

    if as_json and parquet is not None:
        message = "--json prints the rows, and --out writes them to a file instead"
        raise RecipeError(Detail(message, "--out", parquet, fix="Leave one of the two out"))
    if isinstance(sys.stdin, io.TextIOWrapper):
        # Bytes that are not UTF-8 stay, as they do in arguments, and are refused there.
        sys.stdin.reconfigure(errors="surrogateescape")
    is_shell = _is_shell(query)
    if is_shell and (as_json or parquet is not None):
        option = "--json" if as_json else "--out"
        message = "it has no effect in the shell, which opens where no query is given"
        raise RecipeError(Detail(message, option, parquet, fix="Write the query after the store"))
    with OpenStore(store, recipe, run) as opened:
        if is_shell:
            _shell(opened, PRINTED_ROWS if rows is None else rows)
            return
        query = query if query is not None else sys.stdin.read()
        if parquet is None and not as_json:
            _print_each(opened, query, PRINTED_ROWS if rows is None else rows)
            return
        result = opened.sql(query)
        result = result if rows is None else result.limit(rows)
        if parquet is not None:
            _write(result, parquet)
        else:
            _print_json(result)


def _is_shell(query: str | None) -> bool:
    return query is None and sys.stdin.isatty()


def _shell(opened: OpenStore, rows: int) -> None:
    """Read statements from the terminal and print their rows, until the input ends."""
    _edit_lines()
    out.print(f"{opened.address}, recipe {opened.recipe}. {', '.join(opened.tables)}")
    out.print(HELP)
    for statement in _statements():
        try:
            _print_each(opened, statement, rows)
        except CurationError as error:
            print_error(error.to_json())
        except KeyboardInterrupt:
            err.print("interrupted")


def _edit_lines() -> None:
    """Let the terminal edit lines and recall earlier ones, where Python has readline."""
    try:
        import readline  # noqa: F401
    except ImportError:
        return


def _statements() -> Iterator[str]:
    """Yield what is typed, up to a line that a semicolon ends, and what stands at the end."""
    from curation.inspect.api.sql import is_ended

    lines: list[str] = []
    while True:
        try:
            line = input(CONTINUED if lines else PROMPT)
        except EOFError:
            out.print("")
            if lines:
                yield "\n".join(lines)
            return
        except KeyboardInterrupt:
            lines = []
            err.print("")
            continue
        word = line.strip().rstrip("; ")
        if not lines and word in (".quit", ".exit", "quit", "exit"):
            return
        # No statement begins with a full stop, nor is this word one.
        if not lines and (word.startswith(".") or word == "help"):
            out.print(HELP)
            continue
        if line.strip() or lines:
            lines.append(line)
        if ";" in line and is_ended("\n".join(lines)):
            yield "\n".join(lines)
            lines = []


def _print_each(opened: OpenStore, query: str, rows: int) -> None:
    """Print the rows of each statement of a query."""
    for statement in opened.session.statements(query) or [query]:
        _print_rows(opened.sql(statement), rows)


def _print_rows(result: duckdb.DuckDBPyRelation, rows: int) -> None:
    """Print the first rows. One more is computed, to say whether there are others."""
    from curation.inspect.api.sql import call_duckdb

    fetched = call_duckdb(lambda: result.limit(rows + 1).fetchall())
    names = [one_line(name) for name in result.columns]
    cells = [[_cell(value) for value in row] for row in fetched[:rows]]
    grid = Grid(*_distinct(names))
    for row in cells:
        grid.add_row(*row)
    out.print(grid)
    shown = len(cells)
    more = f"; there are more (--rows {10 * max(rows, 1)})" if len(fetched) > rows else ""
    out.print(f"{shown:,} row{'' if shown == 1 else 's'}{more}")


def _cell(value: Any) -> str:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return start_of(str(value), MAX_CELL)


def _print_json(result: duckdb.DuckDBPyRelation) -> None:
    from curation.inspect.api.sql import call_duckdb

    rows = call_duckdb(result.fetchall)
    names = _distinct(result.columns)
    named = [dict(zip(names, map(_jsonable, row), strict=True)) for row in rows]
    out.print_json(json.dumps(named, allow_nan=False))


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names of columns; one that repeats gets a number, as in other forms of DuckDB."""
    distinct: list[str] = []
    for name in names:
        numbered = (f"{name}_{number}" for number in count(1))
        distinct.append(next(n for n in chain([name], numbered) if n not in distinct))
    return distinct


def _jsonable(value: Any) -> Any:
    """Return a value as JSON can hold it: bytes in hex, NaN and infinities as null."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    return [_jsonable(item) for item in value] if isinstance(value, list | tuple) else str(value)


def _write(result: duckdb.DuckDBPyRelation, path: str) -> None:
    """Write all rows, some at a time. Columns that share a name are numbered: few readers take them."""
    from curation.inspect.api.sql import call_duckdb, duckdb_batches

    rows = 0
    reader = call_duckdb(lambda: _with_decimals(result).to_arrow_reader())
    names = _distinct(reader.schema.names)
    with whole_file(path) as part, _parquet_writer(part, reader.schema, names) as writer:
        for batch in duckdb_batches(reader):
            writer.write_batch(batch.rename_columns(names))
            rows += batch.num_rows
    out.print(f"Wrote {rows:,} rows to {path}")


def _with_decimals(result: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Return rows whose whole numbers of 128 bits are decimals of 38 digits, as Arrow has them.

    A longer one is an error then. DuckDB would write -1, or what few readers take.
    """
    from curation.inspect.api.sql import quoted

    if not any(str(kind) in WIDE for kind in result.types):
        return result
    columns = zip(result.columns, map(str, result.types), strict=True)
    chosen = [
        f"#{number}{'::DECIMAL(38, 0)' if kind in WIDE else ''} AS {quoted(name)}"
        for number, (name, kind) in enumerate(columns, start=1)
    ]
    return result.project(", ".join(chosen))


def _parquet_writer(part: BinaryIO, schema: pa.Schema, names: Sequence[str]) -> pq.ParquetWriter:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from curation.inspect.api.sql import QueryError

    fields = (field.with_name(name) for field, name in zip(schema, names, strict=True))
    try:
        return pq.ParquetWriter(part, pa.schema(fields))
    except pa.ArrowException as error:
        listed = ", ".join(f"{field.name} {field.type}" for field in schema)
        message = f"Parquet cannot hold these columns: {error}"
        fix = "Cast such a column, as `duration::VARCHAR`, or print the rows with --json"
        raise QueryError(Detail(message, "--out", listed, fix=fix)) from error
