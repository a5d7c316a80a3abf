"""Fragments in groups, so that the number of tasks grows with rows and not with fragments."""

from __future__ import annotations

from collections.abc import Iterable

from curation.store.fragment import Fragment

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def group_fragments(fragments: Iterable[Fragment], rows: int) -> list[list[Fragment]]:
    """Return fragments in groups, in their order; one task reads, or writes, those of a group.

    Args:
        fragments: the fragments.
        rows: largest number of rows of a group of several fragments.

    Returns:
        At least one group, which is empty without fragments.
    """
    groups: list[list[Fragment]] = [[]]
    in_group = 0
    for fragment in fragments:
        if groups[-1] and in_group + fragment.rows > rows:
            groups.append([])
            in_group = 0
        groups[-1].append(fragment)
        in_group += fragment.rows
    return groups
