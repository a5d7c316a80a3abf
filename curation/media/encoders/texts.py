"""How captions become tokens for an open_clip model, and what of its text comes from transformers.

Some text towers and most newer tokenizers are those of the package transformers. What a folder holds
for it is looked at before anything is loaded: nothing of a folder may run, and a tokenizer whose file
is missing must not become an empty one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import open_clip
import torch

from curation.engine.digest import digest
from curation.errors import RecipeError

LONGEST = 4096
"""Characters of a caption that are tokenized: many times what any of the models reads."""
TOWER, TOKENIZER = "config.json", "tokenizer_config.json"
VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "vocab.json",
)
"""Files that hold a tokenizer's pieces; one of them is needed."""
OPTIONS = ("clean", "strip_sep_token", "language")
"""`tokenizer_kwargs` of a folder that are taken: others reach into transformers, which may run code."""
SPARE = 0.01
"""Share of a tokenizer's pieces that its tower may lack: some have marks that no caption has."""

Tokens = tuple[Callable[[Any], torch.Tensor], torch.Tensor, dict[str, Any]]


def check_text(text: Mapping[str, Any], folder: str | None, of: str) -> None:
    """Look at what a model needs of transformers.

    Args:
        text: `text_cfg` of the model's configuration.
        folder: where its files are; None where they come from the hub.
        of: what is embedded; pictures need no tokenizer.

    Raises:
        RecipeError: the package is missing, a file is missing or broken, or the folder brings code.
    """
    tower, tokenizer = "hf_model_name" in text, of == "caption" and "hf_tokenizer_name" in text
    if not tower and not tokenizer:
        return
    if find_spec("transformers") is None:
        part = "text tower" if tower else "tokenizer"
        raise RecipeError(
            f"The model's {part} is one of the package transformers, which is not installed. Install "
            "the extra `text` of this project, as in pip install -e '.[text]', or transformers itself."
        )
    if folder is None:
        return
    # A tokenizer may be told by this file too.
    config = _config(folder, TOWER, needed=tower)
    if tower and "model_type" not in config:
        raise RecipeError(
            f"{folder}/{TOWER} names no `model_type`, so the text tower is not known."
        )
    if not tokenizer:
        return
    if not any((Path(folder) / name).is_file() for name in VOCABULARIES):
        raise RecipeError(
            f"The folder {folder!r} holds no tokenizer: put the model's tokenizer.json there, with "
            f"{TOKENIZER}; or one of {', '.join(VOCABULARIES[1:])}."
        )
    _config(folder, TOKENIZER, needed=True)
    unknown = set(text.get("tokenizer_kwargs", {})) - set(OPTIONS)
    if unknown:
        raise RecipeError(
            f"The configuration in {folder!r} sets {', '.join(sorted(unknown))} for its tokenizer, "
            f"which is not taken from a folder. Valid in tokenizer_kwargs: {', '.join(OPTIONS)}."
        )


def tower_config(folder: str) -> dict[str, Any]:
    """Return the configuration of a folder's text tower.

    Raises:
        RecipeError: the file is missing or broken, or names code.
    """
    return _config(folder, TOWER, needed=True)


def _config(folder: str, name: str, needed: bool) -> dict[str, Any]:
    path = Path(folder) / name
    if not path.is_file() and not needed:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(
            f"{str(path)!r} cannot be read ({type(error).__name__}: {error}). Put the file there as "
            "the hub has it."
        ) from error
    if not isinstance(found, dict):
        raise RecipeError(f"{str(path)!r} is no JSON object. Put the file there as the hub has it.")
    if "auto_map" in found:
        raise RecipeError(
            f"{str(path)!r} names code of its own (auto_map), which is not run. Only towers and "
            "tokenizers that transformers has itself are loaded."
        )
    return found


def tokens_of(name: str, architecture: str, model: Any) -> Tokens:
    """Return what turns a caption into tokens, the tokens of none, and what it is.

    Args:
        name: of the model, as open_clip calls it.
        architecture: for messages.
        model: its text tower says how many pieces it knows.

    Raises:
        RecipeError: the tokenizer is not here, or is another model's.
    """
    try:
        tokenizer = open_clip.get_tokenizer(name)
        blank = tokenizer("")[0]
    except Exception as error:
        raise RecipeError(
            f"The tokenizer of open_clip/{architecture} cannot be loaded ({type(error).__name__}: "
            f"{error}). It needs the hub, or a folder with the tokenizer's files (model: open_clip, "
            "weights: FOLDER)."
        ) from error
    told = {"tokenizer": type(tokenizer).__name__, "length": len(blank)}
    known = _pieces(model)
    unknown = None
    if isinstance(tokenizer, open_clip.tokenizer.HFTokenizer):
        told["tokenizer_digest"] = _identity(tokenizer.tokenizer)
        unknown = _unknown(tokenizer.tokenizer, known, architecture)

    def tokenize(caption: str) -> torch.Tensor:
        tokens: torch.Tensor = tokenizer(caption[:LONGEST])[0]
        # Beyond what the tower knows are marks that a stranger wrote into a caption.
        return tokens if unknown is None else torch.where(tokens < known, tokens, unknown)

    return tokenize, blank, told


def _pieces(model: Any) -> int:
    text = getattr(model, "text", model)
    return int(text.vocab_size)


def _identity(tokenizer: Any) -> str:
    """Return a digest of what a tokenizer of transformers does, wherever its files lie."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return digest(
        [
            type(tokenizer).__name__,
            sorted(tokenizer.get_vocab().items()),
            backend.to_str() if backend is not None else None,
            {name: str(value) for name, value in tokenizer.special_tokens_map.items()},
            [tokenizer.padding_side, tokenizer.truncation_side],
        ]
    )


def _unknown(tokenizer: Any, known: int, architecture: str) -> int:
    """Return the token that stands for pieces that the tower does not know."""
    numbers = list(tokenizer.get_vocab().values())
    beyond = sum(number >= known for number in numbers)
    if beyond > SPARE * len(numbers):
        raise RecipeError(
            f"The tokenizer has {len(numbers)} pieces, {beyond} of them beyond the {known} that the "
            f"text tower of open_clip/{architecture} knows: it is another model's. Put the tokenizer's "
            "files of this model into the folder."
        )
    found = tokenizer.unk_token_id
    return int(found) if found is not None and found < known else 0
