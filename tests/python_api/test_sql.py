"""`store.sql` and `curation sql`: views of the current tables, and nothing else."""

from __future__ import annotations

import json
import os
import pty
import sys
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import curation
from curation.cli import app
from curation.cli.sql_command import _statements
from curation.errors import RecipeError
from curation.inspect.api.sql import QueryError, SqlSession
from curation.inspect.api.store import OpenStore

from .conftest import HOSTILE, Made

BY_METHOD = "SELECT method, count(*) AS n FROM copies GROUP BY method ORDER BY method"


def test_a_join_over_aligned_tables_agrees_with_pandas(opened: OpenStore) -> None:
    rows = opened.sql("""
        SELECT source_key, cluster_id, array_length(vector) AS dim
        FROM pairs JOIN assignments USING (pair_id) JOIN embeddings.semantic USING (pair_id)
        WHERE vector IS NOT NULL ORDER BY source_key
    """).to_df()
    pairs, clusters = (
        opened.table(n).pandas().set_index("pair_id") for n in ("pairs", "assignments")
    )
    expected = pairs.join(clusters["cluster_id"], how="inner")
    expected = expected[expected["cluster_id"].notna()].sort_values("source_key")
    assert rows["source_key"].tolist() == expected["source_key"].tolist()
    assert rows["cluster_id"].tolist() == expected["cluster_id"].tolist()
    assert set(rows["dim"]) == {192}


def test_values_are_given_apart_from_the_query(opened: OpenStore) -> None:
    query = "SELECT source_key FROM pairs WHERE caption = ?"
    assert opened.sql(query, [HOSTILE]).fetchall() == [("p2",)]
    assert opened.sql(query, ["' OR true --"]).fetchall() == []


def test_all_tables_are_listed_and_opened_when_they_are_named(made: Made) -> None:
    with curation.open(made.store) as store:
        store.sql("SELECT 1 FROM copies").fetchall()
        assert store.session.made == {"copies"}
        listed = store.sql("SHOW ALL TABLES").select("schema, name").fetchall()
        named = {name if schema == "main" else f"{schema}.{name}" for schema, name in listed}
        assert named == set(store.tables)


