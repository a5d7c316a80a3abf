"""Tokenizers of open_clip models, and checks of the files that the package transformers loads.

Some text towers and most newer tokenizers are from the package transformers. Their files in a folder
are checked before anything is loaded: no code of a folder may run, and transformers must not create an
empty tokenizer if its file is missing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import open_clip
import torch

from curation.errors import Detail, RecipeError
from curation.media.encoders.folder_config import check_numbers
from curation.media.encoders.hub import hub_or_cache
from curation.media.encoders.text_growth import check_growth
from curation.store.digest import digest

MAX_CHARACTERS = 4096
"""Characters of a caption that are tokenized: many more than any of the models reads."""
MAX_SECONDS = 10.0
"""Seconds in which a caption is tokenized; usually it takes a thousandth of one."""
TOWER_CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
VOCABULARY_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "vocab.json",
)
"""Files that hold the vocabulary of a tokenizer; one of them is required."""
TOKENIZER_FILES = (
    TOKENIZER_CONFIG,
    *VOCABULARY_FILES,
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)
"""All files of a folder that a tokenizer is made of."""
TOWERS = ("roberta", "xlm-roberta", "mt5", "bert", "m2m_100")
"""The text towers of transformers that open_clip knows, by their `model_type`."""
TOKENIZER_OPTIONS = ("clean", "strip_sep_token", "language")
"""`tokenizer_kwargs` of a folder that are accepted: others could make transformers run code."""
MAX_UNKNOWN_SHARE = 0.01
"""Share of a tokenizer's vocabulary that its text tower may lack, as special tokens."""

Tokens = tuple[Callable[[Any], torch.Tensor], torch.Tensor, dict[str, Any]]


def check_transformers_files(
    text: Mapping[str, Any], folder: str | None, of: str, shown: str | None = None
) -> None:
    """Check the files that transformers loads for a model.

    Args:
        text: `text_cfg` of the model's configuration.
        folder: of its files; None if they come from the hub.
        of: what is embedded; images need no tokenizer.
        shown: the folder for messages, if `folder` is a copy of it.

    Raises:
        RecipeError: the package is not installed, a file is missing or invalid, or the folder contains
            code.
    """
    tower, tokenizer = "hf_model_name" in text, of == "caption" and "hf_tokenizer_name" in text
    options = text.get("tokenizer_kwargs") or {}
    if not tower and not tokenizer:
        # The tokenizer of open_clip itself has options with paths.
        _check_options(options if folder is not None else {}, shown or folder)
        return
    if find_spec("transformers") is None:
        part = "text tower" if tower else "tokenizer"
        raise RecipeError(
            Detail(
                f"The {part} of the model is from the package transformers, which is not installed",
                "transformers",
                fix="Install the extra `text` of this project (pip install 'curation[text]'), or "
                "transformers",
            )
        )
    if folder is None:
        return
    # This file may name a tokenizer too.
    shown = shown or folder
    config = _read_config(folder, TOWER_CONFIG, tower, shown)
    if tower and "model_type" not in config:
        raise RecipeError(
            f"{shown}/{TOWER_CONFIG} has no `model_type`, so the text tower is unknown",
            fix="Put the config.json of the text tower there",
        )
    if tower and config["model_type"] not in TOWERS:
        kind = config["model_type"]
        message = f"the model_type {kind!r} is no text tower of open_clip"
        raise RecipeError(Detail(message, f"{shown}/{TOWER_CONFIG}", kind, tuple(TOWERS)))
    if tokenizer:
        _check_tokenizer_files(folder, shown)
    _check_options(options, shown)


def _check_tokenizer_files(folder: str, shown: str) -> None:
    if not any((Path(folder) / name).is_file() for name in VOCABULARY_FILES):
        raise RecipeError(
            f"The folder {shown!r} has no tokenizer",
            fix=(
                f"Put the model's tokenizer.json there, with {TOKENIZER_CONFIG}; or one of "
                f"{', '.join(VOCABULARY_FILES[1:])}"
            ),
        )
    _read_config(folder, TOKENIZER_CONFIG, True, shown)


def _check_options(options: Mapping[str, Any], shown: str | None) -> None:
    unknown = set(options) - set(TOKENIZER_OPTIONS)
    if unknown:
        message = (
            f"The configuration in {shown!r} sets {', '.join(sorted(unknown))} for its tokenizer, "
            "which is not accepted from a folder"
        )
        fix = "Remove it from tokenizer_kwargs"
        raise RecipeError(Detail(message, valid=tuple(TOKENIZER_OPTIONS), fix=fix))


def tower_config(folder: str) -> dict[str, Any]:
    """Return the configuration of the text tower in a folder.

    Raises:
        RecipeError: the file is missing or invalid, or names code.
    """
    return _read_config(folder, TOWER_CONFIG, True, folder)


def clean_tokenizer_config(folder: Path, shown: str) -> None:
    """Remove from the copy of a tokenizer's configuration the paths of files.

    transformers would read them instead of the files of the folder.
    """
    file = folder / TOKENIZER_CONFIG
    if not file.is_file():
        return
    config = _read_config(str(folder), TOKENIZER_CONFIG, True, shown)
    kept = {key: value for key, value in config.items() if not key.endswith("_file")}
    if kept != config:
        file.write_text(json.dumps(kept), encoding="utf-8")


