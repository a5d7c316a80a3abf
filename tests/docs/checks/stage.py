"""The stage is in the plan, runs, is found again, and its field of the recipe counts."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from curation.engine.contract import contracts
from curation.flow import STAGES, plan
from curation.store.store import Store
from tests.docs.checks.common import image_rows, recipe_with, run_stage
from tests.tables import commit

names = [step.name for step in plan(recipe_with())]
assert names[names.index("screen") + 1] == "palette"
assert (STAGES["palette"].job, list(contracts())[3]) == ("jobs/22_palette.py", "palettes")
tree = Path(str(__import__("curation").__file__)).parent.parent
assert sorted(p.name for p in (tree / "jobs").glob("*.py")) == [
    *(stage.job.removeprefix("jobs/") for stage in STAGES.values()),
    "run.py",
]

pixels = np.full((40, 50, 3), (255, 130, 3), np.uint8)
pixels[:10] = (0, 0, 255)
stored = io.BytesIO()
Image.fromarray(pixels).save(stored, "PNG")
rows = [row | {"image": stored.getvalue()} for row in image_rows()]
rows[3] |= {"image": None, "status": "failed", "reason": "timeout", "image_id": None}
store = Store("store")
commit(store, "images", {"web-0": rows})
table = run_stage("palette", recipe_with(), store)
assert table.read(["colour"]).column(0).to_pylist() == ["#c08000"] * 3 + [None]
assert table.read(["share"]).column(0).to_pylist() == [0.75] * 3 + [None]
other = run_stage("palette", recipe_with(palette={"bits": 4}), store)
assert other.read(["colour"]).column(0).to_pylist() == ["#f08000"] * 3 + [None]
assert run_stage("palette", recipe_with(), store).manifest.version == table.manifest.version
