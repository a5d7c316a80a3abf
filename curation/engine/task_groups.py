"""Splits items into groups of one task each, so that tasks grow with rows and not with fragments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


class HasRows(Protocol):
    """A fragment, or several of the same rows."""

    @property
    def rows(self) -> int:
        """Number of rows."""


Item = TypeVar("Item", bound=HasRows)
Anything = TypeVar("Anything")


def split_by_rows(items: Iterable[Item], at_most: int) -> list[list[Item]]:
    """Split items into groups of neighbours, in their order; one task reads, or writes, a group.

    Args:
        items: such as fragments.
        at_most: largest number of rows of a group. A larger item is a group of its own.
    """
    return split_by_size(items, lambda item: item.rows, at_most)


def split_by_size(
    items: Iterable[Anything], size_of: Callable[[Anything], int], at_most: int
) -> list[list[Anything]]:
    """Split items into groups of neighbours, in their order.

    Args:
        items: anything.
        size_of: returns the size of an item.
        at_most: largest size of a group, in the unit of `size_of`. A larger item is a group of its own.
    """
    groups: list[list[Anything]] = []
    size = 0
    for item in items:
        if not groups or size + size_of(item) > at_most:
            groups.append([])
            size = 0
        groups[-1].append(item)
        size += size_of(item)
    return groups
