"""Changed code must not be mistaken for the old: versions go with the source."""

from __future__ import annotations

import json
from typing import Any

import pytest

from curation.flow import STAGES
from scripts.closure import Code, definitions
from scripts.structure import PACKAGE

from .pins import PINS, changes, current_pins, stage_roots

PIN_ANEW = (
    "If a stage, a registry member or a contract would give other rows or columns for the same input, "
    "raise its version (the STAGE of its params.py, its line in the registry, its file in schemas/). "
    "Then run `python -m tests.pins`."
)


def test_pins_are_those_of_the_source() -> None:
    lines = changes(json.loads(PINS.read_text()), current_pins())
    assert not lines, "\n".join([*lines, PIN_ANEW])


def digests(code: Code) -> dict[str, str]:
    return {name: code.digest(stage_roots(stage)) for name, stage in STAGES.items()}


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return digests(Code())


def edited(*edits: tuple[str, str, str]) -> Code:
    """The source with some texts in place of others: file, old and new text."""
    texts: dict[str, str] = {}
    for file, old, new in edits:
        text = texts.get(file) or (PACKAGE / file).read_text()
        assert old in text, (file, old)
        texts[file] = text.replace(old, new, 1)
    return Code(edits=texts)


def changed_by(before: dict[str, str], *edits: tuple[str, str, str]) -> set[str]:
    after = digests(edited(*edits))
    return {name for name in before if before[name] != after[name]}


def test_a_changed_helper_reaches_the_stages_that_use_it_and_no_other(
    before: dict[str, str],
) -> None:
    order = ("algorithms/arrays/seeded_order.py", "np.uint64(30)", "np.uint64(29)")
    users = {"neighbours", "dedup", "cluster", "quantise", "match", "retrieve", "assemble"}
    assert changed_by(before, order) == users


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        (
            "media/web/host_names.py",
            "_MAX_HOST = 253",
            "_MAX_HOST = 252",
            {"ingest", "fetch", "retrieve"},
        ),
        ("algorithms/arrays/vectors.py", "lengths > 0", "lengths >= 0", {"embed"}),
        (
            "algorithms/kmeans/backends/nearest.py",
            "-scores, rows",
            "scores, rows",
            {"cluster", "assign", "quantise", "index", "neighbours"},
        ),
        ("stages/dedup/params.py", "at_least = self.at_least if", "at_least = 1 if", {"dedup"}),
        ("store/fragment.py", "columns=with_ids", "columns=None", set(STAGES)),
        ("media/web/failure_reasons.py", '"host_unreachable",', "", {"fetch"}),
        ("media/web/params.py", "(+{self.contact})", "({self.contact})", {"fetch", "ingest"}),
    ],
)
def test_code_that_can_change_rows_counts(
    before: dict[str, str], file: str, old: str, new: str, stages: set[str]
) -> None:
    changed = changed_by(before, (file, old, new))
    assert stages <= changed
    assert len(stages) > 3 or changed == stages


def test_what_cannot_change_the_rows_of_a_stage_does_not_count(before: dict[str, str]) -> None:
    """Comments, docstrings, log lines, error texts, bounds of parameters, scheduling, members."""
    edits = [
        ("stages/verify/compare.py", "from __future__", "# A comment.\nfrom __future__"),
        ("stages/dedup/stage.py", "def dedup(", '"""A text."""\n\n\ndef dedup('),
        ("algorithms/knn/ivf.py", "Lower nlist", "Take a lower nlist"),
        ("media/encoders/params.py", "takes no `{name}`", "cannot take `{name}`"),
        ("stages/retrieve/stage.py", "finds nothing", "found nothing"),
        ("store/fragment.py", "Run the whole recipe again", "Run the recipe again"),
        ("engine/spark_progress.py", "POLL_SECONDS = 0.2, 2.0", "POLL_SECONDS = 0.3, 2.0"),
        ("store/step_log.py", "BEAT_S = 10.0", "BEAT_S = 11.0"),
        ("stages/fetch/progress.py", "MAX_REASONS = 4", "MAX_REASONS = 5"),
        ("stages/screen/filters/entropy.py", "score=", "score=None or "),
        ("stages/embed/params.py", "le=4096)", "le=8192)"),
    ]
    assert changed_by(before, *edits) == set()


@pytest.mark.parametrize(
    ("module", "edit"),
    [
        (
            "curation.stages.screen.filters.entropy",
            ("stages/screen/filters/entropy.py", "score=", "score=None or "),
        ),
        (
            "curation.stages.score.heads.linear",
            ("stages/score/heads/base.py", 'METADATA_KEY = "curation"', 'METADATA_KEY = "other"'),
        ),
    ],
)
def test_a_changed_member_of_a_registry_changes_its_pin(
    module: str, edit: tuple[str, str, str]
) -> None:
    code, after = Code(), edited(edit)
    assert code.digest(definitions(code, module)) != after.digest(definitions(after, module))


def test_changes_say_whether_the_version_moved() -> None:
    def pins(version: int, code: str) -> dict[str, Any]:
        return {"stage": {"embed": {"version": version, "code": code}}}

    assert changes(pins(1, "a"), pins(1, "a")) == []
    assert changes(pins(1, "a"), pins(1, "b")) == [
        "stage embed: code changed, version 1 not raised"
    ]
    assert changes(pins(1, "a"), pins(2, "b")) == ["stage embed: code changed, version 1 → 2"]
    assert changes({}, pins(1, "a")) == ["stage embed: new"]
