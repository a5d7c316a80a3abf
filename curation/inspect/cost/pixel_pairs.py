"""Counts the work of verify, which compares the pixels of near pairs."""

from __future__ import annotations

from curation.inspect.cost.work import PART_ON_DRIVER, CostInputs, Work
from curation.stages.verify.partitioned import ROWS_PER_PART
from curation.stages.verify.partitioned_pairs import PAIRS_PER_UNIT
from curation.stages.verify.reduced_tables import IMAGES_PER_ROW_GROUP
from curation.stages.verify.stage import ROWS_ON_DRIVER

REDUCED_IMAGE = 12 * 1024
"""Bytes of an image at the size at which verify compares it."""
MEASURED_PAIR = 170
"""Bytes of a measured pair with the digests of its pictures."""
NEIGHBOUR_ON_DRIVER = 450
"""Bytes of the driver for a row of `neighbours` while it knows all pairs: the pair, the same again
while it is sorted, and its images with their digests."""
PLACED_IMAGE = 44
"""Bytes that are sent of each image, so that pairs find the row that gives its picture."""
PLANNED_PAIR = 750
"""Bytes that are sent of a pair, besides pictures: twice as a neighbour, its two images to their rows
and to the fragments of these, their digests to its range, the pair and its images to its unit."""


def verify_work(inputs: CostInputs) -> Work:
    """Return the work of verify; none without `dedup.verify`, or without a level that it verifies."""
    dedup = inputs.recipe.dedup
    verify = dedup.verify
    if verify is None or (dedup.perceptual is None and dedup.near is None):
        return Work("verify", 0)
    images = inputs.counts.images
    neighbours = images * inputs.assumptions.near_pairs
    pairs = images * min(inputs.assumptions.near_pairs, verify.k) / 2
    on_driver = neighbours <= ROWS_ON_DRIVER
    return Work(
        "verify",
        pairs,
        stored=pairs * 2 * MEASURED_PAIR + images * REDUCED_IMAGE,
        moved=_read_by_tasks(pairs) if on_driver else _sent(images, pairs),
        driver=driver_bytes(neighbours, pairs, images),
        units_by_rate={"compared_pairs": pairs, "decode_images": images},
    )


def _read_by_tasks(pairs: float) -> float:
    """Return the bytes that tasks read, each a row group for every image of its pairs."""
    return pairs * 2 * IMAGES_PER_ROW_GROUP * REDUCED_IMAGE


def _sent(images: float, pairs: float) -> float:
    """Return the bytes that exchanges read and send."""
    # An image is read once. It is sent to the unit of the pairs in which it is the smaller one, and to
    # each unit of the others.
    pictures = (images + images + pairs) * REDUCED_IMAGE
    # Measured rows are read once more, to be merged with those that are kept.
    return pictures + images * PLACED_IMAGE + pairs * (PLANNED_PAIR + 2 * MEASURED_PAIR)


def driver_bytes(neighbours: float, pairs: float, images: float) -> float:
    """Return the bytes of the driver, besides those of fragments.

    Args:
        neighbours: rows of the table.
        pairs: distinct pairs.
        images: images of all roles.
    """
    if neighbours <= ROWS_ON_DRIVER:
        return neighbours * NEIGHBOUR_ON_DRIVER
    ranges = neighbours / ROWS_PER_PART + 1
    places = max(images, 2 * pairs) / ROWS_PER_PART + 1
    groups = 2 * images / ROWS_PER_PART + 1
    # Ranges have distinct, planned and measured pairs, and at most one unit that is not full.
    parts = 4 * ranges + places + 2 * groups + pairs / PAIRS_PER_UNIT
    return parts * PART_ON_DRIVER
