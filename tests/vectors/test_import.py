"""Imported vectors are joined to rows as the recipe says, and count by their content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.errors import RecipeError, StoreError
from curation.flow import plan
from curation.media.encoders.compatibility import Space
from curation.media.encoders.imported import check_vectors
from curation.media.encoders.params import EncoderSpec
from curation.media.vectors.file_order import order_problem
from curation.media.vectors.vector_set import as_stored
from curation.recipe import parse_recipe
from curation.runner.gc.collect import collect
from curation.runner.gc.kept_runs import Retention
from curation.runner.preflight import check_encoders, check_inputs
from curation.stages.embed.imported import ImportedRows
from curation.store.store import Store
from tests.vectors.helpers import (
    FORMS,
    contents,
    rows,
    run,
    source,
    table,
    without_pixels,
    write_list,
    write_vectors,
)

DIM = 4


def vectors_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


def sums(count: int) -> list[str]:
    return [hashlib.sha256(bytes([n])).hexdigest() for n in range(count)]


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), count=st.integers(3, 35), form=st.sampled_from(FORMS))
def test_every_join_and_form_gives_each_row_its_vector(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, count: int, form: str
) -> None:
    """Ids in any order, of some of the rows and of others that the source does not list."""
    folder = tmp_path_factory.mktemp("import")
    join = data.draw(st.sampled_from(["key", "sha256", "rows"]))
    keys, checksums = [f"k{n}" for n in range(count)], sums(count)
    write_list(folder / "list.parquet", keys, sha256=checksums)
    vectors = vectors_of(count + 2)
    known = data.draw(st.lists(st.integers(0, count + 1), min_size=3, unique=True))
    known = list({0: None, **dict.fromkeys(known)}) if join != "rows" else list(range(count))
    ids = [*keys, "x", "y"] if join == "key" else [*checksums, "0" * 64, "1" * 64]
    listed = None if join == "rows" else [ids[n] for n in known]
    spec = write_vectors(folder / "v", form, vectors[known], listed)
    spec["ids"]["join"] = join
    place = source(folder / "list.parquet", key="key", sha256="sha256")
    run(folder / "store", without_pixels(spec, place), until="embed")
    stored, _ = as_stored(vectors)
    order = [row["source_key"] for row in rows(folder / "store", "images")]
    assert order == keys
    for number, row in enumerate(rows(folder / "store", "embeddings.semantic")):
        if number in known:
            assert row["vector"] == stored[number].tobytes() and row["reason"] is None
        else:
            assert row["vector"] is None and row["reason"] == "missing"


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    write_list(tmp_path / "list.parquet", [f"k{n}" for n in range(25)])
    return tmp_path


def by_key(folder: Path, vectors: np.ndarray, keys: list[str], form: str = "npy") -> dict[str, Any]:
    spec = write_vectors(folder, form, vectors, keys)
    spec["ids"]["join"] = "key"
    return spec


def test_rows_without_a_usable_vector_are_counted(listed: Path) -> None:
    vectors = vectors_of(20)
    vectors[3], vectors[4, 1] = 0, np.nan
    spec = by_key(listed / "v", vectors, [f"k{n}" for n in range(20)])
    run(listed / "store", without_pixels(spec, source(listed / "list.parquet")), until="select")
    assert table(listed / "store", "embeddings.semantic").manifest.counts == {
        "all": {"missing": 5, "not_finite": 2, "ok": 18}
    }
    assert table(listed / "store", "eligible").manifest.counts == {
        "pool": {"eligible": 18, "vector_missing": 5, "vector_not_finite": 2}
    }


def test_changed_vectors_are_computed_again_and_the_same_are_not(listed: Path) -> None:
    vectors, keys = vectors_of(25), [f"k{n}" for n in range(25)]
    other = by_key(listed / "other", vectors_of(25, 1), keys)
    spec = by_key(listed / "v", vectors, keys)
    recipe = without_pixels(spec, source(listed / "list.parquet"))
    recipe["embed"]["encoders"]["other"] = other
    recipe["cluster"] = {"encoder": "semantic"}
    store = listed / "store"
    assert run(store, recipe, "embed")["embed"].computed == 6
    assert run(store, recipe, "embed")["embed"].computed == 0
    before = contents(store, "embeddings.semantic"), contents(store, "embeddings.other")

    moved = by_key(listed / "moved", vectors, keys)
    recipe["embed"]["encoders"]["semantic"] = moved
    assert run(store, recipe, "embed")["embed"].computed == 0, "the same content elsewhere"

    vectors[12] += 1
    np.save(listed / "moved" / "vectors.npy", vectors)
    assert run(store, recipe, "embed")["embed"].computed == 3
    after = contents(store, "embeddings.semantic"), contents(store, "embeddings.other")
    assert after[1] == before[1]
    changed = [n for n, content in after[0].items() if content != before[0][n]]
    assert len(changed) == 1, "only the fragment with the row has other bytes"
    identities = [
        fragment.record.stats["encoder"]["weights_sha256"]
        for fragment in table(store, "embeddings.semantic").fragments.values()
    ]
    assert len(set(identities)) == 1, "vectors of one table are of one encoder"


@pytest.mark.parametrize("change", ["longer", "other"])
def test_a_new_file_of_vectors_is_used_from_end_to_end(tmp_path: Path, change: str) -> None:
    """Tables that come out the same, as codebooks of an exact search, count for the new vectors."""
    keys, seeds = [f"k{n}" for n in range(30)], [f"s{n}" for n in range(4)]
    write_list(tmp_path / "list.parquet", keys)
    write_list(tmp_path / "seeds.parquet", seeds)
    encoder = write_vectors(tmp_path / "files", "npy", vectors_of(34), [*keys, *seeds])
    encoder["ids"]["join"] = "key"
    spec = without_pixels(
        encoder,
        source(tmp_path / "list.parquet"),
        source(tmp_path / "seeds.parquet", "birds", "seed"),
        dedup={"near": {"encoder": "semantic", "at_least": 0.9999}},
        cluster={"levels": [3]},
        retrieve=[
            {"name": "near", "seeds": "birds", "strategy": "sample", "k": 2},
            {"name": "tree", "strategy": "hierarchical", "target": 9},
        ],
    )
    run(tmp_path / "store", spec)
    longer = np.concatenate([vectors_of(34), vectors_of(1, seed=1)])
    np.save(encoder["import"], longer if change == "longer" else vectors_of(35, seed=2))
    np.save(encoder["ids"]["file"], np.array([*keys, *seeds, "of no row"]))
    run(tmp_path / "store", spec)
    run(tmp_path / "fresh", spec)
    for name in ("matches", "assignments", "claims"):
        assert rows(tmp_path / "store", name) == rows(tmp_path / "fresh", name)


def test_an_encoder_beside_it_changes_no_memo(listed: Path) -> None:
    keys = [f"k{n}" for n in range(25)]
    spec = by_key(listed / "v", vectors_of(25), keys)
    recipe = without_pixels(spec, source(listed / "list.parquet"))
    run(listed / "store", recipe, "embed")
    recipe["embed"]["encoders"]["more"] = by_key(listed / "more", vectors_of(25, 1), keys)
    recipe["cluster"] = {"encoder": "semantic"}
    assert run(listed / "store", recipe, "embed")["embed"].computed == 3


def test_rows_that_change_places_get_other_vectors(tmp_path: Path) -> None:
    """Two files that swap their names: each fragment has the same rows at another place."""
    write_list(tmp_path / "lists" / "a.parquet", [f"a{n}" for n in range(5)])
    write_list(tmp_path / "lists" / "b.parquet", [f"b{n}" for n in range(5)])
    spec = write_vectors(tmp_path / "v", "npy", vectors_of(10), None)
    spec["ids"]["join"] = "rows"
    recipe = without_pixels(spec, source(tmp_path / "lists"))
    run(tmp_path / "store", recipe, "embed")
    folder = tmp_path / "lists"
    (folder / "a.parquet").rename(folder / "c.parquet")
    run(tmp_path / "store", recipe, "embed")
    stored, _ = as_stored(vectors_of(10))
    keys = [row["source_key"] for row in rows(tmp_path / "store", "images")]
    assert keys == [*(f"b{n}" for n in range(5)), *(f"a{n}" for n in range(5))]
    vectors = [row["vector"] for row in rows(tmp_path / "store", "embeddings.semantic")]
    assert vectors == [vector.tobytes() for vector in stored]


def test_each_source_has_its_vectors(tmp_path: Path) -> None:
    """Two sources that number their rows each for itself."""
    keys = [str(n) for n in range(12)]
    sources, paths, files = [], {}, {}
    for number, (name, role) in enumerate((("web", "pool"), ("birds", "seed"))):
        write_list(tmp_path / f"{name}.parquet", keys)
        sources.append(source(tmp_path / f"{name}.parquet", name, role))
        spec = write_vectors(tmp_path / name, "npy", vectors_of(12, number), keys)
        paths[name], files[name] = spec["import"], spec["ids"]["file"]
    shared = {"import": paths["web"], "ids": {"join": "key", "file": files["web"]}}
    with pytest.raises(RecipeError, match=r"12 keys of source 'birds' are keys of another source"):
        run(tmp_path / "store", without_pixels(shared, *sources), "embed")
    each = {"import": paths, "ids": {"join": "key", "file": files}}
    run(tmp_path / "store", without_pixels(each, *sources), "embed")
    vectors = [row["vector"] for row in rows(tmp_path / "store", "embeddings.semantic")]
    expected = [v.tobytes() for n in range(2) for v in as_stored(vectors_of(12, n))[0]]
    assert vectors == expected


def test_vectors_that_fit_no_row_are_refused(listed: Path) -> None:
    place = source(listed / "list.parquet")
    spec = by_key(listed / "v", vectors_of(25), [f"image-{n}" for n in range(25)])
    with pytest.raises(
        RecipeError, match=r"none of the 25 rows of source 'web'.* is 'k0', .* 'image-0', 'image-1'"
    ):
        run(listed / "store", without_pixels(spec, place), "embed")
    spec = write_vectors(listed / "rows", "npy", vectors_of(24), None)
    spec["ids"]["join"] = "rows"
    with pytest.raises(RecipeError, match=r"has 25 rows, and .* holds 24 vectors"):
        run(listed / "store", without_pixels(spec, place), "embed")
    np.save(listed / "more.npy", np.ones((25, DIM + 1)))
    write_list(listed / "birds.parquet", [f"b{n}" for n in range(24)])
    spec["import"] = {"web": str(listed / "more.npy"), "birds": spec["import"]}
    both = (place, source(listed / "birds.parquet", "birds", "seed"))
    with pytest.raises(RecipeError, match=r"vectors of one encoder have one dimension"):
        run(listed / "store", without_pixels(spec, *both), "embed")


def test_vectors_are_checked_before_a_run_does_anything(listed: Path) -> None:
    spec = by_key(listed / "v", vectors_of(25), ["same", "same", *(f"k{n}" for n in range(23))])
    steps = plan(parse_recipe(without_pixels(spec, source(listed / "list.parquet"))))
    with pytest.raises(RecipeError, match=r"embed.encoders.semantic: .* 1 ids are repeated"):
        check_encoders(steps, Store(listed / "store"))
    np.save(listed / "v" / "ids.npy", np.array([f"k{n}" for n in range(25)]))
    check_encoders(steps, Store(listed / "store"))


def test_files_that_change_under_a_run_are_an_error(listed: Path) -> None:
    np.save(listed / "v.npy", vectors_of(25))
    imported = ImportedRows([str(listed / "v.npy")], None, 26, np.arange(25), {"dim": DIM}, None)
    with pytest.raises(StoreError, match="changed while the run read it"):
        imported.open()


def test_gc_keeps_which_row_has_which_vector_for_kept_runs_alone(
    listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a billion rows that is 8 GB, after each change of a list or of the vectors."""
    store = listed / "store"
    for number in range(2):
        keys = [f"k{n}" for n in range(25)]
        spec = write_vectors(listed / f"v{number}", "npy", vectors_of(25, number), keys)
        recipe = without_pixels(
            spec | {"ids": spec["ids"] | {"join": "key"}}, source(listed / "list.parquet")
        )
        run(store, recipe, until="embed")
        assert len([*(store / "work" / "embed").rglob("*.parquet")]) == number + 1
    collect(Store(store), Retention(grace_s=0.0))
    assert len([*(store / "work" / "embed").rglob("*.parquet")]) == 1
    # Nobody reads the keys again.
    monkeypatch.setattr("curation.stages.embed.imported._by_ids", None)
    assert run(store, recipe, until="embed")["embed"].up_to_date


