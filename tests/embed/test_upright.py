"""Files of all formats give the vector of their upright RGB image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from curation.media.encoders.encoder import load_encoder
from curation.media.encoders.forward import encode
from curation.media.encoders.params import EncoderSpec

from ..fetch.test_pictures import CASES
from ..ingest.helpers import run, source, table, write


def test_vectors_equal_those_of_the_upright_image(tmp_path: Path) -> None:
    # The file names do not matter: all of them end in .png.
    rows = [{"image": make(), "uid": f"{n}.png"} for n, (make, _, _) in enumerate(CASES.values())]
    columns = {"image": "image", "key": "uid"}
    pool = source(write(tmp_path / "pairs.parquet", rows), columns=columns)
    encoders = {"semantic": {"model": "vit_micro"}}
    run(
        tmp_path / "store",
        pool,
        until="embed",
        embed={"encoders": encoders},
        dedup={"near": None},
    )
    images = table(tmp_path / "store", "images").read(["pair_id", "source_key"]).to_pandas()
    vectors = table(tmp_path / "store", "embeddings.semantic").read().to_pandas()
    joined = images.merge(vectors, on="pair_id").set_index("source_key")
    encoder = load_encoder(EncoderSpec(model="vit_micro"), "cpu")
    for number, (name, (_, shown, _)) in enumerate(CASES.items()):
        upright = Image.fromarray(shown.round().astype(np.uint8))
        (expected,), _ = encode(encoder, [upright], 1, "cpu")
        vector = np.frombuffer(joined.loc[f"{number}.png", "vector"], "<f2").astype(float)
        assert vector @ expected.astype(float) > 0.99, name
    # Another image has a smaller similarity, so the bound is meaningful.
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    (far,), _ = encode(encoder, [turned], 1, "cpu")
    assert vector @ far.astype(float) < 0.98
