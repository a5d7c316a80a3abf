"""The joins that the step did last, to which only the pairs of new images are added.

A pool that grew still has all earlier images. Their pairs are known; those of vectors only as long as
the quantiser stays. The k nearest images of a query are among its k nearest earlier ones and the new
ones, so the pairs are those of a join of all images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.knn.hash_groups import Images, OldHashes, contents_of
from curation.algorithms.knn.hash_merge import HashSearch, KnownHashes
from curation.algorithms.knn.pair_merge import PAIRS_PER_MESSAGE, key_by_query
from curation.algorithms.knn.pairs import JOIN_PAIRS
from curation.engine.context import Context
from curation.engine.exchange import MapTask
from curation.media.encoders.params import EMBEDDINGS
from curation.stages.neighbours.params import ROLE_PAIRS
from curation.store.digest import digest
from curation.store.fragment import Fragment
from curation.store.manifest import FragmentRecord, Manifest

KEPT_HASHES = "near hashes"
"""Name of the note of the work tables with near hashes."""


class EarlierJoin(NamedTuple):
    """What an earlier run of the step joined.

    Attributes:
        joined: role and content of each fragment of vectors.
        neighbours: fragments of `neighbours` with the pairs.
    """

    joined: frozenset[tuple[str, str]] = frozenset()
    neighbours: tuple[Fragment, ...] = ()


def earlier_join(
    method: str,
    encoder: str,
    by_role: Mapping[str, Mapping[str, Fragment]],
    codebooks: Fragment | None,
    context: Context,
) -> EarlierJoin:
    """Return the last join of the step; an empty one if it had other cells, or vectors that are gone.

    It is empty, too, if nothing says any more which vectors were joined.

    Args:
        method: the level.
        encoder: whose vectors are joined.
        by_role: fragments of vectors of this run, by role and by name.
        codebooks: of the quantiser; None where all vectors are compared with each other.
        context: finds the version of the table that the step committed last.
    """
    last = _last_version(context)
    if last is None or method not in last.stats:
        return EarlierJoin()
    stats = last.stats[method]
    if stats.get("codebooks") != (codebooks.content if codebooks else None):
        return EarlierJoin()
    records = [r for r in last.fragments if r.name.startswith(f"{method}-")]
    # A fragment whose file has vanished is not listed.
    if sum(record.rows for record in records) != stats.get("pairs"):
        return EarlierJoin()
    joined = _joined(last.reads, encoder, context)
    vectors = {(role, f.content) for role, named in by_role.items() for f in named.values()}
    if not joined or not joined <= vectors:
        return EarlierJoin()
    return EarlierJoin(joined, tuple(Fragment(context.store, record) for record in records))


def _last_version(context: Context) -> Manifest | None:
    return None if context.stale.everything else context.last_version("neighbours")


def _joined(reads: Mapping[str, str], encoder: str, context: Context) -> frozenset[tuple[str, str]]:
    """Return role and content of each fragment of vectors in a version that the step read."""
    images, vectors = _fragments_read(reads, ("images", EMBEDDINGS.table(encoder)), context)
    return frozenset((role, v.content) for n, v in vectors.items() for role in images[n].counts)


def _fragments_read(
    reads: Mapping[str, str], tables: Sequence[str], context: Context
) -> list[dict[str, FragmentRecord]]:
    """Return the fragments of aligned tables that the step read, by name; none if a version is gone."""
    manifests = [context.store.manifest(name, reads[name]) for name in tables if name in reads]
    fragments = [{r.name: r for r in m.fragments} for m in manifests if m is not None]
    same_names = len({tuple(named) for named in fragments}) == 1
    return fragments if len(fragments) == len(tables) and same_names else [{} for _ in tables]


def earlier_readings(earlier: EarlierJoin) -> list[MapTask]:
    """Return the tasks that read the pairs of a join, as JOIN_PAIRS keyed by query."""
    return [MapTask(read_neighbours, {"neighbours": f}) for f in earlier.neighbours]


def read_neighbours(neighbours: Fragment) -> Iterator[pa.Table]:
    """Yield the rows of a fragment of `neighbours` as JOIN_PAIRS, keyed by query."""
    names = ["role_a", "image_a", "role_b", "image_b", "similarity"]
    for batch in neighbours.batches(names, rows=PAIRS_PER_MESSAGE):
        roles = pc.binary_join_element_wise(batch.column("role_a"), batch.column("role_b"), " ")
        number = pc.index_in(roles, pa.array([" ".join(pair) for pair in ROLE_PAIRS]))
        columns = [batch.column(name) for name in ("image_a", "image_b", "similarity")]
        pairs = [*columns, number]
        yield key_by_query(pa.RecordBatch.from_arrays(pairs, schema=JOIN_PAIRS))


def known_hashes(by_role: Images, context: Context) -> KnownHashes:
    """Return the near hashes that the step found last; none if one of their images is gone.

    Args:
        by_role: the images of this run.
        context: finds the version of the table that the step committed last.
    """
    last = _last_version(context)
    images, scores = _fragments_read(last.reads if last else {}, ("images", "scores"), context)
    joined = frozenset(
        (role, record.content, scores[name].content)
        for name, record in images.items()
        for role in record.counts
    )
    if not joined or not joined <= contents_of(by_role):
        return KnownHashes()
    for key, tables in context.kept_tables(KEPT_HASHES).items():
        if key == _key(joined, tables):
            return KnownHashes(joined, tables)
    return KnownHashes()


def keep_hashes(by_role: Images, search: HashSearch, known: KnownHashes, context: Context) -> None:
    """Note the near hashes of all images for the next run.

    Earlier ones stay noted: if this run is stopped before it commits, the next one starts from them.
    """
    tables = {
        _key(images, near): near
        for images, near in (known, (contents_of(by_role), search.near_hashes))
    }
    context.keep_tables(KEPT_HASHES, tables)


def _key(images: OldHashes, tables: Sequence[Fragment]) -> str:
    """Return a key for the near hashes of some images in some work tables."""
    return digest([sorted(images), len(tables)])
