"""Text towers and tokenizers of transformers, loaded from folders, equal those of open_clip."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models

from curation.errors import RecipeError
from curation.media.encoders import texts
from curation.media.encoders.encoder import Encoder, load_encoder
from curation.media.encoders.forward import encode
from curation.media.encoders.open_clip import skeleton
from curation.media.encoders.params import EncoderSpec
from curation.media.encoders.text_growth import check_growth

from .clip import DIM, PREPROCESS
from .pictures import pictures
from .texts import KINDS, write_text

CAPTIONS = [
    "a dog on the beach",
    "Zwei Hunde & eine Katze!",
    "犬",
    "a red ball " * 9_000,
    "\u202e\u0000 evil \u05d0",
    "<s></s><pad>[SEP]",
]
OF_THE_HUB = [kind for kind in KINDS if KINDS[kind][1] is not None]


@pytest.fixture(scope="module", autouse=True)
def no_hub() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """A folder and its model, by kind."""
    home = tmp_path_factory.mktemp("texts")
    return {kind: (home / kind, write_text(home / kind, kind)) for kind in KINDS}


def loaded(folder: Path, **more: Any) -> Encoder:
    return load_encoder(EncoderSpec(model="open_clip", weights=str(folder), **more), "cpu")


def unit(features: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(features.double()).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_equal_those_of_open_clip(folders: dict[str, tuple[Path, Any]], kind: str) -> None:
    folder, model = folders[kind]
    vectors, valid = encode(loaded(folder, of="caption"), [*CAPTIONS, None], 4, "cpu")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(CAPTIONS)
    with torch.inference_mode():
        expected = unit(model.encode_text(tokens))
    assert valid.tolist() == [True] * len(CAPTIONS) + [False]
    np.testing.assert_allclose(vectors[:-1].astype(float), expected, atol=1e-3)
    # Captions differ by much more than this tolerance.
    assert np.abs(expected[0] - expected[1]).max() > 1e-2

    images = pictures(3)
    side = model.visual.image_size
    transform = image_transform_v2(PreprocessCfg(size=side, **PREPROCESS), is_train=False)
    vectors, valid = encode(loaded(folder), images, 4, "cpu")
    with torch.inference_mode():
        expected = unit(model.encode_image(torch.stack([transform(one) for one in images])))
    assert valid.all() and vectors.shape[1] == DIM
    np.testing.assert_allclose(vectors.astype(float), expected, atol=1e-3)


def test_tokens_equal_those_of_the_tokenizer_file(folders: dict[str, tuple[Path, Any]]) -> None:
    """Tokens equal those of the tokenizer file, apart from cleaning, length and padding."""
    folder, _ = folders["siglip"]
    whole = Tokenizer.from_file(str(folder / "tokenizer.json"))
    encoder = loaded(folder, of="caption")
    ids = whole.encode("a red ball").ids
    encoded = encoder.preprocess(" A_Red,  (BALL)!! ")
    assert encoded.tolist() == ids + [1] * (len(encoded) - len(ids))
    folder, _ = folders["nllb"]
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("a dog").ids
    language = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = loaded(folder, of="caption").preprocess("a dog").tolist()
    assert tokens[: len(ids) + 1] == [language["eng_Latn"], *ids]
    folder, _ = folders["clipa"]
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("a dog").ids
    # The separator token at the end becomes padding.
    assert loaded(folder, of="caption").preprocess("a dog").tolist()[: len(ids)] == [*ids[:-1], 0]


def test_a_caption_is_read_up_to_its_limit(
    folders: dict[str, tuple[Path, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = loaded(folders["siglip"][0], of="caption")
    whole, beginning = encoder.preprocess("a dog and a cat"), encoder.preprocess("a dog")
    assert whole.tolist() != beginning.tolist()
    monkeypatch.setattr(texts, "MAX_CHARACTERS", len("a dog"))
    assert encoder.preprocess("a dog and a cat").tolist() == beginning.tolist()


@pytest.mark.parametrize("kind", ["roberta", "siglip"])
def test_company_changes_no_bit(folders: dict[str, tuple[Path, Any]], kind: str) -> None:
    encoder = loaded(folders[kind][0], of="caption")
    whole, _ = encode(encoder, CAPTIONS, 4, "cpu")
    alone = np.concatenate([encode(encoder, [caption], 4, "cpu")[0] for caption in CAPTIONS])
    np.testing.assert_array_equal(whole.view(np.uint16), alone.view(np.uint16))


def test_identities_of_encoders_differ(
    folders: dict[str, tuple[Path, Any]], tmp_path: Path
) -> None:
    folder, _ = folders["roberta"]
    identity = loaded(folder, of="caption").identity
    write_text(tmp_path / "again", "roberta")
    assert loaded(tmp_path / "again", of="caption").identity == identity
    other = json.loads((tmp_path / "again" / "tokenizer.json").read_text())
    vocabulary = other["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    write_text(tmp_path / "other", "roberta")
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(other))
    changed_identity = loaded(tmp_path / "other", of="caption").identity
    assert changed_identity["weights_sha256"] == identity["weights_sha256"]
    assert changed_identity["architecture"] == identity["architecture"]
    assert changed_identity != identity
    assert loaded(tmp_path / "other").identity == loaded(folder).identity
    # The configuration of the tower defines the number of heads, with the same weights.
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    write_text(tmp_path / "heads", "roberta")
    (tmp_path / "heads" / "config.json").write_text(json.dumps(config | {"num_attention_heads": 4}))
    assert loaded(tmp_path / "heads", of="caption").identity != identity


@pytest.mark.parametrize("kind", ["xlm-roberta", "nllb", "siglip"])
def test_a_skeleton_needs_no_weights(folders: dict[str, tuple[Path, Any]], kind: str) -> None:
    spec = EncoderSpec(model="open_clip", weights=str(folders[kind][0]), of="caption")
    tower, blank, dim = skeleton("", spec)
    assert dim == DIM
    assert blank.shape == loaded(folders[kind][0], of="caption").blank.shape
    assert all(p.is_meta for p in tower.parameters())


@pytest.mark.parametrize(
    ("kind", "of", "message"),
    [
        (
            "roberta",
            "image",
            "text tower of the model is from the package transformers.*extra `text`",
        ),
        (
            "clipa",
            "caption",
            "tokenizer of the model is from the package transformers.*extra `text`",
        ),
    ],
)
def test_an_error_names_the_missing_package(
    folders: dict[str, tuple[Path, Any]],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    of: str,
    message: str,
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    load_encoder.cache_clear()
    with pytest.raises(RecipeError, match=message):
        loaded(folders[kind][0], of=of)
    # Images need no tokenizer.
    loaded(folders["clipa"][0])


def test_an_error_for_a_text_tower_without_a_folder_names_the_alternative(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    spec = EncoderSpec(model="open_clip/roberta-ViT-B-32", weights=str(path))
    with pytest.raises(RecipeError, match=r"Text towers of transformers are loaded from a folder"):
        load_encoder(spec, "cpu")


@pytest.fixture(params=["roberta"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write_text(tmp_path, request.param)
    return tmp_path


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json"])
def test_an_error_names_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(RecipeError, match=name.replace(".", r"\.")):
        loaded(folder, of="caption")
    (folder / name).write_text("{")
    with pytest.raises(RecipeError, match=r"cannot be (read|loaded)"):
        loaded(folder, of="caption")


@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json"])
def test_code_in_a_folder_is_not_executed(folder: Path, name: str) -> None:
    ran = folder / "ran"
    program = f"import pathlib\npathlib.Path({str(ran)!r}).write_text('')\n"
    (folder / "evil.py").write_text(program + "class Evil: ...\n")
    names: dict[str, Any] = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}
    names["AutoTokenizer"] = ["evil.Evil", "evil.Evil"]
    changed(folder / name, auto_map=names)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    for _ in range(2):
        with pytest.raises(RecipeError, match=r"auto_map"):
            loaded(folder, of="caption")
        (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert not ran.exists()


def test_unknown_tokenizer_options_raise_an_error(folder: Path) -> None:
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(RecipeError, match=r"sets trust_remote_code.*Valid.*clean"):
        loaded(folder, of="caption")


def test_weights_that_do_not_fit_raise_an_error(folder: Path, tmp_path: Path) -> None:
    path = folder / "open_clip_model.safetensors"
    state = load_file(path)
    save_file({k: v for k, v in state.items() if "layer.1.attention" not in k}, path)
    with pytest.raises(RecipeError, match=r"(?s)do not fit.*Missing key"):
        loaded(folder, of="caption")
    changed(folder / "config.json", hidden_size=64)
    save_file(state, path)
    with pytest.raises(RecipeError, match=r"(?s)do not fit.*size mismatch"):
        loaded(folder, of="caption")


def test_a_pickle_in_a_folder_is_not_executed(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(folder / "ran"), "w"))

    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"a": Evil()}, folder / "open_clip_pytorch_model.bin")
    torch.save({"a": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(RecipeError, match="neither safetensors nor a state dict"):
        loaded(folder, of="caption")
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("pattern", "caption", "problem"),
    [
        ("(a+)+$", "a" * 200 + "b", "fails for a caption of 201 characters.*retry-limit-in-match"),
        ("(?:(a|aa){16}c)", "a" * 400, r"took \d+ s for a caption of 400 characters"),
        ("", "a", None),
    ],
)
def test_regular_expressions_of_a_tokenizer_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, caption: str, problem: str | None
) -> None:
    monkeypatch.setattr("curation.media.encoders.texts.MAX_SECONDS", 0.05)
    changed(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    whole = json.loads((folder / "tokenizer.json").read_text())["pre_tokenizer"]
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    steps = [split, whole] if pattern else [whole]
    changed(folder / "tokenizer.json", pre_tokenizer={"type": "Sequence", "pretokenizers": steps})
    encoder = loaded(folder, of="caption")
    if problem is None:
        assert encoder.preprocess(caption).numel()
        return
    with pytest.raises(RecipeError, match=f"tokenizer of open_clip/.* {problem}.*another model"):
        encoder.preprocess(caption)


def _replaced(times: int) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * times}


_TABLE = (8).to_bytes(4, "little") + bytes(8) + b"x\0" + b"y" * 70 + b"\0"
_BERT = {
    "clean_text": True,
    "handle_chinese_chars": True,
    "strip_accents": None,
    "lowercase": True,
}
_PRECOMPILED = {
    "type": "Precompiled",
    "precompiled_charsmap": base64.b64encode(_TABLE).decode(),
}


def _template(tokens: int, places: int, texts: int = 1) -> dict[str, Any]:
    special = {"SpecialToken": {"id": "a", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [special] * places + [text] * texts,
        "pair": [text, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"a": {"id": "a", "ids": [1] * tokens, "tokens": ["b"] * tokens}},
    }


@pytest.mark.parametrize(
    ("steps", "times"),
    [
        ([_template(100, 100)], "10,001"),
        ([_template(1, 0, texts=70)] * 2, "4,900"),
        ([_template(1, 0, texts=0), _template(70, 70)], "4,901"),
        ([_template(1, 2)], None),
    ],
)
def test_a_tokenizer_that_adds_very_many_tokens_is_refused(
    folder: Path, steps: list[dict[str, Any]], times: str | None
) -> None:
    changed(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    sequence = {"type": "Sequence", "processors": steps}
    whitespace = {"type": "WhitespaceSplit"}
    changed(folder / "tokenizer.json", post_processor=sequence, pre_tokenizer=whitespace)
    if times is None:
        assert loaded(folder, of="caption").preprocess("a b").numel()
        return
    with pytest.raises(RecipeError, match=f"can make a text {times} times longer"):
        loaded(folder, of="caption")


def test_a_tokenizer_with_long_beginnings_of_parts_of_words_is_refused() -> None:
    def check(prefix: str) -> None:
        model = models.WordPiece({"[UNK]": 0}, unk_token="[UNK]", continuing_subword_prefix=prefix)
        check_growth(SimpleNamespace(backend_tokenizer=Tokenizer(model)), "a model")

    check("##")
    with pytest.raises(RecipeError, match="can make a text 5,001 times longer"):
        check("#" * 5_000)


@pytest.mark.parametrize(
    ("steps", "times"),
    [
        (
            [{"type": "NFKC"}, {"type": "NFKD"}, {"type": "NFD"}, {"type": "NFC"}, _replaced(1)],
            "7,776",
        ),
        ([{"type": "Lowercase"}] * 13, "8,192"),
        ([_replaced(100), _replaced(100)], "10,201"),
        ([{"type": "Sequence", "normalizers": [_replaced(9_000)]}], "9,001"),
        ([{"type": "Prepend", "prepend": "a" * 70}, _replaced(60)], "4,331"),
        ([_PRECOMPILED, _replaced(60)], "4,270"),
        ([{"type": "ByteLevel"}] * 13, "8,192"),
        ([{"type": "BertNormalizer", **_BERT}] * 7, "16,384"),
        ([_replaced(1)] * 11, None),
    ],
)
def test_a_tokenizer_that_makes_texts_much_longer_is_refused(
    folder: Path, steps: list[dict[str, Any]], times: str | None
) -> None:
    """Each step takes a text of any length, so that a few of them would fill any memory."""
    changed(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    sequence = {"type": "Sequence", "normalizers": steps}
    whitespace = {"type": "WhitespaceSplit"}
    changed(
        folder / "tokenizer.json",
        normalizer=sequence,
        pre_tokenizer=whitespace,
        post_processor=None,
    )
    if times is None:
        assert loaded(folder, of="caption").preprocess("aaaa").numel()
        return
    with pytest.raises(RecipeError, match=f"can make a text {times} times longer"):
        loaded(folder, of="caption")


def test_a_tokenizer_of_another_model_raises_an_error(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    changed(folder / "config.json", vocab_size=120)
    state = load_file(folder / "open_clip_model.safetensors")
    name = "text.transformer.embeddings.word_embeddings.weight"
    save_file(state | {name: state[name][:120].clone()}, folder / "open_clip_model.safetensors")
    with pytest.raises(RecipeError, match=r"has 300 tokens, .* lacks 180 of them.*another model"):
        loaded(folder, of="caption")
    # Less than 1 % of the tokens may be missing, as special tokens, even if a caption contains them.
    load_encoder.cache_clear()
    changed(folder / "config.json", vocab_size=298, max_position_embeddings=90)
    save_file(state | {name: state[name][:298].clone()}, folder / "open_clip_model.safetensors")
    encoder = loaded(folder, of="caption")
    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json"))
    last = vocabulary.id_to_token(299)
    assert 3 in encoder.preprocess(last).tolist()
    assert encode(encoder, [last], 2, "cpu")[1].all()
    # Captions that are longer than the position embeddings of the tower.
    load_encoder.cache_clear()
    changed(folder / "config.json", **config | {"max_position_embeddings": 20})
    name = "text.transformer.embeddings.position_embeddings.weight"
    save_file(state | {name: state[name][:20].clone()}, folder / "open_clip_model.safetensors")
    with pytest.raises(RecipeError, match="does not take an input of"):
        loaded(folder, of="caption")
