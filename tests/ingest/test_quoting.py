"""Text files arrive as they were written, whichever usual writer wrote them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import RecipeError, StoreError
from curation.stages.ingest.formats.quoting import READERS, Line, Lines, Record, detect
from tests.ingest.helpers import noted, pairs, source

CAPTIONS = [
    "plain",
    'a sign "open" here',
    "two\tparts, and more",
    "a\nb",
    '"all"',
    "back\\slash",
    'x"',
]
FIELDS = st.text(st.sampled_from('ab "\\,\t\n;é\x00'), max_size=8)
Rows = list[list[str]]


def python(rows: Rows, delimiter: str) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return out.getvalue()


def spark(rows: Rows, delimiter: str) -> str:
    """Spark's defaults: quotes only where needed, and a backslash before a quote."""

    def field(text: str) -> str:
        if not any(c in text for c in f'{delimiter}"\n\r'):
            return text
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return "".join(delimiter.join(map(field, row)) + "\n" for row in rows)


def split(text: str) -> list[Line]:
    return [Line(n, line) for n, line in enumerate(io.StringIO(text, newline="\n"), 1)]


def records(text: str, quoting: str, delimiter: str) -> list[Record]:
    return [r for r in READERS[quoting](Lines(split(text)), delimiter) if r.fields or r.problem]


@pytest.mark.parametrize(("write", "quoting"), [(python, "doubled"), (spark, "backslash")])
@pytest.mark.parametrize("delimiter", [",", "\t"])
@settings(max_examples=100, deadline=None)
@given(captions=st.lists(FIELDS, min_size=1, max_size=6))
def test_fields_are_read_as_they_were_written(
    write: Callable[[Rows, str], str], quoting: str, delimiter: str, captions: list[str]
) -> None:
    rows = [[f"u{n}", caption] for n, caption in enumerate(captions)]
    read = records(write(rows, delimiter), quoting, delimiter)
    assert [r.fields for r in read] == rows


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from('ab",\n\\'), max_size=60))
def test_every_line_is_in_a_record_whatever_the_text(text: str) -> None:
    for quoting in READERS:
        read = records(text, quoting, ",")
        numbers = [r.line.number for r in read]
        assert numbers == sorted(set(numbers))
        if quoting == "none":
            assert len(read) == len([line for line in split(text) if line.text.strip("\n")])


@pytest.mark.parametrize("write", [python, spark])
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_file_shows_how_it_is_written(
    tmp_path: Path, kind: str, write: Callable[[Rows, str], str]
) -> None:
    rows = [["url", "caption"], *([f"http://a.example/{n}", c] for n, c in enumerate(CAPTIONS))]
    (tmp_path / f"l.{kind}").write_bytes(write(rows, {"csv": ",", "tsv": "\t"}[kind]).encode())
    stored_rows = pairs(tmp_path / "store", source(tmp_path / f"l.{kind}", format=kind))
    assert {r["url"]: r["caption"] for r in stored_rows} == dict(rows[1:])


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize(
    "captions", [CAPTIONS, ['say ""', "b"], ["first\r\nsecond"], ['"all"', "b"]]
)
def test_tables_of_pandas_keep_their_captions(
    tmp_path: Path, captions: list[str], quoting: Any
) -> None:
    urls = [f"http://a.example/{n}" for n in range(len(captions))]
    frame = pandas.DataFrame({"url": urls, "caption": captions})
    frame.to_csv(tmp_path / "l.tsv", sep="\t", index=False, quoting=quoting)
    rows = pairs(tmp_path / "store", source(tmp_path / "l.tsv", format="tsv"))
    assert {r["url"]: r["caption"] for r in rows} == dict(zip(urls, captions, strict=True))


@pytest.mark.parametrize(
    ("captions", "is_noted"),
    [(['"half a quote', "b"], False), (['"all"', "b"], True), (['5" pipe', 'the "b" c'], False)],
)
def test_a_plain_tsv_keeps_its_quotes_and_notes_what_may_be_quoted(
    tmp_path: Path, captions: list[str], is_noted: bool
) -> None:
    lines = "".join(f"http://a.example/{n}\t{c}\n" for n, c in enumerate(captions))
    (tmp_path / "l.tsv").write_text("url\tcaption\n" + lines)
    rows = pairs(tmp_path / "store", source(tmp_path / "l.tsv", format="tsv"))
    assert [r["caption"] for r in rows] == captions
    assert ("plain_quotes" in noted(tmp_path / "store")) == is_noted


