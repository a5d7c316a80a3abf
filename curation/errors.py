"""The errors that a user can meet. A row that fails is data, never one of these.

An error has details: where something is wrong, what was found there, what is valid, and how to mend it.
Its text follows from them, and programs read them as JSON (`CurationError.to_json`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from curation.secrets import conceal

MAX_TEXT = 4096
"""Characters of a message, a place or a value that are kept: libraries quote bytes of files."""
SHOWN_NAMES = 80
"""Valid names that the text of an error lists; JSON has all of them."""


def did_you_mean(word: Any, valid: Iterable[str]) -> str:
    """Return a suggestion in brackets for a misspelt word, or an empty text."""
    close = closest(word, valid)
    return f" (did you mean {close!r}?)" if close else ""


def closest(word: Any, valid: Iterable[str]) -> str | None:
    """Return the valid name that is most like a word, or None if none is like it."""
    close = difflib.get_close_matches(str(word), list(valid), n=1)
    return close[0] if close else None


@dataclass(frozen=True)
class Detail:
    """One thing that is wrong.

    Attributes:
        message: what is wrong; it may quote what was found.
        where: the key, option, file, table or address that is wrong; empty if the message says it.
        found: what is there, as a value that JSON can hold.
        valid: what could be there instead; empty if it cannot be listed.
        fix: what to do about it.
    """

    message: str
    where: str = ""
    found: Any = None
    valid: Sequence[str] = ()
    fix: str = ""

    def __post_init__(self) -> None:
        for name in ("message", "where"):
            object.__setattr__(self, name, _start_of(getattr(self, name)))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        if not (self.valid or self.fix):
            return f"{place}{self.message}"
        hint = did_you_mean(self.found, self.valid) if self.found is not None else ""
        valid = f"Valid: {_listed(self.valid)}" if self.valid else ""
        # A message of several lines shows a place by its last one.
        end = "\n" if "\n" in self.message else ". "
        what_to_do = ". ".join(s.removesuffix(".") for s in (valid, self.fix) if s)
        return f"{place}{self.message.removesuffix('.')}{hint}{end}{what_to_do}."

    def within(self, place: str) -> Detail:
        """Return the detail with the place that it is in before its own."""
        return replace(self, where=f"{place}: {self.where}" if self.where else place)

    def below(self, key: str) -> Detail:
        """Return the detail with its place as a key below another one."""
        return replace(self, where=".".join(filter(None, (key, self.where))))

    def concealed(self) -> Detail:
        """Return the detail without secrets."""
        return Detail(
            conceal(self.message),
            conceal(self.where),
            _plain(self.found),
            tuple(conceal(name) for name in self.valid),
            conceal(self.fix),
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as values that JSON can hold, without secrets; a suggestion is a fix."""
        close = closest(self.found, self.valid) if self.found is not None else None
        fix = self.fix or (f"Did you mean {close!r}?" if close else "")
        return {
            "where": conceal(self.where) or None,
            "message": conceal(self.message),
            "found": _plain(self.found),
            "valid": [conceal(name) for name in self.valid],
            "fix": conceal(fix) or None,
        }


def _lines(details: Iterable[Detail]) -> Iterator[str]:
    """Yield a line for each detail. What several say to do stands in the first of them alone."""
    known: set[str] = set()
    for detail in details:
        sentences = detail.fix.removesuffix(".").split(". ")
        yield str(replace(detail, fix=". ".join(s for s in sentences if s not in known)))
        known.update(sentences)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_NAMES
    # A line break would let a name pass for another line.
    shown = ", ".join(names[:SHOWN_NAMES]).replace("\n", r"\n")
    return f"{shown} and {more:,} others" if more > 0 else shown


