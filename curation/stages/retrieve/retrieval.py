"""The inputs of retrieve, how they are divided into parts, and what is computed of them in turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.algorithms.kmeans.levels import at_level, read_parents
from curation.engine.context import Context
from curation.engine.exchange import (
    Exchange,
    ExchangeInput,
    MapTask,
    exchange_records,
    split_by_file,
)
from curation.engine.exchange_runner import ExchangeRunner, WorkTable
from curation.engine.shared_arrays import Shared, share
from curation.engine.table import Table
from curation.engine.task_groups import split_by_rows
from curation.stages.retrieve.claims import MATCHES, Arms, claim_part, read_matches
from curation.stages.retrieve.clusters import images_by_cluster
from curation.stages.retrieve.images import POOL, AlignedFragments, RowSources, images_exchange
from curation.stages.retrieve.limits import ClaimedParts, Limit, apply_limit
from curation.stages.retrieve.params import RetrieveStep
from curation.stages.retrieve.single_matches import read_settled, single_matches
from curation.stages.retrieve.strategies import STRATEGIES
from curation.stages.retrieve.strategies.evidence import ArmCounts, ArmPlan
from curation.stages.retrieve.write_claims import (
    count_by_fragment,
    group_fragments,
    placed_claims,
    write_exchange,
    write_fragments,
)
from curation.store.fragment import Fragment


@dataclass(frozen=True)
class Retrieval:
    """The inputs of the stage, and how they are divided.

    Attributes:
        tables: by name.
        params: of the stage.
        runner: computes the parts.
        parts: number of parts.
        rows_per_part: rows that a task reads, or a part decides.
    """

    tables: Mapping[str, Table]
    params: RetrieveStep
    runner: ExchangeRunner
    parts: int
    rows_per_part: int

    @cached_property
    def arms(self) -> Arms:
        """The arms of the recipe."""
        arms, priority = self.params.arms, self.params.balance.priority
        sets = tuple(sorted({arm.seeds for arm in arms if arm.seeds}))
        places = (
            priority.index(arm.name) if arm.name in priority else len(priority) for arm in arms
        )
        fields = tuple(arm.model_dump(by_alias=True) for arm in arms)
        return Arms(fields, sets, tuple(places))

    @cached_property
    def parents(self) -> tuple[npt.NDArray[np.int32], ...]:
        """For each level but the coarsest, the cluster of the next level of each of its clusters."""
        return read_parents(self.tables["centroids"])

    @cached_property
    def shared_parents(self) -> list[Shared]:
        """What tasks are sent of `parents`."""
        return [
            share(parents, f"parents {level}", self.runner)
            for level, parents in enumerate(self.parents)
        ]

    @cached_property
    def images(self) -> Sequence[WorkTable]:
        """All parts of IMAGES."""
        params, arms = self.params, self.params.arms
        level = params.balance.level if params.balance.per_cluster is not None else 0
        at_level(level, np.empty(0, np.int32), self.parents)  # Raises an error if there is none.
        sources = RowSources(
            sets=self.arms.sets,
            claimed_sets=tuple(sorted({a.seeds for a in arms if a.seeds and a.claims_seeds})),
            weights=tuple(sorted(params.balance.weights.items())),
            with_host=params.balance.per_host is not None,
        )
        parents = self.shared_parents[:level]
        groups = split_by_rows(self._fragments(), self.rows_per_part)
        job = images_exchange(groups, sources, parents, self.parts)
        return self.runner.exchange(job)

    def _fragments(self) -> Iterator[AlignedFragments]:
        names = ("eligible", "assignments", "images")
        for number, name in enumerate(self.tables["eligible"].fragments):
            fragments = (self.tables[table].fragments[name] for table in names)
            yield AlignedFragments(number, *fragments)

    @cached_property
    def counts(self) -> list[ArmCounts]:
        """The counts from which each arm is planned."""
        images: Counter[int] = Counter()
        for part in self.images:
            images.update({int(number): n for number, n in part.stats["images"].items()})
        seed_rows, by_cluster = self._seed_rows(), self._images_by_cluster()
        counts = []
        for arm in self.params.arms:
            number = self.arms.set_number(arm)
            sizes = by_cluster if "clusters" in arm.uses else {}
            counts.append(
                ArmCounts(
                    pool_images=images[POOL],
                    seed_rows=0 if arm.seeds is None else seed_rows[arm.seeds],
                    seed_images=0 if number is None else images[number],
                    parents=self.parents,
                    pool_by_cluster=sizes.get(POOL),
                    seeds_by_cluster=None if number is None else sizes.get(number),
                )
            )
        return counts

    def _images_by_cluster(self) -> dict[int, npt.NDArray[np.int64]]:
        """Return the number of images of each set in each cluster of level 0, if an arm uses them."""
        by_cluster = [arm for arm in self.params.arms if "clusters" in arm.uses]
        if not by_cluster:
            return {}
        levels = self.tables["centroids"].fragments.values()
        clusters = next((level.rows for level in levels), 0)
        numbers = {n for arm in by_cluster if (n := self.arms.set_number(arm)) is not None}
        return images_by_cluster(self.images, (POOL, *numbers), clusters, self.runner)

    def _seed_rows(self) -> Counter[str]:
        """Return the number of rows of each seed set, eligible or not."""
        rows: Counter[str] = Counter()
        for fragment in self.tables["eligible"].fragments.values():
            if "seed" in fragment.record.counts:
                # All rows of a fragment have one source.
                first = next(fragment.batches(["source"], rows=1))
                rows[first.column("source")[0].as_py()] += fragment.rows
        return rows

    @cached_property
    def plans(self) -> list[ArmPlan]:
        """The plan of each arm."""
        return [
            STRATEGIES.load(arm.strategy).plan(arm, of_arm, self.params.seed)
            for arm, of_arm in zip(self.params.arms, self.counts, strict=True)
        ]

    def claim(self) -> tuple[ClaimedParts, dict[str, int]]:
        """Return what every arm claims, and the number of claims that are possible, by arm."""
        ranks: dict[str, int] = {}
        for arm in self.params.arms:
            if arm.seeds and "matches" in arm.uses:
                ranks[arm.seeds] = max(ranks.get(arm.seeds, 0), arm.neighbours_needed())
        arguments = {"ranks": ranks, "sets": list(self.arms.sets)}
        tasks = [
            MapTask(read_matches, {"matches": file} | arguments)
            for file in self._match_files()
            if ranks
        ]
        job = Exchange(
            "claims",
            {
                "matches": ExchangeInput(MATCHES, tasks),
                "single": ExchangeInput(MATCHES, list(self._single_matches())),
            },
            claim_part,
            self.parts,
            {
                "arms": self.arms,
                "plans": self._shared_plans(),
                "requested": [plan.requested for plan in self.plans],
                "parents": self.shared_parents,
                "seed": self.params.seed,
            },
            part_arguments=[{"images": images} for images in self.images],
        )
        claims = self.runner.exchange(job)
        available = {
            arm.name: sum(part.stats["available"][arm.name] for part in claims)
            for arm in self.params.arms
        }
        return ClaimedParts(self.images, claims, self.arms), available

    def _shared_plans(self) -> dict[str, dict[str, Shared]]:
        """Return the values of the plan of each arm, by its number."""
        return {
            str(number): {
                name: share(values, f"plan {number} {name}", self.runner)
                for name, values in plan.values.items()
            }
            for number, plan in enumerate(self.plans)
        }

    def _match_files(self) -> list[Fragment]:
        return split_by_file(self.tables["matches"].fragments.values())

    def _single_matches(self) -> Iterator[MapTask]:
        """Yield the tasks that read the matches of arms that match each image once."""
        for number, arm in enumerate(self.params.arms):
            k = arm.matches_each_image_once()
            if k is None or arm.seeds is None:
                continue
            ranks = (k, arm.neighbours_needed())
            files = self._match_files()
            for part in single_matches(
                files, arm.seeds, ranks, self.runner, self.parts, self.rows_per_part
            ):
                yield MapTask(read_settled, {"rows": part, "number": number})

    def apply(self, claimed: ClaimedParts, limit: Limit) -> ClaimedParts:
        """Return the claims that find a place. See `apply_limit`."""
        return apply_limit(claimed, limit, self.runner, self.rows_per_part)

    def write(self, final: ClaimedParts, context: Context | None) -> Iterator[Any]:
        """Write the claims that are left: yield records from workers, or batches without a context."""
        names = list(self.tables["eligible"].fragments)
        if context is None:
            (claims,), (images,) = final.claims, final.images
            placed = placed_claims(claims, images)
            yield from write_fragments(placed, self.arms, dict(enumerate(names)))
            return
        sizes = np.zeros(len(names), np.int64)
        arguments = [
            {"claims": claims, "images": images}
            for claims, images in zip(final.claims, final.images, strict=True)
        ]
        for part in self.runner.compute("fragments of claims", count_by_fragment, arguments):
            rows = part.read()
            sizes[rows.column("fragment").to_numpy()] += rows.column("claims").to_numpy()
        groups = group_fragments(sizes, self.rows_per_part)
        if groups:
            yield from exchange_records(write_exchange(final, names, groups), context)
