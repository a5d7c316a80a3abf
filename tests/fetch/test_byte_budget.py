"""Bodies whose hosts hang give their bytes to those that wait for them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curation.stages.fetch import byte_budget
from curation.stages.fetch.byte_budget import SMALL_BYTES, ByteBudget, Reservation
from tests.fetch.conftest import HOSTS, Web, answer
from tests.fetch.helpers import encoded, fetched

NOISE = np.random.default_rng(0).integers(0, 255, (500, 500, 3), dtype=np.uint8)
LARGE = encoded(Image.fromarray(NOISE), "PNG")
LIMIT_S, REQUEST_S = 60.0, 15.0


@pytest.fixture
def short_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_budget, "STALL_S", 0.05)


@pytest.mark.usefixtures("short_stalls")
def test_a_body_that_hangs_ends_when_another_waits() -> None:
    async def bad(budget: ByteBudget, holds: asyncio.Event) -> None:
        async with asyncio.timeout(LIMIT_S) as deadline:
            reservation = Reservation(budget, deadline)
            try:
                await reservation.grow(11 * SMALL_BYTES)
                holds.set()
                await asyncio.Event().wait()
            finally:
                reservation.release()

    async def main() -> None:
        budget, holds = ByteBudget(10 * SMALL_BYTES), asyncio.Event()
        task = asyncio.create_task(bad(budget, holds))
        await holds.wait()
        async with asyncio.timeout(LIMIT_S) as deadline:
            # One body may grow beyond the limit, and the next one waits.
            first, second = Reservation(budget, deadline), Reservation(budget, deadline)
            await first.grow(2 * SMALL_BYTES)
            first.complete()
            await second.grow(3 * SMALL_BYTES)
            assert not deadline.expired()
        with pytest.raises(TimeoutError):
            await task

    asyncio.run(main())


@pytest.mark.usefixtures("short_stalls")
def test_bodies_that_have_arrived_or_wait_themselves_keep_their_bytes() -> None:
    async def body(budget: ByteBudget) -> None:
        async with asyncio.timeout(LIMIT_S) as deadline:
            reservation = Reservation(budget, deadline)
            await reservation.grow(2 * SMALL_BYTES)
            await reservation.grow(2 * SMALL_BYTES)
            reservation.release()

    async def main() -> None:
        budget = ByteBudget(10 * SMALL_BYTES)
        async with asyncio.timeout(LIMIT_S) as deadline:
            arrived = [Reservation(budget, deadline) for _ in range(3)]
            for reservation in arrived:
                await reservation.grow(5 * SMALL_BYTES)
                reservation.complete()
            waiting = [asyncio.create_task(body(budget)) for _ in range(4)]
            # Many times as long as a body may stall.
            done, _ = await asyncio.wait(waiting, timeout=0.5)
            assert not done and not deadline.expired()
            for reservation in arrived:
                reservation.release()
            await asyncio.gather(*waiting)
        assert budget._free == 10 * SMALL_BYTES and not budget._growing

    asyncio.run(main())


@pytest.mark.usefixtures("short_stalls")
def test_hosts_that_fill_memory_and_hang_do_not_hold_large_pictures(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures come once memory is full. Whoever hangs while nobody waits may hang on."""
    filled: list[str] = []
    asked: list[float] = []
    is_full = asyncio.Event()

    async def fill_and_hang(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(0)
        writer.write(answer(b"x" * 900_000, length=950_000))
        await writer.drain()
        filled.append("body")
        if len(filled) == 2:
            is_full.set()
        await asyncio.sleep(LIMIT_S)

    async def picture(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        asked.append(time.monotonic())
        await is_full.wait()
        writer.write(answer(LARGE))

    assert SMALL_BYTES < len(LARGE) < 950_000
    monkeypatch.setattr("curation.stages.fetch.client._MAX_BODY_BYTES_IN_MEMORY", 2_000_000)
    bad = [f"/bad/{n}" for n in range(3)]
    good = [f"/good/{n}" for n in range(12)]
    web.pages |= dict.fromkeys(bad, fill_and_hang) | dict.fromkeys(good, picture)
    bad_urls = [web.url(path, HOSTS[1]) for path in bad]
    good_urls = [web.url(path) for path in good]
    begun = time.monotonic()
    rows = fetched(
        tmp_path,
        [*bad_urls, *good_urls],
        timeout_s=REQUEST_S,
        max_bytes=10**6,
        retries=0,
        per_host={"concurrency": 8, "per_second": None},
    )
    # The last pictures are asked for when the first have come.
    assert len(asked) == len(good) and max(asked) - begun < REQUEST_S
    reasons = {row["url"]: row["reason"] for row in rows}
    assert {reasons[url] for url in good_urls} == {None}
    assert "timeout" in {reasons[url] for url in bad_urls} <= {"timeout", "host_unreachable"}
