"""SQL on the tables of a store: DuckDB, which reads the files of a version as a query needs them.

DuckDB gets no file and no address, only scanners of pyarrow, which check each page that they read. Its
own access to files, its extensions and its settings are closed, so that a query can change nothing and
reads nothing but the tables.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from duckdb.func import ARROW, SPECIAL

from curation.engine.table import Table
from curation.engine.table_name import TableName
from curation.errors import CurationError, Detail, not_utf8
from curation.inspect.api.columns import (
    dimension,
    stored_dtype,
    stored_schema,
    to_floats,
    vector_columns,
)
from curation.store.fragment import Fragment
from curation.store.manifest import FileEntry
from curation.store.store import in_parallel
from curation.store.withheld import ID_COLUMNS, Withheld, nested_ids

CLOSED = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}
"""What a query must not do: open files or addresses, load extensions, read variables of the program."""
NO_STATEMENT = "Write one, as `FROM copies LIMIT 5`; `SHOW ALL TABLES` lists the tables"
FIXES: Mapping[type[duckdb.Error], str] = {
    duckdb.BinderException: "`DESCRIBE TABLE` lists the columns of a table",
    duckdb.ConversionException: "Cast the value to a type that holds it, as `value::VARCHAR`",
    duckdb.ParserException: "Write a statement of DuckDB, as `FROM copies LIMIT 5`",
    duckdb.PermissionException: "A query reads the tables of the store alone. Take its rows out "
    "to join them with other data",
}
"""What to do about an error of DuckDB."""
NO_TABLE = re.compile(r'Table with name "?([^"\n]+?)"? does not exist')
"""How DuckDB says that there is no such table. What it suggests knows only the views that were made."""
ARROW_FAILED = "reading the Arrow source failed"
"""What DuckDB says where a file that it reads by pyarrow is damaged; it does not say which."""
DAMAGED = "A file of a table is damaged or has vanished: `curation verify-store` says which"
HIDDEN = "was_taken_down"
"""The SQL function that says whether an id was taken down."""


class QueryError(CurationError):
    """A query is not valid, or needs what is closed."""

    exit_status = 2


class SqlSession:
    """Views of tables in DuckDB. A view is made when a query first names its table.

    Args:
        tables: by name.

    Attributes:
        made: the tables that have a view.
    """

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = tables
        self.made: set[str] = set()
        self._checked: set[str] = set()
        # For sorts and joins that do not fit into memory.
        self._scratch = tempfile.TemporaryDirectory(prefix="curation-sql-")
        config: dict[str, str | bool | int | float | list[str]] = {**CLOSED}
        config["temp_directory"] = self._scratch.name
        self._connection = duckdb.connect(":memory:", config=config)
        self._functions: set[str] = set()
        self._connection.execute("SET lock_configuration = true")

    def query(self, sql: str, params: Any = None) -> duckdb.DuckDBPyRelation:
        """Run a query, or several separated by semicolons, and return the result of the last one.

        The rows are computed when they are fetched.

        Args:
            sql: a table of a family is `embeddings.semantic`.
            params: values of `?` or `$name` in the query.

        Returns:
            The rows; of a statement that gives none, as CREATE VIEW, no rows.

        Raises:
            QueryError: DuckDB refuses it, with the message of DuckDB; or it has no statement, or bytes
                that are not UTF-8.
            StoreError: a file of a table has vanished or is damaged.
        """
        if (detail := not_utf8(sql, "query")) is not None:
            raise QueryError(detail)
        self.make_views(sql)
        sql = _without_end(sql)
        relation: duckdb.DuckDBPyRelation | None = call_duckdb(
            lambda: self._connection.sql(sql, params=params), self._tables
        )
        if relation is not None:
            return relation
        if not self._connection.extract_statements(sql):
            raise QueryError("There is no statement in the query", fix=NO_STATEMENT)
        return self._connection.sql("SELECT true AS done LIMIT 0")

    def statements(self, sql: str) -> list[str]:
        """Return the statements of a query, which are separated by semicolons.

        Raises:
            QueryError: it is no SQL, or has bytes that are not UTF-8.
        """
        if (detail := not_utf8(sql, "query")) is not None:
            raise QueryError(detail)
        parsed = call_duckdb(lambda: self._connection.extract_statements(sql))
        return [statement.query for statement in parsed]

    def make_views(self, sql: str) -> None:
        """Make the views of the tables that a query names; of all tables if it names none.

        Raises:
            StoreError: a file of a table that it names has vanished or is damaged.
        """
        named = self.named(sql)
        for name in named or self._tables:
            if name not in self.made:
                self._make_view(name)
                self.made.add(name)
        # DuckDB checks the pages that it reads. Wrong statistics of a footer would leave out rows.
        unchecked = [name for name in named if name not in self._checked]
        in_parallel(
            Fragment.check, [f for n in unchecked for f in self._tables[n].fragments.values()]
        )
        self._checked |= {*unchecked}

    def named(self, sql: str) -> list[str]:
        """Return the tables whose names are words of a query."""
        lowered = sql.lower()
        return [n for n in self._tables if re.search(rf"\b{re.escape(_base(n))}\b", lowered)]

    def relation(self, table: Table) -> duckdb.DuckDBPyRelation:
        """Return a version of a table as a relation.

        Raises:
            StoreError: a file of it has vanished or is damaged.
        """
        in_parallel(Fragment.check, list(table.fragments.values()))
        return self._relation(table)

    def _relation(self, table: Table) -> duckdb.DuckDBPyRelation:
        name, schema = table.manifest.table, stored_schema(table)
        files = table.manifest.files
        held = table.withheld
        hit = [e for e in files if held is not None and held.holds(e.path)]
        clean = [e for e in files if e not in hit] if hit else files
        select = self._columns(name, schema)
        whole = self._connection.from_arrow(_scanned(table, clean, schema)).select(select)
        if held is None or not hit:
            return whole
        self._define_hidden(held)
        rest = self._connection.from_arrow(_scanned(table, hit, schema))
        return whole.union(rest.filter(_shown(schema)).select(self._columns(name, schema, True)))

    @property
    def scratch(self) -> str:
        """The folder for what does not fit into memory."""
        return self._scratch.name

    def close(self) -> None:
        """Close the connection. Relations of it can no longer be used."""
        self._connection.close()
        self._scratch.cleanup()

    def _make_view(self, name: str) -> None:
        table = TableName(name)
        relation = self._relation(self._tables[name])
        if table.member is None:
            relation.create_view(name)
            return
        self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(table.contract)}")
        self._connection.execute(f"USE memory.{quoted(table.contract)}")
        relation.create_view(table.member)
        self._connection.execute("USE memory.main")

    def _columns(self, table: str, schema: pa.Schema, withheld: bool = False) -> str:
        """Return what a view of a table selects."""
        vectors = vector_columns(table)
        chosen = []
        for field in schema:
            name = quoted(field.name)
            if field.name in vectors and pa.types.is_fixed_size_binary(field.type):
                function = self._define_floats(field.type, stored_dtype(table))
                chosen.append(f"{function}({name}) AS {name}")
            elif withheld and (ids := nested_ids(field.type)):
                gone = " OR ".join(f"{HIDDEN}(item.{quoted(i)})" for i in ids)
                chosen.append(f"list_filter({name}, lambda item: NOT ({gone})) AS {name}")
            else:
                chosen.append(name)
        return ", ".join(chosen)

    def _define_floats(self, kind: pa.DataType, dtype: str) -> str:
        """Define the function that decodes vectors, unless it is there; return its name."""
        dim = dimension(kind, dtype)
        name = f"floats_{dim}_{dtype[1:]}"
        function = partial(to_floats, dtype=dtype, dim=dim)
        self._define(name, function, "BLOB", f"FLOAT[{dim}]")
        return name

    def _define_hidden(self, withheld: Withheld) -> None:
        def is_hidden(ids: pa.Array) -> pa.Array:
            known: dict[str, bool] = {}
            return pa.array(
                [i is not None and withheld.is_hidden(i, known) for i in ids.to_pylist()]
            )

        self._define(HIDDEN, is_hidden, "VARCHAR", "BOOLEAN")

    def _define(
        self, name: str, function: Callable[[pa.Array], pa.Array], takes: str, gives: str
    ) -> None:
        if name in self._functions:
            return

        def by_chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
            if isinstance(column, pa.ChunkedArray):
                return pa.chunked_array([function(chunk) for chunk in column.chunks])
            return function(column)

        self._connection.create_function(
            name,
            by_chunk,
            [takes],
            gives,
            type=ARROW,
            null_handling=SPECIAL,
        )
        self._functions.add(name)


def call_duckdb(function: Callable[[], Any], tables: Iterable[str] = ()) -> Any:
    """Return what a call of DuckDB returns.

    Args:
        function: makes the call.
        tables: those that a query may name, for the error.

    Raises:
        QueryError: DuckDB raised an error, whose message it has.
    """
    try:
        return function()
    except duckdb.Error as error:
        raise _query_error(error, tables) from error


def _query_error(error: Exception, tables: Iterable[str] = ()) -> QueryError:
    missing = NO_TABLE.search(str(error))
    if missing and tables:
        return QueryError(
            Detail(f"There is no table {missing[1]!r}", "query", missing[1], tuple(tables))
        )
    fix = next((fix for kind, fix in FIXES.items() if type(error) is kind), "")
    if ARROW_FAILED in str(error):
        fix = DAMAGED
    return QueryError(Detail(f"{error}", "query", fix=fix))


def duckdb_batches(rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a reader of DuckDB, which computes them.

    Raises:
        QueryError: DuckDB raised an error, or a file could not be read.
    """
    while True:
        try:
            batch = rows.read_next_batch()
        except StopIteration:
            return
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise _query_error(error) from error
        yield batch