def test_what_a_query_must_not_do_is_off_and_stays_off() -> None:
    session = SqlSession({})
    names = ("enable_external_access", "autoinstall_known_extensions")
    for name in (*names, "autoload_known_extensions", "python_enable_replacements"):
        assert session.query(f"SELECT current_setting('{name}')").fetchall() == [(False,)], name
        with pytest.raises(QueryError, match="locked"):
            session.query(f"SET {name} = true")
    session.close()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM read_parquet('{secret}')",
        "SELECT * FROM glob('{folder}/*')",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "ATTACH '{folder}/other.db'",
        "EXPORT DATABASE '{folder}/out'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "SET python_enable_replacements = true",
        "RESET lock_configuration",
        "SELECT * FROM 'https://127.0.0.1:9/x.parquet'",
        "SELECT * FROM frame",
        "SELECT getenv('HOME')",
        "DROP VIEW pairs; INSERT INTO pairs VALUES (1)",
    ],
)
def test_a_query_reaches_nothing_but_the_tables(
    opened: OpenStore, tmp_path: Path, statement: str
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    frame = opened.table("pairs").pandas()
    assert len(frame)
    with pytest.raises(QueryError) as raised:
        opened.sql(statement.format(secret=secret, folder=tmp_path)).fetchall()
    assert "the secret" not in str(raised.value)
    assert list(tmp_path.iterdir()) == [secret]


def test_nothing_of_a_session_stays(made: Made) -> None:
    store = curation.open(made.store)
    store.sql(BY_METHOD).fetchall()
    scratch = Path(store.session.scratch)
    assert scratch.is_dir()
    store.close()
    assert not scratch.exists()


def test_a_damaged_page_is_an_error_and_no_row(own: Made) -> None:
    data = own.store / "tables" / "embeddings.semantic" / "data"
    path = max(data.glob("*.parquet"), key=lambda file: file.stat().st_size)
    content = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(2)
    begin = column.dictionary_page_offset or column.data_page_offset
    end = begin + column.total_compressed_size
    content[(column.data_page_offset + end) // 2] ^= 1
    path.write_bytes(content)
    query = "SELECT sum(vector[1]) FROM embeddings.semantic"
    with curation.open(own.store) as store, pytest.raises(duckdb.Error, match="CRC checksum"):
        store.sql(query).fetchall()
    done = CliRunner().invoke(app, ["sql", str(own.store), query])
    assert isinstance(done.exception, QueryError)


def test_the_command_prints_rows(made: Made, opened: OpenStore, tmp_path: Path) -> None:
    run = CliRunner().invoke
    expected = opened.sql(BY_METHOD).fetchall()
    shown = run(app, ["sql", str(made.store), BY_METHOD])
    assert shown.exit_code == 0
    assert all(f"{method}" in shown.output and f"{n}" in shown.output for method, n in expected)
    as_json = run(app, ["sql", str(made.store), BY_METHOD, "--json"]).output
    assert [tuple(row.values()) for row in json.loads(as_json)] == expected
    out = tmp_path / "rows.parquet"
    query = "SELECT pair_id, vector FROM embeddings.semantic"
    assert run(app, ["sql", str(made.store), query, "--out", str(out)]).exit_code == 0
    assert pq.read_table(out).num_rows == opened.table("embeddings.semantic").rows
    read = run(app, ["sql", str(made.store)], input=f"SELECT 1;\n{BY_METHOD}")
    assert expected[0][0] in read.output
    few = run(app, ["sql", str(made.store), "SELECT pair_id FROM pairs", "-n", "2"]).output
    assert "2 rows; there are more" in few


def test_the_command_escapes_what_strangers_wrote(made: Made) -> None:
    query = "SELECT caption FROM pairs WHERE source_key = 'p2'"
    for options in ([], ["--json"]):
        shown = CliRunner().invoke(app, ["sql", str(made.store), query, *options]).output
        assert "\x1b" not in shown
        assert "script" in shown


def test_a_query_that_is_wrong_says_where(made: Made) -> None:
    done = CliRunner().invoke(app, ["sql", str(made.store), "SELECT nothing FROM copies"])
    assert isinstance(done.exception, QueryError)
    assert "nothing" in str(done.exception)


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("FROM pairs JOIN copis USING (pair_id)", "did you mean 'copies'?"),
        ("FROM embedings.semantic", "did you mean 'embeddings.semantic'?"),
        ("FROM nothing_like_it", "Valid: "),
    ],
)
def test_a_table_that_is_not_there_is_named_with_those_that_are(
    query: str, hint: str, opened: OpenStore
) -> None:
    with pytest.raises(QueryError, match=r"There is no table '\w") as raised:
        opened.sql(query)
    assert hint in str(raised.value)
    assert "claims" in str(raised.value) and "pg_" not in str(raised.value)


def test_the_shell_runs_statements_until_it_ends(made: Made, root: Path) -> None:
    command = [sys.executable, "-m", "curation.cli", "sql", str(made.store)]
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover
        os.environ["PYTHONPATH"] = str(root)
        os.execv(sys.executable, command)
    typed = (
        "SELECT nothing;\n.tables\nhelp\nSELECT 40 +\n2 AS answer;\n"
        "SELECT 'first;\nsecond' AS text;\nSELECT 6 * /* not yet;\n*/ 9 AS product; -- the end\n"
        "quit;\n\x04"
    )
    os.write(terminal, typed.encode())
    shown = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    text = shown.decode()
    assert "nothing" in text
    assert "42" in text
    assert "first;" in text.split("AS text;")[-1]
    assert "54" in text
    # What a user of another shell types is no statement.
    assert text.count("Statements end with a semicolon") == 3
    assert "syntax error" not in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("'NaN'::FLOAT", None),
        ("'-Infinity'::DOUBLE", None),
        ("['inf'::FLOAT, 1]", [None, 1.0]),
        ("{'a': 'nan'::FLOAT, 'b': DATE '2026-01-02'}", {"a": None, "b": "2026-01-02"}),
        ("'\\x00\\xFF'::BLOB", "00ff"),
        ("12.50::DECIMAL(9, 2)", 12.5),
        ("MAP {1: 'a'}", {"1": "a"}),
        ("170141183460469231731687303715884105727::HUGEINT", 2**127 - 1),
        ("TIMESTAMP '2026-01-02 03:04:05'", "2026-01-02T03:04:05"),
        ("INTERVAL 1 DAY", "1 day, 0:00:00"),
        ("uuid '550e8400-e29b-41d4-a716-446655440000'", "550e8400-e29b-41d4-a716-446655440000"),
        ("true", True),
        ("NULL", None),
    ],
)
def test_every_value_is_valid_json(value: str, expected: object, made: Made) -> None:
    done = CliRunner().invoke(app, ["sql", str(made.store), f"SELECT {value} AS v", "--json"])
    assert done.exit_code == 0, done.exception

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    assert json.loads(done.stdout, parse_constant=refuse) == [{"v": expected}]


