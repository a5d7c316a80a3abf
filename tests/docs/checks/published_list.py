"""A file of the list is read with no column mapped."""

import json
from pathlib import Path

from curation.store.store import Store
from tests.docs.checks.common import recipe_with, run_stage

Path("lists").mkdir()
objects = [
    {"id": 1, "image_url": "http://example.org/a.jpg", "title": "", "description": "a heron"},
    {"id": 2, "image_url": "http://example.org/b.jpg", "title": "an owl", "description": "a bird"},
]
Path("lists/birds.jsonl").write_text("".join(json.dumps(one) + "\n" for one in objects))
source = {"name": "web", "role": "pool", "format": "bird_links", "path": "lists"}
rows = run_stage("ingest", recipe_with(sources=[source]), Store("store")).read().to_pylist()
assert [row["url"] for row in rows] == [one["image_url"] for one in objects]
assert [row["caption"] for row in rows] == ["a heron", "an owl"]
assert [row["source_key"] for row in rows] == ["1", "2"]
