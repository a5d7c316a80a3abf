"""The family loads and embeds: like images near each other, whatever their batch."""

import numpy as np

from curation.media.encoders import ENCODERS
from curation.media.encoders.encoder import load_encoder
from curation.media.encoders.forward import encode
from tests.docs.checks.common import recipe_with

recipe = recipe_with(
    embed={"encoders": {"semantic": {"model": "grid_colours"}}}, dedup={"near": None}
)
encoder = load_encoder(recipe.embed.encoders["semantic"], "cpu")
rng = np.random.default_rng(0)
images = [rng.integers(0, 255, (50, 70, 3), dtype=np.uint8) for _ in range(3)]
images += [
    np.full((80, 80, 3), (200, 30, 30), np.uint8),
    np.full((20, 20, 3), (190, 40, 40), np.uint8),
]
vectors, valid = encode(encoder, images, 4, "cpu")
assert vectors.shape == (5, 48) and valid.all()
np.testing.assert_allclose(np.linalg.norm(vectors.astype(float), axis=1), 1, atol=1e-2)
assert vectors[3].astype(float) @ vectors[4].astype(float) > 0.95
alone, _ = encode(encoder, images[:1], 4, "cpu")
np.testing.assert_array_equal(alone[0], vectors[0])
model, blank, dim = ENCODERS.load("grid_colours").skeleton("", recipe.embed.encoders["semantic"])
assert model(blank[None]).shape == (1, dim)
