"""dedup in parts: components that share nothing are decided apart from each other, on workers.

Ties that agree are joined to components first (`stars.py`). Then rows, ties and pairs that agree go to
the part of their component, which is decided there as a whole pool would be, and what was decided goes
to the fragment of its row. A part is closed over everything that `decide` looks at (ties of all roles,
equal pixels, equal bytes), so the result is that of one machine, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.components.distributed import LABELS, components, read_labels
from curation.engine.context import Context
from curation.engine.exchange import (
    KEY,
    Exchange,
    ExchangeInput,
    MapTask,
    exchange,
    exchange_tables,
    split_by_file,
)
from curation.engine.fragment import Fragment
from curation.engine.manifest import FragmentRecord
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
from curation.stages.dedup.decide import bounds_of, decide
from curation.stages.dedup.exchange_io import (
    PAIRS,
    PIXELS,
    PLACE,
    ROWS,
    TIES,
    fetched,
    nodes_of,
    pair_edges,
    read_pairs,
    read_pixels,
    read_rows,
    read_ties,
    same_pixels,
    tie_edges,
)
from curation.stages.dedup.params import DedupParams
from curation.stages.dedup.rows import Ints, held_out_sets
from curation.stages.dedup.ties import Near, pairs_of
from curation.stages.dedup.write_copies import SCHEMA, added, books, outcome

ROWS_A_PART = 500_000
"""Rows that a worker reads, or decides, at once: some hundred MB with their captions."""
BATCH = 65_536
PLACED = pa.schema([*PLACE, *SCHEMA])
BY = {"rows": "image_id", "ties": "image_a", "pairs": "image_a"}
"""The image by which rows of each kind meet its label."""


@dataclass(frozen=True)
class Pool:
    """What is decided in parts: the tables that dedup reads, and how."""

    tables: Mapping[str, Table]
    params: DedupParams
    context: Context

    @cached_property
    def parts(self) -> int:
        """Into how many parts."""
        return max(1, -(-self.tables["images"].rows // ROWS_A_PART))

    @cached_property
    def sets(self) -> list[str]:
        """Names of the held-out sets."""
        return held_out_sets(self.tables["images"])

    @cached_property
    def least(self) -> dict[str, float]:
        """The least similarity by method that any tie has."""
        return bounds_of(self.params, self.sets)[1]

    @cached_property
    def groups(self) -> list[list[Fragment]]:
        """Fragments of `images` that a task reads, or writes, one after the other."""
        found: list[list[Fragment]] = [[]]
        rows = 0
        for fragment in self.tables["images"].fragments.values():
            if found[-1] and rows + fragment.rows > ROWS_A_PART:
                found.append([])
                rows = 0
            found[-1].append(fragment)
            rows += fragment.rows
        return found

    @cached_property
    def scored(self) -> dict[str, Fragment]:
        """The fragments of `scores` by name; none where equal pixels make no copies."""
        return self.tables["scores"].fragments if "scores" in self.tables else {}

    def scores(self, group: list[Fragment]) -> list[Fragment] | None:
        """Return the scores of some fragments; None where equal pixels make no copies."""
        return [self.scored[fragment.name] for fragment in group] if self.scored else None

    def files(self, table: str) -> list[Fragment]:
        """Return the files of a table, for a task each."""
        return [f for own in self.tables[table].fragments.values() for f in split_by_file(own)]

    def opened(self, records: Sequence[FragmentRecord]) -> list[Fragment]:
        """Return work tables."""
        return [Fragment(self.context.store, record) for record in records]


def in_parts(tables: Mapping[str, Table], params: DedupParams, context: Context) -> StageOutput:
    """Decide who copies whom, in parts.

    Args:
        tables: images, neighbours, verified and, where equal pixels make copies, scores.
        params: of the stage.
        context: workers, and where they keep what is done.

    Yields:
        Records of `copies`, a fragment each.

    Returns:
        The books.
    """
    pool = Pool(tables, params, context)
    edges = _edges(pool)
    rounds = components(pool.opened(edges), context)
    inputs = {what: _labelled(what, own, rounds[-1], pool) for what, own in _inputs(pool).items()}
    arguments = {"params": params, "sets": pool.sets}
    decided = exchange_tables(
        Exchange("decide", inputs, decide_part, pool.parts, arguments), context
    )
    yield from _written(decided, pool)
    met = [own.arguments["rows"].record for given in inputs.values() for own in given.tasks]
    context.delete_records([*edges, *chain.from_iterable(rounds), *met, *decided])
    return added([record.stats for record in decided])


def _inputs(pool: Pool) -> dict[str, ExchangeInput]:
    """Return what reads rows, ties that are strong enough, and pairs that agree."""
    rows, first = [], 0
    for group in pool.groups:
        given = {"images": group, "scores": pool.scores(group), "first": first}
        rows.append(MapTask(read_rows, given))
        first += len(group)
    ties = [
        MapTask(read_ties, {"neighbours": own, "least": pool.least})
        for own in pool.files("neighbours")
    ]
    bounds = pool.params.verify
    pairs = [
        MapTask(read_pairs, {"verified": own, "bounds": bounds})
        for own in pool.files("verified")
        if bounds
    ]
    return {
        "rows": ExchangeInput(ROWS, rows),
        "ties": ExchangeInput(TIES, ties),
        "pairs": ExchangeInput(PAIRS, pairs),
    }


def _edges(pool: Pool) -> list[FragmentRecord]:
    """Return the edges that hold parts together: of pairs that agree, of ties that nobody looks at, and
    of equal pixels."""
    context, bounds = pool.context, pool.params.verify
    unseen = {m: bound for m, bound in pool.least.items() if not bounds or m == "semantic"}
    found: list[FragmentRecord] = []
    if unseen:
        files = pool.files("neighbours")
        items = {f"ties-{n:06d}": {"neighbours": f, "least": unseen} for n, f in enumerate(files)}
        found += context.compute("edges of ties", tie_edges, items).values()
    if bounds:
        files = pool.files("verified")
        items = {f"pairs-{n:06d}": {"verified": f, "bounds": bounds} for n, f in enumerate(files)}
        found += context.compute("edges of pairs", pair_edges, items).values()
    if pool.scored:
        readings = [
            MapTask(read_pixels, {"images": own, "scores": pool.scores(own)}) for own in pool.groups
        ]
        given = {"rows": ExchangeInput(PIXELS, readings)}
        found += exchange_tables(Exchange("equal pixels", given, same_pixels, pool.parts), context)
    return found


def _labelled(
    what: str, rows: ExchangeInput, stars: Sequence[FragmentRecord], pool: Pool
) -> ExchangeInput:
    """Return what reads rows of a kind by the label of their component, after they have met it."""
    labels = [MapTask(read_labels, {"stars": own}) for own in pool.opened(stars)]
    given = Exchange(
        f"labels of {what}",
        {"rows": rows, "labels": ExchangeInput(LABELS, labels)},
        labelled,
        pool.parts,
        {"by": BY[what], "alone": what == "rows"},
    )
    found = pool.opened(exchange_tables(given, pool.context))
    return ExchangeInput(rows.schema, [MapTask(read_keyed, {"rows": own}) for own in found])


def labelled(rows: pa.Table, labels: pa.Table, by: str, alone: bool) -> StageOutput:
    """Give rows with the label of their component.

    Args:
        rows: of any kind.
        labels: LABELS of their nodes.
        by: the column with the image that is the node.
        alone: whether a node without label is its own; else its rows are left out.
    """
    node, label = (np.asarray(labels.column(name), np.uint64) for name in LABELS.names)
    node, first = np.unique(node, return_index=True)
    own = nodes_of(to_ids(rows.column(by)))
    place = np.minimum(np.searchsorted(node, own), max(len(node) - 1, 0))
    known = node[place] == own if len(node) else np.zeros(len(own), dtype=bool)
    own[known] = label[first[place[known]]]
    table = rows.append_column("label", pa.array(own))
    yield empty_batch(table.schema)
    yield from (table if alone else table.filter(pa.array(known))).to_batches(BATCH)
    return None


def read_keyed(rows: Fragment) -> Iterator[pa.Table]:
    """Yield rows by their label, which is not theirs any more."""
    for batch in rows.batches(rows=BATCH):
        table = pa.Table.from_batches([batch])
        yield table.drop_columns(["label"]).append_column(KEY, table.column("label"))


def decide_part(
    rows: pa.Table, ties: pa.Table, pairs: pa.Table, params: DedupParams, sets: list[str]
) -> StageOutput:
    """Decide a part: give rows of `copies`, with the number of their fragment and their place in it.

    Args:
        rows: ROWS of some components, all of them.
        ties: TIES of these.
        pairs: PAIRS of these that agree.
        params: of the stage.
        sets: names of the held-out sets.

    Returns:
        The books of the part.
    """
    own, numbers = fetched(rows, sets)
    agreeing = np.sort(pairs_of(pairs)) if params.verify else None
    decided = decide(own, Near(ties, agreeing), params)
    (batch,) = outcome(own, decided, np.array([0, len(own.row)]))
    place = [pa.array(numbers[own.fragment]), pa.array(own.row)]
    yield pa.RecordBatch.from_arrays([*place, *batch.columns], schema=PLACED)
    return books(own, decided, params)


def _written(decided: Sequence[FragmentRecord], pool: Pool) -> Iterator[FragmentRecord]:
    """Yield the fragments of `copies`, written by workers."""
    names = [[fragment.name for fragment in group] for group in pool.groups]
    firsts = np.cumsum([0, *map(len, names)])
    rows = [MapTask(read_placed, {"rows": own, "firsts": firsts}) for own in pool.opened(decided)]
    job = Exchange(
        "write copies",
        {"rows": ExchangeInput(PLACED, rows)},
        write_copies,
        len(names),
        {"names": names, "firsts": firsts},
        lambda part: dict.fromkeys(names[part], "copies"),
        pass_part=True,
    )
    for records in exchange(job, pool.context):
        yield from records.values()


def read_placed(rows: Fragment, firsts: Ints) -> Iterator[pa.Table]:
    """Yield rows by the group of their fragment; `firsts` are the first fragments of groups."""
    for batch in rows.batches(rows=BATCH):
        group = np.searchsorted(firsts, batch.column("fragment").to_numpy(), "right") - 1
        yield pa.Table.from_batches([batch]).append_column(KEY, pa.array(group.astype(np.uint64)))


def write_copies(rows: pa.Table, names: list[list[str]], firsts: Ints, part: int) -> StageOutput:
    """Give the rows of a group of fragments in order, each fragment's under its name."""
    rows = rows.sort_by([("fragment", "ascending"), ("row", "ascending")]).combine_chunks()
    numbers = np.arange(firsts[part], firsts[part + 1] + 1)
    bounds = np.searchsorted(rows.column("fragment").to_numpy(), numbers)
    rows = rows.select(SCHEMA.names)
    for name, (start, stop) in zip(names[part], pairwise(bounds.tolist()), strict=True):
        own = rows.slice(start, stop - start).combine_chunks()
        yield name, own.to_batches()[0] if len(own) else empty_batch(SCHEMA)
    return None
