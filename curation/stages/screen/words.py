"""Lists of words from the user, as for profanity: how many words of a caption are on a list."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from curation.engine.shipped_files import local_path
from curation.errors import RecipeError
from curation.media.compatible_text import compatible
from curation.media.files.file_cache import cached_by_file
from curation.media.regular_file import open_regular
from curation.stages.screen.filters.base import Filter

MAX_BYTES = 16 * 2**20
"""Largest list, in bytes."""
MAX_CHARACTERS = 200
"""Longest line: a caption is looked through once for each length that an entry has."""
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
"""Scripts without spaces between words: Thai, Lao, Burmese, Khmer, Japanese and Chinese."""
_SPELT = re.compile(rf"(?:[^\W{_UNSPACED}]|[\s.,;:'’\"()/&-])+")
"""Words that spaces separate, and what else may stand between them."""
_IN_A_WORD = re.compile(rf"[^\W_{_UNSPACED}]")
_VARIATIONS = dict.fromkeys((0xFE0E, 0xFE0F))
"""They say whether a character is shown as text or as an emoji."""


@dataclass(frozen=True)
class _Entries:
    """The entries of a list.

    Attributes:
        phrases: words in succession, whatever stands between them.
        literals: texts that are no such words, as `sh!t`, an emoji, or a word of a script without
            spaces: they are looked for as they are written.
    """

    phrases: frozenset[tuple[str, ...]]
    literals: frozenset[str]

    def count(self, caption: str) -> int:
        """Return how often any of them stands in a caption."""
        text = _normal(caption)
        words = tuple(WORD.findall(text))
        phrases = sum(
            words[start : start + length] in self.phrases
            for length in _lengths(self.phrases)
            for start in range(len(words) - length + 1)
        )
        literals = sum(
            text[start : start + length] in self.literals
            and _stands_alone(text, start, start + length)
            for length in _lengths(self.literals)
            for start in range(len(text) - length + 1)
        )
        return phrases + literals


@cached_by_file(lambda path: path, maxsize=16)
def load_words(path: str) -> Filter:
    """Return the filter of a list of words.

    Upper and lower case are the same; a phrase matches its words in succession. A word that holds other
    characters than letters and digits, or is in a script without spaces, matches as it is written.

    Args:
        path: a UTF-8 text file with one word or phrase per line; `#` begins a comment line.

    Raises:
        RecipeError: the file cannot be read as UTF-8, is too large, has no words, or a line has none or
            is too long.
    """
    entries = _entries(path, _read(path).splitlines())
    number = len(entries.phrases) + len(entries.literals)
    if not number:
        raise RecipeError(
            f"The list of words {path!r} has no words",
            fix="Write one word per line",
        )
    return Filter(
        doc=f"Words and phrases of the caption that are on a list of {number} entries",
        unit="words",
        type="int32",
        usual="at_most: 0",
        score=lambda pair: entries.count(pair.caption or ""),
    )


def _read(path: str) -> str:
    try:
        with open_regular(local_path(path)) as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) <= MAX_BYTES:
            return content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"The list of words {path!r} cannot be read as UTF-8: {error}",
            fix="Correct `file`, or convert the list to UTF-8",
        ) from error
    raise RecipeError(
        f"The list of words {path!r} has more than {MAX_BYTES >> 20} MiB",
        fix="Write one word per line, and several lists for more words",
    )


def _entries(path: str, lines: list[str]) -> _Entries:
    phrases, literals = set(), set()
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if len(line) > MAX_CHARACTERS:
            raise RecipeError(
                f"The list of words {path!r}: line {number} has {len(line):,} characters, more than "
                f"{MAX_CHARACTERS}",
                fix="Write one word or phrase per line",
            )
        text = _normal(line)
        if text and _SPELT.fullmatch(text) is None:
            literals.add(text)
        elif words := tuple(WORD.findall(text)):
            phrases.add(words)
        else:
            raise RecipeError(
                f"The list of words {path!r}: line {number}, {line[:100]!r}, has no word, so it would "
                "match nothing",
                fix="Remove it, or begin it with `#`",
            )
    return _Entries(frozenset(phrases), frozenset(literals))


def _normal(text: str) -> str:
    """Return a text in which what looks alike is alike: its case, forms of characters and spaces."""
    folded = compatible(text).casefold().translate(_VARIATIONS)
    return " ".join(folded.split())


def _lengths(entries: Iterable[tuple[str, ...] | str]) -> set[int]:
    return set(map(len, entries))


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether a part of a text is not within a longer word, where spaces separate words."""
    return not (_joins(text, start) or _joins(text, end))


def _joins(text: str, at: int) -> bool:
    """Whether a word goes on from the character before a place to the one after it."""
    return 0 < at < len(text) and all(map(_is_in_word, text[at - 1 : at + 1]))


def _is_in_word(character: str) -> bool:
    # Vowels of Indian scripts are marks.
    is_mark = unicodedata.category(character).startswith("M")
    return is_mark or _IN_A_WORD.match(character) is not None
