"""Cuts perceptual hashes into parts, so that near hashes agree in one of them but for few bits.

Two hashes that differ in at most d = m · r + a bits (a < m) differ in at most r bits in one of the
first a + 1 of m parts, or in at most r − 1 bits in one of the others (Norouzi, Punjani and Fleet 2012,
section 3.2). By the same argument they agree in one of r + 1 pieces of such a part. So each hash goes
to one cell for each piece, named by the bits of the piece, and all near pairs meet in a cell. There
the other bits of the part name a list, and a query scans the lists that differ in at most r bits.

The more bits a part has, the fewer hashes share its value, and the more lists are scanned: the number
of parts follows from the number of hashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import Bools, RowNumbers

BITS = 256
MAX_LIST_BITS = 16
"""Bits that name a list within a cell: so many lists take a few megabytes."""
FEWEST_PARTS, MOST_PARTS = 8, 48
MOST_CELL_BITS = 12
ROW_COST = 1000.0
"""Cost of sending a hash to a cell, in comparisons of two hashes: about a microsecond."""
LIST_COST = 16.0
"""Cost of the lookup of a list, in comparisons (measured with FAISS 1.15)."""
CELL_HASHES = 4_000_000
"""Hashes that one task can hold: with their lists they take 600 MB."""

Hashes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
"""Hashes as words of 64 bits, shape (n, 4)."""
Values = npt.NDArray[np.int64]


class Piece(NamedTuple):
    """Where hashes meet: they agree in some bits of a part.

    Attributes:
        part: number of the part.
        number: number of the piece among those of the part.
        radius: bits in which near hashes may differ in the rest of the part.
    """

    part: int
    number: int
    radius: int


@dataclass(frozen=True)
class HashParts:
    """How hashes are cut into parts, cells and lists.

    Bit n of a hash belongs to part n % count, so that neighbouring bits, which depend on each other,
    are in different parts.

    Attributes:
        distance: largest number of bits in which near hashes differ.
        count: number of parts.
        cell_bits: bits that name a cell; at most those of a piece.
    """

    distance: int
    count: int
    cell_bits: int = 0

    @cached_property
    def pieces(self) -> list[Piece]:
        """The pieces of all parts that must be searched. Without cells, each part is one piece."""
        return [
            Piece(part, number, self.radius(part))
            for part in range(self.count)
            if self.radius(part) >= 0
            for number in range(self.radius(part) + 1 if self.cell_bits else 1)
        ]

    @property
    def cells(self) -> int:
        """Number of cells of all pieces."""
        return len(self.pieces) << self.cell_bits

    def radius(self, part: int) -> int:
        """Return in how many bits near hashes may differ in a part; −1 if it need not be searched."""
        whole, rest = divmod(self.distance, self.count)
        return whole if part <= rest else whole - 1

    def bits(self, part: int) -> int:
        """Return the number of bits of a part."""
        return len(range(part, BITS, self.count))

    def list_bits(self, part: int) -> int:
        """Return the number of bits of a part that name a list."""
        return self.bits(part) - self.cell_bits

    def cells_of(self, hashes: Hashes) -> Values:
        """Return the cells that hashes go to.

        Args:
            hashes: shape (n, 32).

        Returns:
            Numbers of cells, shape (n, pieces).
        """
        return np.stack([self.cell_of(hashes, n) for n in range(len(self.pieces))], axis=1)

    def cell_of(self, hashes: Hashes, piece: int) -> Values:
        """Return the cell that each hash goes to for one piece, shape (n,).

        Args:
            hashes: shape (n, 32).
            piece: number of the piece.
        """
        inside, _ = self._positions(self.pieces[piece])
        return (piece << self.cell_bits) + _read_bits(hashes, inside)

    def lists_of(self, hashes: Hashes, piece: Piece) -> Values:
        """Return the list of each hash in its cell of a piece, shape (n,).

        Args:
            hashes: shape (n, 32).
            piece: the piece.
        """
        _, outside = self._positions(piece)
        return _read_bits(hashes, outside)

    def _positions(self, piece: Piece) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return which bits of a hash name its cell, and which its list."""
        of_part = np.arange(piece.part, BITS, self.count)
        first = piece.number * self.cell_bits
        inside = of_part[first : first + self.cell_bits]
        return inside, np.setdiff1d(of_part, inside)

    def is_first_meeting(self, differing: Words, piece: Piece) -> Bools:
        """Return which pairs of near hashes meet in no earlier piece.

        Args:
            differing: words with the bits in which the hashes of each pair differ, shape (n, 4).
            piece: a piece in which all of them meet.
        """
        words, rows = differing, np.arange(len(differing))
        for earlier in self.pieces[: self.pieces.index(piece)]:
            inside, outside = (_mask(positions) for positions in self._positions(earlier))
            is_near = np.bitwise_count(words & outside).sum(axis=1) <= earlier.radius
            # Most pairs that meet twice met in one of the first pieces.
            kept = (words & inside).any(axis=1) | ~is_near
            words, rows = words[kept], rows[kept]
        first = np.zeros(len(differing), bool)
        first[rows] = True
        return first


