"""Lists of words that the user brings, as for profanity: how many words of a caption are listed."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from curation.errors import RecipeError
from curation.stages.screen.filters.base import Filter

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


@lru_cache(maxsize=16)
def load_words(path: str) -> Filter:
    """Return the filter of a list: a word or phrase a line, in UTF-8; `#` begins a comment line.

    Case does not matter; phrases are found as words that follow each other.

    Raises:
        RecipeError: the file cannot be read as such, or holds no word.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"The list of words {path!r} cannot be read as UTF-8: {error}") from error
    entries = {_words(line) for line in lines if not line.lstrip().startswith("#")} - {()}
    if not entries:
        raise RecipeError(f"The list of words {path!r} holds no word. Write one a line.")
    lengths = sorted({len(entry) for entry in entries})

    def count(caption: str) -> int:
        words = _words(caption)
        return sum(
            words[start : start + length] in entries
            for length in lengths
            for start in range(len(words) - length + 1)
        )

    return Filter(
        doc=f"Words and phrases of the caption that are on a list of {len(entries)}",
        unit="words",
        type="int32",
        usual="at_most: 0",
        score=lambda pair: count(pair.caption or ""),
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(WORD.findall(text.casefold()))
