"""A configuration in a folder reaches neither the hub, nor other files, code or much memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curation.errors import RecipeError
from curation.media.encoders.folder_config import check_numbers, check_size

from .models_on_disk import features, load, text_folder, timm_folder
from .texts import write_text

pytestmark = pytest.mark.usefixtures("no_network")


def _changed(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))


CONFIGS: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "image tower of the hub": (
        "open_clip_config.json",
        lambda c: c["model_cfg"]["vision_cfg"].update(timm_model_name="hf-hub:evil/model"),
        "names the image tower",
    ),
    "image tower of another folder": (
        "open_clip_config.json",
        lambda c: c["model_cfg"]["vision_cfg"].update(timm_model_name="local-dir:/etc"),
        "names the image tower",
    ),
    "words of another file": (
        "open_clip_config.json",
        lambda c: c["model_cfg"]["text_cfg"].update(tokenizer_kwargs={"bpe_path": "/etc/passwd"}),
        "not accepted from a folder",
    ),
    "many layers": (
        "open_clip_config.json",
        lambda c: c["model_cfg"]["vision_cfg"].update(layers=10**9),
        "largest number there",
    ),
    "large image": (
        "open_clip_config.json",
        lambda c: c["model_cfg"]["vision_cfg"].update(image_size=10**12),
        "largest number there",
    ),
    "large picture": (
        "open_clip_config.json",
        lambda c: c.update(preprocess_cfg={"size": 100_000}),
        "preprocessing of pictures: size",
    ),
    "no preprocessing": (
        "open_clip_config.json",
        lambda c: c.update(preprocess_cfg=["size", 1]),
        "preprocessing of pictures",
    ),
    "wide model": (
        "open_clip_config.json",
        lambda c: c["model_cfg"]["vision_cfg"].update(width=2**20),
        "are of another model",
    ),
    "another text tower": (
        "config.json",
        lambda c: c.update(model_type="detr", backbone="evil/model", use_pretrained_backbone=True),
        "is no text tower of open_clip",
    ),
    "large vocabulary": (
        "config.json",
        lambda c: c.update(vocab_size=10**10),
        "largest number there",
    ),
    "code": ("config.json", lambda c: c.update(auto_map={"AutoModel": "evil--x.Y"}), "auto_map"),
    "code of a tokenizer": (
        "tokenizer_config.json",
        lambda c: c.update(auto_map={"AutoTokenizer": ["evil--x.Y", None]}),
        "auto_map",
    ),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_configuration_reaches_nothing(case: str, tmp_path: Path) -> None:
    file, change, message = CONFIGS[case]
    spec = text_folder(tmp_path / "model", 0)
    _changed(tmp_path / "model" / file, change)
    with pytest.raises(RecipeError, match=message) as raised:
        load(spec)
    assert "curation-model-" not in str(raised.value)


NAMES = ["hf_model_name", "hf_tokenizer_name"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_hub_mean_the_folder(name: str, tmp_path: Path) -> None:
    spec = text_folder(tmp_path / "model", 0)
    before = features(load(spec))
    _changed(
        tmp_path / "model" / "open_clip_config.json",
        lambda c: c["model_cfg"]["text_cfg"].update(
            {name: "evil/other", "hf_model_pretrained": True}
        ),
    )
    assert np.array_equal(features(load(spec)), before)


def test_a_tokenizer_of_another_file_is_not_read(tmp_path: Path) -> None:
    spec = text_folder(tmp_path / "model", 0)
    before = load(spec).identity
    write_text(tmp_path / "other", "xlm-roberta")
    other = str(tmp_path / "other" / "tokenizer.json")
    _changed(
        tmp_path / "model" / "tokenizer_config.json",
        lambda c: c.update(tokenizer_file=other, vocab_file=other, merges_file="/etc/passwd"),
    )
    assert load(spec).identity == before


TIMM_CONFIGS: dict[str, dict[str, Any]] = {
    "hub": {"pretrained_cfg": {"hf_hub_id": "evil/model", "url": "http://127.0.0.1:1/x"}},
    "file": {"pretrained_cfg": {"file": "/etc/passwd", "source": "file", "state_dict": {}}},
    "cache": {"model_args": {"cache_dir": "/etc"}},
    "checkpoint": {"model_args": {"checkpoint_path": "/etc/passwd"}},
    "pretrained": {"model_args": {"pretrained": True}},
    "wide": {"model_args": {"embed_dim": 2**18}},
    "deep": {"model_args": {"depth": 10**9}},
    "nested": {"model_args": {"depth": json.loads("[" * 600 + "1000000000" + "]" * 600)}},
    "large picture": {"pretrained_cfg": {"input_size": [3, 100_000, 100_000]}},
    "no picture": {"pretrained_cfg": {"input_size": [3, 0, 16]}},
    "text as a picture": {"pretrained_cfg": {"input_size": "224"}},
    "little of a picture": {"pretrained_cfg": {"crop_pct": 1e-9}},
    "nothing of a picture": {"pretrained_cfg": {"crop_pct": 0}},
    "colours of one": {"pretrained_cfg": {"mean": [0.5]}},
    "colours without a range": {"pretrained_cfg": {"std": [0, 0, 0]}},
    "colours that are none": {"pretrained_cfg": {"mean": ["x", None, {}]}},
    "an unknown interpolation": {"pretrained_cfg": {"interpolation": "evil"}},
    "an unknown crop": {"pretrained_cfg": {"crop_mode": ["center"]}},
}


@pytest.mark.parametrize("case", TIMM_CONFIGS)
def test_a_configuration_of_timm_reaches_nothing(case: str, tmp_path: Path) -> None:
    spec = timm_folder(tmp_path / "model", 0)
    before = load(spec)
    _changed(tmp_path / "model" / "config.json", lambda c: c.update(TIMM_CONFIGS[case]))
    if case in ("hub", "file"):
        # Only the preprocessing is taken.
        after = load(spec)
        assert after.identity["weights_sha256"] == before.identity["weights_sha256"]
    else:
        with pytest.raises(RecipeError):
            load(spec)


def test_numbers_and_sizes_of_usual_models_pass() -> None:
    check_numbers({"layers": 96, "vocab_size": 256_000, "eps": 1e-30, "a": [None, True, "x"]}, "c")
    check_size(lambda: torch.nn.Linear(1000, 1000), 2_000_000, "c")
    for name, largest in (("num_layers", 1_000), ("depth", 1_000), ("width", 10_000_000)):
        for sign in (1, -1):
            check_numbers({name: sign * largest}, "c")
            with pytest.raises(RecipeError, match=f"largest number there is {largest:,}"):
                check_numbers({name: sign * (largest + 1)}, "c")
    with pytest.raises(RecipeError, match="of another model"):
        check_size(lambda: torch.nn.Linear(10_000, 10_000), 30_000_000, "c")