def test_quoting_of_the_source_decides(tmp_path: Path) -> None:
    (tmp_path / "l.tsv").write_text('url\tcaption\nhttp://a.example/1\t"all"\n')
    path = tmp_path / "l.tsv"
    for quoting, caption in (("none", '"all"'), ("doubled", "all"), ("backslash", "all")):
        (stored_row,) = pairs(tmp_path / quoting, source(path, format="tsv", quoting=quoting))
        assert stored_row["caption"] == caption
        assert noted(tmp_path / quoting) == {}


def test_a_late_backslash_makes_a_bad_row_and_no_other_caption() -> None:
    head = 'url,caption\na,"x ""y"" z"\n'
    read = records(head + 'b,"a \\"b\\" c"\nc,"d\\""\nd,e\n', "doubled", ",")
    assert [(r.fields, bool(r.problem)) for r in read[1:]] == [
        (["a", 'x "y" z'], False),
        ([], True),
        ([], True),
        (["d", "e"], False),
    ]
    assert "quoting: backslash" in read[2].problem


def test_an_unbalanced_quote_loses_its_line_only() -> None:
    good = "".join(f"u{n},plain words\n" for n in range(20_000))
    read = records('u,"never closed\n' + good, "doubled", ",")
    assert [bool(r.problem) for r in read] == [True] + [False] * 20_000


def test_detection_is_quick_for_a_file_full_of_quotes() -> None:
    lines = [Line(n, f'u{n}\t"never closed {n}\n') for n in range(20_000)]
    assert detect(lines, "\t") == "none"


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "jsonl"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_marks_of_every_system(
    tmp_path: Path, kind: str, end: str, mark: str
) -> None:
    urls = ["http://a.example/1", "http://a.example/2"]
    contents = {
        "txt": urls,
        "csv": ["url,caption", *(f"{u},c" for u in urls)],
        "tsv": ["url\tcaption", *(f"{u}\tc" for u in urls)],
        "jsonl": [json.dumps({"url": u, "caption": "c"}) for u in urls],
    }
    (tmp_path / f"l.{kind}").write_bytes((mark + "".join(c + end for c in contents[kind])).encode())
    spec = source(tmp_path / f"l.{kind}", format=kind)
    if kind == "txt":
        spec["columns"] = {}
    rows = pairs(tmp_path / "store", spec)
    assert [(r["url"], r["caption"]) for r in rows] == [
        (u, None if kind == "txt" else "c") for u in urls
    ]


BAD_LINES = {
    "csv": ("url,caption\nhttp://a.example/1,ok\n%s\nhttp://a.example/2,ok\n", [
        (b"http://a.example/x", "line 3: 1 fields, but the header has 2"),
        (b"a,b,c", "line 3: 3 fields"),
        (b"url,caption", "line 3: it repeats the header"),
        (b"http://a.example/x,caf\xe9", "line 3: it is not UTF-8 (byte 0xe9)"),
        (b'http://a.example/x,"a" b', "line 3: .*expected after"),
        (b"http://a.example/x,a\rb", "line 3: a carriage return .* write the field in quotes"),
        (b"http://a.example/x," + b"x" * 200_000, "line 3: field larger"),
    ]),
    "tsv": ("url\tcaption\nhttp://a.example/1\tok\n%s\nhttp://a.example/2\tok\n", [
        (b"http://a.example/x\tb\tc", "line 3: 3 fields"),
        (b"http://a.example/x\t" + b"x" * 200_000, "line 3: a field has more"),
    ]),
    "jsonl": ('{"url":"http://a.example/1","caption":"ok"}\n%s\n{"url":"http://a.example/2"}\n', [
        (b"not json", "line 2: it is not JSON"),
        (b"[1]", "line 2: it is not an object"),
        (b'{"url": "\xff"}', "line 2: it is not JSON in UTF-8"),
        (b'{"url": "a", "url": "b"}', "line 2: .*the key 'url' stands twice"),
        (b'{"url": "http://a.example/x", "caption": ["a", "b"]}', "line 2: column 'caption': a list"),
        (b'{"url": "http://a.example/x", "caption": {"en": "b"}}', "line 2: column 'caption': an obj"),
    ]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "content", "cause"),
    [(k, content, cause) for k, (_, bad) in BAD_LINES.items() for content, cause in bad],
)
def test_a_bad_row_says_file_line_and_cause(
    tmp_path: Path, kind: str, content: bytes, cause: str
) -> None:
    frame = BAD_LINES[kind][0].encode()
    (tmp_path / f"l.{kind}").write_bytes(frame.replace(b"%s", content))
    rows = pairs(tmp_path / "store", source(tmp_path / f"l.{kind}", format=kind))
    assert [r["reason"] for r in rows] == [None, "bad_row", None]
    problem = json.loads(rows[1]["metadata"])["unreadable"]
    assert re.match(rf"l\.{kind}, ", problem)
    assert re.search(cause.replace("(", r"\(").replace(")", r"\)"), problem), problem


