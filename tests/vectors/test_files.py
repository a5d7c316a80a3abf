"""Vectors and ids are read as they were written, in bounded parts; what is no vector has a reason."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.algorithms.arrays.vectors import unit_vectors
from curation.errors import RecipeError, StoreError
from curation.inspect.queries import read_queries
from curation.media.vectors import ids
from curation.media.vectors.ids import build_index, read_ids
from curation.media.vectors.vector_set import VectorSet, as_stored
from tests.vectors.helpers import FORMS, list_column, write_vectors

FEW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FEW
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(3, 40),
    dim=st.integers(1, 9),
    form=st.sampled_from(FORMS),
    dtype=st.sampled_from(["<f2", "<f4", "<f8"]),
)
def test_any_rows_are_read_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rows: int, dim: int, form: str, dtype: str
) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, dim)).astype(dtype)
    spec = write_vectors(tmp_path_factory.mktemp("v") / "x", form, vectors, None)
    brought = VectorSet(spec["import"])
    assert (brought.rows, brought.dim) == (rows, dim)
    numbers = rng.integers(-1, rows, 30)
    taken, reasons = brought.take(numbers)
    expected, _ = as_stored(vectors)
    for number, vector, reason in zip(numbers, taken, reasons, strict=True):
        assert reason == ("missing" if number < 0 else None)
        assert (vector == (expected[number] if number >= 0 else 0)).all()


@FEW
@given(seed=st.integers(0, 2**32 - 1), dim=st.integers(1, 64), wide=st.booleans())
def test_what_embed_stored_comes_back_bit_for_bit(seed: int, dim: int, wide: bool) -> None:
    features = np.random.default_rng(seed).normal(size=(50, dim)).astype(np.float32)
    stored, valid = unit_vectors(features)
    again, still_valid = as_stored(stored.astype(np.float32) if wide else stored)
    assert (again == stored).all() and (still_valid == valid).all()


def test_raw_features_become_what_embed_makes_of_them() -> None:
    features = np.random.default_rng(0).normal(size=(200, 33)).astype(np.float32) * 17
    assert (as_stored(features)[0] == unit_vectors(features)[0]).all()


@FEW
@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.integers(1, 300),
    form=st.sampled_from([("<f4", 100), ("<f8", 990)]),
    data=st.data(),
)
def test_the_size_of_a_vector_makes_no_difference(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    dim: int,
    form: tuple[str, int],
    data: st.DataObject,
) -> None:
    """Squares of numbers from 10^19 on overflow in float32, those below 10^-19 vanish."""
    dtype, most = form
    vectors = np.random.default_rng(seed).normal(size=(20, dim)).astype(dtype)
    expected, _ = as_stored(vectors)
    exponents = data.draw(st.lists(st.integers(-most, most), min_size=20, max_size=20))
    sized = np.ldexp(vectors, np.array(exponents)[:, None]).astype(dtype)
    stored, valid = as_stored(sized)
    assert valid.all() and stored.tobytes() == expected.tobytes()
    path = tmp_path_factory.mktemp("queries") / "q.npy"
    np.save(path, sized)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    assert np.allclose(read_queries(path), vectors / lengths, rtol=1e-6, atol=1e-9)


def test_what_is_no_direction_stays_none_beside_very_long_vectors() -> None:
    vectors = np.array([[1e30, 0], [0, 0], [np.nan, 1e30], [np.inf, 1], [1e-30, -1e-30]])
    stored, valid = as_stored(vectors.astype(np.float32))
    assert valid.tolist() == [True, False, False, False, True]
    assert stored[0].tolist() == [1, 0]
    assert (stored[1:4] == 0).all()


def test_other_byte_orders_and_memory_orders_are_read(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 4))
    np.save(tmp_path / "v.npy", np.asfortranarray(vectors.astype(">f4")))
    taken, _ = VectorSet(str(tmp_path / "v.npy")).take(np.arange(6))
    assert (taken == as_stored(vectors.astype(np.float32))[0]).all()


@FEW
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 300),
    dim=st.integers(1, 300),
    dtype=st.sampled_from(["<f2", "<f4", "<f8"]),
)
def test_every_layout_of_a_file_gives_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rows: int, dim: int, dtype: str
) -> None:
    """In C and Fortran order, big-endian, cut out of a larger array, and as lists of Parquet."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, dim)).astype(dtype)
    folder = tmp_path_factory.mktemp("layouts")
    larger = np.zeros((2 * rows, 2 * dim), dtype)
    larger[::2, 1::2] = vectors
    np.save(folder / "c.npy", vectors)
    np.save(folder / "fortran.npy", np.asfortranarray(vectors))
    np.save(folder / "big.npy", vectors.astype(vectors.dtype.newbyteorder(">")))
    np.save(folder / "big_fortran.npy", np.asfortranarray(vectors).astype(dtype.replace("<", ">")))
    np.save(folder / "cut.npy", larger[::2, 1::2])
    for fixed in (False, True):
        lists = pa.table({"v": list_column(vectors, fixed)})
        pq.write_table(lists, folder / f"{fixed}.parquet", row_group_size=100)
    numbers = rng.integers(0, rows, 2 * rows)
    expected = as_stored(vectors[numbers])[0].tobytes()
    for file in sorted(folder.iterdir()):
        assert VectorSet(str(file)).take(numbers)[0].tobytes() == expected, file.name


