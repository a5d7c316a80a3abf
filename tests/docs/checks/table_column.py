"""The column is in the contract, filled by the stage, and checked."""

from curation.engine.contract import contract
from curation.store.store import Store
from tests.docs.checks.common import IDS, commit_no_copies, image_rows, recipe_with, run_stage
from tests.tables import commit

assert (contract("dataset").version, "caption_length" in contract("dataset").names) == (3, True)
store = Store("store")
rows = image_rows()
rows[1]["caption"] = None
commit(store, "images", {"web-0": rows})
commit_no_copies(store, rows)
clusters = [{"pair_id": i, "image_id": i, "cluster_id": 0, "similarity": 1} for i in IDS]
commit(store, "assignments", {"web-0": clusters})
claims = [{"arm": "a", "strategy": "hierarchical", "image_id": i, "pair_id": i} for i in IDS[:2]]
commit(store, "claims", {"web-0": claims})
arm = {"name": "a", "strategy": "hierarchical", "target": 2}
dataset = run_stage("assemble", recipe_with(retrieve=[arm]), store)
lengths = dataset.read(["image_id", "caption_length"]).to_pydict()
assert dict(zip(lengths["image_id"], lengths["caption_length"], strict=True)) == {
    IDS[0]: 6,
    IDS[1]: 0,
}