def _mask(positions: npt.NDArray[np.int64]) -> Words:
    """Return the words of a hash with these bits set, (4,)."""
    bits = np.zeros(BITS, np.uint8)
    bits[positions] = 1
    return np.packbits(bits).view(np.uint64)


def take_words(hashes: Hashes, rows: RowNumbers) -> Words:
    """Return some hashes as words, (m, 4). Words are copied many times faster than single bytes.

    Args:
        hashes: shape (n, 32).
        rows: shape (m,).
    """
    return np.ascontiguousarray(hashes).view(np.uint64).take(rows, axis=0)


def take_hashes(hashes: Hashes, rows: RowNumbers) -> Hashes:
    """Return some hashes, (m, 32). See `take_words`."""
    return take_words(hashes, rows).view(np.uint8)


def _read_bits(hashes: Hashes, positions: npt.NDArray[np.int64]) -> Values:
    """Return the numbers that some bits of hashes write, the first of the highest value, shape (n,)."""
    values = np.zeros(len(hashes), np.int64)
    for place, position in enumerate(reversed(positions.tolist())):
        byte, bit = divmod(position, 8)
        values |= ((hashes[:, byte] >> (7 - bit)) & 1).astype(np.int64) << place
    return values


@lru_cache
def flips(bits: int, radius: int) -> Values:
    """Return all numbers of some bits of which at most `radius` are set, those with fewer first."""
    masks = [
        sum(1 << bit for bit in chosen)
        for count in range(min(radius, bits) + 1)
        for chosen in combinations(range(bits), count)
    ]
    return np.array(masks, np.int64)


def choose_parts(distance: int, hashes: int, most_cell_bits: int = MOST_CELL_BITS) -> HashParts:
    """Return the parts that take the fewest steps.

    Args:
        distance: largest number of bits in which near hashes differ.
        hashes: number of hashes.
        most_cell_bits: largest number of bits that name a cell; 0 for one cell for each part.
    """
    every = (
        HashParts(distance, count, cell_bits)
        for count in range(FEWEST_PARTS, MOST_PARTS + 1)
        for cell_bits in range(most_cell_bits + 1)
    )
    return min(filter(_is_possible, every), key=lambda parts: query_cost(parts, hashes))


def _is_possible(parts: HashParts) -> bool:
    return all(
        parts.list_bits(p.part) <= MAX_LIST_BITS
        and parts.cell_bits * (p.radius + 1) <= parts.bits(p.part)
        for p in parts.pieces
    )


def query_cost(parts: HashParts, hashes: int) -> float:
    """Return the cost of the search for one hash, in comparisons of two hashes, if all values of a part
    are equally frequent. A cell that is too large counts as often as it must be divided."""
    shares = max(1.0, hashes / 2**parts.cell_bits / CELL_HASHES)
    cost = 0.0
    for part, _, radius in parts.pieces:
        bits = parts.list_bits(part)
        lists = sum(comb(bits, flipped) for flipped in range(min(radius, bits) + 1))
        cost += shares * (ROW_COST + lists * LIST_COST) + lists * hashes / 2 ** parts.bits(part)
    return cost
