"""Small models for tests whose text tower or tokenizer is from transformers.

Each is a folder like those of the hub, with random but fixed weights and a tokenizer of a few hundred
tokens that is trained on the sentences below.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP, CustomTextCLIP
from safetensors.torch import save_file
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from .clip import DIM, PREPROCESS, SIDE

SENTENCES = [
    "a dog on the beach runs after a red ball",
    "zwei Hunde & eine Katze am Strand, bei Nacht",
    "two red flags over the old town hall of Bergen",
    "犬の写真 и две собаки на пляже",
]
VOCABULARY_SIZE, CONTEXT = 300, 16
VISION: dict[str, Any] = {
    "image_size": SIDE,
    "layers": 2,
    "width": 64,
    "patch_size": 8,
    "head_width": 16,
}
OWN_TEXT = {"context_length": CONTEXT, "vocab_size": 400, "width": 32, "heads": 2, "layers": 2}
BERT_LIKE = {
    "vocab_size": 400,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 90,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "type_vocab_size": 1,
}
M2M = {
    "model_type": "m2m_100",
    "vocab_size": 400,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 90,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "is_encoder_decoder": True,
    # With the default deviation, vectors of captions hardly differ.
    "init_std": 0.2,
}
FAIRSEQ = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
MASKED = FAIRSEQ | {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}


def _bpe(special: list[str]) -> Tokenizer:
    """Byte-level BPE, as RoBERTa has it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.token_to_id("</s>") or 0), ("<s>", tokenizer.token_to_id("<s>") or 0)
    )
    return tokenizer


def _unigram(special: list[str], template: str) -> Tokenizer:
    """SentencePiece unigrams, as XLM-R and SigLIP have them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY_SIZE, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokens = [(name, tokenizer.token_to_id(name)) for name in special if name in template.split()]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=tokens)
    return tokenizer


def _pairs(special: list[str]) -> Tokenizer:
    """BPE with the word boundaries of SentencePiece, as NLLB and Gemma have it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    eos = special[1] if special[0] == "<pad>" else "</s>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {eos}", special_tokens=[(eos, tokenizer.token_to_id(eos))]
    )
    return tokenizer


def _wordpiece() -> Tokenizer:
    """WordPiece in lower case, as BERT has it."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY_SIZE, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def _hub_text(pooler: str, proj: str) -> dict[str, Any]:
    return {
        "hf_model_name": "somebody/a-text-tower",
        "hf_tokenizer_name": "somebody/a-text-tower",
        "hf_pooler_type": pooler,
        "hf_proj_type": proj,
    }


def _siglip_text(name: str) -> dict[str, Any]:
    return OWN_TEXT | {
        "hf_tokenizer_name": name,
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    }


SIGLIP_VISION = {
    "image_size": 160,
    "timm_model_name": "test_vit",
    "timm_model_pretrained": False,
    "timm_pool": "token",
    "timm_proj": "linear",
}
XLMR = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
Kind = tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any], Callable[[], Tokenizer]]
KINDS: dict[str, Kind] = {
    "roberta": (
        {"embed_dim": DIM, "vision_cfg": VISION, "text_cfg": _hub_text("mean_pooler", "mlp")},
        BERT_LIKE | {"model_type": "roberta"},
        MASKED | {"tokenizer_class": "RobertaTokenizer"},
        lambda: _bpe(["<s>", "<pad>", "</s>", "<unk>", "<mask>"]),
    ),
    "xlm-roberta": (
        {"embed_dim": DIM, "vision_cfg": VISION, "text_cfg": _hub_text("mean_pooler", "mlp")},
        BERT_LIKE | {"model_type": "xlm-roberta"},
        MASKED | {"tokenizer_class": "XLMRobertaTokenizer"},
        lambda: _unigram(XLMR, "<s> $A </s>"),
    ),
    "nllb": (
        {"embed_dim": DIM, "vision_cfg": VISION, "text_cfg": _hub_text("cls_pooler", "linear")},
        M2M,
        MASKED | {"tokenizer_class": "NllbTokenizer", "src_lang": "eng_Latn"},
        lambda: _pairs([*XLMR[:4], "eng_Latn", "deu_Latn", "<mask>"]),
    ),
    "siglip": (
        {
            "embed_dim": DIM,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": SIGLIP_VISION,
            "text_cfg": _siglip_text("timm/ViT-B-16-SigLIP"),
        },
        None,
        {
            "tokenizer_class": "T5Tokenizer",
            "eos_token": "</s>",
            "pad_token": "</s>",
            "unk_token": "<unk>",
            "extra_ids": 0,
        },
        lambda: _unigram(["<pad>", "</s>", "<unk>"], "$A </s>"),
    ),
    "siglip2": (
        {
            "embed_dim": DIM,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": SIGLIP_VISION,
            "text_cfg": _siglip_text("timm/ViT-B-16-SigLIP2")
            | {"act_kwargs": {"approximate": "tanh"}},
        },
        None,
        {
            "tokenizer_class": "GemmaTokenizer",
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "add_bos_token": False,
            "add_eos_token": True,
            "padding_side": "right",
        },
        lambda: _pairs(["<pad>", "<eos>", "<bos>", "<unk>"]),
    ),
    "clipa": (
        {
            "embed_dim": DIM,
            "vision_cfg": VISION
            | {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
            "text_cfg": OWN_TEXT
            | {
                "hf_tokenizer_name": "bert-base-uncased",
                "tokenizer_kwargs": {"strip_sep_token": True},
                "pool_type": "last",
                "no_causal_mask": True,
            },
        },
        None,
        {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": True,
            "unk_token": "[UNK]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "cls_token": "[CLS]",
            "mask_token": "[MASK]",
        },
        _wordpiece,
    ),
}


def write_text(folder: Path, kind: str, seed: int = 0) -> torch.nn.Module:
    """Write the folder of a kind; return the model."""
    config, tower, tokenizer_config, train = KINDS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_cfg": config, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    train().save(str(folder / "tokenizer.json"))
    text = config["text_cfg"]
    if tower is not None:
        (folder / "config.json").write_text(json.dumps(tower))
        text = text | {"hf_model_name": str(folder), "hf_model_pretrained": False}
    torch.manual_seed(seed)
    options = {k: v for k, v in config.items() if k != "custom_text"} | {"text_cfg": text}
    custom = tower is not None or "custom_text" in config
    model: torch.nn.Module = (CustomTextCLIP if custom else CLIP)(**options).eval()
    state = {k: v.clone().contiguous() for k, v in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return model
