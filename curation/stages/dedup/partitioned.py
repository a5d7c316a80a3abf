"""dedup in parts on workers: parts that share no component are decided independently.

First the connected components of all edges are found (`distributed_components.py`). Then rows,
neighbours and agreeing pairs go to the part of their component. Each part is decided as a whole pool
would be, and each decided row goes to its fragment. A part has everything that `decide` needs (edges of
all roles, equal pixels, equal bytes), so the result is the same as on one machine, bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.components.distributed_components import (
    LABELS,
    connected_components,
    read_labels,
)
from curation.engine.context import Context
from curation.engine.exchange import (
    KEY,
    Exchange,
    ExchangeInput,
    MapTask,
    exchange_records,
    group_bounds,
    read_by_group,
)
from curation.engine.exchange_runner import OnWorkers
from curation.engine.sorted_arrays import positions_in
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
from curation.stages.dedup.decide import decide
from curation.stages.dedup.edges import VerifiedNeighbours, pair_keys
from curation.stages.dedup.exchange_io import (
    AGREEING_PAIRS,
    IMAGE_ROWS,
    NEIGHBOURS,
    PIXEL_NODES,
    ROW_POSITION,
    build_fetched_rows,
    image_nodes,
    read_agreeing_pairs,
    read_image_rows,
    read_neighbours,
    read_pixel_nodes,
    write_agreeing_edges,
    write_neighbour_edges,
    write_pixel_edges,
)
from curation.stages.dedup.params import DedupParams
from curation.stages.dedup.partitioned_inputs import PartitionedInputs
from curation.stages.dedup.write_copies import SCHEMA, aggregate_stats, copies_batches, copies_stats
from curation.store.fragment import Fragment
from curation.store.manifest import FragmentRecord

ROWS_PER_BATCH = 65_536
POSITIONED_COPIES = pa.schema([*ROW_POSITION, *SCHEMA])
"""Rows of `copies`, with the number of their fragment and their number within it."""
LABELLED_BY = {"rows": "image_id", "neighbours": "image_a", "pairs": "image_a"}
"""Column of the image whose component decides to which part a row goes, by kind of rows."""


def dedup_in_parts(
    tables: Mapping[str, Table], params: DedupParams, context: Context
) -> StageOutput:
    """Decide in parts which rows are copies of which.

    Args:
        tables: images, neighbours, verified and, if equal pixels make copies, scores.
        params: of the stage.
        context: where workers run, and where they keep work tables.

    Yields:
        The record of each fragment of `copies`.

    Returns:
        As `copies_stats`.
    """
    context = context.private()
    runner = OnWorkers(context)
    inputs = PartitionedInputs(tables, params)
    rounds = connected_components(_edges(inputs, runner), context)
    labelled = {
        kind: _label(kind, rows, rounds[-1], inputs.parts, runner)
        for kind, rows in _inputs_by_kind(inputs).items()
    }
    arguments = {"params": params, "held_out_sets": inputs.held_out_sets}
    job = Exchange("decide", labelled, decide_part, inputs.parts, arguments)
    decided = runner.exchange(job)
    yield from _write(decided, inputs.fragment_groups, context)
    context.delete_tables(chain.from_iterable(rounds))
    runner.delete()
    return aggregate_stats([table.stats for table in decided])


def _inputs_by_kind(inputs: PartitionedInputs) -> dict[str, ExchangeInput]:
    """Return the readings of image rows, of similar neighbours, and of agreeing pairs."""
    groups = inputs.fragment_groups
    rows = [
        MapTask(
            read_image_rows, {"images": group, "scores": inputs.scores_of(group), "first": first}
        )
        for group, first in zip(groups, group_bounds(groups).tolist(), strict=False)
    ]
    neighbours = [
        MapTask(read_neighbours, {"neighbours": file, "thresholds": inputs.thresholds})
        for file in inputs.files("neighbours")
    ]
    bounds = inputs.params.verify
    pairs = [
        MapTask(read_agreeing_pairs, {"verified": file, "bounds": bounds})
        for file in inputs.files("verified")
        if bounds
    ]
    return {
        "rows": ExchangeInput(IMAGE_ROWS, rows),
        "neighbours": ExchangeInput(NEIGHBOURS, neighbours),
        "pairs": ExchangeInput(AGREEING_PAIRS, pairs),
    }


def _edges(inputs: PartitionedInputs, runner: OnWorkers) -> list[Fragment]:
    """Return work tables of the edges that hold components together.

    These are edges of agreeing pairs, of neighbours whose pixels are not compared, and of equal pixels.
    """
    bounds = inputs.params.verify
    unverified = {
        method: threshold
        for method, threshold in inputs.thresholds.items()
        if not bounds or method == "semantic"
    }
    edges: list[Fragment] = []
    if unverified:
        near = [
            {"neighbours": file, "thresholds": unverified} for file in inputs.files("neighbours")
        ]
        edges += runner.compute("edges of neighbours", write_neighbour_edges, near)
    if bounds:
        pairs = [{"verified": file, "bounds": bounds} for file in inputs.files("verified")]
        edges += runner.compute("edges of pairs", write_agreeing_edges, pairs)
    if inputs.scores:
        readings = [
            MapTask(read_pixel_nodes, {"images": group, "scores": inputs.scores_of(group)})
            for group in inputs.fragment_groups
        ]
        rows = {"rows": ExchangeInput(PIXEL_NODES, readings)}
        edges += runner.exchange(Exchange("equal pixels", rows, write_pixel_edges, inputs.parts))
    return edges


def _label(
    kind: str, rows: ExchangeInput, stars: Sequence[Fragment], parts: int, runner: OnWorkers
) -> ExchangeInput:
    """Add to rows of one kind the label of their component; return readings keyed by that label."""
    labels = [MapTask(read_labels, {"stars": fragment}) for fragment in stars]
    job = Exchange(
        f"labels of {kind}",
        {"rows": rows, "labels": ExchangeInput(LABELS, labels)},
        add_labels,
        parts,
        {"image_column": LABELLED_BY[kind], "keep_unlabelled": kind == "rows"},
    )
    labelled = [MapTask(read_labelled, {"rows": fragment}) for fragment in runner.exchange(job)]
    return ExchangeInput(rows.schema, labelled)


def add_labels(
    rows: pa.Table, labels: pa.Table, image_column: str, keep_unlabelled: bool
) -> StageOutput:
    """Add the label of their component to rows.

    Args:
        rows: rows of any kind.
        labels: LABELS of the nodes of these rows.
        image_column: column of the image whose node has the label.
        keep_unlabelled: whether a row whose node has no label gets its node as label, as an image
            without edges does. Otherwise such rows are dropped.

    Yields:
        The rows, with the column `label`.
    """
    node, label = (np.asarray(labels.column(name), np.uint64) for name in LABELS.names)
    node, first = np.unique(node, return_index=True)
    row_label = image_nodes(to_ids(rows.column(image_column)))
    positions, known = positions_in(row_label, node)
    row_label[known] = label[first[positions[known]]]
    table = rows.append_column("label", pa.array(row_label))
    yield empty_batch(table.schema)
    labelled = table if keep_unlabelled else table.filter(pa.array(known))
    yield from labelled.to_batches(ROWS_PER_BATCH)
    return None


def read_labelled(rows: Fragment) -> Iterator[pa.Table]:
    """Yield rows keyed by their label, without the column `label`."""
    for batch in rows.batches(rows=ROWS_PER_BATCH):
        table = pa.Table.from_batches([batch])
        yield table.drop_columns(["label"]).append_column(KEY, table.column("label"))


def decide_part(
    rows: pa.Table,
    neighbours: pa.Table,
    pairs: pa.Table,
    params: DedupParams,
    held_out_sets: list[str],
) -> StageOutput:
    """Decide the components of one part.

    Args:
        rows: all IMAGE_ROWS of some components.
        neighbours: NEIGHBOURS of these components.
        pairs: AGREEING_PAIRS of these components.
        params: of the stage.
        held_out_sets: names of the held-out sets.

    Yields:
        POSITIONED_COPIES.

    Returns:
        As `copies_stats`, of this part.
    """
    fetched, fragment_numbers = build_fetched_rows(rows, held_out_sets)
    agreeing = np.sort(pair_keys(pairs)) if params.verify else None
    decision = decide(fetched, VerifiedNeighbours(neighbours, agreeing), params)
    (batch,) = copies_batches(fetched, decision, np.array([0, len(fetched.row)]))
    position = [pa.array(fragment_numbers[fetched.fragment]), pa.array(fetched.row)]
    yield pa.RecordBatch.from_arrays([*position, *batch.columns], schema=POSITIONED_COPIES)
    return copies_stats(fetched, decision, params)


def _write(
    decided: Sequence[Fragment], groups: Sequence[Sequence[Fragment]], context: Context
) -> Iterator[FragmentRecord]:
    """Yield the records of the fragments of `copies`, which workers write."""
    names = [[fragment.name for fragment in group] for group in groups]
    bounds = group_bounds(groups)
    rows = [MapTask(read_by_group, {"rows": table, "bounds": bounds}) for table in decided]
    job = Exchange(
        "write copies",
        {"rows": ExchangeInput(POSITIONED_COPIES, rows)},
        write_fragments,
        len(names),
        outputs=lambda part: dict.fromkeys(names[part], "copies"),
        part_arguments=[
            {"names": group, "first": first}
            for group, first in zip(names, bounds.tolist(), strict=False)
        ],
    )
    yield from exchange_records(job, context)


def write_fragments(rows: pa.Table, names: list[str], first: int) -> StageOutput:
    """Write the rows of one group of fragments, in order.

    Args:
        rows: all POSITIONED_COPIES of the group.
        names: names of the fragments.
        first: number of the first of them.

    Yields:
        (name of the fragment, batch of `copies`).
    """
    rows = rows.sort_by([("fragment", "ascending"), ("row", "ascending")]).combine_chunks()
    numbers = first + np.arange(len(names) + 1)
    bounds = np.searchsorted(rows.column("fragment").to_numpy(), numbers)
    rows = rows.select(SCHEMA.names)
    for name, (start, stop) in zip(names, pairwise(bounds.tolist()), strict=True):
        fragment_rows = rows.slice(start, stop - start).combine_chunks()
        batch = fragment_rows.to_batches()[0] if len(fragment_rows) else empty_batch(SCHEMA)
        yield name, batch
    return None