def test_vectors_of_two_columns_are_of_two_encoders(tmp_path: Path) -> None:
    """Such as those of pictures and of captions in one file: they are never compared."""
    path, vectors = tmp_path / "both.parquet", vectors_of(5)
    columns = {"id": list("abcde"), "image": list(vectors), "text": list(vectors[::-1])}
    pq.write_table(pa.table(columns), path)
    ids = {"join": "key", "column": "id"}
    specs = [
        EncoderSpec.model_validate({"import": str(path), "ids": ids, "column": column})
        for column in ("image", "text", "image")
    ]
    image, text, again = (Space(identity, dim) for dim, identity in map(check_vectors, specs))
    assert image.holds(again) and not image.holds(text)


PLAIN, PADDED = [f"e{n}" for n in range(9, 12)], [f"p-{n:02d}" for n in range(9, 12)]


@pytest.mark.parametrize(
    ("vectors", "others", "mixed_up"),
    [
        (sorted(PLAIN), PADDED, True),
        (PADDED, sorted(PLAIN), True),
        (sorted(PLAIN), ["list"], True),
        (sorted(PLAIN), sorted(PLAIN), False),
        (PADDED, PADDED, False),
        (["all"], sorted(PLAIN), False),
        (["0a9f", "0a10"], PADDED, False),
        (sorted(PLAIN), [], False),
    ],
)
def test_files_that_would_meet_others_are_an_error(
    vectors: list[str], others: list[str], mixed_up: bool
) -> None:
    assert (order_problem(vectors, others, "ids") is not None) == mixed_up


