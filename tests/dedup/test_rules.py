"""dedup on random small worlds against the documented rules, written down plainly."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.algorithms.components import distributed_components
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.stages.dedup import partitioned_inputs
from curation.store.store import Store

from ..tables import commit, commit_batches, run_step
from .test_stage import SPEC, VERIFIED, compared

ROLES = {"web": "pool", "cats": "seed", "test": "held_out", "more": "held_out"}
ROLE_PAIRS = (("pool", "pool"), ("held_out", "pool"), ("held_out", "seed"), ("seed", "pool"))
METHODS = ("exact", "pixels", "perceptual", "near")
NEAR, NEAR_HELD_OUT = 0.9, 0.8


def image_id(number: int) -> str:
    return f"{number:032x}"


@dataclass
class World:
    """Some images. Each is in one or more sources, has pixels and a hash, and is near others."""

    sources: dict[int, set[str]]
    pixels: dict[int, int]
    hashes: dict[int, int]
    widths: dict[int, int]
    near: dict[tuple[int, int], float]
    agree: dict[tuple[int, int], bool] = field(default_factory=dict)

    def of(self, role: str) -> list[int]:
        return sorted(n for n, names in self.sources.items() if role in {ROLES[s] for s in names})

    def neighbours(self) -> list[dict[str, Any]]:
        """The pairs that the stage neighbours writes: of a hash in the pool, all with the first."""
        rows = []
        for left, right in ROLE_PAIRS:
            first: dict[int, int] = {}
            for b in self.of(right):
                first.setdefault(self.hashes[b], b)
            for a in self.of(left):
                for b in self.of(right):
                    shown = left != right or first[self.hashes[b]] == b
                    pairs = [("near", self.near.get((min(a, b), max(a, b)), 0.0))]
                    pairs += [("perceptual", 1.0)] * (shown and self.hashes[a] == self.hashes[b])
                    rows += [
                        {"method": method, "role_a": left, "image_a": image_id(a)}
                        | {"role_b": right, "image_b": image_id(b), "similarity": s, "rank": 1}
                        for method, s in pairs
                        if a != b and s > 0
                    ]
        return rows

    def commit(self, store: Store) -> None:
        names = sorted({s for sources in self.sources.values() for s in sources} | {"web"})
        images = {s: sorted(n for n, of in self.sources.items() if s in of) for s in names}
        rows = {
            f"{s}-0": [
                {"pair_id": f"{s}{n}", "image_id": image_id(n), "status": "ok", "caption": "c"}
                | {"role": ROLES[s], "source": s, "url": f"http://a.example/{s}{n}"}
                | {"original_width": self.widths[n], "original_height": 1}
                for n in images[s]
            ]
            for s in names
        }
        scores = {
            f"{s}-0": pa.RecordBatch.from_pydict(
                {
                    "pair_id": [f"{s}{n}" for n in images[s]],
                    "phash": pa.nulls(len(images[s]), pa.binary()),
                    "pixel_id": pa.array(
                        [image_id(self.pixels[n]) for n in images[s]], pa.string()
                    ),
                }
            )
            for s in names
        }
        verified = [
            dict(zip(VERIFIED, compared("a", "b", agreement=1.0 if yes else 0.1), strict=True))
            | {"image_a": image_id(a), "image_b": image_id(b)}
            for (a, b), yes in self.agree.items()
        ]
        commit(store, "images", rows)
        commit_batches(store, "scores", scores)
        commit(store, "neighbours", {"all": self.neighbours()})
        commit(store, "verified", {"all": verified})


@st.composite
def worlds(draw: st.DrawFn) -> World:
    count = draw(st.integers(1, 9))
    numbers = range(1, count + 1)
    few = st.integers(100, 103)
    near = st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.85, 0.95])
    names = st.sampled_from(
        [{"web"}] * 5 + [{"cats"}, {"test"}, {"more"}, {"web", "test"}, {"web", "cats"}]
    )
    # Pixels are shared by few images, hashes by more of them.
    sources = {n: draw(names) for n in numbers}
    pixels = {n: draw(st.sampled_from([n, n, 101])) for n in numbers}
    hashes = {n: draw(st.sampled_from([n, n, 201, 202])) for n in numbers}
    # Equal pixels have equal hashes.
    hashes = {n: 201 if pixels[n] == 101 else hashes[n] for n in numbers}
    pairs = {p: draw(near) for p in combinations(numbers, 2)}
    agree = {p: draw(st.booleans()) for p in pairs} if draw(st.booleans()) else {}
    return World(sources, pixels, hashes, {n: draw(few) for n in numbers}, pairs, agree)


class Rules:
    """The rules of docs/methods.md, image by image."""

    def __init__(self, world: World, chains: str, whole: dict[str, bool], verify: bool) -> None:
        self.world, self.chains, self.whole, self.verify = world, chains, whole, verify
        self.pool = world.of("pool")
        self.classes = {role: self._classes(world.of(role)) for role in ("pool", "seed")}
        self.contaminated = {n: sets for n in self.pool if (sets := self._sets(n))}
        self.representative = self._representatives()

    def agrees(self, a: int, b: int) -> bool:
        return not self.verify or self.world.agree.get((min(a, b), max(a, b)), False)

    def linked(self, a: int, b: int, near: float, across: bool = False) -> bool:
        """Whether two images are linked. In the pool, an equal hash is compared with the first.

        Between two roles (`across`), all images of a hash are compared.
        """
        world = self.world
        if world.pixels[a] == world.pixels[b]:
            return True
        if not self.agrees(a, b):
            return False
        similar = world.near.get((min(a, b), max(a, b)), 0.0) >= near
        same_hash = world.hashes[a] == world.hashes[b]
        return similar or (same_hash and (across or self._compared(a, b)))

    def _compared(self, a: int, b: int) -> bool:
        return min(a, b) == min(
            n for n in self.pool if self.world.hashes[n] == self.world.hashes[a]
        )

    def _classes(self, images: list[int]) -> dict[int, set[int]]:
        """Equal pixels are one class, and equal hashes where their pixels agree."""
        pool = set(images) <= set(self.pool)

        def equal(a: int, b: int) -> bool:
            if self.world.pixels[a] == self.world.pixels[b]:
                return True
            same = self.world.hashes[a] == self.world.hashes[b]
            return pool and same and self.agrees(a, b) and self._compared(a, b)

        return self._joined(images, equal)

    @staticmethod
    def _joined(images: list[int], joined: Any) -> dict[int, set[int]]:
        group = {n: {n} for n in images}
        for a, b in combinations(images, 2):
            if joined(a, b) and group[a] is not group[b]:
                group[a] |= group[b]
                for n in group[b]:
                    group[n] = group[a]
        return group

    def tied(self, image: int, role: str, held_out_set: str) -> bool:
        """Whether an image, or one that equals it, copies an image of a held-out set."""
        held_out = [n for n in self.world.of("held_out") if held_out_set in self.world.sources[n]]
        return any(
            n == h or self.linked(h, n, NEAR_HELD_OUT, across=True)
            for n in self.classes[role][image]
            for h in held_out
        )

    def components(self) -> dict[int, set[int]]:
        joined = self._joined(self.pool, lambda a, b: self.linked(a, b, NEAR))
        if self.chains == "join":
            return joined
        return self._cut(self.pool)

    def better(self, image: int) -> tuple[int, int]:
        return -self.world.widths[image], image

    def _cut(self, images: list[int]) -> dict[int, set[int]]:
        """The best image takes all that are linked to it or to its equals, then the next best."""
        groups: dict[int, set[int]] = {}
        for image in sorted(images, key=self.better):
            if image not in groups:
                members = {
                    n
                    for n in images
                    if n not in groups
                    and any(
                        a == b or self.linked(a, b, NEAR)
                        for a in self.classes["pool"][image]
                        for b in self.classes["pool"][n]
                    )
                }
                groups |= dict.fromkeys(members, members)
        return groups

    def _sets(self, image: int) -> set[str]:
        return {
            name
            for name, whole in self.whole.items()
            if any(
                self.tied(n, "pool", name) for n in (self.components()[image] if whole else {image})
            )
        }

    def _representatives(self) -> dict[int, int]:
        """Clean images are represented by the best clean image, contaminated ones by the best other."""
        parts = [
            [n for n in self.pool if n not in self.contaminated],
            [n for n in self.pool if n in self.contaminated],
        ]
        components, best = self.components(), {}
        for part in parts:
            cut = self._cut(part) if self.chains == "cut" else {}
            for n in part:
                group = cut[n] if cut else components[n] & set(part)
                best[n] = min(group, key=self.better)
        return best


def run(world: World, at_once: int, **dedup: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        world.commit(store)
        given: Any = SPEC["sources"]
        sources = [*given, given[2] | {"name": "more"}]
        spec = SPEC | {"sources": sources, "dedup": dedup | {"rows_at_once": at_once}}
        steps = {s.name: s for s in plan(parse_recipe(spec))}
        run_step(steps["dedup"], store, InProcess())
        table = open_table(store, "copies")
        return table.read().to_pylist(), table.manifest


@pytest.fixture(scope="module", autouse=True)
def small_parts() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitioned_inputs, "ROWS_PER_PART", 3)
        patch.setattr(distributed_components, "EDGE_ENDS_PER_PART", 4)
        yield


CASES = given(
    world=worlds(),
    chains=st.sampled_from(["join", "cut"]),
    whole=st.sampled_from([(True, True), (False, False), (True, False), (False, True)]),
    in_parts=st.booleans(),
)


@settings(max_examples=10, deadline=None)
@CASES
def test_rows_follow_the_documented_rules(
    world: World, chains: str, whole: tuple[bool, bool], in_parts: bool
) -> None:
    follow_the_rules(world, chains, whole, in_parts)


@pytest.mark.nightly
@settings(max_examples=300, deadline=None)
@CASES
def test_many_worlds_follow_the_documented_rules(
    world: World, chains: str, whole: tuple[bool, bool], in_parts: bool
) -> None:
    follow_the_rules(world, chains, whole, in_parts)


def follow_the_rules(world: World, chains: str, whole: tuple[bool, bool], in_parts: bool) -> None:
    names = {"test": whole[0], "more": whole[1]}
    verify = bool(world.agree)
    sets = {name: {"whole_component": value} for name, value in names.items()}
    dedup: dict[str, Any] = {
        "near": {"at_least": NEAR},
        "held_out": {"at_least": NEAR_HELD_OUT, "sets": sets},
        "chains": chains,
    }
    dedup |= {} if verify else {"verify": None}
    rows, manifest = run(world, 1000, **dedup)
    if in_parts:
        _, other = run(world, 1, **dedup)
        assert (other.content, other.stats) == (manifest.content, manifest.stats)
    rules = Rules(world, chains, names, verify)
    pool = {int(r["image_id"], 16): r for r in rows if r["role"] == "pool"}
    assert {n for n, r in pool.items() if r["contaminated_by"]} == set(rules.contaminated)
    for n, row in pool.items():
        if n in rules.contaminated:
            assert row["contaminated_set"] in rules.contaminated[n]
            assert int(row["contaminated_via"], 16) in rules.components()[n]
        assert int(row["representative_id"], 16) == rules.representative[n]
        assert (row["method"] == "representative") == (rules.representative[n] == n)
        listed = {int(c["image_id"], 16) for c in row["copies"] or []}
        assert listed == {m for m, best in rules.representative.items() if best == n != m}
    for row in (r for r in rows if r["role"] == "seed"):
        tied = {s for s in names if rules.tied(int(row["image_id"], 16), "seed", s)}
        assert (row["contaminated_set"] in tied) if tied else row["contaminated_set"] is None
        seed = int(row["image_id"], 16)
        listed = {int(c["image_id"], 16) for c in row["copies"] or []}
        stand_for = {m: best for m, best in rules.representative.items() if seed in (m, best)}
        assert listed == stand_for.keys() - rules.contaminated.keys()
        assert len(listed) == len(row["copies"] or [])
    for n, row in pool.items():
        seeds = world.of("seed")
        copied = any(
            s == m or rules.linked(s, m, NEAR, across=True)
            for m in rules.classes["pool"][n]
            for s in seeds
        )
        assert (row["copy_of_seed"] is not None) == copied
    stats = manifest.stats
    assert stats["pool"] == stats["kept"] + stats["contaminated"] + sum(stats["copies"].values())
    clean = [n for n in pool if n not in rules.contaminated]
    assert stats["kept"] == len({rules.representative[n] for n in clean})
