"""A `Why` as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curation.terminal import number_beside, start_of

Part = Mapping[str, Any]
WIDTH = 10
MAX_TEXT = 160
FETCH_FACTS = ("final_url", "format", "bytes", "sha256", "rsl_license", "rights", "data_mining")


def lines_of(answer: Part) -> Iterator[str]:
    """Yield the lines that say what became of what was asked for.

    Args:
        answer: the fields of a `Why`.
    """
    what, place = _short(answer["what"]), f"recipe {answer['recipe']}, run {answer['run']}"
    if answer["kind"] is None:
        yield f"{what} is not in {place}."
        yield answer["note"]
        yield from (_nearest(row) for row in answer["nearest"])
        return
    found, shown = answer["found"], len(answer["rows"])
    more = f" The first {shown} are shown." if found > shown else ""
    yield f"{what} ({answer['kind']}): {found:,} row{'s' * (found != 1)} in {place}.{more}"
    if answer["note"]:
        yield answer["note"]
    for row in answer["rows"]:
        yield ""
        yield from _row(row)


def _row(row: Part) -> Iterator[str]:
    yield from _line("pair", f"{row['pair_id']}, image {row['image_id'] or 'none'}")
    yield from _line(
        "row", f"{row['role']} of source {row['source']}, key {row['source_key'] or 'none'}"
    )
    yield from _line("", row["url"] or row["location"] or "", row["caption"] or "no caption")
    yield from _ingest(row["ingest"])
    yield from _fetch(row["fetch"])
    for score in row["scores"]:
        # A row without an image has scores of its caption alone.
        if row["image_id"] is not None or score["value"] is not None:
            yield from _line("score", _score(score))
    for encoder, reason in row["vectors"].items():
        yield from _line("vector", f"{encoder}: {reason}")
    yield from _dedup(row["dedup"])
    yield from _decision("select", row["select"])
    if row["cluster"]:
        cluster = row["cluster"]
        size = (
            f"{cluster['rows']:,} rows, similarity to the centroid {_number(cluster['similarity'])}"
        )
        yield from _line("cluster", f"{cluster['cluster_id']}: {size}")
    yield from _arms(row)


def _ingest(part: Part) -> Iterator[str]:
    for place in part["listed"]:
        yield from _line("listed", f"row {place['row']:,} of {place['file'] or 'its source file'}")
    yield from _decision("ingest", part)
    if part["duplicate_of"]:
        yield from _line("", f"duplicate of pair {part['duplicate_of']}")
    yield from _since("listed", part["since"])


def _fetch(part: Part | None) -> Iterator[str]:
    if part is None:
        return
    yield from _decision("fetch", part)
    facts = [f"{name} {part[name]}" for name in FETCH_FACTS if part.get(name) is not None]
    if part.get("width"):
        facts.append(
            f"{part['original_width']} × {part['original_height']}, stored as {part['width']} × "
            f"{part['height']}"
        )
    if facts:
        yield from _line("", ", ".join(facts))
    if part.get("opt_out"):
        yield from _line("", f"opt-out: {part['opt_out']}")


def _score(score: Part) -> str:
    value, threshold = score["value"], score["threshold"]
    limits = [] if threshold is None else [threshold.get(n) for n in ("at_least", "at_most")]
    bounds = [limit for limit in limits if limit is not None]
    text = f"{score['name']} {_number(value, bounds)}"
    if threshold is None:
        return text
    if value is None:
        return (
            f"{text}: {'passes' if score['passes'] else 'fails'} (missing: {threshold['missing']})"
        )
    named = [
        f"{n.replace('_', ' ')} {threshold[n]}" for n in _BOUNDS if threshold.get(n) is not None
    ]
    return f"{text}: {'passes' if score['passes'] else 'fails'} {', '.join(named)}"


_BOUNDS = ("at_least", "at_most", "one_of")


def _dedup(part: Part | None) -> Iterator[str]:
    if part is None:
        return
    if part["rows"] == 1:
        yield from _line("copies", "none")
    else:
        images = f"{part['images']:,} image{'s' * (part['images'] != 1)}"
        yield from _line(
            "copies", f"{part['rows']:,} rows of {images}, component {part['component_id']}"
        )
        if part["stands_for"] == part["rows"]:
            yield from _line("", "this row stands for them")
        elif part["method"] == "representative":
            yield from _line("", f"this row stands for {part['stands_for']:,} of them")
        else:
            stands = f"{part['representative_pair_id']}, image {part['representative_id']}"
            yield from _line("", f"a copy ({part['method']}); pair {stands} stands for them")
        for edge in part["tied_by"]:
            yield from _line("tied by", _edge(edge))
    contaminated = part["contaminated"]
    if contaminated:
        yield from _line(
            "held out",
            f"copies image {contaminated['contaminated_by']} of {contaminated['contaminated_set']} "
            f"({contaminated['contamination_method']}, "
            f"{_number(contaminated['contamination_similarity'])})",
        )
    if part["copy_of_seed"]:
        yield from _line("", f"copies seed image {part['copy_of_seed']}")


def _edge(edge: Part) -> str:
    method = f"{edge['method']} " if edge["method"] else ""
    text = f"{edge['image_id']} – {edge['evidence_id']}, {method}{_number(edge['similarity'])}"
    pixels = edge["pixels"]
    return text if pixels is None else f"{text}; pixels agree {_number(pixels['agreement'])}"


def _arms(row: Part) -> Iterator[str]:
    for seed in row["seeds"]:
        yield from _line(
            "seed",
            f"{seed['seed_set']} {seed['seed_image_id']}: similarity "
            f"{_number(seed['similarity'])}, rank {seed['rank']}",
        )
    for arm in row["arms"]:
        if arm["left_out"]:
            yield from _line("arm", f"{arm['arm']} left it out: {arm['left_out']}")
        for claim in arm["claims"]:
            facts = ", ".join(f"{n.replace('_', ' ')} {_number(v)}" for n, v in claim.items())
            evidence = f": {facts}" if facts else ""
            yield from _line("arm", f"{arm['arm']} ({arm['strategy']}) claims it{evidence}")
    dataset = row["dataset"]
    if dataset is None:
        return
    if not dataset["is_in"]:
        yield from _line("dataset", "not in it")
        return
    as_row = "" if dataset["pair_id"] == row["pair_id"] else f" by pair {dataset['pair_id']}"
    yield from _line("dataset", f"in it{as_row}, weight {dataset['weight']}")
    yield from _since("", dataset["since"])


def _since(label: str, since: Part | None) -> Iterator[str]:
    if since is not None:
        yield from _line(label, f"since {since['started']} (version {since['version'][:12]})")


def _decision(label: str, part: Part | None) -> Iterator[str]:
    if part is not None and part.get("status") is not None:
        reason = f": {part['reason']}" if part.get("reason") else ""
        yield from _line(label, f"{part['status']}{reason}")


def _nearest(row: Part) -> str:
    arms = ", ".join(row["arms"]) or "no arm"
    place = row["url"] or row["location"] or ""
    return f"  {row['similarity']:.3f}  {row['image_id']}  {_short(place)}  ({arms})"


def _line(label: str, *texts: str) -> Iterator[str]:
    for number, text in enumerate(texts):
        if text:
            yield f"{label if number == 0 else '':<{WIDTH}}{_short(str(text))}"


def _number(value: Any, bounds: Sequence[float] = ()) -> str:
    if isinstance(value, float):
        return number_beside(value, bounds)
    return "none" if value is None else str(value)


def _short(text: str) -> str:
    return start_of(text, 4 * MAX_TEXT)
