"""Every member of a tar and every file of a folder is a row, or is counted."""

from __future__ import annotations

import codecs
import hashlib
import io
import json
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import RecipeError
from curation.stages.ingest.formats import samples as samples_module
from curation.stages.ingest.formats import webdataset
from curation.stages.ingest.formats.samples import sample_keys
from curation.stages.ingest.formats.source_row import SourceRow
from curation.stages.ingest.sources.folder_images import images_of_folder
from curation.stages.ingest.sources.listing import list_source
from curation.stages.ingest.sources.notices import Notice
from curation.stages.ingest.sources.source import Source
from curation.stages.ingest.sources.source_file import FileInfo
from tests.ingest.helpers import jpeg, noted, pairs, run, source, table, write_tar

Members = list[tuple[str, bytes]]
JPEG = jpeg(1)


def samples(tmp_path: Path, members: Members, **spec: Any) -> dict[str, str | None]:
    """The captions of the samples that have a picture, by key."""
    path = write_tar(tmp_path / "s.tar", members)
    rows = pairs(tmp_path / "store", source(path, format="webdataset", **spec))
    return {r["source_key"]: r["caption"] for r in rows if r["location"]}


def with_texts(names: Iterable[str]) -> Members:
    return [
        member for n in names for member in ((f"{n}.jpg", JPEG), (f"{n}.txt", f"of {n}".encode()))
    ]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (["a.jpg", "a.txt", "b.jpg", "b.txt"], {"a": "a.txt", "b": "b.txt"}),
        (["a.jpg", "b.jpg", "b.txt", "a.txt"], {"a": "a.txt", "b": "b.txt"}),
        (["v1.0.jpg", "v1.0.txt", "v1.1.jpg", "v1.1.txt"], {"v1.0": "v1.0.txt", "v1.1": "v1.1.txt"}),
        (["v1.0.jpg", "v1.1.jpg"], {"v1.0": None, "v1.1": None}),
        (["p.jpg", "p.txt", "p.1.jpg", "p.1.txt"], {"p": "p.txt", "p.1": "p.1.txt"}),
        (["7.depth.png", "7.jpg", "7.txt"], {"7": "7.txt"}),
        (["7.left.png", "7.right.png", "7.txt"], {"7": "7.txt"}),
        (["x.y.left.png", "x.y.txt"], {"x.y": "x.y.txt"}),
        (["./a.jpg", "a.txt"], {"a": "a.txt"}),
        (["d/a.jpg", "e/a.txt", "e/a.jpg"], {"d/a": None, "e/a": "e/a.txt"}),
        (["a.JPG", "a.TXT"], {"a": "a.TXT"}),
        (["A.jpg", "a.txt", "a.jpg"], {"A": None, "a": "a.txt"}),
        (
            ["caf\u00e9.jpg", "cafe\u0301.txt", "cafe\u0301.jpg"],
            {"caf\u00e9": None, "cafe\u0301": "cafe\u0301.txt"},
        ),
        (["one\ntwo.jpg", "one\ntwo.txt"], {"one\ntwo": "one\ntwo.txt"}),
        (["a.jfif", "b.avif", "c.HEIC", "d", "e.jpg_large"], dict.fromkeys("abcde")),
    ],
)  # fmt: skip
def test_members_of_one_sample_are_found_by_their_names(
    tmp_path: Path, members: list[str], expected: dict[str, str | None]
) -> None:
    contents = [(n, n.encode() if n.lower().endswith("txt") else JPEG) for n in members]
    assert samples(tmp_path, contents) == expected


NAMED_AFTER_PICTURES = [
    ({"a.jpg": None, "a.jpg.txt": "long"}, {"a": ("long", {})}),
    ({"a.jpg": None, "a.txt": "short", "a.jpg.txt": "long"}, {"a": ("short", {"jpg.txt": "long"})}),
    ({"v1.0.jpg": None, "v1.0.jpg.TXT": "long"}, {"v1.0": ("long", {})}),
    ({"a.jpg": None, "a.jpg.json": '{"n": 1}', "a.txt": "c"}, {"a": ("c", {"n": 1})}),
    (
        {"a.jpg": None, "a.json": '{"n": 1}', "a.jpg.json": '{"n": 2}'},
        {"a": (None, {"n": 1, "jpg.json": {"n": 2}})},
    ),
    ({"a.jpg": None, "a.jpg.caption": "k"}, {"a": (None, {"caption": "k"})}),
]


