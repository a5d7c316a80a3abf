"""Whatever stands in the folder of a source is a row or is counted."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import socket
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

from curation.cli.app import app
from curation.cli.outcomes import OutcomePrinter
from curation.errors import RecipeError
from curation.media.pictures.formats import FORMATS
from curation.media.pictures.plug_ins import PLUG_INS
from curation.stages.ingest.sources import IMAGE_ENDINGS
from curation.terminal import Terminal
from tests.ingest.helpers import jpeg, noted, pairs, run, source, table, tar_of, write

JPEG = jpeg(1)


def fetched(store: Path) -> dict[str, tuple[str, str | None]]:
    rows = table(store, "images").read().to_pylist()
    return {r["source_key"]: (r["caption"] or r["status"], r["reason"]) for r in rows}


def test_every_entry_of_a_folder_is_a_row_or_counted(tmp_path: Path) -> None:
    home = tmp_path / "pics"
    (home / "sub").mkdir(parents=True)
    for name in ("a.jpg", "B.JPG", "c.jfif", "d", "e.png_large", "sub/f.jpeg", "\n.jpg"):
        (home / name).write_bytes(JPEG)
    for name in ("a.txt", "B.TXT", "d.txt"):
        (home / name).write_text(f"of {name}")
    for name in (".DS_Store", "._a.jpg", "Thumbs.db", "sub/.hidden/x.jpg", "__MACOSX/a.jpg"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_bytes(JPEG)
    for name in ("readme.md", "list.csv", "lonely.txt"):
        (home / name).write_text("words")
    with Path(os.fsdecode(os.fsencode(home) + b"/caf\xe9.jpg")).open("wb") as out:
        out.write(JPEG)
    os.mkfifo(home / "pipe.jpg")
    os.mkfifo(home / "a.json")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(home / "sock.jpg"))
    (home / "broken.jpg").symlink_to("nowhere.jpg")
    (home / "loop").symlink_to(home)
    run(tmp_path / "store", source(home, format="folder"), until="fetch")
    assert fetched(tmp_path / "store") == {
        "a.jpg": ("of a.txt", None),
        "B.JPG": ("of B.TXT", None),
        "c.jfif": ("ok", None),
        "d": ("of d.txt", None),
        "e.png_large": ("ok", None),
        "sub/f.jpeg": ("ok", None),
        "\n.jpg": ("ok", None),
        r"caf\xe9.jpg": ("ok", None),
        "broken.jpg": ("failed", "file_missing"),
    }
    assert noted(tmp_path / "store") == {
        "hidden_file": 5,
        "other_file": 3,
        "special_file": 3,
        "link_to_folder": 1,
    }


READ = sorted(set(FORMATS) - {"AVIF", "MPO", *(plug_in.name for plug_in in PLUG_INS.values())})


def test_every_format_that_is_read_is_known_by_its_endings_and_by_how_it_begins(
    tmp_path: Path,
) -> None:
    """As the signs of GTSRB, which are `.ppm`."""
    Image.init()
    home, picture = tmp_path / "pics", Image.effect_mandelbrot((32, 24), (-2, -1, 1, 1), 90)
    home.mkdir()
    for kind in READ:
        picture.convert("RGB").save(home / f"{kind}.without", kind)
    picture.convert("L").save(home / "PGM.without", "PPM")
    picture.convert("1").save(home / "PBM.without", "PPM")
    for ending, kind in Image.registered_extensions().items():
        if kind in READ and ending != ".pfm":
            assert ending[1:] in IMAGE_ENDINGS
    run(tmp_path / "store", source(home, format="folder"), until="fetch")
    names = [f"{kind}.without" for kind in (*READ, "PGM", "PBM")]
    assert fetched(tmp_path / "store") == dict.fromkeys(names, ("ok", None))


@pytest.mark.parametrize("words", ["P5 headset on a table", "P3 12 24 36", "P1\n12 to 24\n", "BM"])
def test_a_caption_is_no_picture_however_it_begins(tmp_path: Path, words: str) -> None:
    (tmp_path / "s.tar").write_bytes(tar_of({"a.txt": words.encode(), "a.jpg": JPEG}))
    (row,) = pairs(tmp_path / "store", source(tmp_path / "s.tar", format="webdataset"))
    assert (row["caption"], row["reason"]) == (words.rstrip("\n"), None)


def test_links_may_lead_out_of_a_folder_if_the_source_says_so(tmp_path: Path) -> None:
    snapshot, blobs, more = tmp_path / "snapshots", tmp_path / "blobs", tmp_path / "more"
    for folder in (snapshot, blobs, more):
        folder.mkdir()
    (blobs / "0a1b").write_bytes(JPEG)
    (blobs / "0a1c").write_text("words")
    (more / "c.jpg").write_bytes(jpeg(3))
    (snapshot / "a.jpg").symlink_to("../blobs/0a1b")
    (snapshot / "a.txt").symlink_to("../blobs/0a1c")
    (snapshot / "b").symlink_to(more)
    (more / "back").symlink_to(snapshot)
    with pytest.raises(
        RecipeError, match=r"1 outside_folder\), such as a\.jpg.*follow_links: true"
    ):
        run(tmp_path / "s0", source(snapshot, format="folder"))
    (snapshot / "0.jpg").write_bytes(jpeg(0))
    run(tmp_path / "s1", source(snapshot, format="folder"), until="fetch")
    inside = {"0.jpg": ("ok", None)}
    assert fetched(tmp_path / "s1") == inside | {"a.jpg": ("skipped", "outside_folder")}
    assert noted(tmp_path / "s1") == {"link_to_folder": 1, "unreadable_text": 1}
    run(tmp_path / "s2", source(snapshot, format="folder", follow_links=True), until="fetch")
    linked = {"a.jpg": ("words", None), "b/c.jpg": ("ok", None)}
    assert fetched(tmp_path / "s2") == inside | linked
    # The link back to the snapshot.
    assert noted(tmp_path / "s2") == {"link_to_folder": 1}


def test_a_folder_is_read_though_a_link_leads_to_it_and_links_left_out_are_counted(
    tmp_path: Path,
) -> None:
    pics = tmp_path / "pics"
    for name, other in (("a", "z"), ("z", "a")):
        (pics / name / "deep").mkdir(parents=True)
        (pics / name / "deep" / f"{name}.jpg").write_bytes(JPEG)
        (pics / name / "link").symlink_to(f"../{other}/deep")
        (pics / name / "up").symlink_to("..")
    run(tmp_path / "store", source(pics, format="folder", follow_links=True), until="fetch")
    assert fetched(tmp_path / "store") == dict.fromkeys(
        ("a/deep/a.jpg", "a/link/z.jpg", "z/deep/z.jpg"), ("ok", None)
    )
    assert noted(tmp_path / "store") == {"link_to_folder": 3}


@pytest.mark.parametrize("pattern", ["*.parquet", "*", "**", "part-*"])
def test_a_glob_takes_no_hidden_file(tmp_path: Path, pattern: str) -> None:
    rows = [{"url": "http://a.example/1", "caption": "c"}]
    write(tmp_path / "l" / "part-1.parquet", rows)
    for name in (
        "._part-1.parquet",
        ".part-1.parquet.crc",
        "_SUCCESS",
        "_temporary/part-2.parquet",
    ):
        (tmp_path / "l" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "l" / name).write_bytes(b"x")
    assert len(pairs(tmp_path / "store", source(f"{tmp_path}/l/{pattern}"))) == 1


@pytest.mark.parametrize("form", ["parquet", "folder"])
def test_files_in_folders_that_a_glob_matches_are_counted_and_can_be_taken(
    tmp_path: Path, form: str
) -> None:
    """Spark writes a folder where pandas writes a file."""
    home, ending = tmp_path / "l", {"parquet": "parquet", "folder": "jpg"}[form]
    for number, name in enumerate(
        (f"1.{ending}", f"2.{ending}/a.{ending}", f"2.{ending}/_SUCCESS")
    ):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        if form == "folder":
            (home / name).write_bytes(JPEG)
        else:
            write(home / name, [{"url": f"http://a.example/{number}", "caption": "c"}])
    (home / "other").mkdir()
    (home / "other" / f"3.{ending}").write_bytes(b"x")
    spec = source(f"{home}/*.{ending}", format=form)
    assert len(pairs(tmp_path / "store", spec)) == 1
    # A picture may be called `_SUCCESS`.
    assert noted(tmp_path / "store") == {"in_matched_folder": 1 if form == "parquet" else 2}
    (home / f"1.{ending}").unlink()
    with pytest.raises(RecipeError, match=rf"in_matched_folder: 2\.{ending}/"):
        pairs(tmp_path / "store", spec)
    taken = pairs(tmp_path / "store", source(f"{home}/*.{ending}/**", format=form))
    assert len(taken) == (1 if form == "parquet" else 2)


def test_a_glob_of_images_finds_their_captions(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / "a.txt").write_text("words")
    (row,) = pairs(tmp_path / "store", source(f"{tmp_path}/*.jpg", format="folder"))
    assert row["caption"] == "words"


def test_what_is_no_row_changes_with_the_folder_and_computes_nothing_anew(tmp_path: Path) -> None:
    write(tmp_path / "l" / "1.parquet", [{"url": "http://a.example/1", "caption": "c"}])
    run(tmp_path / "store", source(tmp_path / "l"))
    assert noted(tmp_path / "store") == {}
    (tmp_path / "l" / "notes.md").touch()
    outcome = run(tmp_path / "store", source(tmp_path / "l"))["ingest"]
    assert outcome.computed == 0
    assert noted(tmp_path / "store") == {"other_file": 1}
    assert run(tmp_path / "store", source(tmp_path / "l"))["ingest"].up_to_date


def test_a_run_prints_why_rows_are_dropped_and_what_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / "a.csv").write_text("url,caption\nhttp://a.example/1,c\nragged\n")
    (tmp_path / "l" / "[notes].md").touch()
    outcome = run(tmp_path / "store", source(tmp_path / "l", format="csv"))["ingest"]
    out = io.StringIO()
    OutcomePrinter(Terminal(file=out, width=200)).step_ended(outcome)
    assert "1 bad_row: their `metadata` says file, place and cause" in out.getvalue()
    assert "web: 1 other_file (such as [notes].md)" in out.getvalue()
    shown = CliRunner().invoke(app, ["show", "pairs", "--store", str(tmp_path / "store")])
    assert "web: 1 other_file (such as [notes].md)" in shown.output


def codec(name: str, content: bytes) -> bytes:
    if name in ("gz", "xz"):
        return gzip.compress(content) if name == "gz" else lzma.compress(content)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, {"zst": "zstd"}.get(name, name)) as out:
        out.write(content)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("name", ["gz", "bz2", "zst", "lz4", "xz"])
@pytest.mark.parametrize("ending", [True, False])
def test_compressed_files_are_known_by_how_they_begin(
    tmp_path: Path, name: str, ending: bool
) -> None:
    path = tmp_path / ("l.csv" + (f".{name}" if ending else ""))
    path.write_bytes(codec(name, b"url,caption\nhttp://a.example/1,c\n"))
    (row,) = pairs(tmp_path / "store", source(tmp_path, format="csv"))
    assert row["caption"] == "c"


def test_a_folder_without_the_wanted_files_names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "l.csv.zip").write_bytes(b"PK")
    with pytest.raises(RecipeError, match=r"other_file: l\.csv\.zip"):
        pairs(tmp_path / "store", source(tmp_path, format="csv"))
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.svg").write_text("<svg/>")
    with pytest.raises(RecipeError, match=r"no rows.*1 other_file"):
        pairs(tmp_path / "store", source(tmp_path / "f", format="folder"))


@pytest.mark.parametrize("path", ["~/pics", "$DATA/pics"])
def test_a_path_that_a_shell_would_replace_is_told(tmp_path: Path, path: str) -> None:
    with pytest.raises(RecipeError, match="are not replaced: write the path out"):
        pairs(tmp_path / "store", source(path, format="folder"))


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("webdataset", ["a.tbz2", "b.txz", "c.tzst", "d.tar.gzip", "e.tar.zstd", "f.tgz"]),
        ("jsonl", ["a.jsonlines", "b.jl", "c.ndjson.bz", "d.jsonl.zstd"]),
        ("tsv", ["a.tab", "b.tab.gz", "c.tsv.bz"]),
    ],
)
def test_usual_endings_of_a_format_are_known(tmp_path: Path, form: str, names: list[str]) -> None:
    """The content says how a file is compressed, so none has to be."""
    home = tmp_path / "lists"
    home.mkdir()
    for number, name in enumerate(names):
        url = f"http://a.example/{number}"
        (home / name).write_bytes(
            {
                "webdataset": tar_of({f"{number}.jpg": jpeg(number), f"{number}.txt": b"c"}),
                "jsonl": json.dumps({"url": url, "caption": "c"}).encode(),
                "tsv": f"url\tcaption\n{url}\tc\n".encode(),
            }[form]
        )
    rows = pairs(tmp_path / "store", source(home, format=form))
    assert [(row["caption"], row["reason"]) for row in rows] == [("c", None)] * len(names)
