"""How much longer a tokenizer can make a text: a file of 1 KB could turn a word into terabytes."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any

from curation.errors import RecipeError

MAX_GROWTH = 4096
"""How many times longer a text may become at most. Usual steps replace one character by one."""

_SEQUENCES = ("normalizers", "pretokenizers", "processors")
_AFFIXES = ("continuing_subword_prefix", "end_of_word_suffix")


def check_growth(tokenizer: Any, architecture: str) -> None:
    """Check that a tokenizer cannot make a text much longer, before it cuts it into tokens or after.

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
    for part in (backend.normalizer, backend.pre_tokenizer, backend.post_processor):
        for step in _steps(json.loads(part.__getstate__()) if part is not None else {}):
            growth *= _growth(step)
    for name in _AFFIXES:
        # The model looks each part of a word up with it.
        growth *= 1 + len(getattr(backend.model, name, None) or "")
    if growth > MAX_GROWTH:
        raise RecipeError(
            f"The tokenizer of open_clip/{architecture} can make a text {growth:,} times longer; "
            f"accepted: {MAX_GROWTH:,} times",
            fix=(
                "Put the tokenizer files of the hub into the folder; in tokenizer.json, steps under "
                "`normalizer` replace one character by many, or those under `post_processor` add many "
                "tokens"
            ),
        )


def _steps(part: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the steps of a part of a tokenizer, those of sequences too."""
    nested = next((part[name] for name in _SEQUENCES if name in part), None)
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
        case "ByteLevel" | "Lowercase":
            return 2
        case "BertNormalizer" | "NFD":
            # Bert's puts spaces around each Chinese character, and takes accents apart.
            return 4
        case "NFC":
            return 3
        case "NFKC" | "NFKD":
            # U+FDFA is a sentence.
            return 18
        case "TemplateProcessing":
            return _template_growth(step)
        case "BertProcessing" | "RobertaProcessing":
            return 3
        case _:
            return 1


def _template_growth(step: Mapping[str, Any]) -> int:
    """Return a bound of how many times as many tokens a text has with those that a template adds."""
    added = {name: len(token["ids"]) for name, token in step["special_tokens"].items()}
    pieces = (piece.get("SpecialToken", {}).get("id") for piece in step["single"])
    return max(1, sum(1 if name is None else added.get(name, 0) for name in pieces))


def _longest_text(charsmap: str) -> int:
    """Return the size of the longest text in a table of sentencepiece, in bytes.

    The table has the size of its trie in 4 bytes, the trie, and the texts, each with a zero at its end.
    """
    table = b64decode(charsmap)
    texts = table[4 + int.from_bytes(table[:4], "little") :]
    return max(map(len, texts.split(b"\0")), default=1) or 1
