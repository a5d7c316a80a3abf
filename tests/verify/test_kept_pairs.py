"""Pairs whose pictures are those of the last run are not compared again, and rows stay the same."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.engine.parallel import InProcess
from curation.engine.table import Table, open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.stages.verify import measured_pairs, reduced_tables
from curation.stages.verify.compare import Agreement
from curation.stages.verify.measured_pairs import Pairs, PairSources, compare_pairs
from curation.stages.verify.reduced_image import ReducedImage
from curation.store.store import Store

from ..e2e.small import encoded, picture
from ..tables import commit, run_step

UNREADABLE = 0
PICTURES = [b"no picture", *(encoded(picture(n, np.random.default_rng(n), 48)) for n in range(4))]
SPEC = {
    "name": "test",
    "sources": [
        {"name": "web", "role": "pool", "format": "csv", "path": "w", "columns": {"url": "u"}}
    ],
}
World = Mapping[str, list[tuple[int, int]]]
"""For each fragment the number of each image, and of its picture: the same image may be stored
otherwise in another fragment, or in the same one after a change."""

worlds = st.dictionaries(
    st.sampled_from(["web-0", "web-1", "web-2", "web-3"]),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 4)), max_size=5),
    min_size=1,
)


def image_id(number: int) -> str:
    """The id of an image; neighbouring numbers have ids far apart."""
    return f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}"


def taken(world: World) -> dict[int, int]:
    """The picture of each image: that of the first row that has it."""
    pictures: dict[int, int] = {}
    for name in sorted(world):
        for image, shown in world[name]:
            pictures.setdefault(image, shown)
    return pictures


def pairs_of(world: World) -> list[tuple[int, int]]:
    """Some pairs: those of images whose numbers are near."""
    return [(a, b) for a, b in combinations(sorted(taken(world)), 2) if b - a <= 3]


def verify(folder: Path, world: World) -> Table:
    """Run the stage on a world."""
    store = Store(folder)
    rows = {
        name: [
            {"pair_id": f"{name}-{n}", "image_id": image_id(image), "image": PICTURES[shown]}
            | {"role": "pool", "source": "web", "status": "ok"}
            for n, (image, shown) in enumerate(world[name])
        ]
        for name in sorted(world)
    }
    commit(store, "images", rows)
    near = {"method": "near", "role_a": "pool", "role_b": "pool", "similarity": 1.0, "rank": 1}
    ends = [{"image_a": image_id(a), "image_b": image_id(b)} for a, b in pairs_of(world)]
    commit(store, "neighbours", {"all": [near | pair for pair in ends]})
    steps = {step.name: step for step in plan(parse_recipe(SPEC))}
    run_step(steps["verify"], store, InProcess())
    return open_table(store, "verified")


class Comparisons:
    """Stands in for `compare`: it is quick, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, this: ReducedImage, other: ReducedImage) -> Agreement:
        self.calls += 1
        sums = [int(image.pixels.sum()) for image in (this, other)]
        return Agreement(agreement=sums[0] % 97 / 97, blocks=sums[1] % 1000)


@pytest.fixture
def comparisons(monkeypatch: pytest.MonkeyPatch) -> Comparisons:
    counted = Comparisons()
    monkeypatch.setattr(measured_pairs, "compare", counted)
    monkeypatch.setattr(measured_pairs, "PAIRS_PER_TASK", 3)
    monkeypatch.setattr(reduced_tables, "MAX_PARTS", 2)
    return counted


@pytest.fixture
def folders() -> Iterator[Any]:
    """Make folders for stores."""
    made: list[str] = []

    def make() -> Path:
        made.append(tempfile.mkdtemp())
        return Path(made[-1])

    yield make
    for folder in made:
        shutil.rmtree(folder)


def compared_pictures(world: World) -> set[tuple[int, ...]]:
    """The pairs that are compared, with their pictures."""
    pictures = taken(world)
    return {
        (a, b, pictures[a], pictures[b])
        for a, b in pairs_of(world)
        if UNREADABLE not in (pictures[a], pictures[b])
    }


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=st.lists(worlds, min_size=2, max_size=4))
def test_any_history_gives_the_rows_of_a_fresh_store_and_compares_only_new_pairs(
    history: list[World], comparisons: Comparisons, folders: Any
) -> None:
    store, before = folders(), set[tuple[int, ...]]()
    for world in history:
        comparisons.calls = 0
        verified = verify(store, world)
        now = compared_pictures(world)
        assert comparisons.calls <= len(now - before)
        before = now
        fresh = verify(folders(), world)
        assert verified.rows == len(now)
        assert verified.manifest.content == fresh.manifest.content
        assert verified.manifest.version == fresh.manifest.version


def test_an_appended_fragment_compares_its_pairs_alone(
    comparisons: Comparisons, folders: Any
) -> None:
    store = folders()
    world: dict[str, list[tuple[int, int]]] = {
        "web-0": [(number, 1 + number % 4) for number in range(0, 30, 2)],
        "web-1": [(number, 1 + number % 4) for number in range(30, 60, 2)],
    }
    verify(store, world)
    assert comparisons.calls == len(pairs_of(world)) > 20
    comparisons.calls, old = 0, len(pairs_of(world))
    world["web-2"] = [(7, 1), (41, 2)]
    verify(store, world)
    assert comparisons.calls == len(pairs_of(world)) - old == 8


def test_work_tables_that_are_gone_or_stale_are_made_again(
    comparisons: Comparisons, folders: Any
) -> None:
    store = folders()
    world: dict[str, list[tuple[int, int]]] = {"web-0": [(number, 2) for number in range(8)]}
    verify(store, world)
    for path in sorted((store / "work" / "verify" / "data").glob("pairs-*"))[::2]:
        path.unlink()
    world["web-1"] = [(8, 3)]
    verified = verify(store, world)
    shutil.rmtree(store / "work")
    world["web-2"] = [(9, 3)]
    verified = verify(store, world)
    assert verified.manifest.content == verify(folders(), world).manifest.content


def test_rows_do_not_depend_on_the_pairs_that_are_compared_beside(tmp_path: Path) -> None:
    from curation.store.fragment import Fragment
    from tests.verify.reduced import write_reduced

    rng = np.random.default_rng(3)
    images = [picture(n, rng) for n in range(3)]
    images += [images[0].crop((4, 4, 120, 124)), images[1].rotate(90)]
    ids = np.array(sorted(image_id(n) for n in range(len(images))), "S32")
    reduced: Fragment = write_reduced(tmp_path, ids, [encoded(image) for image in images])
    ends = np.array(list(combinations(range(len(ids)), 2)))

    def rows(numbers: Any) -> list[dict[str, Any]]:
        left, right = ids[ends[numbers, 0]], ids[ends[numbers, 1]]
        pairs = Pairs(left, right, (left, right))
        part = np.zeros(len(left), np.int64)
        batches = compare_pairs(pairs, PairSources([reduced], (part, part), []))
        return [row for batch in batches for row in batch.to_pylist()]

    together = rows(np.arange(len(ends)))
    assert [row["agreement"] > 0.9 for row in together].count(True) == 2
    assert [rows([n])[0] for n in reversed(range(len(ends)))][::-1] == together