def quoted(name: str) -> str:
    """Return a name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def is_ended(sql: str) -> bool:
    """Return whether a semicolon that is in no text, name or comment ends what is typed.

    Bytes that are not UTF-8 end it too: what runs it refuses them.
    """
    if not_utf8(sql, "query") is not None:
        return True
    text = sql.encode()
    words = [start for start, kind in duckdb.tokenize(sql) if kind != duckdb.token_type.comment]
    return bool(words) and text[words[-1] : words[-1] + 1] == b";"


def _without_end(sql: str) -> str:
    """Return a query without semicolons and comments after its last statement.

    Relations stand within the queries that are made from them, as by `limit`, with all their text.
    """
    text = sql.encode()
    end = len(text)
    for start, kind in reversed(duckdb.tokenize(sql)):
        if kind != duckdb.token_type.comment and text[start : start + 1] != b";":
            break
        end = start
    return text[:end].decode()


def _base(name: str) -> str:
    return TableName(name).contract.lower()


def _scanned(table: Table, files: Sequence[FileEntry], schema: pa.Schema) -> Any:
    """Return what DuckDB scans: files, of which it reads the columns and row groups that it needs."""
    if not files:
        return schema.empty_table()
    storage = table.store.storage
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    parquet = ds.ParquetFileFormat(default_fragment_scan_options=options)
    # No file is opened before a query reads it.
    fragments = [
        parquet.make_fragment(f"{storage.root}/{entry.path}", storage.filesystem) for entry in files
    ]
    columns = schema.remove_metadata()
    return ds.FileSystemDataset(fragments, columns, parquet, storage.filesystem)


def _shown(schema: pa.Schema) -> str:
    """Return the condition under which a row of a file with rows that were taken down is shown."""
    ids = [quoted(name) for name in schema.names if name in ID_COLUMNS]
    return f"NOT ({' OR '.join(f'{HIDDEN}({name})' for name in ids)})" if ids else "true"