def test_columns_of_one_name_are_told_apart(made: Made) -> None:
    query = "SELECT a.pair_id, b.pair_id FROM copies a JOIN copies b USING (image_id) LIMIT 1"
    done = CliRunner().invoke(app, ["sql", str(made.store), query, "--json"])
    (row,) = json.loads(done.stdout)
    assert len(row) == 2


def test_statements_without_rows(opened: OpenStore, made: Made) -> None:
    view = "CREATE TEMP VIEW few AS SELECT pair_id FROM copies LIMIT 2"
    assert opened.sql(view).fetchall() == []
    assert len(opened.sql("FROM few").fetchall()) == 2
    for empty in ("", "  ", ";", "-- a comment"):
        with pytest.raises(QueryError, match="no statement"):
            opened.sql(empty)
    done = CliRunner().invoke(app, ["sql", str(made.store), view, "--json"])
    assert json.loads(done.stdout) == []


def test_a_query_that_is_not_utf8_is_an_error(opened: OpenStore, made: Made) -> None:
    piped = CliRunner().invoke(app, ["sql", str(made.store)], input=b"SELECT '\xff'")
    assert isinstance(piped.exception, QueryError), piped.exception
    for query in ("SELECT 'a\udcff'", "SELECT 1 -- \ud800"):
        with pytest.raises(QueryError, match="not UTF-8"):
            opened.sql(query)
        with pytest.raises(QueryError, match="not UTF-8"):
            opened.session.statements(query)


def test_no_file_is_written_in_part(made: Made, tmp_path: Path) -> None:
    """An error in the middle of the rows leaves the file as it was, and nothing beside it."""
    place = tmp_path / "rows.parquet"
    query = (
        "SELECT CASE WHEN range = 999999 THEN error('late') ELSE range END AS n FROM range(1000000)"
    )
    command = ["sql", str(made.store), query, "--out", str(place)]
    for before in (None, b"as it was"):
        if before is not None:
            place.write_bytes(before)
        done = CliRunner().invoke(app, command)
        assert isinstance(done.exception, QueryError), done.exception
        assert list(tmp_path.iterdir()) == ([] if before is None else [place])
        assert before is None or place.read_bytes() == before


def test_rows_are_printed_or_written(made: Made, tmp_path: Path) -> None:
    both = ["sql", str(made.store), "FROM copies", "--json", "--out", str(tmp_path / "a.parquet")]
    done = CliRunner().invoke(app, both)
    assert isinstance(done.exception, RecipeError)
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM copies JOIN eligible USING (pair_id)",
        "SELECT a.pair_id, b.pair_id, 1 AS pair_id_1 FROM copies a JOIN copies b USING (image_id)",
        "SELECT sum(weight) AS claims, 'x'::ENUM('x') AS e, MAP {1: 'a'} AS m FROM dataset",
    ],
)
def test_what_is_written_can_be_read(
    query: str, made: Made, opened: OpenStore, tmp_path: Path
) -> None:
    place = tmp_path / "rows.parquet"
    done = CliRunner().invoke(app, ["sql", str(made.store), query, "--out", str(place)])
    assert done.exit_code == 0, done.exception
    rows = opened.sql(query).fetchall()
    assert len(pd.read_parquet(place)) == len(rows) == len(pl.read_parquet(place))
    assert duckdb.from_parquet(str(place)).columns == list(pd.read_parquet(place).columns)


