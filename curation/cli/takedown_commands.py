"""The command forget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table as Grid

from curation.cli.app import STORE_PANEL, AsJson, StorePath, app, err, out, print_facts
from curation.cli.existing_store import existing_store
from curation.cli.facts import files as facts
from curation.cli.gc_commands import seconds_of
from curation.errors import RecipeError
from curation.terminal import one_line

if TYPE_CHECKING:
    from curation.runner.gc.forget import Forgotten, Request
    from curation.runner.takedown.opted_out import OptedOut
    from curation.runner.takedown.prove import Proof
    from curation.store.store import Store

AFTER = "30d"
SHOWN_HOSTS = 10
Urls = Annotated[
    list[str] | None,
    typer.Option("--url", help="URL of a picture. It may be repeated."),
]
Hosts = Annotated[
    list[str] | None, typer.Option("--host", help="Host, with its subdomains. It may be repeated.")
]
Sums = Annotated[
    list[str] | None,
    typer.Option(
        "--sha256",
        help="SHA-256 of the file of a picture, as its host sends it. It may be repeated.",
    ),
]
ImageIds = Annotated[
    list[str] | None,
    typer.Option("--image-id", help="image_id of a picture in the tables. It may be repeated."),
]
Likes = Annotated[
    list[Path] | None,
    typer.Option(
        "--like",
        help="File of a picture. Stored pictures with a near perceptual hash are taken down, and its "
        "copies by the copy descriptors of the store. It may be repeated.",
    ),
]
Within = Annotated[
    int | None,
    typer.Option(
        "--within",
        min=0,
        max=128,
        help="With --like: number of bits, of 256, in which hashes may differ; 24 by default.",
    ),
]
Cosine = Annotated[
    float | None,
    typer.Option(
        "--cosine",
        min=-1,
        max=1,
        help="With --like: smallest cosine of the copy descriptors of copies; pixels are not compared. "
        "By default the recipes of the store decide (dedup.near, dedup.verify).",
    ),
]
HashOnly = Annotated[
    bool, typer.Option("--hash-only", help="With --like: compare perceptual hashes alone.")
]
Listed = Annotated[
    Path | None,
    typer.Option("--list", help="File with a URL, host, SHA-256 or image_id in each line."),
]
OptOuts = Annotated[
    bool,
    typer.Option(
        "--opt-outs",
        help="Take down stored pictures that their hosts no longer offer, by robots.txt or another "
        "opt-out, since at least --after.",
    ),
]
After = Annotated[
    str | None,
    typer.Option(
        "--after",
        help="With --opt-outs: smallest age of an opt-out, such as 30d, so that one broken robots.txt "
        "takes nothing down; 30d by default.",
    ),
]
By = Annotated[str, typer.Option("--by", help="Who requests it. It is kept in the record.")]
Reason = Annotated[
    str, typer.Option("--reason", help="Why it is requested. It is kept in the record.")
]
Prove = Annotated[
    bool,
    typer.Option(
        "--prove",
        help="Take nothing down, but search every value of every file of the store for what was taken "
        "down. The exit status is 1 if something is left.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Take nothing down; print which hosts and rows are named."),
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Stop if gc is at work, instead of waiting.")
]


@app.command(rich_help_panel=STORE_PANEL)
def forget(
    store: StorePath,
    url: Urls = None,
    host: Hosts = None,
    sha256: Sums = None,
    image_id: ImageIds = None,
    like: Likes = None,
    within: Within = None,
    cosine: Cosine = None,
    hash_only: HashOnly = False,
    listed: Listed = None,
    opt_outs: OptOuts = False,
    after: After = None,
    by: By = "",
    reason: Reason = "",
    proof: Prove = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Take pictures down: from now on no reader gets them, and no run fetches or keeps them.

    Run the recipes again, then gc, then this command with --prove.
    """
    from curation.runner.gc.forget import Request, check_options, read_list

    images = [*(sha256 or []), *(image_id or [])]
    request = Request(
        url or [], host or [], images, like or [], within, cosine, hash_only, by, reason
    )
    if proof:
        others = (listed, opt_outs, after, no_wait, dry_run)
        _prove(store, as_json, request != Request([], [], [], []) or any(others))
        return
    if listed is not None:
        request = read_list(listed, request)
    # Before the search for opt-outs: one that hits nothing today may hit something tomorrow.
    check_options(request)
    withheld = _withheld(store, opt_outs, after)
    if withheld is not None:
        urls, named = [*request.urls, *withheld.urls], [*request.images, *withheld.images]
        request = replace(request, urls=urls, images=named)
    taken = None if withheld is None else _opt_out_facts(withheld)
    if withheld is not None and request.is_empty:
        if as_json:
            print_facts(facts.Forgotten(opt_outs=taken))
        return
    _take_down(existing_store(store), request, taken, (dry_run, no_wait, as_json))


def _prove(store: str, as_json: bool, has_more: bool) -> None:
    from curation.runner.takedown.prove import prove

    if has_more:
        fix = "Leave out all else but --store and --json"
        raise RecipeError("--prove takes nothing down", fix=fix)
    _print_proof(prove(existing_store(store)), as_json)


def _take_down(
    store: Store,
    request: Request,
    taken: facts.OptOutsTakenDown | None,
    options: tuple[bool, bool, bool],
) -> None:
    """Take down what is named, and print what was found.

    Args:
        store: the store.
        request: what is named.
        taken: what opt-outs withhold, if they are asked for.
        options: `dry_run`, `no_wait` and `as_json`.
    """
    from curation.runner.gc.forget import forget, hosts_meant, would_forget
    from curation.store.step_log import Waiting

    dry_run, no_wait, as_json = options
    hosts = hosts_meant(store, request)
    _print_hosts(hosts)
    if dry_run:
        _print_dry_run(would_forget(store, request), hosts, taken, as_json)
        return
    done = forget(store, request, Waiting(wait=not no_wait, notify=err.print))
    if as_json:
        print_facts(_forgotten_facts(done, taken).model_copy(update={"hosts": dict(hosts)}))
    else:
        _print_forgotten(done)