@pytest.mark.parametrize(("members", "expected"), NAMED_AFTER_PICTURES)
@pytest.mark.parametrize("form", ["webdataset", "folder"])
def test_a_text_may_be_named_after_the_whole_name_of_its_picture(
    tmp_path: Path,
    members: dict[str, str | None],
    expected: dict[str, tuple[str | None, dict[str, Any]]],
    form: str,
) -> None:
    contents = [(n, JPEG if text is None else text.encode()) for n, text in members.items()]
    place = tmp_path / "s"
    if form == "folder":
        place.mkdir()
        for name, content in contents:
            (place / name).write_bytes(content)
    else:
        write_tar(place, contents)
    rows = pairs(tmp_path / "store", source(place, format=form))
    read = {
        r["source_key"].removesuffix(".jpg"): (r["caption"], json.loads(r["metadata"] or "{}"))
        for r in rows
    }
    assert read == expected
    unused = {"jpg.txt", "caption"} & {name for _, values in read.values() for name in values}
    assert noted(tmp_path / "store") == ({"unused_text": 1} if unused else {})


def test_each_picture_of_a_folder_has_the_text_of_its_whole_name(tmp_path: Path) -> None:
    home = tmp_path / "pics"
    home.mkdir()
    for name in ("a.jpg", "a.png", "b.jpg", "c.jpg.jpg"):
        (home / name).write_bytes(JPEG)
    for name in ("a.jpg.txt", "a.png.txt", "c.jpg.txt", "d.jpg.txt"):
        (home / name).write_text(f"of {name}")
    rows = pairs(tmp_path / "store", source(home, format="folder"))
    assert {r["source_key"]: r["caption"] for r in rows} == {
        "a.jpg": "of a.jpg.txt",
        "a.png": "of a.png.txt",
        "b.jpg": None,
        "c.jpg.jpg": "of c.jpg.txt",
    }
    assert noted(tmp_path / "store") == {"other_file": 1}


@settings(max_examples=25, deadline=None)
@given(
    caption=st.text(
        st.sampled_from(" \t\n\r\u00a0\u3000\u2028\x0b\x1fa&;"), min_size=1, max_size=8
    ),
    end=st.sampled_from(["", "\n", "\r\n"]),
)
def test_a_caption_beside_a_picture_arrives_as_it_was_written(caption: str, end: str) -> None:
    texts = samples_module.Texts()
    texts.add("a.txt", "txt", f"{caption}{end}".encode())
    row = next(item for item in texts.row({}, "a") if isinstance(item, SourceRow))
    assert row.caption == (caption.rstrip("\r\n") if caption.strip() else None)


def test_long_names_and_chains_of_links_take_no_time() -> None:
    started = time.process_time()
    name = f"a{'.b' * 2000}.jpg"
    keys = sample_keys((f"{n}{name}", True) for n in range(500))
    assert set(keys.values()) == {f"{n}{name}"[:-4] for n in range(500)}
    links = {str(n): webdataset._Member("p", link=str(n + 1)) for n in range(20_000)}
    links["20000"] = webdataset._Member("p", is_picture=True)
    followed = [webdataset._followed(links, name) for name in links]
    assert followed[0] is None and sum(member is not None for member in followed) == 41
    files = [FileInfo(f"f/a.{n}", 1, 1) for n in range(20_000)]
    assert len(images_of_folder(files)) == 20_000
    assert time.process_time() - started < 5


def test_names_that_are_not_utf8_are_not_mixed_up(tmp_path: Path) -> None:
    names = [
        b"caf\xe9".decode(errors="surrogateescape"),
        b"caf\xe8".decode(errors="surrogateescape"),
    ]
    path = write_tar(tmp_path / "s.tar", [(f"{n}.jpg", jpeg(i)) for i, n in enumerate(names)])
    run(tmp_path / "store", source(path, format="webdataset"), until="fetch")
    rows = table(tmp_path / "store", "images").read().to_pylist()
    assert [(r["source_key"], r["status"]) for r in rows] == [
        (r"caf\xe9", "ok"),
        (r"caf\xe8", "ok"),
    ]
    assert len({r["sha256"] for r in rows}) == 2