@pytest.mark.parametrize("value", ["INTERVAL 1 DAY", "union_value(k := 1)", "{}"])
def test_what_parquet_cannot_hold_is_named(value: str, made: Made, tmp_path: Path) -> None:
    query = f"SELECT {value} AS odd"
    done = CliRunner().invoke(
        app, ["sql", str(made.store), query, "--out", str(tmp_path / "rows.parquet")]
    )
    assert isinstance(done.exception, QueryError), done.exception
    (detail,) = done.exception.details
    assert (detail.where, "odd" in str(detail.found)) == ("--out", True)
    assert "VARCHAR" in detail.fix
    assert not list(tmp_path.iterdir())


def test_every_column_of_every_table_can_be_read_in_a_terminal(
    made: Made, opened: OpenStore
) -> None:
    """Rows of more columns than fit side by side are printed in lines."""
    for table in opened.tables:
        shown = CliRunner().invoke(app, ["sql", str(made.store), f"FROM {table} LIMIT 2"]).output
        names = opened.table(table).columns
        assert all(name in shown or len(names) * 11 < 80 for name in names), table
    none = CliRunner().invoke(app, ["sql", str(made.store), "FROM images", "-n", "0"]).output
    assert "original_width" in none and "0 rows; there are more" in none


def test_each_statement_has_its_rows(made: Made) -> None:
    """The rows of all but the last were lost, also of a file of statements."""
    query = "SELECT 41 AS first; -- a comment\nSELECT ';' AS second, 43;"
    for words, lines in (([query], None), ([], query)):
        shown = CliRunner().invoke(app, ["sql", str(made.store), *words], input=lines).output
        assert all(part in shown for part in ("first", "41", "second", "43")), shown
        assert shown.count("1 row\n") == 2


@pytest.mark.parametrize("kind", ["HUGEINT", "UHUGEINT"])
def test_a_number_that_parquet_cannot_hold_is_no_other_one(
    kind: str, made: Made, tmp_path: Path
) -> None:
    """DuckDB writes -1 for it."""
    place = tmp_path / "rows.parquet"

    def written(number: int) -> Exception | None:
        query = f"SELECT {number}::{kind} AS n, 1 AS one, 2 AS one"
        words = ["sql", str(made.store), query, "--out", str(place)]
        error = CliRunner().invoke(app, words).exception
        return error if isinstance(error, Exception) else None

    longest = 10**38 - 1
    assert written(longest) is None
    assert pq.read_table(place).to_pylist() == [{"n": longest, "one": 1, "one_1": 2}]
    error = written(10**38)
    assert isinstance(error, QueryError)
    assert "VARCHAR" in error.details[0].fix
    assert pq.read_table(place).num_rows == 1


@pytest.mark.parametrize(
    "end", [";", " ;\n;", "; -- a comment", " -- a comment", ";/* a; comment */ ; -- é;\n"]
)
@pytest.mark.parametrize("value", ["';'", "$$; -- $$", "'é日' -- é\n", "/* ; */ 'x'"])
def test_a_query_may_end_in_any_way(opened: OpenStore, value: str, end: str) -> None:
    """What is asked of its rows stands around its text."""
    relation = opened.sql(
        f"SELECT {value} AS v{end}" if "--" not in value else f"SELECT {value}{end}"
    )
    assert len(relation.limit(1).fetchall()) == 1


def test_what_was_typed_before_the_end_is_no_less_a_statement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    typed = iter(["SELECT 1;", "SELECT", "2"])

    def next_line(prompt: str) -> str:
        for line in typed:
            return line
        raise EOFError

    monkeypatch.setattr("builtins.input", next_line)
    assert list(_statements()) == ["SELECT 1;", "SELECT\n2"]
