"""Kinds of places for which claims compete: in groups and caps of arms, and those of `balance`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import Bools, RowNumbers
from curation.engine.sorted_arrays import ascending_keys, run_starts
from curation.stages.retrieve.claims import Arms, first_arms
from curation.stages.retrieve.limits import Entries

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class GroupsOfArms:
    """Places in groups for which claims of one arm compete, such as those in a cluster."""

    of_balance: ClassVar[bool] = False
    label: ClassVar[str] = "places in groups"

    def entries(self, claims: pa.Table, images: pa.Table) -> Entries:
        """Return the claims that compete. See `Limit.entries`."""
        row = np.flatnonzero(np.asarray(claims.column("at_most").is_valid()))
        taken = claims.select(["arm", "group", "order", "at_most"]).take(pa.array(row))
        arm, group, order, at_most = (np.asarray(column) for column in taken.columns)
        return Entries(row, _pairs(arm, group), _pairs(0, order), at_most.astype(np.int64))

    def dropped(self, claims: pa.Table, rows: RowNumbers) -> Bools:
        """Return which claims found no place. See `Limit.dropped`."""
        return _mask(len(claims), rows)


@dataclass(frozen=True)
class CapsOfArms:
    """Largest numbers of claims of arms: samples that depend on image ids alone.

    Attributes:
        caps: largest number of claims by the number of an arm.
        names: of all arms, so that arms draw different samples.
        seed: of the recipe.
    """

    of_balance: ClassVar[bool] = False

    caps: tuple[tuple[int, int], ...]
    names: tuple[str, ...]
    seed: int
    label: ClassVar[str] = "caps of arms"

    def entries(self, claims: pa.Table, images: pa.Table) -> Entries:
        """Return the claims of arms with a cap. See `Limit.entries`."""
        arm = claims.column("arm").to_numpy().astype(np.int64)
        ids = to_ids(claims.column("image_id"))
        rows, orders, caps = [], [], []
        for number, cap in self.caps:
            of_arm = np.flatnonzero(arm == number)
            rows.append(of_arm)
            orders.append(seeded_keys(ids[of_arm], self.seed, self.names[number], "cap"))
            caps.append(np.full(len(of_arm), cap))
        row, order, cap_of_row = (np.concatenate(arrays) for arrays in (rows, orders, caps))
        return Entries(row, _pairs(0, arm[row]), _pairs(0, order), cap_of_row)

    def dropped(self, claims: pa.Table, rows: RowNumbers) -> Bools:
        """Return which claims found no place. See `Limit.dropped`."""
        return _mask(len(claims), rows)


@dataclass(frozen=True)
class CapOfSeedSet:
    """Largest number of images that the arms of a seed set claim together; other claims stay.

    Attributes:
        seed_set: name of the set.
        arms: numbers of its arms.
        cap: see above.
        seed: of the recipe.
    """

    of_balance: ClassVar[bool] = True

    seed_set: str
    arms: tuple[int, ...]
    cap: int
    seed: int

    @property
    def label(self) -> str:
        """Which limit it is."""
        return f"cap of seed set {self.seed_set}"

    def _of_set(self, claims: pa.Table) -> Bools:
        return np.isin(claims.column("arm").to_numpy(), self.arms)

    def entries(self, claims: pa.Table, images: pa.Table) -> Entries:
        """Return the images that arms of the set claim. See `Limit.entries`."""
        row = _one_claim_per_image(claims, np.flatnonzero(self._of_set(claims)))
        order = draw_order(claims, images, row, self.seed, "seed_set", self.seed_set)
        return Entries(row, _pairs(0, np.zeros(len(row))), order, np.full(len(row), self.cap))

    def dropped(self, claims: pa.Table, rows: RowNumbers) -> Bools:
        """Return the claims of the set on images that found no place. See `Limit.dropped`."""
        return _claims_on_images_of(claims, rows) & self._of_set(claims)


@dataclass(frozen=True)
class CapOfGroups:
    """Largest number of images of each cluster, or of each host.

    Attributes:
        column: of IMAGES, `balance_cluster` or `host`; images without a value stay.
        cap: see above.
        seed: of the recipe.
    """

    of_balance: ClassVar[bool] = True

    column: str
    cap: int
    seed: int

    @property
    def label(self) -> str:
        """Which limit it is."""
        return f"cap by {self.column}"

    def entries(self, claims: pa.Table, images: pa.Table) -> Entries:
        """Return the images that are in a cluster, or have a host. See `Limit.entries`."""
        row = _one_claim_per_image(claims, np.arange(len(claims)))
        values = images.column(self.column).take(pa.array(row))
        known = np.asarray(values.is_valid())
        row, group = row[known], _groups_of(values.drop_null())
        order = draw_order(claims, images, row, self.seed, self.column)
        return Entries(row, group, order, np.full(len(row), self.cap))

    def dropped(self, claims: pa.Table, rows: RowNumbers) -> Bools:
        """Return the claims on images that found no place. See `Limit.dropped`."""
        return _claims_on_images_of(claims, rows)


@dataclass(frozen=True)
class SharesOfArms:
    """A target for all images, shared out over the arms.

    An image counts for the first of its arms, by priority and then by name, so that two arms that claim
    the same image do not both spend a part of the target on it.

    Attributes:
        arms: of the recipe.
        shares: number of images of each arm.
        seed: of the recipe.
    """

    of_balance: ClassVar[bool] = True

    arms: Arms
    shares: tuple[int, ...]
    seed: int
    label: ClassVar[str] = "target"

    def entries(self, claims: pa.Table, images: pa.Table) -> Entries:
        """Return all images. See `Limit.entries`."""
        ids, arm = to_ids(claims.column("image_id")), claims.column("arm").to_numpy()
        row, first = first_arms(ids, arm, self.arms)
        order = draw_order(claims, images, row, self.seed, "target")
        at_most = np.array([*self.shares, 0], np.int64)[first]
        return Entries(row, _pairs(0, first), order, at_most)

    def dropped(self, claims: pa.Table, rows: RowNumbers) -> Bools:
        """Return the claims on images that found no place. See `Limit.dropped`."""
        return _claims_on_images_of(claims, rows)


def draw_order(claims: pa.Table, images: pa.Table, row: RowNumbers, seed: int, *limit: str) -> Keys:
    """Return the numbers by which images are kept, (n, 2): those of arms with priority come first.

    Others follow by a seeded draw without replacement, in which an image's chance grows with the weight
    of its source (Efraimidis and Spirakis 2006). Each limit has a draw of its own: with one for all,
    images that survived the cap of a large cluster would be the first to stay within the target.

    Args:
        claims: CLAIMS.
        images: IMAGES that are claimed, one row for each claim.
        row: the claims, (n,).
        seed: of the recipe.
        limit: names the limit, whose draw is independent of the draws of others.
    """
    ids = to_ids(claims.column("image_id"))[row]
    uniform = (seeded_keys(ids, seed, "balance", *limit).astype(np.float64) + 1) / 2.0**64
    weight = images.column("weight").to_numpy()[row]
    place = claims.column("place").to_numpy()[row]
    return _pairs(place, ascending_keys(-np.log(uniform) / weight))


def _groups_of(values: pa.ChunkedArray) -> Keys:
    """Return two numbers for each value, the same for the same value, (n, 2)."""
    if pa.types.is_integer(values.type):
        return _pairs(0, values.to_numpy())
    names, number = np.unique(np.array(values.to_pylist(), dtype=object), return_inverse=True)
    digests = [hashlib.blake2b(name.encode(), digest_size=16).digest() for name in names]
    return np.frombuffer(b"".join(digests), ">u8").reshape(-1, 2).astype(np.uint64)[number]


def _pairs(first: Any, second: npt.NDArray[Any]) -> Keys:
    """Return two numbers for each row, (n, 2)."""
    high = np.broadcast_to(np.asarray(first, np.uint64), second.shape)
    return np.stack([high, second.astype(np.uint64)], axis=1)


def _mask(count: int, rows: RowNumbers) -> Bools:
    mask = np.zeros(count, bool)
    mask[rows] = True
    return mask


def _image_numbers(claims: pa.Table) -> RowNumbers:
    """Return a number for the image of each claim; claims are sorted by image."""
    return np.cumsum(run_starts(to_ids(claims.column("image_id"))))


def _one_claim_per_image(claims: pa.Table, rows: RowNumbers) -> RowNumbers:
    """Return the first of some claims on each image."""
    return rows[run_starts(_image_numbers(claims)[rows])]


def _claims_on_images_of(claims: pa.Table, rows: RowNumbers) -> Bools:
    """Return which claims are on the images of some claims."""
    images = _image_numbers(claims)
    return np.isin(images, images[rows])
