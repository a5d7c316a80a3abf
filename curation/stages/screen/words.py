"""Lists of words from the user, as for profanity: how many words of a caption are on a list."""

from __future__ import annotations

import re
from pathlib import Path

from curation.engine.shipped_files import local_path
from curation.errors import RecipeError
from curation.media.files.file_cache import cached_by_file
from curation.stages.screen.filters.base import Filter

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


@cached_by_file(lambda path: path, maxsize=16)
def load_words(path: str) -> Filter:
    """Return the filter of a list of words.

    Upper and lower case are the same; a phrase matches its words in succession.

    Args:
        path: a UTF-8 text file with one word or phrase per line; `#` begins a comment line.

    Raises:
        RecipeError: the file cannot be read as UTF-8, or has no words.
    """
    try:
        lines = Path(local_path(path)).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"The list of words {path!r} cannot be read as UTF-8: {error}",
            fix="Correct `file`, or convert the list to UTF-8",
        ) from error
    entries = {_words(line) for line in lines if not line.lstrip().startswith("#")} - {()}
    if not entries:
        raise RecipeError(
            f"The list of words {path!r} has no words",
            fix="Write one word per line",
        )
    lengths = sorted({len(entry) for entry in entries})

    def count(caption: str) -> int:
        words = _words(caption)
        return sum(
            words[start : start + length] in entries
            for length in lengths
            for start in range(len(words) - length + 1)
        )

    return Filter(
        doc=f"Words and phrases of the caption that are on a list of {len(entries)} entries",
        unit="words",
        type="int32",
        usual="at_most: 0",
        score=lambda pair: count(pair.caption or ""),
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(WORD.findall(text.casefold()))