def _read_config(folder: str, name: str, required: bool, shown: str) -> dict[str, Any]:
    file, path = Path(folder) / name, Path(shown) / name
    if not file.is_file() and not required:
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(
            f"{str(path)!r} cannot be read ({type(error).__name__}: {error})",
            fix="Put the file of the hub there",
        ) from error
    if not isinstance(config, dict):
        raise RecipeError(
            f"{str(path)!r} is not a JSON object",
            fix="Put the file of the hub there",
        )
    if "auto_map" in config:
        raise RecipeError(
            f"{str(path)!r} names code of its own (auto_map), which is not run",
            fix="Use a text tower and a tokenizer that are part of transformers",
        )
    if name == TOWER_CONFIG:
        check_numbers(config, str(path))
    return config


def load_tokenizer(name: str, architecture: str, model: Any) -> Tokens:
    """Return a function that tokenizes a caption, the tokens of an empty one, and the identity of both.

    Args:
        name: of the model in open_clip.
        architecture: for messages.
        model: its text tower defines the size of the vocabulary.

    Raises:
        RecipeError: the tokenizer cannot be loaded, or does not fit the text tower.
    """
    try:
        with hub_or_cache() if _is_on_hub(name) else nullcontext():
            tokenizer = open_clip.get_tokenizer(name)
        check_growth(getattr(tokenizer, "tokenizer", None), architecture)
        blank = tokenizer("")[0]
    except BaseException as error:
        if isinstance(error, RecipeError) or not _is_of_tokenizer(error):
            raise
        raise RecipeError(
            f"The tokenizer of open_clip/{architecture} cannot be loaded ({type(error).__name__}: "
            f"{error})",
            fix=(
                "It needs the hub, or a folder with the files of the tokenizer (model: open_clip, "
                "weights: FOLDER)"
            ),
        ) from error
    identity = {"tokenizer": type(tokenizer).__name__, "length": len(blank)}
    size = _vocabulary_size(model)
    unknown = None
    if isinstance(tokenizer, open_clip.tokenizer.HFTokenizer):
        identity["tokenizer_digest"] = _tokenizer_digest(tokenizer.tokenizer)
        unknown = _unknown_token(tokenizer.tokenizer, size, architecture)

    def tokenize(caption: str) -> torch.Tensor:
        tokens = _tokens_of(tokenizer, caption[:MAX_CHARACTERS], architecture)
        # Tokens that the text tower lacks are special tokens written out in the caption.
        return tokens if unknown is None else torch.where(tokens < size, tokens, unknown)

    return tokenize, blank, identity


def _is_of_tokenizer(error: BaseException) -> bool:
    """Whether an error may come from the files of a tokenizer; a panic of Rust is no Exception."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _tokens_of(tokenizer: Any, caption: str, architecture: str) -> torch.Tensor:
    """Return the tokens of a caption.

    Raises:
        RecipeError: the tokenizer fails, or takes too long: its file may hold regular expressions whose
            time grows exponentially with the caption. Each match ends after ten million steps.
    """
    started, problem = time.monotonic(), ""
    try:
        tokens: torch.Tensor = tokenizer(caption)[0]
    except BaseException as error:
        if not _is_of_tokenizer(error):
            raise
        problem = f"fails for a caption of {len(caption):,} characters ({error})"
    seconds = time.monotonic() - started
    if not problem and seconds > MAX_SECONDS:
        problem = f"took {seconds:.0f} s for a caption of {len(caption):,} characters"
    if problem:
        raise RecipeError(
            f"The tokenizer of open_clip/{architecture} {problem}",
            fix="Put the tokenizer files of the hub into the folder, or take another model",
        )
    return tokens


def _is_on_hub(name: str) -> bool:
    """Whether the tokenizer of a model comes from the hub; that of a folder is in it."""
    if name.startswith("local-dir:"):
        return False
    config = open_clip.get_model_config(name) or {}
    return "hf_tokenizer_name" in config.get("text_cfg", {})


def _vocabulary_size(model: Any) -> int:
    text = getattr(model, "text", model)
    return int(text.vocab_size)


def _tokenizer_digest(tokenizer: Any) -> str:
    """Return a digest of a tokenizer of transformers that does not depend on the path of its files."""
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


def _unknown_token(tokenizer: Any, size: int, architecture: str) -> int:
    """Return the token that replaces tokens that the text tower lacks.

    Args:
        tokenizer: of transformers.
        size: vocabulary size of the text tower.
        architecture: for messages.

    Raises:
        RecipeError: the text tower lacks so many tokens that the tokenizer is of another model.
    """
    tokens = list(tokenizer.get_vocab().values())
    lacking = sum(token >= size for token in tokens)
    if lacking > MAX_UNKNOWN_SHARE * len(tokens):
        raise RecipeError(
            f"The tokenizer has {len(tokens)} tokens, and the text tower of "
            f"open_clip/{architecture} lacks {lacking} of them, so it is for another model",
            fix="Put the tokenizer files of this model into the folder",
        )
    unknown = tokenizer.unk_token_id
    return int(unknown) if unknown is not None and unknown < size else 0
