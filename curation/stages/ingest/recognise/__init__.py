"""Which format the files at a path have, and which fields of a source follow from them.

Each entry of FORMATS may name a function that recognises its files (`recognise`). A new format brings
its own; nothing here lists them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from curation.errors import Detail, RecipeError, StoreError
from curation.masking import mask_address
from curation.media.files.location import shown
from curation.media.web.params import is_web
from curation.stages.ingest.recognise.place import MARKER, Place, Recognised
from curation.stages.ingest.sources import FORMATS
from curation.terminal import one_line

_SHOWN_NAMES = 5


def recognise(place: Place) -> Recognised:
    """Return the format of the files at a place: of those that recognise them, the surest.

    Raises:
        RecipeError: no format does; the message says what is there, and which formats there are.
    """
    problems: list[str] = []
    candidates = list(_all_that_recognise(place, problems))
    if candidates:
        best = max(candidates, key=lambda recognised: (recognised.certainty, recognised.files))
        return replace(best, notes=(*best.notes, *_left_out(best, candidates, place)))
    # A line break would let a name pass for another line.
    names = ", ".join(one_line(shown(file.name)) for file in place.files[:_SHOWN_NAMES])
    names = names or "no file"
    reasons = "".join(f"\n  {one_line(problem)}" for problem in problems)
    raise RecipeError(
        Detail(
            f"no format recognises what is there ({names}){reasons}",
            repr(shown(mask_address(place.path))),
            valid=tuple(FORMATS),
            fix=(
                "Give a list a column of URLs, of paths, or of encoded images. Set other columns, and "
                "other endings of files, in a recipe by hand; your-vectors.md in `curation where "
                "docs` has one for vectors without pictures"
            ),
        )
    )


def _all_that_recognise(place: Place, problems: list[str]) -> Iterator[Recognised]:
    for name, entry in FORMATS.items():
        if entry.recognise is None:
            continue
        try:
            recognised = entry.recognise.load()(place)
        except (RecipeError, StoreError) as error:
            if is_web(place.path):
                raise
            problems.append(f"{name}: {error}")
            continue
        if isinstance(recognised, Recognised):
            yield recognised
        elif recognised is not None:
            problems.append(f"{name}: {recognised}")


def _left_out(best: Recognised, candidates: list[Recognised], place: Place) -> Iterator[str]:
    """Yield what else is at a place that `curation init` would take if it were named."""
    if best.certainty == MARKER:
        # These formats consist of files that others recognise too.
        return
    taken = {file.name for file in place.named(best.form)}
    for other in candidates:
        names = [file.name for file in place.named(other.form) if file.name not in taken]
        if names:
            more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
            yield (
                f"Not read: {one_line(shown(names[0]))}{more} of format {other.form}. Name them to "
                "`curation init` to take their rows and captions."
            )