@pytest.mark.parametrize("by", ["rows", "ids"])
def test_files_whose_numbers_sort_otherwise_are_refused(tmp_path: Path, by: str) -> None:
    """Their parts have as many rows, so that no count would tell."""
    (tmp_path / "v").mkdir()
    (tmp_path / "ids").mkdir()
    for number in range(11):
        np.save(tmp_path / "v" / f"emb_{number}.npy", vectors_of(2, number))
        keys = [f"{number}-{row}" for row in range(2)]
        write_list(tmp_path / "lists" / f"part-{number:02d}.parquet", keys)
        (tmp_path / "ids" / f"{number:02d}.txt").write_text("\n".join(keys) + "\n")
    ids = {"join": "rows"} if by == "rows" else {"join": "key", "file": str(tmp_path / "ids")}
    spec = without_pixels({"import": str(tmp_path / "v"), "ids": ids}, source(tmp_path / "lists"))
    recipe = parse_recipe(spec)
    with pytest.raises(
        RecipeError, match=r"embed.encoders.semantic: .*emb_0, emb_1, emb_10, …, and"
    ):
        check_inputs(recipe)
        check_encoders(plan(recipe), Store(tmp_path / "store"))
    for number in range(10):
        (tmp_path / "v" / f"emb_{number}.npy").rename(tmp_path / "v" / f"emb_{number:02d}.npy")
    check_inputs(recipe)
    check_encoders(plan(recipe), Store(tmp_path / "store"))
