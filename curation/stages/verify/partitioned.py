"""verify in parts on workers, for more pairs than one process holds. Rows are the same.

1. Neighbours go to the range of their smaller image, which makes pairs distinct.
2. Each image of a pair finds the fragment that gives its picture; workers reduce these pictures.
3. The digests of the pictures, and the rows that the last run measured, go to the ranges. So each range
   knows which of its pairs are new.
4. The pictures of new pairs go to units of bounded size, which compare them.

The driver holds names of work tables, and nothing for a pair or an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from curation.algorithms.arrays.vectors import RowNumbers
from curation.engine.context import Context
from curation.engine.exchange import (
    Exchange,
    ExchangeInput,
    MapTask,
    group_bounds,
    read_by_group,
    split_by_file,
)
from curation.engine.exchange_runner import OnWorkers
from curation.engine.table import Table
from curation.engine.task_groups import split_by_rows
from curation.engine.units import StageOutput
from curation.stages.verify import measured_pairs, reduced_tables
from curation.stages.verify.measured_pairs import measured_schema
from curation.stages.verify.params import VerifyStep
from curation.stages.verify.partitioned_pairs import (
    DIGEST_ROWS,
    NEW_PAIRS,
    PAIRS,
    PICTURES,
    compare_unit,
    merge_measured,
    plan_pairs,
    read_measured,
    read_new_pairs,
    read_pairs,
    read_pairs_of_range,
    write_distinct_pairs,
)
from curation.stages.verify.partitioned_pictures import (
    ENDS,
    IMAGE_ROWS,
    NEEDED,
    PLACED,
    Reduced,
    place_images,
    read_digests,
    read_ends,
    read_image_rows,
    read_needed,
    read_pictures,
    reduce_missing,
    write_by_fragment,
    write_needed,
)
from curation.stages.verify.write_verified import write_on_workers
from curation.store.fragment import Fragment

ROWS_PER_PART = 500_000
"""Rows of neighbours or of images that a worker sorts at once, at about 300 bytes each."""


def verify_in_parts(
    images: Table, neighbours: Table, params: VerifyStep, context: Context
) -> StageOutput:
    """Compare the images of each near pair on workers.

    Args:
        images: the table `images`.
        neighbours: the table `neighbours`.
        params: of the stage, with a floor.
        context: where workers run, and where they keep work tables.

    Yields:
        The record of each fragment of `verified`.

    Returns:
        `pairs` and `unreadable`, as the stage does.
    """
    work = _Parts(images, neighbours, params, context, OnWorkers(context.private()))
    ranges = work.distinct_pairs()
    groups = work.images_by_fragment(ranges)
    reduced = work.reduce(groups)
    plan = work.plan(ranges, groups, reduced)
    measured = work.measure(plan, reduced)
    yield from write_on_workers(measured, context)
    # The next run looks for them by their first pair.
    kept = {table.stats["first"]: [table] for table in measured if table.rows}
    context.keep_tables(measured_pairs.KEPT, kept)
    work.runner.delete()
    pairs = sum(fragment.stats["pairs"] for fragment in plan)
    return {"pairs": pairs, "unreadable": pairs - sum(table.rows for table in measured)}


@dataclass(frozen=True)
class _Parts:
    """The steps of the stage, each of which computes work tables.

    Attributes:
        images: the table `images`.
        neighbours: the table `neighbours`.
        params: of the stage.
        context: where workers run.
        runner: computes the work tables that nothing needs once the stage has ended.
    """

    images: Table
    neighbours: Table
    params: VerifyStep
    context: Context
    runner: OnWorkers

    @cached_property
    def fragment_groups(self) -> list[list[Fragment]]:
        """The fragments of `images`; one task reads those of a group."""
        return split_by_rows(self.images.fragments.values(), ROWS_PER_PART) or [[]]

    @cached_property
    def group_bounds(self) -> RowNumbers:
        """Number of the first fragment of each group, and after them the number of fragments."""
        return group_bounds(self.fragment_groups)

    def distinct_pairs(self) -> list[Fragment]:
        """Return the distinct pairs of each range."""
        ranges = max(1, -(-self.neighbours.rows // ROWS_PER_PART))
        files = split_by_file(self.neighbours.fragments.values())
        options = {"params": self.params, "ranges": ranges}
        tasks = [MapTask(read_pairs, {"neighbours": file, **options}) for file in files]
        inputs = {"pairs": ExchangeInput(PAIRS, tasks)}
        return self.runner.exchange(Exchange("pairs", inputs, write_distinct_pairs, ranges))

    def images_by_fragment(self, ranges: Sequence[Fragment]) -> list[Fragment]:
        """Return for each group of fragments the images that it gives, and the ranges with them."""
        starts = self.group_bounds.tolist()
        rows = [
            MapTask(read_image_rows, {"images": group, "first": first})
            for group, first in zip(self.fragment_groups, starts, strict=False)
        ]
        ends = [MapTask(read_ends, {"pairs": p, "number": n}) for n, p in enumerate(ranges)]
        in_pairs = 2 * sum(fragment.rows for fragment in ranges)
        parts = max(1, -(-max(self.images.rows, in_pairs) // ROWS_PER_PART))
        inputs = {"rows": ExchangeInput(IMAGE_ROWS, rows), "ends": ExchangeInput(ENDS, ends)}
        placed = self.runner.exchange(Exchange("images of pairs", inputs, place_images, parts))
        bounds = self.group_bounds
        tasks = [MapTask(read_by_group, {"rows": each, "bounds": bounds}) for each in placed]
        inputs = {"placed": ExchangeInput(PLACED, tasks)}
        groups = len(self.fragment_groups)
        return self.runner.exchange(
            Exchange("images by fragment", inputs, write_by_fragment, groups)
        )

    def reduce(self, groups: Sequence[Fragment]) -> list[list[Reduced]]:
        """Reduce the pictures of pairs; return for each group those of its fragments."""
        context, fragments = self.context, list(self.images.fragments.values())
        kept = context.kept_tables(reduced_tables.KEPT)
        describe = reduced_tables.are_described(sum(placed.stats["images"] for placed in groups))
        parts: dict[int, list[Fragment]] = {}
        items: dict[str, dict[str, Any]] = {}
        for placed in groups:
            for number in placed.stats["fragments"]:
                known = kept.get(fragments[number].content, [])
                parts[number] = known if len(known) < reduced_tables.MAX_PARTS else []
                items[fragments[number].name] = {
                    "images": fragments[number],
                    "placed": placed,
                    "number": number,
                    "kept": parts[number],
                    "describe": describe,
                }
        added = context.compute("reduce", reduce_missing, items, batch_groups=True)
        for number, known in parts.items():
            new = added[fragments[number].name]
            parts[number] = [*known, new] if new.rows else known
        tables = {fragments[number].content: parts[number] for number in parts}
        context.keep_tables(reduced_tables.KEPT, tables)
        return [
            [Reduced(number, parts[number]) for number in placed.stats["fragments"]]
            for placed in groups
        ]

    def plan(
        self,
        ranges: Sequence[Fragment],
        groups: Sequence[Fragment],
        reduced: Sequence[list[Reduced]],
    ) -> list[Fragment]:
        """Return the planned pairs of each range."""
        kept = self.context.kept_tables(measured_pairs.KEPT).values()
        last = [
            MapTask(read_measured, {"measured": table, "ranges": len(ranges)})
            for tables in kept
            for table in tables
        ]
        digests = [
            MapTask(read_digests, {"placed": placed, "reduced": tables})
            for placed, tables in zip(groups, reduced, strict=True)
        ]
        pairs = [
            MapTask(read_pairs_of_range, {"pairs": each, "number": number})
            for number, each in enumerate(ranges)
        ]
        inputs = {
            "pairs": ExchangeInput(PAIRS, pairs),
            "digests": ExchangeInput(DIGEST_ROWS, digests),
            "measured": ExchangeInput(measured_schema(), last),
        }
        return self.runner.exchange(Exchange("new pairs", inputs, plan_pairs, len(ranges)))

    def measure(self, plan: Sequence[Fragment], reduced: Sequence[list[Reduced]]) -> list[Fragment]:
        """Compare the new pairs; return all measured pairs of each range."""
        bounds = list(accumulate((each.stats["units"] for each in plan), initial=0))
        compared = self._compare(plan, bounds, reduced) if bounds[-1] else []
        items = {
            f"measured-{number:06d}": {"plan": each, "compared": compared[start:stop]}
            for number, (each, (start, stop)) in enumerate(zip(plan, pairwise(bounds), strict=True))
        }
        return list(self.context.compute("merge", merge_measured, items).values())

    def _compare(
        self, plan: Sequence[Fragment], bounds: list[int], reduced: Sequence[list[Reduced]]
    ) -> list[Fragment]:
        """Return the rows of each unit of new pairs. A range has those between two of `bounds`."""
        of_range = [
            {"plan": each, "first_unit": first}
            for each, first in zip(plan, bounds, strict=False)
            if each.stats["units"]
        ]
        bounds_of_groups = {"bounds": self.group_bounds}
        tasks = [MapTask(read_needed, each | bounds_of_groups) for each in of_range]
        inputs = {"needed": ExchangeInput(NEEDED, tasks)}
        groups = len(self.fragment_groups)
        needed = self.runner.exchange(Exchange("needed pictures", inputs, write_needed, groups))
        pictures = [
            MapTask(read_pictures, {"needed": each, "reduced": tables})
            for each, tables in zip(needed, reduced, strict=True)
            if each.rows
        ]
        pairs = [MapTask(read_new_pairs, each) for each in of_range]
        inputs = {
            "pairs": ExchangeInput(NEW_PAIRS, pairs),
            "pictures": ExchangeInput(PICTURES, pictures),
        }
        return self.runner.exchange(Exchange("compare", inputs, compare_unit, bounds[-1]))
