"""Checks a recipe against the data and the machine, before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from curation.engine.params_base import derive_params
from curation.errors import CurationError
from curation.inspect.check.findings import Facts, Finding
from curation.inspect.check.machine import slow_precisions, this_machine
from curation.inspect.check.survey import ROWS_READ, Survey, survey
from curation.inspect.check.trial import PICTURES, Trial, try_pictures
from curation.inspect.check.warnings import warnings_of
from curation.inspect.weights import Need, needs_of
from curation.media.files.location import OutsideFolderError, shown, unescape
from curation.media.web.params import OutboundParams
from curation.recipe import Recipe
from curation.runner.preflight import check_inputs, check_store, imported_problems
from curation.stages.fetch.packages import check_packages
from curation.store.store import Store

ROWS_OF_RUN = 2_000
"""Rows of each source that are read before a run, which reads all of them anyway."""


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        facts: what is known of the data and the machine.
        needs: the files and models that the recipe names.
        problems: what would stop a run.
        warnings: what wastes or surprises.
    """

    facts: Facts
    needs: Sequence[Need]
    problems: Sequence[str]
    warnings: Sequence[Finding]

    def to_json(self) -> dict[str, Any]:
        """Return it as values that JSON can hold."""
        facts = self.facts
        return {
            "recipe": facts.recipe.name,
            "sources": [survey_to_json(s) for s in facts.surveys],
            "sample": vars(facts.trial) | {"scores": sorted(facts.trial.scores)},
            "weights": [need._asdict() for need in self.needs],
            "machine": vars(facts.machine) if facts.machine else None,
            "estimate": vars(facts.estimate) if facts.estimate else None,
            "problems": list(self.problems),
            "warnings": [vars(finding) for finding in self.warnings],
        }


def survey_to_json(survey: Survey) -> dict[str, Any]:
    """Return what is known of a source as values that JSON can hold."""
    return {
        "name": survey.source.name,
        "role": survey.source.role,
        "format": survey.source.format,
        "files": survey.files,
        "bytes": survey.size,
        "rows": survey.rows,
        "is_exact": survey.is_exact,
        "rows_read": len(survey.read),
        "with_caption": survey.count("caption"),
        "with_url": survey.count("url"),
        "with_local_image": survey.local_images,
        "bad_rows": len(survey.bad),
    }


def check_recipe(recipe: Recipe, store: str | None = None, pictures: int = PICTURES) -> Checked:
    """Check a recipe against its sources and this machine; nothing is requested from hosts of images.

    Args:
        recipe: the recipe.
        store: where a run would write.
        pictures: local pictures that are fetched and screened as a sample: so many of the pool, and of
            seeds and held-out sets together.
    """
    # A run asks for its warnings alone, and would wait for these imports.
    from curation.inspect.check.estimate import expected_needs

    problems = list(_problems(recipe, store))
    surveys, more = _surveys(recipe, ROWS_READ)
    problems += [problem for problem in more if not any(problem in known for known in problems)]
    problems += _without_contact(recipe, surveys)
    problems += filter(None, map(partial(_without_files, recipe), surveys))
    problems += filter(None, map(_without_rows, surveys))
    trial = curated = Trial()
    try:
        trial = try_pictures(recipe, surveys, pictures)
        curated = try_pictures(recipe, surveys, pictures, ("seed", "held_out"))
    except CurationError as error:
        problems += map(str, error.details)
    machine = this_machine(store)
    if machine.java_problem:
        problems.append(machine.java_problem)
    is_whole = len(surveys) == len(recipe.sources)
    estimate = expected_needs(recipe, surveys, trial, machine) if is_whole else None
    slow = machine.slow_precisions
    facts = Facts(recipe, surveys, trial, curated, machine, slow, estimate)
    return Checked(facts, needs_of(recipe, fetch=False), problems, warnings_of(facts))


def warnings_before_run(recipe: Recipe, on_this_machine: bool = False) -> list[Finding]:
    """Return the warnings that can be known in a moment: no picture is opened.

    Sources elsewhere than on this machine are not read: the run reads them anyway.

    Args:
        recipe: the recipe.
        on_this_machine: whether it embeds here, and not on a cluster.
    """
    local = recipe.model_copy(
        update={"sources": [s for s in recipe.sources if "://" not in s.path]}
    )
    surveys, _ = _surveys(local, ROWS_OF_RUN)
    precisions = {spec.precision for spec in recipe.embed.encoders.values()}
    # Most recipes name none. The measurement takes the seconds in which torch is imported.
    slow = slow_precisions() if on_this_machine and precisions != {"fp32"} else {}
    return warnings_of(Facts(recipe, surveys, slow_precisions=slow))


def _problems(recipe: Recipe, store: str | None) -> list[str]:
    problems: list[str] = []
    for check in (check_inputs, _check_packages):
        try:
            check(recipe)
        except CurationError as error:
            problems += map(str, error.details)
    problems += map(str, imported_problems(recipe.embed.encoders))
    if store is not None:
        try:
            check_store(recipe, Store(store))
        except CurationError as error:
            problems += map(str, error.details)
        except OSError as error:
            problems.append(str(error))
    return problems


def _check_packages(recipe: Recipe) -> None:
    check_packages(recipe.fetch)


def _surveys(recipe: Recipe, rows: int) -> tuple[list[Survey], list[str]]:
    outbound = derive_params(OutboundParams, recipe.fetch)
    surveys: list[Survey] = []
    problems: list[str] = []
    for source in recipe.sources:
        try:
            surveys.append(survey(source, outbound, rows))
        except CurationError as error:
            problems += map(str, error.details)
    return surveys, problems


def _without_contact(recipe: Recipe, surveys: Sequence[Survey]) -> list[str]:
    remote = [s.source.name for s in surveys if s.remote_images]
    fetch = recipe.fetch
    if not remote or fetch.pixels == "none" or fetch.contact or fetch.allow_hosts:
        return []
    return [
        f"fetch.contact is missing: the pictures of {', '.join(remote)} are on hosts, which must be "
        "able to reach you. Set it to an e-mail address or a web page, as in fetch: {contact: "
        "crawl@example.org}."
    ]


def _without_rows(survey: Survey) -> str | None:
    """Return a problem if no row of a source can be used; None otherwise, or if more follow."""
    if not survey.is_exact or not all(row.bad or row.reason for _, row in survey.read):
        return None
    _, example = survey.read[0]
    why = shown(example.unreadable or example.reason or "")
    return (
        f"Source {survey.source.name!r}: no row can be used, such as {shown(example.where)}: {why}. "
        "Mend the files, or see whether `format` and `columns` of the source fit them."
    )


def _without_files(recipe: Recipe, survey: Survey) -> str | None:
    """Return a problem if none of the image files that a source names exists; None otherwise."""
    source, example = survey.source, ""
    if not survey.is_exact or not source.names_files or recipe.fetch.pixels == "none":
        return None
    for file, row in survey.read:
        if row.bad or row.reason:
            continue
        if row.path is None or row.member is not None:
            return None
        try:
            location = file.location_of(row.path)
        except OutsideFolderError:
            continue
        if "://" in location or Path(unescape(location)).exists():
            return None
        example = example or shown(unescape(location))
    if not example:
        return None
    return (
        f"Source {source.name!r}: none of the image files that its rows name is there, such as "
        f"{example}. Set `root` of the source to the folder of the images, or put them there."
    )
