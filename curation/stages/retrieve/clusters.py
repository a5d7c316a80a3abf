"""How many images each cluster holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.engine.exchange_runner import ExchangeRunner, WorkTable
from curation.engine.sorted_arrays import run_starts
from curation.engine.units import StageOutput

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
    images: Sequence[WorkTable], sets: Iterable[int], clusters: int, runner: ExchangeRunner
) -> dict[int, npt.NDArray[np.int64]]:
    """Return the number of images of each set in each cluster of level 0, (k,) each.

    Args:
        images: all parts of IMAGES.
        sets: their numbers in the column `set`.
        clusters: k, the number of clusters.
        runner: computes the counts of the parts.
    """
    sizes = {number: np.zeros(clusters, np.int64) for number in sets}
    arguments = [{"images": part} for part in images]
    for part in runner.compute("clusters", count_clusters, arguments):
        rows = part.read()
        number_of_set, cluster, count = (rows.column(n).to_numpy() for n in CLUSTER_SIZES.names)
        for number, size in sizes.items():
            of_set = number_of_set == number
            size[cluster[of_set]] += count[of_set]
    return sizes
