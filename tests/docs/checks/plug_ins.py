"""The plug-in, in the working directory, gives a filter to the recipe that names it."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

from PIL import Image

import curation
from curation.flow import plan
from curation.store.store import Store
from tests.docs.checks.common import image_rows, recipe_with, run_stage
from tests.tables import commit

shutil.move(Path(curation.__file__).parent.parent / "my_filters.py", "my_filters.py")
stored = io.BytesIO()
Image.new("RGB", (40, 30), "red").save(stored, "PNG")
rows = [row | {"image": stored.getvalue(), "bytes": 9} for row in image_rows()]
rows[0]["caption"] = "Look! A bird!"
store = Store("store")
commit(store, "images", {"web-0": rows})


def scores() -> list[float | None]:
    recipe = recipe_with(
        plugins=["my_filters.py"],
        screen={"filters": ["aspect", "exclamations"]},
        select={"exclamations": {"at_most": 1}},
    )
    assert plan(recipe)[2].plugins == ("my_filters.py",)
    column = run_stage("screen", recipe, store).read(["exclamations"]).column(0)
    values: list[float | None] = column.to_pylist()
    return values


assert scores() == [2, 0, 0, 0]
