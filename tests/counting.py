"""Workers that record what they computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from curation.engine.parallel import InProcess, Note

T = TypeVar("T")
R = TypeVar("R")


class Counting(InProcess):
    """Records the label of each item that is computed."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def map(
        self,
        label: str,
        function: Callable[[T], R],
        items: Sequence[T],
        note: Note | None = None,
        gpu: bool = False,
        isolated: bool = False,
    ) -> list[R]:
        self.done += [label] * len(items)
        return super().map(label, function, items, note, gpu, isolated)