def _print_hosts(hosts: Mapping[str, int]) -> None:
    """Say which hosts are meant: a name such as co.uk stands for those of many owners."""
    if hosts:
        first = ", ".join(f"{host} ({rows:,})" for host, rows in islice(hosts.items(), SHOWN_HOSTS))
        more = f" and {len(hosts) - SHOWN_HOSTS:,} more" if len(hosts) > SHOWN_HOSTS else ""
        err.print(
            f"{len(hosts):,} host{'s' if len(hosts) > 1 else ''} of this store, with "
            f"{sum(hosts.values()):,} rows of pairs: {first}{more}"
        )


def _print_dry_run(
    rows: dict[str, int],
    hosts: Mapping[str, int],
    taken: facts.OptOutsTakenDown | None,
    as_json: bool,
) -> None:
    if as_json:
        print_facts(facts.Forgotten(rows=rows, hosts=dict(hosts), opt_outs=taken))
        return
    _print_counts("rows that are named, by table", rows)
    out.print("Nothing was taken down. Rows of other tables with these pictures would go too.")


def _withheld(store: str, opt_outs: bool, after: str | None) -> OptedOut | None:
    """Return the stored pictures that an opt-out withholds; None if they are not asked for."""
    from curation.runner.takedown.opted_out import opted_out

    if not opt_outs:
        if after is not None:
            raise RecipeError(
                "--after is the smallest age of an opt-out, and has no effect without --opt-outs",
                fix="Give --opt-outs, or leave --after out: all else is taken down at once",
            )
        return None
    age = after or AFTER
    since = datetime.now(UTC) - timedelta(seconds=seconds_of(age, "--after"))
    withheld = opted_out(existing_store(store), since.isoformat(timespec="seconds"))
    _print_opt_outs(withheld, age)
    return withheld


def _print_opt_outs(withheld: OptedOut, after: str) -> None:
    err.print(f"{withheld.pictures:,} stored pictures have been withheld by opt-outs for {after}.")
    if withheld.waiting:
        err.print(f"{withheld.waiting:,} more are withheld, but not for so long. They stay.")
    for recipe, pictures in withheld.in_use.items():
        err.print(
            f"{pictures:,} more stay because the latest run of recipe {one_line(recipe)} has them. Run "
            "it with --from fetch --force to ask the hosts, or give it up (curation gc --drop)."
        )


def _opt_out_facts(withheld: OptedOut) -> facts.OptOutsTakenDown:
    return facts.OptOutsTakenDown(
        pictures=withheld.pictures, waiting=withheld.waiting, in_use=dict(withheld.in_use)
    )


def _forgotten_facts(done: Forgotten, taken: facts.OptOutsTakenDown | None) -> facts.Forgotten:
    return facts.Forgotten(
        tombstone=done.tombstone.name,
        rows=dict(done.hits.rows),
        files=len(done.hits.files),
        reports_deleted=done.reports,
        folders_closed=list(done.closed),
        stages_at_work=list(done.hits.working),
        copies=[
            facts.CopiesTakenDown(
                encoder=each.encoder,
                images=len(each.images),
                compared=each.compared,
                others=each.others,
                at_least=each.descriptor.at_least,
            )
            for each in done.copies
        ],
        opt_outs=taken,
    )


def _print_forgotten(done: Forgotten) -> None:
    out.print(f"tombstone  {done.tombstone.name}")
    _print_counts("rows of all takedowns that gc has not removed, by table", done.hits.rows)
    for each in done.copies:
        out.print(
            f"{len(each.images):,} stored copies by encoder {one_line(each.encoder)}, "
            f"{each.compared:,} pictures compared pixel by pixel. Later pictures are left out from a "
            f"cosine of {each.descriptor.at_least:.4f} on, which none of {each.others:,} other rows "
            "reaches."
        )
    if done.tombstone.likes and not done.copies:
        out.print("Compared by perceptual hashes alone: edited copies were not looked for.")
    out.print(f"{done.reports} reports deleted, {len(done.closed)} Iceberg folders closed.")
    if done.hits.working:
        out.print(
            f"Runs work on {', '.join(done.hits.working)}: run gc once they have ended. "
            "It searches again."
        )
    out.print("Next: run the recipes again, then curation gc, then curation forget --prove.")


def _print_proof(proof: Proof, as_json: bool) -> None:
    if as_json:
        print_facts(facts.Proof.model_validate({"holds": proof.holds, **asdict(proof)}))
    else:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(proof.files.items()))
        out.print(f"decoded  {kinds} files, {proof.rows:,} rows")
        _print_counts("keyed hashes in the tombstones", proof.hashes)
        for path in proof.unreadable:
            out.print(f"cannot be decoded  {path}")
        for path, count in sorted(proof.left.items()):
            out.print(f"left  {path}  {count:,} rows")
        more = "Run the recipes until they finish, or give them up (gc --drop RECIPE), then gc."
        out.print("Nothing is left." if proof.holds else more)
    if not proof.holds:
        raise typer.Exit(1)


def _print_counts(title: str, counts: Any) -> None:
    grid = Grid(title, "number")
    grid.columns[1].justify = "right"
    for name, count in counts.items():
        grid.add_row(name, f"{count:,}")
    out.print(grid if counts else f"{title}: none")
