"""The errors that a user can meet. A row that fails is data, never one of these."""

from __future__ import annotations

from typing import ClassVar

from curation.secrets import conceal


class CurationError(Exception):
    """Base of every error raised on purpose; its message says where, what, and how to mend it.

    Messages quote addresses and errors of libraries, so secrets in them are concealed here.

    Attributes:
        exit_status: of a command that ends with it.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(conceal(a) if isinstance(a, str) else a for a in arguments))


class RecipeError(CurationError):
    """The recipe asks for something that cannot be done; raised before any work."""

    exit_status = 2


class BoundsError(CurationError):
    """What was computed exceeds a bound that the recipe sets. The tables are kept."""

    exit_status = 3


class ExpectationError(BoundsError):
    """A dataset is not what its recipe expects. Its tables are kept, but it is not the latest."""

    exit_status = 4


class ContractError(CurationError):
    """Rows do not keep the contract of their table in `schemas/`."""


class StoreError(CurationError):
    """A table, version or file of the store is missing, damaged or not what its manifest says."""


class DamagedFileError(StoreError):
    """A data file cannot be read.

    Args:
        message: for the user.
        path: of the file, within the store.
        sha256: checksum of the bytes that were written.
    """

    def __init__(self, message: str, path: str, sha256: str) -> None:
        super().__init__(message)
        self.path, self.sha256 = path, sha256

    def __reduce__(self) -> tuple[type[DamagedFileError], tuple[str, str, str]]:
        return DamagedFileError, (str(self), self.path, self.sha256)


class LeaseError(StoreError):
    """Another run works on the same step, or took it over."""


class WorkerError(CurationError):
    """The process that worked on a task has ended, or had no memory left, again and again.

    Args:
        message: for the user.
        task: number of the task within its job; None if Spark names none.
    """

    def __init__(self, message: str, task: int | None = None) -> None:
        super().__init__(message)
        self.task = task