def _start_of(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    # Half of a secret would not be known as one.
    return f"{conceal(text[: 2 * MAX_TEXT])[: MAX_TEXT - 1]}…"


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it, without secrets."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, dict):
        return {conceal(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value == value and abs(value) != float("inf"):
        return value
    return conceal(_start_of(str(value)))


_request_to_end: BaseException | None = None


def note_request_to_end(request: BaseException | None) -> None:
    """Note that the process was asked to end; None: it no longer is."""
    global _request_to_end  # noqa: PLW0603
    _request_to_end = request


def reason_of_end(error: BaseException) -> BaseException:
    """Return what ended some work: the error, or the request to end if the process has got one.

    Java may have got the same signal, so that what Python does on the way to its end fails; and what
    was raised for the signal may be lost in a library.
    """
    return _request_to_end or error


def text_of(error: BaseException) -> str:
    """Return the text of an error; empty if it is gone, as that of an error of Java that has ended."""
    try:
        return str(error)
    except Exception:
        return ""


def unknown(what: str, name: Any, valid: Iterable[str], where: str = "", fix: str = "") -> Detail:
    """Return the detail of a name that is not one of those that are known.

    Args:
        what: what the name should name, such as `stage`.
        name: what was found.
        valid: the known names.
        where: the option or key with the name.
        fix: what to do, besides using another name.
    """
    known = tuple(valid)
    message = f"unknown {what} {name!r}"
    return Detail(message if known else f"{message}; there is none", where, name, known, fix)


def not_utf8(text: str, where: str) -> Detail | None:
    """Return what is wrong with a text that has bytes of another encoding; None if it has none.

    Python keeps such bytes of a command line as lone surrogates. Neither Arrow nor DuckDB takes them.

    Args:
        text: what was given.
        where: it was given.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        fix = "Write it in UTF-8, in a terminal whose locale has UTF-8"
        return Detail("it has bytes that are not UTF-8", where, text, fix=fix)
    return None


def start_of_paths() -> str:
    """Return where relative paths start, for errors about files that are not there."""
    return f"Relative paths start at the working directory, {str(Path.cwd())!r}"


class InvalidValueError(ValueError):
    """A value is not valid. Who knows the place that it is at makes another error of it.

    Args:
        details: what is wrong.
    """

    def __init__(self, *details: Detail) -> None:
        super().__init__(*details)
        self.details = details

    def __str__(self) -> str:
        return "\n  ".join(str(detail) for detail in self.details)


class CurationError(Exception):
    """Base of every error raised on purpose; its message says where, what, and how to mend it.

    Messages quote addresses and errors of libraries, so secrets in them are concealed here.

    Args:
        details: what is wrong; a text is a detail with this message alone.
        within: file or option that all details are in.
        fix: what to do about a single text.

    Attributes:
        exit_status: of a command that ends with it.
        details: what is wrong, each with its place.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, *details: str | Detail, within: str = "", fix: str = "") -> None:
        # Here, and not where they are shown: the process that shows them may not know the secrets.
        known = tuple(
            (Detail(d, fix=fix) if isinstance(d, str) else d).concealed() for d in details
        )
        lines = "\n  ".join(_lines(known))
        super().__init__(conceal(f"{within}:\n  {lines}" if within else lines))
        self.details = tuple(detail.within(within) for detail in known) if within else known

    def to_json(self) -> dict[str, Any]:
        """Return the error as values that JSON can hold: the first detail, and all of them."""
        return error_json(type(self).__name__, self.exit_status, str(self), self.details)


def error_json(
    name: str, exit_status: int, message: str, details: Sequence[Detail]
) -> dict[str, Any]:
    """Return an error as values that JSON can hold.

    Args:
        name: of its class.
        exit_status: of the command.
        message: its text.
        details: what is wrong; at least one.
    """
    listed = [detail.to_json() for detail in details or (Detail(message),)]
    first = {key: listed[0][key] for key in ("where", "found", "valid", "fix")}
    return {
        "error": name,
        "exit_status": exit_status,
        "message": conceal(message),
        **first,
        "details": listed,
    }


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


class StartError(CurationError):
    """Spark does not start for a cause that may pass: Java was ended, or a master does not answer."""


class StoreError(CurationError):
    """A table, version or file of the store is missing, damaged or not what its manifest says."""


class DamagedFileError(StoreError):
    """A data file cannot be read.

    Args:
        details: what is wrong.
        path: of the file, within the store.
        sha256: checksum of the bytes that were written.
        fix: what to do about a single text.
    """

    def __init__(self, *details: str | Detail, path: str, sha256: str, fix: str = "") -> None:
        super().__init__(*details, fix=fix)
        self.path, self.sha256 = path, sha256

    def __reduce__(self) -> tuple[Any, tuple[Detail, ...]]:
        return partial(DamagedFileError, path=self.path, sha256=self.sha256), self.details


class TakenDownError(StoreError):
    """Tables hold rows that were taken down, or copies of them. A run from the first stage on is
    without them."""


class LeaseError(StoreError):
    """Another run works on the same step, or took it over."""


class WorkerError(CurationError):
    """The process that worked on a task has ended, or had no memory left, again and again.

    Args:
        details: what is wrong.
        task: number of the task within its job; None if Spark names none.
        fix: what to do about a single text.
    """

    def __init__(self, *details: str | Detail, task: int | None = None, fix: str = "") -> None:
        super().__init__(*details, fix=fix)
        self.task = task
