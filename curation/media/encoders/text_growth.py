"""How much longer a tokenizer can make a text: a file of 1 KB could turn a word into terabytes."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any

from curation.errors import RecipeError

MAX_GROWTH = 4096
"""How many times longer a text may become at most. Usual steps replace one character by one."""


def check_growth(tokenizer: Any, architecture: str) -> None:
    """Check that a tokenizer cannot make a text much longer before it cuts it into tokens.

    Args:
        tokenizer: of transformers; only those in Rust have steps that can.
        architecture: for messages.

    Raises:
        RecipeError: it can.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return
    growth = 1
    for part in (backend.normalizer, backend.pre_tokenizer):
        for step in _steps(json.loads(part.__getstate__()) if part is not None else {}):
            growth *= _growth(step)
    if growth > MAX_GROWTH:
        raise RecipeError(
            f"The tokenizer of open_clip/{architecture} can make a text {growth:,} times longer before "
            f"it cuts it into tokens; accepted: {MAX_GROWTH:,} times",
            fix=(
                "Put the tokenizer files of the hub into the folder; the steps under `normalizer` in "
                "tokenizer.json replace one character by many"
            ),
        )


def _steps(part: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the steps of a part of a tokenizer, those of sequences too."""
    nested = part.get("normalizers", part.get("pretokenizers"))
    if nested is None:
        yield part
        return
    for step in nested:
        yield from _steps(step)


def _growth(step: Mapping[str, Any]) -> int:
    """Return a bound of how many times longer a step makes a text, however often it is repeated."""
    match step.get("type"):
        case "Replace":
            # A pattern that matches nothing puts the content beside each character.
            return 1 + len(step["content"])
        case "Prepend":
            return 1 + len(step["prepend"])
        case "Precompiled":
            return _longest_text(step["precompiled_charsmap"])
        case "ByteLevel":
            return 2
        case "BertNormalizer":
            # It puts spaces around each Chinese character.
            return 3
        case _:
            return 1


def _longest_text(charsmap: str) -> int:
    """Return the size of the longest text in a table of sentencepiece, in bytes.

    The table has the size of its trie in 4 bytes, the trie, and the texts, each with a zero at its end.
    """
    table = b64decode(charsmap)
    texts = table[4 + int.from_bytes(table[:4], "little") :]
    return max(map(len, texts.split(b"\0")), default=1) or 1