@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_damaged_headers_of_arrays_are_errors_that_name_the_file(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("damaged") / "v.npy"
    np.save(path, rng.normal(size=(3, 4)))
    whole = path.read_bytes()
    for _ in range(60):
        content = bytearray(whole)
        for place in rng.integers(6, 128, rng.integers(1, 5)):
            content[place] = rng.choice(bytearray(b"(){}[]'\"\\\x00\n,:<>fV8-1 \xff"))
        path.write_bytes(content)
        try:
            VectorSet(str(path)).take(np.arange(1))
        except RecipeError as error:
            assert "v.npy" in str(error)


def test_what_systems_leave_beside_vectors_is_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3)))
    (tmp_path / "._a.npy").write_bytes(b"\x00\x05\x16\x07")
    assert VectorSet(str(tmp_path)).rows == 2


def test_what_has_no_direction_or_another_length_has_a_reason(tmp_path: Path) -> None:
    values = [[1.0, 2.0], None, [0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0], [1.0], []]
    pq.write_table(
        pa.table({"v": pa.array(values, pa.list_(pa.float32()))}), tmp_path / "v.parquet"
    )
    brought = VectorSet(str(tmp_path / "v.parquet"))
    vectors, reasons = brought.take(np.arange(7))
    wrong = "wrong_dimension"
    assert reasons.tolist() == [None, "missing", *["not_finite"] * 3, wrong, wrong]
    assert not vectors[1:].any()


def test_an_empty_list_in_the_first_row_is_one_row_without_a_vector(tmp_path: Path) -> None:
    values = pa.array([[], None, [1.0, 2.0], [3.0, 4.0], []], pa.list_(pa.float32()))
    pq.write_table(pa.table({"v": values}), tmp_path / "v.parquet")
    brought = VectorSet(str(tmp_path / "v.parquet"))
    assert brought.dim == 2
    wrong = "wrong_dimension"
    assert brought.take(np.arange(5))[1].tolist() == [wrong, "missing", None, None, wrong]


def test_a_null_within_a_vector_is_no_number(tmp_path: Path) -> None:
    values = pa.array([[1.0, None], [1.0, 1.0]], pa.list_(pa.float64(), 2))
    pq.write_table(pa.table({"v": values}), tmp_path / "v.parquet")
    assert VectorSet(str(tmp_path / "v.parquet")).take(np.arange(2))[1].tolist() == [
        "not_finite",
        None,
    ]


def test_files_that_hold_no_vectors_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(tmp_path / "whole.npy", np.ones((3, 2), int))
    np.save(tmp_path / "flat.npy", np.ones(3))
    np.save(tmp_path / "none.npy", np.ones((0, 3)))
    np.savez(tmp_path / "several.npy.npz", a=np.ones((2, 2)))
    (tmp_path / "several.npy.npz").rename(tmp_path / "several.npy")
    np.save(tmp_path / "short.npy", np.ones((4, 8)))
    content = (tmp_path / "short.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(content[:-8])
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "text.parquet").write_text("no Parquet")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.npy")
    for name in ("objects", "whole", "flat", "none", "several", "short", "text", "pipe", "absent"):
        with pytest.raises(RecipeError, match=name):
            VectorSet(str(tmp_path / f"{name}.npy"))
    for name in ("text.parquet", "empty", "absent"):
        with pytest.raises(RecipeError, match=name):
            VectorSet(str(tmp_path / name))


