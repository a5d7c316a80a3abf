"""Rows that an earlier run has fetched from the web, although their fragment has changed since.

A memo stands for a whole fragment. If a list has grown or shrunk, only its new rows are requested.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from curation.engine.context import Context
from curation.engine.params_base import changed_fields
from curation.engine.table import Table
from curation.engine.units import content_of
from curation.media.pictures.plug_ins import PLUG_INS
from curation.media.web.failure_reasons import is_permanent
from curation.media.web.urls import UrlRules
from curation.stages.fetch.earlier_fragments import NO_FRAGMENTS, ListedFragments, list_by_stem
from curation.stages.fetch.moved_rows import changed_buckets_beside
from curation.stages.fetch.params import FetchStep
from curation.stages.fetch.request import FetchRequest
from curation.stages.fetch.sample_schema import SHARED_COLUMNS
from curation.store.digest import digest
from curation.store.fragment import stem_of
from curation.store.manifest import Manifest

FAILURE_PARAMS = {
    "timeout_s",
    "retries",
    "max_redirects",
    "patience_s",
    "allow_hosts",
    "ports",
    "anonymous",
    "max_bytes",
    "max_pixels",
    "formats",
    "redirects",
}
"""Parameters that decide which rows fail, but change nothing of a stored image."""


REDIRECT_PARAMS = {"redirects", "max_redirects", "allow_hosts", "ports", "anonymous"}
"""Parameters that decide which redirects are followed."""


@dataclass(frozen=True)
class EarlierImages:
    """Fragments of `images` that an earlier run wrote.

    No memo depends on them: without them, the same rows are fetched again.

    Attributes:
        images: the fragments that may hold the rows of the fragment to fetch.
        name: name of the fragment to fetch.
        failures: whether their permanent failures are still valid, too.
        redirects: whether rows that were redirected are.
        retried: reasons of failures that are asked for again; without any, all that may pass.
    """

    images: ListedFragments = NO_FRAGMENTS
    name: str = ""
    failures: bool = False
    redirects: bool = False
    retried: frozenset[str] = frozenset()
    content: None = None


@dataclass(frozen=True)
class EarlierVersion:
    """A version of `images` whose rows this run may reuse.

    Fragments are by the stem of their names, since a row may have moved to another part of its bucket.
    """

    fragments: Mapping[str, ListedFragments] = field(default_factory=dict)
    failures: bool = False
    redirects: bool = False
    retried: frozenset[str] = frozenset()

    def of(self, name: str) -> EarlierImages:
        """Return the part that may hold rows of the fragment with a name."""
        images = self.fragments.get(stem_of(name), NO_FRAGMENTS)
        return EarlierImages(images, name, self.failures, self.redirects, self.retried)


def rules_digest(rules: UrlRules) -> str:
    """Return a digest of the content of URL rules, as it is noted with images."""
    return digest(content_of(rules))


def earlier_images(
    params: FetchStep, rules: UrlRules, pairs: Table, context: Context
) -> EarlierVersion:
    """Return the version of `images` whose rows this run may reuse; an empty one if there is none."""
    # The file of the face detector may have changed under the same name.
    if params.faces.weights:
        return EarlierVersion()
    for manifest in context.earlier_versions("images"):
        # The list of blocked domains may have changed under the same name, or moved unchanged.
        changed = changed_fields(params, manifest.params) - {"redirects"}
        if manifest.stats.get("rules") != rules_digest(rules):
            changed |= {"redirects"}
        same_stage = [manifest.stage, manifest.stage_version] == context.salt
        if same_stage and not changed - FAILURE_PARAMS and not _fewer_hosts(params, manifest):
            beside = changed_buckets_beside(pairs, manifest)
            fragments = list_by_stem(manifest.fragments, context, beside)
            redirects = not changed & REDIRECT_PARAMS
            retried = context.stale.outcomes
            return EarlierVersion(fragments, not changed, redirects, retried)
    return EarlierVersion()


def _fewer_hosts(params: FetchStep, manifest: Manifest) -> bool:
    """Whether a host or a port that was allowed may be refused now."""
    before = manifest.params
    hosts = set(before.get("allow_hosts", ())) - set(params.allow_hosts)
    return bool(hosts or set(before.get("ports", ())) - set(params.ports))


def reusable_rows(
    requests: Iterable[FetchRequest], earlier: EarlierImages, params: FetchStep
) -> Iterator[tuple[int, bytes | None, dict[str, Any]]]:
    """Yield (row, stored image, SHARED_COLUMNS) of rows that an earlier run has fetched from the web.

    Images in files are read again: a file may have been replaced, and it costs no host anything.

    Args:
        requests: the rows to fetch.
        earlier: fragments that may hold them.
        params: those of this run.
    """
    if earlier.images.is_empty:
        return
    remote = {r.pair_id: r for r in requests if r.location is None}
    if not remote:
        return
    for fragment in earlier.images.nearest_first(earlier.name):
        if not remote:
            return
        pair_ids = fragment.read(["pair_id"]).column(0).to_pylist()
        if any(pair_id in remote for pair_id in pair_ids):
            for batch in fragment.batches(["pair_id", *SHARED_COLUMNS, "image"]):
                for values in batch.to_pylist():
                    request = remote.get(values.pop("pair_id"))
                    if request and _is_valid(values, request, earlier, params):
                        del remote[request.pair_id]
                        yield request.row, values.pop("image"), values


def _is_valid(
    values: dict[str, Any], request: FetchRequest, earlier: EarlierImages, params: FetchStep
) -> bool:
    """Whether this run would give the same row."""
    sums = (request.sha256, values["sha256"])
    mismatch = None not in sums and sums[0] != sums[1]
    if mismatch != (values["reason"] == "sha256_mismatch"):
        return False
    if values["final_url"] not in (None, request.url) and not earlier.redirects:
        return False
    if values["status"] != "ok":
        is_known: bool = earlier.failures and values["status"] == "failed"
        if earlier.retried:
            return is_known and values["reason"] not in earlier.retried
        return is_known and is_permanent(values["reason"])
    if values["format"] in PLUG_INS and values["format"] not in params.formats:
        return False
    pixels = values["original_width"] * values["original_height"]
    return bool(values["bytes"] <= params.max_bytes and pixels <= params.max_pixels)
