"""Items in groups, so that the number of tasks grows with rows and not with fragments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


class HasRows(Protocol):
    """A fragment, or several of the same rows."""

    @property
    def rows(self) -> int:
        """Number of rows."""


Item = TypeVar("Item", bound=HasRows)


def group_by_rows(items: Iterable[Item], rows: int) -> list[list[Item]]:
    """Return items in groups, in their order; one task reads, or writes, those of a group.

    Args:
        items: such as fragments.
        rows: largest number of rows of a group. A larger item is a group of its own.
    """
    groups: list[list[Item]] = []
    in_group = 0
    for item in items:
        if not groups or in_group + item.rows > rows:
            groups.append([])
            in_group = 0
        groups[-1].append(item)
        in_group += item.rows
    return groups
