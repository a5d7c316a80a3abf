"""The join by cells: vectors meet where they share a cell of one global quantiser.

Each vector goes to its `spread` nearest cells and is compared with every vector there, so that two near
ones meet unless they share none of their nearest cells, as they may where SemDeDup (Abbas et al. 2023)
compares within one cell alone. Vectors cross the network once for each of their cells; everything after
that is local to a cell. What is found is exact for the pairs that meet; which part of all it is, is
measured on a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import Ids, Vectors, vector_matrix
from curation.algorithms.knn.blocks import PAIRS, nearest_others, pairs_batch, pairs_of
from curation.algorithms.knn.codebooks import read_codebooks
from curation.algorithms.knn.exact import build_base, merge
from curation.algorithms.knn.routing import batches_of, read_routed, route
from curation.engine.context import Context
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask, exchange_tables
from curation.engine.fragment import Fragment
from curation.engine.units import StageOutput, empty_batch

HELD = 2**29
"""Bytes of vectors that one task joins; working on them takes about four times that."""
MERGED = 2_000_000
"""Finds that are merged at once, about; each takes some 300 bytes while they are sorted."""

FOUND = PAIRS.append(pa.field("sought", pa.int32()))
"""Pairs found; `sought` numbers which roles were."""
Sought = Sequence[tuple[str, str]]
"""(role of the query, role of the base)."""


def groups_of(cells: int, held: float) -> tuple[int, ...]:
    """Return where groups of cells begin, and the end: each has about HELD bytes, of `held` in all."""
    count = int(min(cells, max(1, -(-held // HELD))))
    return tuple(int(cell) for cell in np.linspace(0, cells, count + 1).round())


def join_cells(
    vectors: pa.Table,
    groups: tuple[int, ...],
    sought: Sought,
    options: Mapping[str, float],
    part: int,
    device: str,
) -> StageOutput:
    """Join the cells of a group, each among itself.

    Args:
        vectors: all that have a cell of the group.
        groups: the first cell of each group, and the end.
        sought: which roles meet.
        options: k and floor.
        part: the group.
        device: `cpu` or `cuda[:n]`.
    """
    yield empty_batch(FOUND)
    for roles, ids, own in _cells(vectors, groups[part], groups[part + 1]):
        for number, (query_role, base_role) in enumerate(sought):
            left, right = roles == query_role, roles == base_role
            if left.any() and right.any():
                mine = dict(options) | {"own_role": float(query_role == base_role)}
                base = build_base(own[right], ids[right])
                near = nearest_others(ids[left], own[left], base, mine, device)
                yield _told(pairs_batch(ids[left], near), number)
    return None


def _told(pairs: pa.RecordBatch, number: int) -> pa.RecordBatch:
    sought = pa.array(np.full(pairs.num_rows, number, np.int32))
    return pa.RecordBatch.from_arrays([*pairs.columns, sought], schema=FOUND)


def _cells(
    table: pa.Table, first: int, end: int
) -> Iterator[tuple[npt.NDArray[np.str_], Ids, Vectors]]:
    """Yield the roles, ids and vectors of each cell; an image stands there once a role."""
    if not len(table):
        return
    lists = table.column("cells").combine_chunks()
    cell = lists.flatten().to_numpy()
    row = np.repeat(np.arange(len(table)), lists.type.list_size)
    mine = (cell >= first) & (cell < end)
    cell, row = cell[mine], row[mine]
    roles = table.column("role").to_numpy(zero_copy_only=False).astype(str)
    ids, vectors = to_ids(table.column("image_id")), vector_matrix(table.column("vector"))
    order = np.lexsort((ids[row], roles[row], cell))
    cell, row = cell[order], row[order]
    fresh = np.ones(len(row), dtype=bool)
    same = (roles[row][1:] == roles[row][:-1]) & (ids[row][1:] == ids[row][:-1])
    fresh[1:] = (cell[1:] != cell[:-1]) | ~same
    cell, row = cell[fresh], row[fresh]
    _, start = np.unique(cell, return_index=True)
    for low, high in pairwise([*start.tolist(), len(cell)]):
        own = row[low:high]
        yield roles[own], ids[own], vectors[own]


def find_in_cells(
    by_role: Mapping[str, Mapping[str, Fragment]],
    sought: Sought,
    options: Mapping[str, float],
    books: Fragment,
    context: Context,
) -> list[Fragment]:
    """Return what is found in each group of cells, work tables of FOUND, to be merged.

    Args:
        by_role: fragments of vectors by name, by role.
        sought: which roles meet.
        options: k, floor and spread.
        books: codebooks of the quantiser, a work table.
        context: where workers are.
    """
    fragments = [(role, f) for role, own in by_role.items() for f in own.values()]
    coarse = read_codebooks(books)
    assert coarse is not None
    cells, dim = coarse.coarse.shape
    batches = {f"route-{batch[0][1].name}": batch for batch in batches_of(fragments)}
    spread = {"codebooks": books, "spread": int(options["spread"])}
    items = {name: {"fragments": batch} | spread for name, batch in batches.items()}
    routed = context.compute("route", route, items, gpu=True)
    held = 2.0 * options["spread"] * dim * sum(fragment.rows for _, fragment in fragments)
    groups = groups_of(cells, held)
    readings = [
        MapTask(
            read_routed,
            {"fragments": batch, "routed": Fragment(context.store, routed[name]), "groups": groups},
        )
        for name, batch in batches.items()
    ]
    schema = pa.schema(
        [
            ("cells", pa.list_(pa.int32(), min(int(options["spread"]), cells))),
            ("role", pa.string()),
            ("image_id", pa.string()),
            ("vector", pa.binary(2 * dim)),
        ]
    )
    job = Exchange(
        "cells",
        {"vectors": ExchangeInput(schema, readings)},
        join_cells,
        len(groups) - 1,
        {
            "groups": groups,
            "sought": tuple(sought),
            "options": {name: options[name] for name in ("k", "floor")},
        },
        pass_part=True,
        gpu=True,
    )
    return [Fragment(context.store, record) for record in exchange_tables(job, context)]


def merging(
    found: Sequence[Fragment], function: Callable[..., StageOutput], arguments: Mapping[str, Any]
) -> Exchange:
    """Return the exchange in which all that a query found in its cells comes together.

    Args:
        found: by `find_in_cells`.
        function: is given `found`, FOUND of some queries, and the arguments.
        arguments: k among them.
    """
    readings = [MapTask(read_found, {"found": own}) for own in found]
    parts = max(1, -(-sum(own.rows for own in found) // MERGED))
    return Exchange("merge", {"found": ExchangeInput(FOUND, readings)}, function, parts, arguments)


def read_found(found: Fragment) -> Iterator[pa.Table]:
    """Yield what was found, by the query."""
    for batch in found.batches(rows=MERGED // 4):
        keys = seeded_keys(to_ids(batch.column("query_id")), "query")
        yield pa.Table.from_batches([batch]).append_column(KEY, pa.array(keys))


def nearest_found(found: pa.Table, k: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield by what was sought the k nearest of each query, as PAIRS in the order of queries."""
    numbers = found.column("sought")
    for number in np.unique(numbers.to_numpy()).tolist():
        queries, own = pairs_of(found.filter(pc.equal(numbers, number)))
        yield number, pairs_batch(queries, merge([own], k))


def merge_cells(found: pa.Table, k: int) -> StageOutput:
    """Give the k nearest of each query, as FOUND."""
    yield empty_batch(FOUND)
    for number, pairs in nearest_found(found, k):
        yield _told(pairs, number)
    return None


def cell_join(
    by_role: Mapping[str, Mapping[str, Fragment]],
    sought: Sought,
    options: Mapping[str, float],
    books: Fragment,
    context: Context,
) -> Iterator[tuple[str, str, pa.Table]]:
    """Yield (role of queries, role of base, pairs): see the module for what is found.

    The arguments are those of `find_in_cells`.
    """
    found = find_in_cells(by_role, sought, options, books, context)
    for record in exchange_tables(merging(found, merge_cells, {"k": int(options["k"])}), context):
        table = Fragment(context.store, record).read()
        for number, (query_role, base_role) in enumerate(sought):
            own = table.filter(pc.equal(table.column("sought"), number))
            if len(own):
                yield query_role, base_role, own.drop_columns(["sought"])