@pytest.mark.parametrize(
    ("value", "caption"),
    [("7", "7"), ("2.5", "2.5"), ("true", "true"), ("null", None), ('""', None), ('" a "', " a ")],
)
def test_json_values_are_captions_as_json_writes_them(
    tmp_path: Path, value: str, caption: str | None
) -> None:
    (tmp_path / "l.jsonl").write_text(f'{{"url": "http://a.example/1", "caption": {value}}}\n')
    (stored_row,) = pairs(tmp_path / "store", source(tmp_path / "l.jsonl", format="jsonl"))
    assert (stored_row["caption"], stored_row["reason"]) == (caption, None)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([{"url": "u"}], indent=1),
        json.dumps([{"url": "u"}]),
        '[\n{"url": "u"},\n{"url": "v"}\n]',
        json.dumps({"url": "u", "caption": "c"}, indent=1),
        "garbage\nmore",
    ],
)
def test_a_file_without_an_object_a_line_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "l.jsonl").write_text(text)
    with pytest.raises(RecipeError, match=r"l\.jsonl does not hold one JSON object a line.*jq"):
        pairs(tmp_path / "store", source(tmp_path / "l.jsonl", format="jsonl"))


def test_markers_of_missing_values_are_null(tmp_path: Path) -> None:
    (tmp_path / "l.tsv").write_text("url\tcaption\tmore\nhttp://a.example/1\t\\N\t\\N\n")
    (stored_row,) = pairs(tmp_path / "store", source(tmp_path / "l.tsv", format="tsv"))
    assert (stored_row["caption"], json.loads(stored_row["metadata"])) == (None, {"more": None})


def test_columns_of_one_name_are_all_kept_and_may_not_be_mapped(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("url,caption,x,x\nhttp://a.example/1,c,1,2\n")
    path = tmp_path / "l.csv"
    (stored_row,) = pairs(tmp_path / "store", source(path, format="csv"))
    assert json.loads(stored_row["metadata"]) == {"x": ["1", "2"]}
    with pytest.raises(RecipeError, match=r"l\.csv has more than one column 'x', mapped to key"):
        pairs(
            tmp_path / "other",
            source(path, format="csv", columns={"url": "url", "key": "x"}),
        )


def test_utf16_without_a_mark_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes("url,caption\nhttp://a.example/1,c\n".encode("utf-16-le"))
    with pytest.raises(StoreError, match="UTF-16"):
        pairs(tmp_path / "store", source(tmp_path / "l.csv", format="csv"))


def test_a_line_of_a_list_of_urls_is_one_url(tmp_path: Path) -> None:
    """As in files that were joined from several systems, and in a table that is called a text."""
    lines = (
        "http://a.example/1\nhttp://a.example/2\rhttp://a.example/3\r\r\nhttp://a.example/4\tc\n"
    )
    (tmp_path / "l.txt").write_bytes(lines.encode())
    found = pairs(tmp_path / "store", source(tmp_path / "l.txt", format="txt", columns={}))
    assert [(r["url"], r["reason"]) for r in found] == [
        *((f"http://a.example/{n}", None) for n in (1, 2, 3)),
        (None, "bad_row"),
    ]
    assert "format: tsv" in json.loads(found[3]["metadata"])["unreadable"]


def test_comment_lines_and_empty_files_are_noted(tmp_path: Path) -> None:
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / "a.txt").write_text("# one\nhttp://a.example/1\n\n# two\n")
    (tmp_path / "l" / "b.txt").touch()
    spec = source(tmp_path / "l", format="txt", columns={})
    assert len(pairs(tmp_path / "store", spec)) == 1
    assert noted(tmp_path / "store") == {"comment_line": 2, "empty_file": 1}