HEADERS = [
    "(",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2),",
    "[" * 300,
    "-" * 9000 + "1",
    "{" * 9000,
    "{'descr': 'O', 'fortran_order': False, 'shape': (2, 2)}",
    "{'descr': [('a', '<f4', (1 << 40,))], 'fortran_order': False, 'shape': (2, 2)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9)}",
    "{'descr': [[[]]], 'fortran_order': 2, 'shape': 'x'}",
    "{'descr': {'names': 3}, 'fortran_order': False, 'shape': (1, 1)}",
    "{[]: 1}",
    "\0",
    "\t\n 1",
]


@pytest.mark.parametrize("version", [1, 2, 3, 9])
@pytest.mark.parametrize("header", HEADERS)
def test_a_header_of_any_text_is_refused(tmp_path: Path, header: str, version: int) -> None:
    text = header.encode()
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    (tmp_path / "v.npy").write_bytes(b"\x93NUMPY" + bytes([version, 0]) + size + text + bytes(64))
    with pytest.raises(RecipeError, match=r"v\.npy"):
        VectorSet(str(tmp_path / "v.npy"))


def test_a_folder_holds_one_kind_of_one_dimension(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3)))
    (tmp_path / "README").write_text("left alone")
    assert VectorSet(str(tmp_path)).rows == 2
    np.save(tmp_path / "b.npy", np.ones((2, 4)))
    with pytest.raises(RecipeError, match="dimension 4"):
        VectorSet(str(tmp_path))
    pq.write_table(
        pa.table({"v": list_column(np.ones((2, 3)), fixed=True)}), tmp_path / "b.parquet"
    )
    with pytest.raises(RecipeError, match=r"several kinds: \.npy, parquet"):
        VectorSet(str(tmp_path))


def test_the_column_of_vectors_is_named_where_there_are_several(tmp_path: Path) -> None:
    lists = list_column(np.eye(3), fixed=False)
    pq.write_table(pa.table({"a": lists, "b": lists, "id": [1, 2, 3]}), tmp_path / "v.parquet")
    path = str(tmp_path / "v.parquet")
    with pytest.raises(RecipeError, match=r"several columns of lists of floats.* Valid: a, b"):
        VectorSet(path)
    with pytest.raises(RecipeError, match=r"'id' has the type int64"):
        VectorSet(path, "id")
    with pytest.raises(RecipeError, match=r"no column 'c'"):
        VectorSet(path, "c")
    assert VectorSet(path, "b").dim == 3


def test_a_damaged_row_group_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    vectors = np.random.default_rng(0).normal(size=(2000, 8))
    pq.write_table(pa.table({"v": list_column(vectors, fixed=True)}), path, row_group_size=500)
    content = bytearray(path.read_bytes())
    damaged = pq.read_metadata(path).row_group(1).column(0)
    start = damaged.dictionary_page_offset or damaged.data_page_offset
    content[start : start + 200] = b"\xff" * 200
    path.write_bytes(content)
    with pytest.raises((RecipeError, StoreError), match=f"{re.escape(str(path))}.*row group 1"):
        VectorSet(str(path)).take(np.arange(2000))


def ids_in(folder: Path, ids: list[str], form: str) -> tuple[str, str | None]:
    """Write ids in a form; return `file` and `column`."""
    folder.mkdir(exist_ok=True)
    if form == "npy":
        np.save(folder / "ids.npy", np.array(ids))
    elif form == "bytes":
        np.save(folder / "ids.npy", np.array([i.encode() for i in ids]))
    elif form == "txt":
        (folder / "ids.txt").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")
    else:
        pq.write_table(pa.table({"id": ids}), folder / "ids.parquet")
    return str(next(folder.iterdir())), "id" if form == "parquet" else None


