"""Files of the format are found by their endings and read; a damaged one is named."""

from pathlib import Path

import pyarrow as pa

from curation.stages.ingest.recognise import recognise
from curation.stages.ingest.recognise.place import place_of
from curation.store.store import Store
from tests.docs.checks.common import recipe_with, refuses, run_stage

Path("lists").mkdir()
columns = {"URL": ["http://example.org/a.jpg", "http://example.org/b.jpg"], "TEXT": ["a", None]}
with pa.ipc.new_file("lists/one.arrow", pa.table(columns | {"more": [1, 2]}).schema) as file:
    file.write_table(pa.table(columns | {"more": [1, 2]}), max_chunksize=1)
source = {"name": "web", "role": "pool", "format": "arrow", "path": "lists"}
recipe = recipe_with(sources=[source | {"columns": {"url": "URL", "caption": "TEXT"}}])
rows = run_stage("ingest", recipe, Store("store")).read().to_pylist()
assert [row["url"] for row in rows] == columns["URL"]
assert [row["caption"] for row in rows] == columns["TEXT"]
assert [row["metadata"] for row in rows] == ['{"more": 1}', '{"more": 2}']
recognised = recognise(place_of("lists")).fields
assert recognised == {"format": "arrow", "columns": {"url": "URL", "caption": "TEXT"}}
other = recipe_with(sources=[source | {"columns": {"url": "address"}}])
assert refuses(run_stage, "ingest", other, Store("store"))
Path("lists/two.arrow").write_bytes(b"ARROW1 is not enough")
assert refuses(run_stage, "ingest", recipe, Store("store"))
