"""Tables of claims, cut by image: what every arm claims, before places are given away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.arrays.vectors import Ids
from curation.engine.exchange import KEY
from curation.engine.exchange_runner import WorkTable
from curation.engine.shared_arrays import Shared, array_of
from curation.engine.sorted_arrays import positions_in, run_starts
from curation.engine.units import StageOutput, empty_batch
from curation.errors import RecipeError
from curation.stages.retrieve.images import NO_ROW, POOL, image_keys
from curation.stages.retrieve.strategies import STRATEGIES
from curation.stages.retrieve.strategies.arm import Arm
from curation.stages.retrieve.strategies.evidence import (
    ArmClaims,
    ArmPlan,
    EligibleImages,
    Evidence,
    Ints,
    Matches,
)
from curation.store.fragment import Fragment

CLAIMS = pa.schema(
    [
        ("image_id", pa.string()),
        ("arm", pa.int16()),
        ("seed_image_id", pa.string()),
        ("similarity", pa.float32()),
        ("rank", pa.int32()),
        ("cluster_id", pa.int32()),
        ("group", pa.int64()),
        ("order", pa.uint64()),
        ("at_most", pa.int64()),
        ("place", pa.int16()),
    ]
)
"""Claims by image and arm; `arm` is its number in the recipe. `group`, `order` and `at_most` are those
of `Limits`, null for claims that do not compete. `place` is the smallest place in `balance.priority` of
the arms that claim the image."""
MATCHES = pa.schema(
    [
        ("set", pa.int16()),
        ("seed_image_id", pa.string()),
        ("image_id", pa.string()),
        ("similarity", pa.float32()),
        ("rank", pa.int32()),
    ]
)
MATCHES_AT_ONCE = 65_536


@dataclass(frozen=True)
class Arms:
    """The arms of a recipe.

    Attributes:
        fields: of each arm, because models of plug-ins are known on workers only once they are loaded.
        sets: seed sets of the arms, sorted.
        places: place of each arm in `balance.priority`.
    """

    fields: tuple[Mapping[str, Any], ...]
    sets: tuple[str, ...]
    places: tuple[int, ...]

    def models(self) -> list[Arm]:
        """Return the arms."""
        return [STRATEGIES.load(f["strategy"]).StrategyArm(**f) for f in self.fields]

    def set_number(self, arm: Arm) -> int | None:
        """Return the number of the seed set of an arm; None if it has none."""
        return self.sets.index(arm.seeds) if arm.seeds else None


def read_matches(
    matches: Fragment, ranks: Mapping[str, int], sets: Sequence[str]
) -> Iterator[pa.Table]:
    """Yield MATCHES, keyed by the pool image.

    Args:
        matches: a fragment of `matches`.
        ranks: largest rank that the arms of a seed set need, by the name of the set.
        sets: seed sets of the arms, sorted.
    """
    columns = ["seed_set", *MATCHES.names[1:]]
    for batch in matches.batches(columns, rows=MATCHES_AT_ONCE):
        names = batch.column("seed_set").to_numpy(zero_copy_only=False)
        distinct, inverse = np.unique(names.astype("U"), return_inverse=True)
        largest = np.array([ranks.get(str(name), 0) for name in distinct], np.int64)[inverse]
        number = np.array([sets.index(n) if n in sets else 0 for n in distinct], np.int16)[inverse]
        needed = pa.array(np.flatnonzero(batch.column("rank").to_numpy() <= largest))
        table = pa.Table.from_batches([batch]).drop_columns(["seed_set"])
        table = table.add_column(0, "set", pa.array(number)).take(needed).cast(MATCHES)
        yield table.append_column(KEY, pa.array(image_keys(to_ids(table.column("image_id")))))


def claim_part(  # noqa: PLR0913  one argument for each kind of rows
    matches: pa.Table,
    single: pa.Table,
    images: WorkTable,
    arms: Arms,
    plans: Mapping[str, Mapping[str, Shared]],
    requested: Sequence[int],
    parents: Sequence[Shared],
    seed: int,
) -> StageOutput:
    """Let every arm claim images of one part.

    Args:
        matches: all MATCHES with images of the part.
        single: the same for arms that match each image once; `set` numbers the arm.
        images: IMAGES of the part.
        arms: of the recipe.
        plans: the values of the plan of each arm, by its number.
        requested: number of claims that each arm requests.
        parents: see `ArmCounts`.
        seed: of the recipe.

    Yields:
        CLAIMS.

    Returns:
        As `claim_counts`, and `available`, the number of claims that are possible, by arm.
    """
    rows = images.read(["image_id", "set", "cluster_id", "similarity", "fragment"])
    representable = _representable(rows)
    tables, available = [CLAIMS.empty_table()], {}
    levels = tuple(map(array_of, parents))
    for number, arm in enumerate(arms.models()):
        known = _evidence(number, arm, arms, rows, (matches, single), levels)
        values = plans.get(str(number), {})
        plan = ArmPlan(requested[number], {name: array_of(v) for name, v in values.items()})
        claims = STRATEGIES.load(arm.strategy).claim(arm, known, plan, seed)
        check_shapes(arm, claims)
        _check_images(arm, claims, representable)
        available[arm.name] = claims.available
        tables.append(claim_rows(number, claims))
    counts = yield from sorted_claims(pa.concat_tables(tables), arms)
    return {"available": available, **(counts or {})}


def _representable(images: pa.Table) -> Ids:
    """Return the ids of the images that some row may represent, ascending."""
    has_row = pc.not_equal(images.column("fragment"), NO_ROW)
    ids = to_ids(images.filter(has_row).column("image_id"))
    return ids[run_starts(ids)]


def check_shapes(arm: Arm, claims: ArmClaims) -> None:
    """Check that each array of claims has a value for each claimed image.

    Raises:
        RecipeError: one of them has another shape, or the one by which the report groups is missing.
    """
    grouped_by = STRATEGIES[arm.strategy].grouped_by
    groups = {"seed": claims.seed_images, "cluster": claims.cluster_id}
    if groups.get(grouped_by, claims.images) is None:
        raise RecipeError(
            f"Strategy {arm.strategy!r} is grouped by {grouped_by}, and its claims have none",
            fix="Return seed_images or cluster_id in its ArmClaims, or leave `grouped_by` out of its "
            "StrategyEntry",
        )
    count = len(claims.images)
    arrays = {n: v for n, v in vars(claims).items() if n not in ("available", "limits")}
    if claims.limits is not None:
        arrays |= {f"limits.{name}": values for name, values in vars(claims.limits).items()}
    for name, values in arrays.items():
        if values is not None and np.shape(values) != (count,):
            raise RecipeError(
                f"Arm {arm.name!r} claims {count:,} images, but {name} has the shape "
                f"{np.shape(values)}",
                fix=f"Let `claim` of strategy {arm.strategy!r} return one value for each image there",
            )


def _check_images(arm: Arm, claims: ArmClaims, representable: Ids) -> None:
    """Check that an arm claims only images that may be in the dataset.

    Raises:
        RecipeError: it claims another one.
    """
    known = positions_in(claims.images, representable)[1]
    if not known.all():
        image = claims.images[np.flatnonzero(~known)[0]].decode()
        raise RecipeError(
            f"Arm {arm.name!r} claims image {image}, which is not an eligible image of the pool, nor "
            "of a seed set whose images an arm claims",
            fix=f"If strategy {arm.strategy!r} claims images of its seed set, set "
            "`claims_seeds = True` in its StrategyArm",
        )


def _evidence(
    number: int,
    arm: Arm,
    arms: Arms,
    rows: pa.Table,
    matches: tuple[pa.Table, pa.Table],
    parents: tuple[Ints, ...],
) -> Evidence:
    seed_set, uses = arms.set_number(arm), arm.uses
    images = of_set = None
    if "seeds" in uses and seed_set is not None:
        images = _images_of(rows, seed_set)
    if "matches" in uses and seed_set is not None:
        of_set = _matches_of(matches[0], seed_set)
        # Another arm of the set may need more of them.
        of_set = of_set.take(of_set.rank <= arm.neighbours_needed())
    is_single = arm.matches_each_image_once() is not None
    return Evidence(
        parents=parents,
        pool_images=_images_of(rows, POOL) if "pool" in uses else None,
        seed_images=images,
        all_matches=of_set,
        matches_once=_matches_of(matches[1], number) if is_single else None,
    )


def _images_of(rows: pa.Table, number: int) -> EligibleImages:
    rows = rows.filter(pa.array(rows.column("set").to_numpy() == number))
    return EligibleImages(
        to_ids(rows.column("image_id")),
        rows.column("cluster_id").to_numpy(),
        rows.column("similarity").to_numpy(),
    )


def _matches_of(matches: pa.Table, number: int) -> Matches:
    rows = matches.filter(pa.array(matches.column("set").to_numpy() == number))
    return Matches(
        to_ids(rows.column("seed_image_id")),
        to_ids(rows.column("image_id")),
        rows.column("similarity").to_numpy(),
        rows.column("rank").to_numpy(),
    )


def claim_rows(number: int, claims: ArmClaims) -> pa.Table:
    """Return claims of the arm with a number as CLAIMS, whose `place` is not known yet."""
    count, limits = len(claims.images), claims.limits
    at_most = np.full(count, -1) if limits is None else np.asarray(limits.at_most, np.int64)
    free = at_most < 0

    def column(values: Any, mask: Any = None) -> pa.Array | None:
        return None if values is None else pa.array(np.asarray(values), mask=mask)

    columns: dict[str, Any] = {
        "image_id": from_ids(claims.images),
        "arm": np.full(count, number, np.int16),
        "seed_image_id": None if claims.seed_images is None else from_ids(claims.seed_images),
        "similarity": column(claims.similarity),
        "rank": column(claims.rank),
        "cluster_id": column(claims.cluster_id),
        "group": None if limits is None else column(np.asarray(limits.group, np.int64), free),
        "order": None if limits is None else column(limits.order, free),
        "at_most": column(at_most, free),
        "place": np.zeros(count, np.int16),
    }
    arrays = [
        pa.nulls(count, field.type) if columns[field.name] is None else columns[field.name]
        for field in CLAIMS
    ]
    return pa.table(arrays, names=CLAIMS.names).cast(CLAIMS)


def sorted_claims(claims: pa.Table, arms: Arms) -> StageOutput:
    """Yield CLAIMS by image and arm, with their places; return `claim_counts`.

    Args:
        claims: all CLAIMS on some images, before `balance`.
        arms: of the recipe.
    """
    ids, arm = to_ids(claims.column("image_id")), claims.column("arm").to_numpy()
    order = np.lexsort((arm, ids))
    claims = claims.take(pa.array(order)).combine_chunks()
    starts = np.flatnonzero(run_starts(ids[order]))
    place = np.array([*arms.places, 0], np.int16)[arm[order]]
    if len(starts):
        smallest = np.minimum.reduceat(place, starts)
        place = np.repeat(smallest, np.diff(np.append(starts, len(place))))
    claims = claims.set_column(CLAIMS.names.index("place"), "place", pa.array(place, pa.int16()))
    yield empty_batch(CLAIMS)
    yield from claims.to_batches()
    return claim_counts(claims, arms)


def claim_counts(claims: pa.Table, arms: Arms) -> dict[str, Any]:
    """Return counts of claims of some images.

    Args:
        claims: CLAIMS by image and arm.
        arms: of the recipe.

    Returns:
        `claims` and `unique`: number of claims, and of different images, by arm. `set_images`:
        different images by seed set. `images`: different images. `first`: images by the first of their
        arms, by place and then by name. `competing`: number of claims that compete for places.
    """
    ids, arm = to_ids(claims.column("image_id")), claims.column("arm").to_numpy()
    names = [fields["name"] for fields in arms.fields]
    starts = run_starts(ids, arm)
    by_set: dict[str, int] = {}
    for seeds in dict.fromkeys(f["seeds"] for f in arms.fields if f["seeds"]):
        of_set = [n for n, fields in enumerate(arms.fields) if fields["seeds"] == seeds]
        by_set[seeds] = int(run_starts(ids[np.isin(arm, of_set)]).sum()) if len(ids) else 0
    return {
        "claims": _by_arm(arm, names),
        "unique": _by_arm(arm[starts], names),
        "set_images": by_set,
        "images": int(run_starts(ids).sum()),
        "first": _by_arm(first_arms(ids, arm, arms)[1], names),
        "competing": len(claims) - claims.column("at_most").null_count,
    }


def first_arms(
    ids: Ids, arm: npt.NDArray[Any], arms: Arms
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return for each image the number of its claim for the first arm, and that arm, (images,) each.

    The first arm is that of the first place in `balance.priority`, and then of the first name.
    """
    names = [fields["name"] for fields in arms.fields]
    in_order = sorted(range(len(names)), key=lambda n: (arms.places[n], names[n]))
    rank = np.empty(len(names), np.int64)
    rank[in_order] = np.arange(len(names))
    order = np.lexsort((rank[arm], ids))
    first = order[run_starts(ids[order])]
    return first, arm[first].astype(np.int64)


def _by_arm(arm: npt.NDArray[Any], names: Sequence[str]) -> dict[str, int]:
    return dict(zip(names, np.bincount(arm, minlength=len(names)).tolist(), strict=True))