@pytest.mark.parametrize(
    "members",
    [
        [("x.jpg", jpeg(1)), ("x.txt", b"old"), ("x.jpg", jpeg(2)), ("x.txt", b"new")],
        [("x.jpg", jpeg(1)), ("y.jpg", JPEG), ("./x.jpg", jpeg(2)), ("x.txt", b"new")],
        [("x.jpg", jpeg(1)), ("x.jpg", jpeg(2)), ("x.txt", b"new")],
    ],
)
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_of_members_with_one_name_the_last_counts(
    tmp_path: Path, members: Members, mode: str
) -> None:
    path = tmp_path / "s.tar"
    with tarfile.open(path, mode) as out:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    run(tmp_path / "store", source(path, format="webdataset"), until="fetch")
    rows = {r["source_key"]: r for r in table(tmp_path / "store", "images").read().to_pylist()}
    assert (rows["x"]["caption"], rows["x"]["status"]) == ("new", "ok")
    assert rows["x"]["sha256"] == hashlib.sha256(jpeg(2)).hexdigest()
    assert noted(tmp_path / "store")["replaced_member"] >= 1


def test_entries_of_every_kind_are_rows_or_counted(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    kinds = {
        "d": tarfile.DIRTYPE,
        "p.jpg": tarfile.FIFOTYPE,
        "dev.jpg": tarfile.CHRTYPE,
        "hard.jpg": tarfile.LNKTYPE,
        "soft.jpg": tarfile.SYMTYPE,
        "lost.jpg": tarfile.SYMTYPE,
    }
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
        for name, content in [
            *with_texts(["a"]),
            ("._a.jpg", b"fork"),
            ("__MACOSX/._a.jpg", b"fork"),
            (".DS_Store", b"x"),
            ("n" * 300 + ".jpg", JPEG),
            ("readme.md", b"words"),
            ("weights.npy", b"\x93NUMPY\x00\xff"),
            ("big.bin", bytes(100_000)),
        ]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
        for name, kind in kinds.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "nowhere.jpg" if name == "lost.jpg" else "a.jpg"
            out.addfile(info)
    run(tmp_path / "store", source(path, format="webdataset"), until="fetch")
    by_key = {r["source_key"]: r for r in table(tmp_path / "store", "images").read().to_pylist()}
    ok = {key for key, r in by_key.items() if r["status"] == "ok"}
    assert ok == {"a", "n" * 300, "hard", "soft"}
    assert {k for k, r in by_key.items() if r["reason"] == "no_image"} == {
        "lost",
        "readme",
        "weights",
        "big",
    }
    assert "a link to a file that is not in the tar" in by_key["lost"]["metadata"]
    assert noted(tmp_path / "store") == {
        "directory": 1,
        "special_file": 2,
        "hidden_file": 3,
        "other_member": 2,
        "unused_text": 1,
        "unreadable_text": 1,
    }


TEXTS: dict[str, tuple[bytes, Any, str | None]] = {
    "a mark": ("\ufeffwords".encode(), "words", None),
    "UTF-16": ("wörds".encode("utf-16"), "wörds", None),
    "UTF-32": ("wörds".encode("utf-32"), "wörds", None),
    "UTF-32, the other way": (codecs.BOM_UTF32_BE + "wörds".encode("utf-32-be"), "wörds", None),
    "Latin-1": (b"caf\xe9", None, "byte 0xe9 at 3 is not UTF-8"),
    "too large": (b"x" * 70_000, None, "larger than 65,536 bytes"),
    "NUL": (b"a\x00b", None, "NUL"),
    "empty": (b"", None, None),
}


@pytest.mark.parametrize("kind", ["tar", "folder"])
@pytest.mark.parametrize("name", TEXTS)
def test_a_caption_that_cannot_be_read_is_told(tmp_path: Path, kind: str, name: str) -> None:
    content, caption, problem = TEXTS[name]
    (tmp_path / "f").mkdir()
    if kind == "tar":
        write_tar(tmp_path / "f" / "s.tar", [("a.jpg", JPEG), ("a.txt", content)])
    else:
        (tmp_path / "f" / "a.jpg").write_bytes(JPEG)
        (tmp_path / "f" / "a.txt").write_bytes(content)
    spec = source(tmp_path / "f", format="webdataset" if kind == "tar" else "folder")
    (stored_row,) = pairs(tmp_path / "store", spec)
    assert (stored_row["caption"], stored_row["reason"]) == (caption, None)
    message = json.loads(stored_row["metadata"] or "{}").get("unreadable")
    assert (problem is None) == (message is None)
    assert problem is None or (problem in message and "a.txt" in message)
    assert noted(tmp_path / "store") == ({"unreadable_text": 1} if problem else {})


@pytest.mark.parametrize("kind", ["tar", "folder"])
@pytest.mark.parametrize(
    ("content", "metadata"),
    [
        (b'{"width": 3, "deep": {"a": [1, null]}}', {"width": 3, "deep": {"a": [1, None]}}),
        (b'["one", "two"]', {"json": ["one", "two"]}),
        (b"null", {"json": None}),
        (b"7", {"json": 7}),
        (b"{", {"unreadable": "not"}),
        (b'{"a": 1, "a": 2}', {"unreadable": "twice"}),
    ],
)
def test_json_beside_a_picture_arrives_or_is_told(
    tmp_path: Path, kind: str, content: bytes, metadata: dict[str, Any]
) -> None:
    (tmp_path / "f").mkdir()
    members = [("a.jpg", JPEG), ("a.json", content), ("a.txt", b"words"), ("a.cls", b"3")]
    if kind == "tar":
        write_tar(tmp_path / "f" / "s.tar", members)
    else:
        for name, member in members:
            (tmp_path / "f" / name).write_bytes(member)
    spec = source(tmp_path / "f", format="webdataset" if kind == "tar" else "folder")
    (stored_row,) = pairs(tmp_path / "store", spec)
    assert stored_row["caption"] == "words"
    values = json.loads(stored_row["metadata"])
    assert ("unreadable" in values) == ("unreadable" in metadata)
    if "unreadable" not in metadata:
        assert values == metadata | {"cls": "3"}


@pytest.mark.parametrize("form", ["webdataset", "folder"])
def test_a_text_with_the_name_of_a_field_is_kept_beside_it(tmp_path: Path, form: str) -> None:
    values = {"cls": 5, "txt": "of the field"}
    members = [("a.jpg", JPEG), ("a.json", json.dumps(values).encode())]
    members += [("a.txt", b"of the file"), ("a.cls", b"3"), ("a.tag", b"x")]
    (tmp_path / "f").mkdir()
    if form == "webdataset":
        write_tar(tmp_path / "f" / "s.tar", members)
    for name, member in members if form == "folder" else ():
        (tmp_path / "f" / name).write_bytes(member)
    spec = source(tmp_path / "f", format=form, columns={"caption": "txt"})
    (row,) = pairs(tmp_path / "store", spec)
    assert row["caption"] == "of the field"
    assert json.loads(row["metadata"]) == {"cls": 5, ".cls": "3", "txt": "of the file", "tag": "x"}


@pytest.mark.parametrize("value", [["a", "b"], {"en": "a"}])
def test_a_caption_that_is_a_list_is_told_and_kept_as_metadata(tmp_path: Path, value: Any) -> None:
    members = [("a.jpg", JPEG), ("a.json", json.dumps({"alt": value}).encode())]
    members += [("b.jpg", jpeg(2)), ("b.json", b'{"alt": "words"}')]
    path = write_tar(tmp_path / "s.tar", members)
    spec = source(path, format="webdataset", columns={"caption": "alt"})
    rows = pairs(tmp_path / "store", spec)
    assert [r["caption"] for r in rows] == [None, "words"]
    metadata = json.loads(rows[0]["metadata"])
    assert metadata["alt"] == value and "alt: " in metadata["unreadable"]


def test_the_picture_of_a_sample_can_be_chosen(tmp_path: Path) -> None:
    members = [(f"7.{e}", JPEG) for e in ("depth.png", "jpg", "png", "left.png")]
    path = write_tar(tmp_path / "s.tar", [*members, ("7.txt", b"c")])
    for wanted, chosen in {None: "7.jpg", "png": "7.png", "left.png": "7.left.png"}.items():
        spec = source(path, format="webdataset", **({"image": wanted} if wanted else {}))
        (stored_row,) = pairs(tmp_path / str(wanted), spec)
        assert stored_row["location"] == f"{path}#{chosen}"
        assert noted(tmp_path / str(wanted)) == {"other_picture": 3}


@pytest.mark.parametrize("wanted", ["right.png", ".Right.PNG"])
def test_pictures_that_only_parts_of_their_names_tell_apart_are_one_sample(
    tmp_path: Path, wanted: str
) -> None:
    members = [
        (f"{key}.{e}", JPEG) for key in ("v1.0-a", "v1.0-b") for e in ("left.png", "right.png")
    ]
    path = write_tar(tmp_path / "s.tar", members)
    rows = pairs(tmp_path / "store", source(path, format="webdataset", image=wanted))
    assert {row["source_key"]: row["location"] for row in rows} == {
        key: f"{path}#{key}.right.png" for key in ("v1.0-a", "v1.0-b")
    }
    assert noted(tmp_path / "store") == {"other_picture": 2}


@pytest.mark.parametrize(
    "spec",
    [
        {"image": "webp"},
        {"columns": {"caption": "alt"}},
        {"columns": {"key": "id"}},
    ],
)
def test_settings_that_no_sample_fulfils_are_refused(tmp_path: Path, spec: dict[str, Any]) -> None:
    path = write_tar(tmp_path / "s.tar", with_texts("ab"))
    with pytest.raises(RecipeError, match="no sample has what"):
        pairs(tmp_path / "store", source(path, format="webdataset", **spec))


@pytest.mark.parametrize(
    ("after", "problem"),
    [(b"\x00" * 4096, None), (b"", None), (b"tail" * 300, "more bytes follow")],
)
def test_what_follows_the_end_of_a_tar_is_told(
    tmp_path: Path, after: bytes, problem: str | None
) -> None:
    path = write_tar(tmp_path / "s.tar", with_texts("a"))
    path.write_bytes(path.read_bytes() + after)
    rows = pairs(tmp_path / "store", source(path, format="webdataset"))
    assert [r["reason"] for r in rows] == [None, *(["bad_row"] if problem else [])]
    assert problem is None or problem in json.loads(rows[-1]["metadata"])["unreadable"]


NAMES = st.builds(
    lambda folder, stem, ending: f"{folder}{stem}{ending}",
    st.sampled_from(["", "d/", "./", "._", ".h/"]),
    st.sampled_from(["a", "b", "a.b", "a.b.c", "é", "A"]),
    st.sampled_from([".jpg", ".png", ".txt", ".json", ".cls", "", ".seg.png", ".npy"]),
)


@settings(max_examples=150, deadline=None)
@given(names=st.lists(NAMES, max_size=12))
def test_no_member_passes_in_silence(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    def content(number: int, name: str) -> bytes:
        if name.endswith((".jpg", ".png")):
            return JPEG
        return b'{"f%d": 1}' % number if name.endswith(".json") else b"t%d" % number

    members = [(n, content(i, n)) for i, n in enumerate(names)]
    path = write_tar(tmp_path_factory.mktemp("t") / "s.tar", members)
    spec = Source(name="web", role="pool", format="webdataset", path=str(path))
    (file,) = list_source(spec, 100).files
    items = list(webdataset.read(file))
    rows = [item for item in items if isinstance(item, SourceRow)]
    codes = [item.code for item in items if isinstance(item, Notice) for _ in range(item.count)]
    silent = codes.count("unused_text")
    read = sum(len(json.loads(r.metadata)) for r in rows if r.metadata)
    used = sum((r.member is not None) + (r.caption is not None) for r in rows)
    assert used + read + len(codes) - silent == len(names)


@settings(max_examples=100, deadline=None)
@given(names=st.sets(NAMES, max_size=12), seed=st.randoms())
def test_the_order_of_members_decides_no_sample(names: set[str], seed: Any) -> None:
    listed = [(n, n.endswith(("jpg", "png"))) for n in sorted(names)]
    mixed = list(listed)
    seed.shuffle(mixed)
    assert sample_keys(listed) == sample_keys(mixed)
