"""The text of a first recipe: each line says in plain words what it does."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from rich.filesize import decimal

from curation.inspect.check.survey import Survey
from curation.inspect.first_recipe.draft import (
    BETTER,
    CANDIDATES,
    MOST_DROPPED,
    Draft,
    unique_name,
)
from curation.media.files.location import shown
from curation.stages.ingest.formats.source_row import SourceRow
from curation.stages.ingest.sources.source import Role
from curation.stages.select.params import Threshold
from curation.terminal import one_line

SHOWN_ROWS = 3
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")
_SHOWN_CHARACTERS = 70
_WORDS = {
    "name": "what it is called in tables and in the report",
    "path": "file, folder or glob; a relative path starts at the folder you run from",
    "columns": "which column is what; all others are kept as metadata",
}
_ROLES: Mapping[Role, str] = {
    "pool": "uncurated pictures, from which the dataset is made",
    "seed": "curated pictures: similar ones are retrieved from the pool",
    "held_out": "evaluation pictures: the dataset has no copies of them",
}


def recipe_text(draft: Draft, path: str) -> str:
    """Return the text of a recipe.

    Args:
        draft: what it says.
        path: where it will be, for the commands that it shows.
    """
    blocks = (
        _head(draft, path),
        _sources(draft),
        _fetch(draft),
        _embed(draft),
        _dedup(draft),
        _select(draft),
        _cluster(draft),
        _retrieve(draft),
        _assemble(draft),
    )
    texts = ("\n".join(lines) for lines in map(list, blocks) if lines)
    return "\n\n".join(texts) + "\n"


def flow(value: Any) -> str:
    """Return a value as YAML in one line."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{flow(key)}: {flow(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, str) and not (_PLAIN.fullmatch(value) and yaml.safe_load(value) == value):
        # In double quotes, line ends and all else that acts are escaped.
        return yaml.safe_dump(value, default_style='"', width=math.inf).strip()
    return yaml.safe_dump(value).strip().removesuffix("...").strip()


def _head(draft: Draft, path: str) -> Iterator[str]:
    yield "# A first recipe, written by `curation init` from what the files hold. Change what you like."
    quoted = one_line(shlex.quote(path))
    yield f"#   curation check {quoted}"
    yield "#       says what the data and this machine make of it, before any work"
    yield f"#   curation run {quoted} --store {draft.store}"
    yield "#       makes the dataset and a report"
    yield ""
    yield f"name: {flow(draft.name)}"
    yield ""
    yield "# All random choices follow from this number: the same input gives the same dataset."
    yield "seed: 0"


def _sources(draft: Draft) -> Iterator[str]:
    yield "# What goes in."
    yield "sources:"
    for survey in draft.surveys:
        for note in (_counts(survey), *draft.notes.get(survey.source.name, ())):
            yield f"  # {one_line(note)}"
        for number, row in enumerate(_good_rows(survey), 1):
            yield f"  #   row {number}: {_shown_row(row)}"
        fields = survey.source.model_dump(exclude_defaults=True)
        fields = {n: fields[n] for n in ("name", "role", "format", "path") if n in fields} | fields
        words = _WORDS | {"role": _ROLES[survey.source.role]}
        for number, (name, value) in enumerate(fields.items()):
            dash = "  - " if not number else "    "
            comment = f"  # {words[name]}" if name in words else ""
            yield f"{dash}{name}: {flow(value)}{comment}"


def _counts(survey: Survey) -> str:
    about = "" if survey.is_exact else "about "
    kinds = {"caption": "with a caption", "url": "with a URL", "key": "with a key"}
    counts = [f"{survey.count(n):,} {words}" for n, words in kinds.items() if survey.count(n)]
    counts += [f"{len(survey.bad):,} that cannot be read"] if survey.bad else []
    listed = f"; of {len(survey.read):,} rows read {', '.join(counts)}" if counts else ""
    return f"{about}{survey.rows:,} rows, {decimal(survey.size)}{listed}"


def _good_rows(survey: Survey) -> list[SourceRow]:
    return [row for _, row in survey.read if not row.bad][:SHOWN_ROWS]


