"""Which format the files at a path have, and which fields of a source follow from them.

Each entry of FORMATS may name a function that recognises its files (`recognise`). A new format brings
its own; nothing here lists them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from curation.errors import Detail, RecipeError, StoreError
from curation.masking import mask_address
from curation.media.files.location import shown
from curation.media.web.params import is_web
from curation.stages.ingest.recognise.place import MARKER, Place, Recognised
from curation.stages.ingest.sources import FORMATS
from curation.terminal import one_line

_SHOWN_NAMES = 5
_SPLITS = frozenset(("train", "test", "val", "validation", "dev"))
"""How datasets name their splits in the names of files and folders."""
_USUAL_FIX = (
    "Give a list a column of URLs, of paths with endings, or of encoded images. Set other columns, "
    "and other endings of files, in a recipe by hand; your-vectors.md in `curation where docs` has "
    "one for vectors without pictures"
)
_FIXES = {
    (".zip", ".7z", ".rar"): "Unpack the archive, and name its folder",
    (".arrow",): "Write them as Parquet, as by `to_parquet` of the datasets library",
    (".xlsx", ".xls", ".ods"): "Export the sheet as CSV in UTF-8",
}
"""What to do with files that no format reads, by their endings."""


def recognise(place: Place) -> Recognised:
    """Return the format of the files at a place: of those that recognise them, the surest.

    Raises:
        RecipeError: no format does; the message says what is there, and which formats there are.
    """
    problems: dict[str, str] = {}
    candidates = list(_all_that_recognise(place, problems))
    if candidates:
        best = max(candidates, key=lambda recognised: (recognised.certainty, recognised.files))
        left_out = _left_out(best, candidates, problems, place)
        return replace(best, notes=(*best.notes, *left_out, *_splits(place)))
    # A line break would let a name pass for another line.
    names = ", ".join(one_line(shown(file.name)) for file in place.files[:_SHOWN_NAMES])
    names = names or "no file"
    reasons = "".join(f"\n  {name}: {one_line(problem)}" for name, problem in problems.items())
    raise RecipeError(
        Detail(
            f"no format recognises what is there ({names}){reasons}",
            repr(shown(mask_address(place.path))),
            valid=tuple(FORMATS),
            fix=_fix(place),
        )
    )


def _fix(place: Place) -> str:
    names = [file.name.lower() for file in place.files]
    fixes = (fix for endings, fix in _FIXES.items() if any(n.endswith(endings) for n in names))
    return next(fixes, _USUAL_FIX)


def _all_that_recognise(place: Place, problems: dict[str, str]) -> Iterator[Recognised]:
    for name, entry in FORMATS.items():
        if entry.recognise is None:
            continue
        try:
            recognised = entry.recognise.load()(place)
        except (RecipeError, StoreError) as error:
            if is_web(place.path):
                raise
            problems[name] = str(error)
            continue
        if isinstance(recognised, Recognised):
            yield recognised
        elif recognised is not None:
            problems[name] = recognised


def _left_out(
    best: Recognised, candidates: list[Recognised], problems: Mapping[str, str], place: Place
) -> Iterator[str]:
    """Yield what else is at a place: `curation init` would take it if it were named, or cannot."""
    if best.certainty == MARKER:
        # These formats consist of files that others recognise too.
        return
    taken = {file.name for file in place.named(best.form)}
    for other in candidates:
        names = [file.name for file in place.named(other.form) if file.name not in taken]
        if names:
            yield (
                f"Not read: {_shown(names)} of format {other.form}. Name them to `curation init` to "
                "take their rows and captions."
            )
    for form, problem in problems.items():
        names = [file.name for file in place.named(form) if file.name not in taken]
        # Other files may belong to pictures.
        if names and FORMATS[form].optional_columns is None:
            yield f"Not read: {_shown(names)} of format {form}, since {one_line(problem)}."


def _splits(place: Place) -> Iterator[str]:
    """Yield a note if the names of files tell an evaluation split from another: both are one source."""
    stems = (part.lower() for file in place.files for part in re.split(r"[/_.-]", file.name))
    splits = sorted(_SPLITS.intersection(stems))
    if len(splits) > 1:
        yield (
            f"Files of several splits are one source: {', '.join(splits)}. To keep the copies of an "
            "evaluation split out, name its files under --held-out, and the others alone."
        )


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return f"{one_line(shown(names[0]))}{more}"
