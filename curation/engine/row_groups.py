"""Items in groups, so that the number of tasks grows with rows and not with fragments."""

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


def group_by_rows(items: Iterable[Item], rows: int) -> list[list[Item]]:
    """Return items in groups, in their order; one task reads, or writes, those of a group.

    Args:
        items: such as fragments.
        rows: largest number of rows of a group. A larger item is a group of its own.
    """
    return group_by_size(items, lambda item: item.rows, rows)


def group_by_size(
    items: Iterable[Anything], size_of: Callable[[Anything], int], at_most: int
) -> list[list[Anything]]:
    """Return items in groups, in their order.

    Args:
        items: anything.
        size_of: returns the size of an item.
        at_most: largest size of a group. A larger item is a group of its own.
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
