"""Whether numpy does some work of k-means, or torch, whose import takes seconds.

Both give the same bits. Numpy does the first work of a process, until this has taken about as long as
the import would. Torch, which is faster, does all work after that, and all work of a process that has
it anyway. Searches count their own products (`curation/algorithms/knn/exact.py`); FAISS does few.
"""

from __future__ import annotations

import sys
from threading import Lock

from curation.engine.device import CPU

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

MULTIPLICATIONS = 2.0**33
"""Multiplications in float64 that take numpy about as long as the import of torch."""


class NumpyWork:
    """The work that numpy does before torch is imported.

    Args:
        left: multiplications that it may do.
    """

    def __init__(self, left: float) -> None:
        self.left = left
        self._lock = Lock()

    @property
    def is_over(self) -> bool:
        """Whether torch is there already."""
        return "torch" in sys.modules

    def takes(self, multiplications: float, device: str = CPU) -> bool:
        """Whether numpy does some work, which is then counted.

        Args:
            multiplications: of numbers, or what takes as long.
            device: where torch would do it; a GPU needs torch.
        """
        if device != CPU or self.is_over:
            return False
        with self._lock:
            if multiplications > self.left:
                return False
            self.left -= multiplications
            return True


NUMPY_WORK = NumpyWork(MULTIPLICATIONS)
"""That of this process."""
