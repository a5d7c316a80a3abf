"""What wastes work or surprises in a recipe: one function for each kind of warning."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations
from numbers import Real
from typing import Any

from curation.inspect.check.findings import Facts, Finding
from curation.inspect.check.machine_warnings import scarce_machine, slow_precisions
from curation.inspect.check.survey import Survey
from curation.inspect.weights import is_in_hub_cache
from curation.media.encoders import ENCODERS
from curation.media.files.location import shown
from curation.recipe.weights import weights_of
from curation.stages.ingest.sources.source import Source
from curation.stages.screen.filters import FILTERS
from curation.stages.select.params import Threshold

ROWS_PER_CLUSTER = 20
"""Fewest rows of the pool for each cluster of the finest level."""
POOL_PER_NEIGHBOUR = 2
"""How many times k the pool must hold at least."""
BAD_SHARE, FAILED_SHARE = 0.01, 0.1
"""Shares of rows that cannot be read, and of pictures that cannot be stored, that are normal."""
METADATA_CHARACTERS = 4096
"""Characters of the unmapped columns of a row, on average, that are normal."""


def first_run_encoders(facts: Facts) -> Iterator[Finding]:
    """Yield the encoders that come with the package: they are for first runs."""
    specs = facts.recipe.embed.encoders.items()
    packaged = [f"{name} ({spec.model})" for name, spec in specs if ENCODERS[spec.family].packaged]
    if packaged:
        yield Finding(
            "first_run_encoder",
            "embed.encoders",
            f"{' and '.join(packaged)} {'come' if packaged[1:] else 'comes'} with the package, for "
            "first runs and tests",
            "For real work name pretrained ones, such as timm/vit_small_patch14_dinov2.lvd142m for "
            "what a picture shows, and SSCD for copies (your-data.md in `curation where docs`)",
        )


def weights_elsewhere(facts: Facts) -> Iterator[Finding]:
    """Yield the encoders whose weights are not on this machine yet, or may not be."""
    for weights in weights_of(facts.recipe):
        entry = ENCODERS[weights.model.partition("/")[0]]
        if weights.path is not None or not entry.hub:
            continue
        # open_clip itself knows the repository of a tag, and is slow to load.
        is_known = entry.cached_by_name
        if not (is_known and is_in_hub_cache(weights.model)):
            state = "not on this machine" if is_known else "those of the hub"
            cached = "" if is_known else " unless its cache has them"
            yield Finding(
                "weights_elsewhere",
                weights.place,
                f"the weights of {weights.model} are {state}, so the run downloads them first{cached}",
                "To pin and ship them, set `weights`, `sha256` and `weights_from`",
            )


def large_k(facts: Facts) -> Iterator[Finding]:
    """Yield the arms whose k is over half of the pool."""
    pool = facts.pool_rows
    for arm in facts.recipe.arms:
        k = arm.neighbours_needed()
        if pool and k * POOL_PER_NEIGHBOUR > pool:
            fewer = f"{pool // 100:,} or less" if pool >= 200 else "1"
            yield Finding(
                "large_k",
                f"retrieve.{arm.name}",
                f"each seed image takes {k:,} neighbours from a pool of about {pool:,} rows, more than "
                "half of it",
                f"Set k to {fewer}, or leave `retrieve` out",
            )


def many_clusters(facts: Facts) -> Iterator[Finding]:
    """Yield a number of clusters that leaves fewer than ROWS_PER_CLUSTER rows for each."""
    pool, clusters = facts.pool_rows, facts.recipe.cluster.levels[0]
    if pool and clusters > 1 and clusters * ROWS_PER_CLUSTER > pool:
        yield Finding(
            "many_clusters",
            "cluster.levels",
            f"{clusters:,} clusters for a pool of about {pool:,} rows leave each of them fewer than "
            f"{ROWS_PER_CLUSTER} on average, too few to mean anything",
            f"Set levels: [{max(1, pool // (2 * ROWS_PER_CLUSTER)):,}]",
        )


def captions_missing(facts: Facts) -> Iterator[Finding]:
    """Yield the thresholds on captions, and encoders of captions, where the pool has no captions."""
    recipe, pool = facts.recipe, facts.of_role("pool")
    is_known = len(pool) == len(recipe.with_role("pool"))
    if not is_known or any(survey.count("caption") for survey in pool):
        return
    read = sum(len(survey.read) for survey in pool)
    is_exact = all(survey.is_exact for survey in pool)
    none = (
        "the pool has no captions" if is_exact else f"none of the first {read:,} rows has a caption"
    )
    encoders = {n for n, spec in recipe.embed.encoders.items() if spec.of == "caption"}
    of_captions = {n: h for n, h in recipe.score.heads.items() if h.captions in encoders}
    for score in recipe.select:
        if score in of_captions or _is_of_captions(score, recipe.score_tables[score]):
            yield Finding(
                "no_captions",
                f"select.{score}",
                f"{none}, so it treats all rows alike",
                "Remove it, or map the column of captions in `columns`",
            )
    for name in sorted(encoders):
        yield Finding(
            "no_captions",
            f"embed.encoders.{name}",
            f"it embeds captions, and {none}",
            "Remove it, or map the column of captions in `columns`",
        )


def _is_of_captions(score: str, table: str) -> bool:
    if table == "scores":
        # What is no filter is a list of words.
        return score not in FILTERS or FILTERS[score].caption
    return table == "tallies"


def no_retrieve(facts: Facts) -> Iterator[Finding]:
    """Yield that all of the eligible pool becomes the dataset."""
    if facts.recipe.retrieve:
        return
    unused = ", ".join(source.name for source in facts.recipe.with_role("seed"))
    text = (
        "there is none, so the arm `everything` takes every pool image that is no copy and passes"
    )
    yield Finding(
        "no_retrieve",
        "retrieve",
        text + (f"; the seeds {unused} add nothing" if unused else ""),
        "If that is meant, write it: retrieve: [{name: everything, strategy: everything}]",
    )


def pixels_off(facts: Facts) -> Iterator[Finding]:
    """Yield that the dataset leads to no picture of some source."""
    local = [survey.source.name for survey in facts.surveys if _is_only_in_files(survey)]
    if facts.recipe.assemble.pixels is False and local:
        yield Finding(
            "pixels_off",
            "assemble.pixels",
            f"the pictures of {', '.join(local)} are in files, and the dataset will hold neither "
            "them nor a URL of them",
            "Remove the line: by default pictures without a URL are kept",
        )


def _is_only_in_files(survey: Survey) -> bool:
    return survey.source.role != "held_out" and survey.local_images > survey.count("url")


def idle_thresholds(facts: Facts) -> Iterator[Finding]:
    """Yield the thresholds that all or none of the sampled pictures pass."""
    stored = facts.trial.stored
    for score, threshold in facts.recipe.select.items():
        passing = facts.trial.passing(score, threshold)
        if not stored or passing is None or 0 < passing < stored:
            continue
        values = [v for v in facts.trial.scores[score] if v is not None]
        spread = f" (from {min(values):.4g} to {max(values):.4g})" if _are_numbers(values) else ""
        yield idle_threshold(score, threshold, passing, stored, f"sampled pictures{spread}")


def _are_numbers(values: list[object]) -> bool:
    return bool(values) and all(isinstance(value, Real) for value in values)


def idle_threshold(score: str, threshold: Threshold, passing: int, rows: int, what: str) -> Finding:
    """Return the finding on a threshold that all or no rows pass.

    Args:
        score: its name.
        threshold: its bounds.
        passing: rows that pass it: none, or all.
        rows: number of rows.
        what: what the rows are.
    """
    bounds = threshold.model_dump(exclude_defaults=True)
    shown_bounds = ", ".join(f"{name} {value}" for name, value in bounds.items())
    if passing:
        text, fix = f"all of {rows:,} {what} pass {shown_bounds}", "Remove it, or make it stricter"
    else:
        text = f"none of {rows:,} {what} passes {shown_bounds}"
        fix = "Remove it, or make it less strict"
    return Finding("idle_threshold", f"select.{score}", text, fix)


def same_files(facts: Facts) -> Iterator[Finding]:
    """Yield the sources that read what another one of the pool, or a held-out set, reads."""
    for first, second in combinations(facts.recipe.sources, 2):
        if _reads(first) != _reads(second):
            continue
        of_pool = first.role == second.role == "pool"
        removed = [s.name for s in (first, second) if s.role != "held_out"]
        if of_pool:
            effect = "each of its pictures is read twice, and once dropped as a copy"
        elif len(removed) == 1:
            effect = f"all pictures of {removed[0]} are removed as copies of held-out ones"
        else:
            continue
        yield Finding(
            "same_files",
            f"sources.{second.name}",
            f"it reads the same files as {first.name} ({shown(second.path)}), so {effect}",
            "Correct one of the paths, or remove one of the sources",
        )


def _reads(source: Source) -> dict[str, Any]:
    """Return what decides which pictures a source has; a local path without its links and dots."""
    named = source.model_dump(exclude={"name", "role", "count"})
    path = source.path if "://" in source.path else os.path.realpath(source.path)
    return named | {"path": path}


def unreadable_rows(facts: Facts) -> Iterator[Finding]:
    """Yield the sources of which many rows cannot be used."""
    for survey in facts.surveys:
        if len(survey.bad) > BAD_SHARE * len(survey.read):
            example = survey.bad[0]
            yield Finding(
                "unreadable_rows",
                f"sources.{survey.source.name}",
                f"{len(survey.bad):,} of {len(survey.read):,} rows cannot be used, such as "
                f"{shown(example.where)}: {shown(example.unreadable or '')}",
                "Mend the file, or see whether `format`, `columns` and `quoting` fit it",
            )
        without = 0 if facts.recipe.fetch.pixels == "none" else survey.without_picture
        if without > BAD_SHARE * len(survey.read):
            yield Finding(
                "unreadable_rows",
                f"sources.{survey.source.name}",
                f"{without:,} of {len(survey.read):,} rows name no picture, and are dropped (no_image)",
                "See whether `columns` maps the column of URLs, paths or pictures",
            )


def large_metadata(facts: Facts) -> Iterator[Finding]:
    """Yield the sources whose unmapped columns are long, as vectors beside a list are."""
    for survey in facts.surveys:
        characters = survey.metadata // max(1, len(survey.read))
        if characters > METADATA_CHARACTERS:
            yield Finding(
                "large_metadata",
                f"sources.{survey.source.name}",
                f"its columns that are not mapped have {characters:,} characters a row, most of them "
                f"in {_longest_column(survey.longest_metadata)!r}; as text in `metadata` they are in "
                "pairs, images and the dataset",
                "Write the list without what you do not need there; vectors may stay in a file of "
                "their own",
            )


def _longest_column(metadata: str) -> str:
    values = json.loads(metadata)
    return shown(max(values, key=lambda name: len(json.dumps(values[name]))))


def failing_pictures(facts: Facts) -> Iterator[Finding]:
    """Yield that many of the sampled pictures cannot be stored."""
    trials = {"the pool": facts.trial, "seeds and held-out sets": facts.curated}
    for of, trial in trials.items():
        failed = sum(trial.failed.values())
        if failed <= FAILED_SHARE * trial.pictures:
            continue
        most = Counter(trial.failed).most_common(_SHOWN_REASONS)
        shown_reasons = [f"{n:,} {reason}" for reason, n in most]
        if rest := failed - sum(n for _, n in most):
            shown_reasons.append(f"{rest:,} for other reasons")
        elsewhere = sum(
            trial.failed.get(reason, 0) for reason in ("outside_folder", "file_missing")
        )
        yield Finding(
            "failing_pictures",
            "sources",
            f"{failed:,} of {trial.pictures:,} sampled pictures of {of} cannot be used: "
            + ", ".join(shown_reasons),
            _ELSEWHERE if 2 * elsewhere >= failed else _REASONS,
        )


_SHOWN_REASONS = 3
_REASONS = (
    "10_images.yaml in `curation where schemas` says what each reason means, at the column `reason`"
)
_ELSEWHERE = (
    "Set `root` of the list to the folder of its pictures, or `follow_links: true` if the files are "
    "links"
)


Warn = Callable[[Facts], Iterator[Finding]]
WARNINGS: tuple[Warn, ...] = (
    no_retrieve,
    pixels_off,
    first_run_encoders,
    weights_elsewhere,
    many_clusters,
    large_k,
    captions_missing,
    idle_thresholds,
    same_files,
    unreadable_rows,
    large_metadata,
    failing_pictures,
    slow_precisions,
    scarce_machine,
)
"""All kinds of warnings, in the order in which they are shown."""


def warnings_of(facts: Facts) -> list[Finding]:
    """Return everything that wastes or surprises, as far as it is known."""
    return [finding for warn in WARNINGS for finding in warn(facts)]
