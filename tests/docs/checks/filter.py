"""A stored image is scored by the filter, and its score may be bounded."""

import io

import numpy as np
from PIL import Image

from curation.store.store import Store
from tests.docs.checks.common import image_rows, recipe_with, run_stage
from tests.tables import commit

pixels = np.zeros((40, 50, 3), np.uint8)
pixels[:, :25, 1] = 200
stored = io.BytesIO()
Image.fromarray(pixels).save(stored, "PNG")
rows = [row | {"image": stored.getvalue(), "bytes": 9} for row in image_rows()]
store = Store("store")
commit(store, "images", {"web-0": rows})
recipe = recipe_with(
    screen={"filters": ["aspect", "greenness"]}, select={"greenness": {"at_least": 0.2}}
)
assert recipe.score_tables == {"greenness": "scores"}
scores = run_stage("screen", recipe, store).read(["greenness"]).column(0).to_pylist()
np.testing.assert_allclose(scores, 100 / 255, atol=1e-6)
