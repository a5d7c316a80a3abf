"""The join by cells: vectors meet where they share a cell of one global quantiser.

Each vector goes to its `spread` nearest cells and is compared with every vector there, so that two near
ones meet unless they share none of their nearest cells, as they may where SemDeDup (Abbas et al. 2023)
compares within one cell alone. Vectors cross the network once for each of their cells; everything after
that is local to a cell. What is found is exact for the pairs that meet; which part of all it is, is
measured on a sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.device import CPU
from curation.fragment import Fragment
from curation.knn.blocks import PAIRS, nearest_others, pairs_batch, pairs_of
from curation.knn.choice import GROWN
from curation.knn.codebooks import read_codebooks
from curation.knn.exact import build_base, merge
from curation.knn.exact import search as search_exact
from curation.knn.join import from_ids, read_vectors, to_ids
from curation.units import Context, Rows
from curation.vectors import Ids, Vectors, vector_array, vector_matrix

ROUTED = 1_000_000
"""Rows that one task routes."""
HELD = 2**29
"""Bytes of routed vectors that one task joins; working on them takes about four times that."""
MERGED = 2_000_000
"""Finds that are merged at once, about; each takes some 300 bytes while they are sorted."""
RANGES = 256
"""Ranges of image ids in which what was found is merged: by their first two hex digits."""

SOUGHT = pa.field("sought", pa.int32())
Cells = npt.NDArray[np.int32]
Sought = Sequence[tuple[str, str]]
"""(role of the query, role of the base)."""


def groups_of(cells: int, held: float) -> tuple[int, ...]:
    """Return where groups of cells begin, and the end: each has about HELD bytes, of `held` in all."""
    count = int(min(cells, max(1, -(-held // HELD))))
    return tuple(int(cell) for cell in np.linspace(0, cells, count + 1).round())


def nearest_cells(
    vectors: Vectors, coarse: npt.NDArray[np.float32], spread: int, device: str = CPU
) -> Cells:
    """Return the nearest cells of each vector (n, dim), (n, spread), the nearest first.

    Args:
        vectors: unit vectors.
        coarse: (cells, dim) float32 centroids.
        spread: at most the number of cells.
        device: `cpu` or `cuda[:n]`.
    """
    names = np.char.mod("%032d", np.arange(len(coarse))).astype("S32")
    found = search_exact(vectors, build_base(coarse, names), spread, device=device)
    return found.ids.astype(np.int32).reshape(len(vectors), spread)


def route(
    fragments: Sequence[tuple[str, Fragment]],
    codebooks: Fragment,
    spread: int,
    groups: tuple[int, ...],
    device: str,
) -> Rows:
    """Write each vector once for each of its cells, in the order of cells, a row group a group.

    Args:
        fragments: roles and vectors.
        codebooks: of the quantiser.
        spread: cells of a vector.
        groups: what will be read at once.
        device: `cpu` or `cuda[:n]`.
    """
    books = read_codebooks(codebooks)
    assert books is not None
    spread = min(spread, len(books.coarse))
    parts = [(role, *read_vectors(fragment)) for role, fragment in fragments]
    parts = [part for part in parts if len(part[1])]
    if not parts:
        return None
    ids, vectors = (np.concatenate([p[n] for p in parts]) for n in (1, 2))
    names = sorted({p[0] for p in parts})
    roles = np.repeat([names.index(p[0]) for p in parts], [len(p[1]) for p in parts])
    cells = nearest_cells(vectors, books.coarse, spread, device)
    row = np.repeat(np.arange(len(ids)), spread)
    order = np.argsort(cells.ravel(), kind="stable")
    row, cell = row[order], cells.ravel()[order]
    for first, last in pairwise(np.searchsorted(cell, groups)):
        own = row[first:last]
        if len(own):
            role = pa.DictionaryArray.from_arrays(roles[own], names).dictionary_decode()
            columns = [pa.array(cell[first:last]), role, from_ids(ids[own])]
            yield pa.RecordBatch.from_arrays(
                [*columns, vector_array(vectors[own])],
                names=["cell", "role", "image_id", "vector"],
            )
    return None


def join_cells(
    parts: Sequence[Fragment],
    cells: tuple[int, int],
    sought: Sought,
    options: Mapping[str, float],
    device: str,
) -> Rows:
    """Join the cells from `cells[0]` to `cells[1]`, each among itself.

    Yields what was found by ranges of the queries' ids, a row group each, so that merging reads no
    more than it needs.
    """
    found = [PAIRS.append(SOUGHT).empty_table()]
    for roles, ids, vectors in _cells(parts, *cells):
        for number, (query_role, base_role) in enumerate(sought):
            left, right = roles == query_role, roles == base_role
            if left.any() and right.any():
                mine = dict(options) | {"own_role": float(query_role == base_role)}
                base = build_base(vectors[right], ids[right])
                near = nearest_others(ids[left], vectors[left], base, mine, device)
                found.append(_told(pairs_batch(ids[left], near), number))
    table = pa.concat_tables(found).sort_by("query_id")
    first_digits = table.column("query_id").to_numpy(zero_copy_only=False).astype("S2")
    for low, high in pairwise(np.searchsorted(first_digits, [*_ranges("S2"), b"g"])):
        if high > low:
            yield from table.slice(low, high - low).combine_chunks().to_batches()
    return None


def _told(pairs: pa.RecordBatch, number: int) -> pa.Table:
    sought = pa.array(np.full(pairs.num_rows, number, np.int32))
    return pa.Table.from_batches([pairs]).append_column(SOUGHT, sought)


def _ranges(kind: str) -> npt.NDArray[np.bytes_]:
    return np.array([f"{n:02x}" for n in range(RANGES)], dtype=kind)


def _cells(
    parts: Sequence[Fragment], first: int, end: int
) -> Iterator[tuple[npt.NDArray[np.str_], Ids, Vectors]]:
    """Yield the roles, ids and vectors of each cell; an image stands there once a role."""
    tables = [table for part in parts for table in part.between("cell", first, end - 1)]
    if not tables:
        return
    table = pa.concat_tables(tables)
    cell = table.column("cell").to_numpy()
    roles = table.column("role").to_numpy(zero_copy_only=False).astype(str)
    ids, vectors = to_ids(table.column("image_id")), vector_matrix(table.column("vector"))
    order = np.lexsort((ids, roles, cell))
    order = order[(cell[order] >= first) & (cell[order] < end)]
    cell, roles, ids = cell[order], roles[order], ids[order]
    fresh = np.ones(len(ids), dtype=bool)
    fresh[1:] = (cell[1:] != cell[:-1]) | (roles[1:] != roles[:-1]) | (ids[1:] != ids[:-1])
    cell, roles, ids, order = cell[fresh], roles[fresh], ids[fresh], order[fresh]
    _, start = np.unique(cell, return_index=True)
    for low, high in pairwise([*start.tolist(), len(cell)]):
        yield roles[low:high], ids[low:high], vectors[order[low:high]]


def merge_cells(parts: Sequence[Fragment], digits: tuple[str, str], k: int) -> Rows:
    """Keep the k nearest of what queries, by the first digits of their ids, found in all cells."""
    low, high = digits
    tables = [table for part in parts for table in part.between("query_id", low, high + "~")]
    if not tables:
        return None
    table = pa.concat_tables(tables)
    for number in np.unique(table.column(SOUGHT.name).to_numpy()).tolist():
        queries, found = pairs_of(table.filter(pc.equal(table.column(SOUGHT.name), number)))
        yield from _told(pairs_batch(queries, merge([found], k)), number).to_batches()
    return None


def cell_join(
    by_role: Mapping[str, Mapping[str, Fragment]],
    sought: Sought,
    options: Mapping[str, float],
    books: Fragment,
    context: Context,
) -> Iterator[tuple[str, str, pa.Table]]:
    """Yield (role of queries, role of base, pairs): see the module for what is found.

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
    # By what the codebooks are made for, not by the rows there are: so routes are found again.
    groups = groups_of(cells, 2.0 * options["spread"] * dim * GROWN * (cells / 4) ** 2)
    routes = {
        f"route-{batch[0][1].name}": {
            "fragments": batch,
            "codebooks": books,
            "spread": int(options["spread"]),
            "groups": groups,
        }
        for batch in _batches(fragments)
    }
    routed = context.compute("route", route, routes, batch_groups=True)
    parts = [Fragment(context.store, record) for record in routed.values()]
    near = {name: options[name] for name in ("k", "floor")}
    joins = {
        f"cells-{first:07d}": {
            "parts": parts,
            "cells": (first, end),
            "sought": tuple(sought),
            "options": near,
        }
        for first, end in pairwise(groups)
    }
    joined = context.compute("cells", join_cells, joins, batch_groups=True)
    found = [Fragment(context.store, record) for record in joined.values()]
    ranges = min(RANGES, 1 << (sum(part.rows for part in found) // MERGED).bit_length())
    step = RANGES // ranges
    names = _ranges("U2")
    merges = {
        f"merge-{names[low]}": {
            "parts": found,
            "digits": (str(names[low]), str(names[low + step - 1])),
            "k": int(options["k"]),
        }
        for low in range(0, RANGES, step)
    }
    for record in context.compute("merge", merge_cells, merges).values():
        if not record.rows:
            continue
        table = Fragment(context.store, record).read()
        for number, (query_role, base_role) in enumerate(sought):
            own = table.filter(pc.equal(table.column(SOUGHT.name), number))
            yield query_role, base_role, own.drop_columns([SOUGHT.name])


def _batches(fragments: Sequence[tuple[str, Fragment]]) -> Iterator[list[tuple[str, Fragment]]]:
    """Yield fragments in batches of about ROUTED rows, of one role each so that they stay the same."""
    batch: list[tuple[str, Fragment]] = []
    for role, fragment in fragments:
        if batch and (
            batch[0][0] != role or sum(f.rows for _, f in batch) + fragment.rows > ROUTED
        ):
            yield batch
            batch = []
        batch.append((role, fragment))
    if batch:
        yield batch