def _shown_row(row: SourceRow) -> str:
    values = {name: getattr(row, name) for name in ("key", "url", "path", "caption")}
    distinct = {n: v for n, v in values.items() if v and not (n == "path" and v == row.key)}
    return ", ".join(f"{name} {_short(value)}" for name, value in distinct.items()) or "a picture"


def _short(value: str) -> str:
    text = one_line(shown(value))
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _fetch(draft: Draft) -> Iterator[str]:
    if not draft.has_remote_images:
        return
    yield "# Pictures are downloaded. Hosts see this address; robots.txt and opt-outs are followed."
    yield "fetch:"
    yield f"  contact: {flow(draft.contact)}"


def _embed(draft: Draft) -> Iterator[str]:
    yield "# Each picture becomes two vectors: `semantic` tells what it shows, `copy` finds its copies."
    if draft.encoder != BETTER:
        yield "# Both encoders come with the package, for a first run. If you name a better one, the"
        yield "# run downloads it:"
        yield f"#     semantic: {{model: {BETTER}}}"
    yield "embed:"
    yield "  encoders:"
    yield f"    semantic: {{model: {draft.encoder}}}"
    yield "    copy: {model: copy_micro}"


def _dedup(draft: Draft) -> Iterator[str]:
    yield "# One picture of each group of copies stays. Copies have the same bytes or pixels. Other"
    yield "# copies have similar hashes, or copy vectors at least this similar, and pixels that agree."
    yield "# The number fits copy_micro alone; `curation audit dedup` suggests one for another encoder."
    yield "dedup:"
    yield "  near: {encoder: copy, at_least: 0.75}"
    if draft.of_role("held_out"):
        yield "  held_out: {at_least: 0.75}  # pictures this similar to a held-out one are removed too"


def _select(draft: Draft) -> Iterator[str]:
    yield "# Which pictures of the pool may stay. If you move a bound, nothing is measured again."
    yield "select:"
    for score, threshold in CANDIDATES.items():
        if score.startswith("caption") and not draft.has_captions:
            continue
        bounds = _bounds(threshold)
        passing, stored = draft.trial.passing(score, threshold), draft.trial.stored
        if not stored or passing is None:
            # The pictures are on the web, so nothing is known of them yet.
            yield f"  {score}: {bounds}"
            continue
        dropped = stored - passing
        off = "" if 0 < dropped <= MOST_DROPPED * stored else "# "
        yield f"  {off}{score}: {bounds}  # drops {dropped:,} of {stored:,} sampled pictures"


def _bounds(threshold: Threshold) -> str:
    values = threshold.model_dump(exclude_defaults=True)
    return f"{{{', '.join(f'{name}: {value:g}' for name, value in values.items())}}}"


def _cluster(draft: Draft) -> Iterator[str]:
    yield "# The pictures that are left are grouped by what they show. `levels` is the number of"
    yield "# groups; a group should have 20 pictures or more on average."
    yield "cluster:"
    yield "  encoder: semantic"
    yield f"  levels: [{draft.clusters}]"


def _retrieve(draft: Draft) -> Iterator[str]:
    seeds = draft.of_role("seed")
    if not seeds:
        yield "# What the dataset takes of these pictures: everything. If you have examples (a source"
        yield "# with `role: seed`), take what is similar to them instead:"
        yield "#     - {name: near, seeds: NAME, strategy: sample, k: 4}"
        yield "retrieve:"
        yield "  - {name: everything, strategy: everything}"
        return
    yield "# What the dataset takes: the seeds themselves, and the k most similar pictures of each."
    yield "retrieve:"
    taken = [survey.source.name for survey in seeds]
    for survey in seeds:
        name = survey.source.name
        near = unique_name(f"{name}-near", taken)
        taken.append(near)
        yield f"  - {flow({'name': name, 'seeds': name, 'strategy': 'as_is'})}"
        arm = {"name": near, "seeds": name, "strategy": "sample", "k": draft.k(survey)}
        yield f"  - {flow(arm)}"


def _assemble(draft: Draft) -> Iterator[str]:
    yield "# The dataset: Parquet files in a random order that follows from the seed, fit for training."
    yield "# It holds the pixels of pictures without a URL. `pixels: true` adds those of all others;"
    yield "# `false` leaves all out."
    yield "assemble:"
    yield "  bytes_per_file: 268435456  # 256 MiB"
