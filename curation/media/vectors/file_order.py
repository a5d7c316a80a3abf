"""Files that go together by the order of their names: of vectors, and of their ids or rows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from curation.errors import Detail

_NUMBER = re.compile(r"(\d+)")
_SHOWN = 3


def order_problem(vectors: Sequence[str], others: Sequence[str], what: str) -> Detail | None:
    """Return what is wrong where vectors would meet the ids or rows of others by the names of files.

    Files are read in the order of their names as texts: `part-10` comes before `part-2`, but not before
    `part-02`.

    Args:
        vectors: names of the files of vectors, in the order in which they are read.
        others: those of the files of ids or rows.
        what: these are.
    """
    if len(vectors) < 2 or not others or _counts_wrong(vectors) == _counts_wrong(others):
        return None
    return Detail(
        "files are read in the order of their names as texts: those of vectors as "
        f"{_shown(vectors)}, and those of {what} as {_shown(others)}, so they would not meet",
        fix="Write the numbers in the names of both with leading zeros, as in part-002",
    )


def _counts_wrong(names: Sequence[str]) -> bool:
    """Whether names that differ in numbers alone stand in another order than these numbers."""
    if len({_NUMBER.sub("0", name) for name in names}) > 1:
        return False
    numbers = [list(map(int, _NUMBER.findall(name))) for name in names]
    return sorted(numbers) != numbers


def _shown(names: Sequence[str]) -> str:
    return ", ".join([*names[:_SHOWN], *(["…"] if len(names) > _SHOWN else [])])
