"""The command writes what the dataset holds."""

import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

from curation.cli import main
from curation.store.store import Store
from tests.docs.checks.common import image_rows
from tests.tables import commit

rows = [row | {"weight": 1, "claims": [], "run": "r"} for row in image_rows()]
rows[2]["url"] = None
commit(Store("store"), "dataset", {"part-00000": rows})
printed = io.StringIO()
sys.argv = ["curation", "export-links", "--store", "store", "--out", "links.tsv", "--json"]
try:
    with redirect_stdout(printed):
        main()
except SystemExit as stopped:
    assert not stopped.code, stopped.code
links = sum(row["url"] is not None for row in rows)
assert json.loads(printed.getvalue()) == {"path": "links.tsv", "links": links}
lines = Path("links.tsv").read_text().splitlines()
assert lines == ["url\tcaption", *(f"{row['url']}\ta bird" for row in rows if row["url"])]
