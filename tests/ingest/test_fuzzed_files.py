"""Files of every format with any bytes changed: all they hold is a row or counted."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.errors import RecipeError
from curation.media.web.urls import UrlRules
from curation.stages.ingest.sources.listing import list_source
from curation.stages.ingest.sources.source import Source
from curation.stages.ingest.stage import read_file
from tests.ingest.bombs import header, member
from tests.ingest.entrances import write_features
from tests.ingest.helpers import jpeg, tar_of

ROWS = 40
RECORDS: list[dict[str, Any]] = [
    {
        "url": f"http://a.example/{i}.jpg",
        "caption": f'a "cat", é {i}',
        "faces": [[0.1, 0.2, 0.3, 0.4]] * (i % 3),
        "size": i * 1000,
        "more": {"a": [i, None], "b": "x\ny"},
    }
    for i in range(ROWS)
]


def parquet(**options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(RECORDS), out, row_group_size=15, **options)
    return out.getvalue()


def delimited(delimiter: str) -> bytes:
    lines = [delimiter.join(["url", "caption", "size"])]
    for record in RECORDS:
        quoted = '"' + record["caption"].replace('"', '""') + '"'
        lines.append(delimiter.join([record["url"], quoted, str(record["size"])]))
    return "\n".join(lines).encode() + b"\n"


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for i, record in enumerate(RECORDS[:8]):
            for ending, content in (
                ("jpg", jpeg(i)),
                ("txt", record["caption"].encode()),
                ("json", json.dumps(record).encode()),
            ):
                info = tarfile.TarInfo(f"{'d' * 120 if i == 3 else 'd'}/é{i}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    long = header("././@LongLink", 200, b"L") + b"n" * 196 + b".jpg" + b"\0" * 312
    return long + member("n.jpg", jpeg()) + out.getvalue()


def wat() -> bytes:
    out = b""
    for i in range(6):
        links = [{"path": "IMG@/src", "url": f"{n}.jpg", "alt": f"é {n}"} for n in range(i)]
        html = {"HTML-Metadata": {"Links": links, "Head": {"Base": "/b/"}}}
        body = {
            "WARC-Header-Metadata": {"WARC-Target-URI": f"http://a.example/{i}/"},
            "Payload-Metadata": {"HTTP-Response-Metadata": html},
        }
        text = json.dumps({"Envelope": body}).encode()
        out += b"WARC/1.0\r\nWARC-Type: metadata\r\nWARC-Record-ID: <urn:%d>\r\n" % i
        out += b"Content-Length: %d\r\n\r\n" % len(text) + text + b"\r\n\r\n"
    return out


def huggingface() -> bytes:
    """A shard with labels, and images in it or in files."""
    features = {
        "image": {"_type": "Image"},
        "caption": {"_type": "Value", "dtype": "string"},
        "label": {"_type": "ClassLabel", "names": ["a", "b", "c"]},
        "more": {"a": {"_type": "List", "feature": {"_type": "ClassLabel", "names": ["x"]}}},
    }
    rows = [
        {
            "image": {"bytes": jpeg(i) if i % 4 else None, "path": f"d/{i}.jpg"},
            "caption": record["caption"],
            "label": i % 4 - 1,
            "more": {"a": [0] * (i % 3)},
        }
        for i, record in enumerate(RECORDS)
    ]
    with TemporaryDirectory() as folder:
        write_features(Path(folder, "f"), rows, features)
        return Path(folder, "f").read_bytes()


def coco() -> bytes:
    images = [{"id": i, "file_name": f"d/é{i}.jpg", "width": i} for i in range(ROWS)]
    annotations = [
        {"image_id": i, "category_id": i % 3, "caption": r["caption"], "bbox": [0, 1.5, 2, 3]}
        for i, r in enumerate(RECORDS)
    ]
    categories = [{"id": i, "name": f"kind {i}"} for i in range(3)]
    parts = {"info": {"year": 1}, "images": images, "annotations": annotations}
    return json.dumps(parts | {"categories": categories}).encode()


def fiftyone() -> bytes:
    samples = [
        {"_id": {"$oid": str(i)}, "filepath": f"d/{i}.jpg", "label": {"_cls": "C", "label": "cat"}}
        for i in range(ROWS)
    ]
    return json.dumps({"name": "x", "samples": samples}, indent=1).encode()


def shard_table() -> bytes:
    """The Parquet of a shard of img2dataset; its last row failed."""
    rows = [
        {
            "url": record["url"],
            "caption": record["caption"],
            "key": f"{i:09d}",
            "status": "success" if i < SHARD_PICTURES else "failed_to_download",
            "error_message": None if i < SHARD_PICTURES else "HTTP Error 404: Not Found",
        }
        for i, record in enumerate(RECORDS[: SHARD_PICTURES + 1])
    ]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def shard_tar() -> bytes:
    pictures = ((f"{i:09d}", jpeg(i)) for i in range(SHARD_PICTURES))
    samples = ({f"{key}.jpg": picture, f"{key}.json": b"{}"} for key, picture in pictures)
    return tar_of([member for sample in samples for member in sample.items()])


SHARD_PICTURES = 8
JSONL = b"".join(json.dumps(record).encode() + b"\n" for record in RECORDS)
TXT = b"".join(record["url"].encode() + b"\n" for record in RECORDS)


class Kind(NamedTuple):
    """Files of one kind: their format, how they are written, and what is in the same folder."""

    format: str
    content: Callable[[], bytes]
    columns: dict[str, str] = {}
    name: str = "f"
    beside: dict[str, Callable[[], bytes]] = {}


URLS = {"url": "url", "caption": "caption"}
KINDS = {
    "parquet": Kind("parquet", parquet, URLS | {"faces": "faces"}),
    "parquet v2": Kind(
        "parquet", lambda: parquet(data_page_version="2.0", compression="zstd"), URLS
    ),
    "parquet plain": Kind(
        "parquet", lambda: parquet(compression="none", use_dictionary=False), URLS
    ),
    "csv": Kind("csv", lambda: delimited(","), URLS),
    "csv.gz": Kind("csv", lambda: gzip.compress(delimited(","), mtime=0), URLS),
    "tsv": Kind("tsv", lambda: delimited("\t"), URLS),
    "jsonl": Kind("jsonl", lambda: JSONL, URLS | {"faces": "faces"}),
    "txt": Kind("txt", lambda: TXT),
    "txt.gz": Kind("txt", lambda: gzip.compress(TXT, mtime=0)),
    "tar": Kind("webdataset", tar),
    "tar.gz": Kind("webdataset", lambda: gzip.compress(tar(), mtime=0)),
    "huggingface": Kind("huggingface", huggingface),
    "clip_retrieval": Kind("clip_retrieval", parquet, {"url": "url"}),
    "coco": Kind("coco", coco),
    "coco.gz": Kind("coco", lambda: gzip.compress(coco(), mtime=0)),
    "fiftyone": Kind("coco", fiftyone),
    "img2dataset": Kind("img2dataset", shard_table, {}, "0.parquet", {"0.tar": shard_tar}),
    "img2dataset tar": Kind("img2dataset", shard_tar, {}, "0.tar", {"0.parquet": shard_table}),
    "img2dataset tar alone": Kind("img2dataset", shard_tar, {}, "0.tar"),
    "wat": Kind("wat", wat),
    "wat.gz": Kind("wat", lambda: gzip.compress(wat(), mtime=0)),
}
WHOLE = {name: kind.content() for name, kind in KINDS.items()}
ODD = (b"\x00", b"\xff", b'"', b"\n", b"\xff\xff\xff\x7f", b"9" * 30, b"[" * 40, b"\x80" * 8, b"-1")


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Return a file with some bytes changed, removed, repeated or put in."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        # The headers, and the footer of Parquet, are at the ends.
        at = draw.choice((draw.randrange(len(changed)), draw.randrange(-min(900, len(changed)), 0)))
        at %= len(changed)
        size = draw.choice((1, 1, 4, 100))
        match draw.randrange(5):
            case 0:
                changed[at] = draw.randrange(256)
            case 1:
                del changed[at : at + size]
            case 2:
                changed[at:at] = draw.choice(ODD)
            case 3:
                changed[at : at + 1] = draw.choice(ODD)
            case _:
                other = draw.randrange(len(changed))
                changed[at:at] = changed[other : other + size]
        if len(changed) < 20:
            break
    if draw.random() < 0.1:
        del changed[draw.randrange(len(changed) + 1) :]
    return bytes(changed)


class Read(NamedTuple):
    """What was read of a file: reasons of its rows, counts, and whether it could be read at all."""

    reasons: Counter[str | None]
    notices: dict[str, int]
    is_refused: bool


def read(kind: Kind, path: Path) -> Read:
    source = path if kind.name == "f" else path.parent
    fields = {"format": kind.format, "path": str(source), "columns": kind.columns}
    spec = Source.model_validate({"name": "s", "role": "pool", **fields})
    reasons: Counter[str | None] = Counter()
    notices: Counter[str] = Counter()
    try:
        for file in list_source(spec, 10_000).files:
            batches = read_file(file, UrlRules(), spec.version)
            while True:
                try:
                    batch = next(batches)
                except StopIteration as end:
                    notices.update({c: n["count"] for c, n in end.value["notices"].items()})
                    break
                batch.validate(full=True)
                reasons.update(batch.column("reason").to_pylist())
    except RecipeError:
        # A header that names other columns.
        return Read(reasons, dict(notices), True)
    return Read(reasons, dict(notices), False)


def write(name: str, content: bytes, folder: Path) -> Path:
    """Write a file of a kind, and what is beside it, and return its path."""
    kind = KINDS[name]
    for other, make in kind.beside.items():
        (folder / other).write_bytes(make())
    (folder / kind.name).write_bytes(content)
    return folder / kind.name


def check(name: str, content: bytes, folder: Path) -> None:
    kind, path = KINDS[name], write(name, content, folder)
    read_rows = read(kind, path)
    if read_rows.is_refused or "unreadable_file" in read_rows.notices:
        return
    rows = sum(read_rows.reasons.values())
    if name in ("txt", "jsonl"):
        ends = rb"[\r\n]" if name == "txt" else rb"\n" if b"\n" in content else rb"\r"
        lines = [line for line in re.split(ends, content) if line.strip(b" \t\r\n\x1e\x0b\x0c")]
        assert rows + read_rows.notices.get("comment_line", 0) == len(lines)
    if path.suffix == ".parquet" or kind.format in ("parquet", "huggingface", "clip_retrieval"):
        listed = pq.read_metadata(path).num_rows
        refused = read_rows.notices.get("unread_rows", 0)
        assert rows >= listed - refused


@pytest.mark.parametrize("name", KINDS)
def test_whole_files_are_read(tmp_path: Path, name: str) -> None:
    rows = read(KINDS[name], write(name, WHOLE[name], tmp_path))
    pictures = {"webdataset": 9, "wat": 15, "img2dataset": SHARD_PICTURES}
    expected: dict[str | None, int] = {None: pictures.get(KINDS[name].format, ROWS)}
    if name in ("img2dataset", "img2dataset tar"):
        expected["failed_to_download"] = 1
    assert rows.reasons == expected


@pytest.mark.parametrize("name", KINDS)
def test_files_with_changed_bytes_fail_nothing(tmp_path: Path, name: str) -> None:
    draw = random.Random(7)
    for _ in range(40):
        check(name, mutated(WHOLE[name], draw), tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("name", KINDS)
def test_many_files_with_changed_bytes_fail_nothing(tmp_path: Path, name: str) -> None:
    draw = random.Random()
    for _ in range(5000):
        content = mutated(WHOLE[name], draw)
        try:
            check(name, content, tmp_path)
        except BaseException:
            print(f"{name}: {content!r}")
            raise


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(sorted(KINDS)), content=st.binary(min_size=1, max_size=300))
def test_any_bytes_fail_nothing(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    check(name, content, tmp_path_factory.mktemp("f"))
    start = WHOLE[name][:40]
    check(name, start + content, tmp_path_factory.mktemp("f"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.fixed_dictionaries({"url": JSON, "caption": JSON, "faces": JSON, "n": JSON}))
)
def test_values_of_any_kind_are_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("f") / "f.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = URLS | {"faces": "faces"}
    read_rows = read(Kind("jsonl", lambda: b"", columns), path)
    assert sum(read_rows.reasons.values()) == len(rows)
    assert "unreadable_file" not in read_rows.notices