@FEW
@given(
    ids=st.lists(
        st.text(
            st.characters(codec="utf-8", exclude_characters="\x00\r\n"), min_size=1, max_size=9
        ),
        min_size=1,
        max_size=30,
        unique=True,
    ),
    form=st.sampled_from(["npy", "bytes", "txt", "parquet"]),
)
def test_every_id_finds_its_vector_and_no_other_does(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], form: str
) -> None:
    folder = tmp_path_factory.mktemp("ids")
    np.save(folder / "v.npy", np.ones((len(ids), 2)))
    vectors = VectorSet(str(folder / "v.npy"))
    file, column = ids_in(folder / "ids", ids, form)
    index = build_index(read_ids(vectors, file, column, "key"), vectors)
    asked = [*ids[::-1], "\x01 no id of them", None]
    expected = [*range(len(ids))[::-1], -1, -1]
    assert index.find(asked).tolist() == expected


def test_numbers_are_ids_too(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((3, 2)))
    np.save(tmp_path / "i.npy", np.array([7, 12, 5]))
    vectors = VectorSet(str(tmp_path / "v.npy"))
    index = build_index(read_ids(vectors, str(tmp_path / "i.npy"), None, "key"), vectors)
    assert index.find(["12", "5", "07"]).tolist() == [1, 2, -1]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_ids_of_a_text_are_its_lines(start: bytes, end: bytes, tmp_path: Path) -> None:
    """Without the mark that editors of Windows put first, which no key has."""
    np.save(tmp_path / "v.npy", np.ones((2, 3)))
    vectors = VectorSet(str(tmp_path / "v.npy"))
    (tmp_path / "i.txt").write_bytes(start + b"a" + end + b"b" + end)
    index = build_index(read_ids(vectors, str(tmp_path / "i.txt"), None, "key"), vectors)
    assert index.find(["a", "b"]).tolist() == [0, 1]


def test_repeated_ids_and_too_few_are_errors(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((3, 2)))
    vectors = VectorSet(str(tmp_path / "v.npy"))
    with pytest.raises(RecipeError, match=r"1 ids are repeated; the vectors 0 and 2"):
        build_index([["a", "b"], ["a"]], vectors)
    with pytest.raises(RecipeError, match=r"3 vectors, but there are 2 ids"):
        build_index([["a", "b"]], vectors)
    assert build_index([["a", None, None]], vectors).find(["a"]).tolist() == [0]


def test_checksums_are_read_as_text_or_bytes_and_are_checked(tmp_path: Path) -> None:
    sums = [hashlib.sha256(bytes([n])) for n in range(3)]
    np.save(tmp_path / "v.npy", np.ones((3, 2)))
    vectors = VectorSet(str(tmp_path / "v.npy"))
    texts = [s.hexdigest() for s in sums]
    columns = {
        "text": [t.upper() for t in texts],
        "raw": pa.array([s.digest() for s in sums], pa.binary(32)),
    }
    pq.write_table(pa.table({**columns, "key": ["a", "b", "c"]}), tmp_path / "i.parquet")
    for column in ("text", "raw"):
        parts = read_ids(vectors, str(tmp_path / "i.parquet"), column, "sha256")
        assert build_index(parts, vectors).find(texts).tolist() == [0, 1, 2]
    with pytest.raises(RecipeError, match=r"'a' is no SHA-256"):
        list(read_ids(vectors, str(tmp_path / "i.parquet"), "key", "sha256"))


def test_ids_that_are_none_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((3, 2)))
    np.save(tmp_path / "floats.npy", np.ones(3))
    pq.write_table(pa.table({"f": [1.5, 2.5, 3.5]}), tmp_path / "f.parquet")
    vectors = VectorSet(str(tmp_path / "v.npy"))
    for file, column, problem in (
        (None, "id", "ids.file"),
        ("floats.npy", None, "texts or whole numbers"),
        ("floats.npy", "f", "has no columns"),
        ("f.parquet", None, "Set ids.column"),
        ("f.parquet", "f", "type double"),
        ("absent.txt", None, "no regular file"),
    ):
        with pytest.raises(RecipeError, match=problem):
            list(read_ids(vectors, file and str(tmp_path / file), column, "key"))


def test_long_ids_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_PART_BYTES", 1000)
    np.save(tmp_path / "v.npy", np.ones((30, 3)))
    texts = [f"{n:0300d}" for n in range(30)]
    (tmp_path / "i.txt").write_text("\n".join(texts))
    parts = list(read_ids(VectorSet(str(tmp_path / "v.npy")), str(tmp_path / "i.txt"), None, "key"))
    assert [text for part in parts for text in part] == texts
    assert max(map(len, parts)) <= 4
