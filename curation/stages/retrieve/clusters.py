"""How many images each cluster holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.engine.exchange_runner import ExchangeRunner, WorkTable
from curation.engine.sorted_arrays import run_starts
from curation.engine.units import StageOutput

Counts = npt.NDArray[np.int64]
CLUSTER_SIZES = pa.schema([("set", pa.int16()), ("cluster_id", pa.int32()), ("images", pa.int64())])


def count_clusters(images: WorkTable) -> StageOutput:
    """Count the images of each set in each cluster of level 0.

    Args:
        images: a part of IMAGES.

    Yields:
        CLUSTER_SIZES.
    """
    rows = images.read(["set", "cluster_id"])
    sets, clusters = (rows.column(name).to_numpy() for name in ("set", "cluster_id"))
    clustered = np.flatnonzero(clusters >= 0)
    order = clustered[np.lexsort((clusters[clustered], sets[clustered]))]
    starts = np.flatnonzero(run_starts(sets[order], clusters[order]))
    counts = np.diff(np.append(starts, len(order)))
    first = order[starts]
    columns = [pa.array(c) for c in (sets[first], clusters[first], counts)]
    yield pa.RecordBatch.from_arrays(columns, schema=CLUSTER_SIZES)
    return None


def images_by_cluster(
    images: Sequence[WorkTable], clusters: int, runner: ExchangeRunner
) -> dict[int, Counts]:
    """Return the number of images of each set in each cluster of level 0, (k,) each.

    Args:
        images: all parts of IMAGES.
        clusters: k, the number of clusters.
        runner: computes the counts of the parts.
    """
    sizes: dict[int, Counts] = {}
    arguments = [{"images": part} for part in images]
    for part in runner.compute("clusters", count_clusters, arguments):
        rows = part.read()
        sets, numbers, counts = (rows.column(name).to_numpy() for name in CLUSTER_SIZES.names)
        clusters = max(clusters, int(numbers.max(initial=-1)) + 1)
        for number in np.unique(sets).tolist():
            of_set = sets == number
            total = _longer(sizes.get(number), clusters)
            total[numbers[of_set]] += counts[of_set]
            sizes[number] = total
    return {number: _longer(counts, clusters) for number, counts in sizes.items()}


def _longer(counts: Counts | None, length: int) -> Counts:
    """Return the counts followed by zeros, in an array of some length."""
    if counts is not None and len(counts) == length:
        return counts
    longer = np.zeros(length, np.int64)
    if counts is not None:
        longer[: len(counts)] = counts
    return longer
