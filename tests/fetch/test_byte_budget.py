"""Bodies whose hosts hang give their bytes to those that wait for them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from PIL import Image

from curation.stages.fetch import byte_budget
from curation.stages.fetch.byte_budget import SMALL_BYTES, STALL_S, ByteBudget, Reservation
from curation.stages.fetch.client import Body, Client
from curation.stages.fetch.params import FetchParams
from tests.fetch.conftest import HOSTS, Web, answer
from tests.fetch.helpers import encoded
from tests.fetch.virtual_clock import run

NOISE = np.random.default_rng(0).integers(0, 255, (500, 500, 3), dtype=np.uint8)
LARGE = encoded(Image.fromarray(NOISE), "PNG")
LIMIT_S = 60.0


async def hang(budget: ByteBudget, size: int) -> None:
    """Take some bytes and never end."""
    async with asyncio.timeout(LIMIT_S) as deadline:
        reservation = Reservation(budget, deadline)
        try:
            await reservation.grow(size)
            await asyncio.Event().wait()
        finally:
            reservation.release()


async def come_and_go(budget: ByteBudget, size: int) -> None:
    """Bodies of one size, several in the time after which one has stalled."""
    async with asyncio.timeout(LIMIT_S) as deadline:
        while True:
            reservation = Reservation(budget, deadline)
            await reservation.grow(size)
            await asyncio.sleep(STALL_S / 7)
            reservation.release()


@pytest.mark.parametrize("others", [[], [SMALL_BYTES], [SMALL_BYTES + 1] * 3])
def test_a_body_that_hangs_ends_when_another_waits(others: list[int]) -> None:
    """Bodies that end meanwhile, with or without bytes of the budget, change nothing."""

    async def main() -> None:
        clock, budget = asyncio.get_running_loop(), ByteBudget(10 * SMALL_BYTES)
        hanging = asyncio.create_task(hang(budget, 7 * SMALL_BYTES))
        ending = [asyncio.create_task(come_and_go(budget, size)) for size in others]
        await asyncio.sleep(0)
        async with asyncio.timeout(LIMIT_S) as deadline:
            early, beyond, last = (Reservation(budget, deadline) for _ in range(3))
            await early.grow(3 * SMALL_BYTES)
            # One body may grow beyond the limit, and the last one waits.
            await beyond.grow(4 * SMALL_BYTES)
            beyond.complete()
            early.release()
            begun = clock.time()
            await last.grow(3 * SMALL_BYTES)
            assert clock.time() - begun <= STALL_S + 0.1
            assert not deadline.expired()
        with pytest.raises(TimeoutError):
            await hanging
        for task in ending:
            task.cancel()

    run(main())


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
            done, _ = await asyncio.wait(waiting, timeout=10 * STALL_S)
            assert not done and not deadline.expired()
            for reservation in arrived:
                reservation.release()
            await asyncio.gather(*waiting)
        assert budget._free == 10 * SMALL_BYTES and not budget._growing

    run(main())


def test_hosts_that_fill_memory_and_hang_do_not_hold_large_pictures(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures are asked for once memory is full, and all come while hosts still hang."""
    is_full = asyncio.Event()

    class Noted(ByteBudget):
        """Says when memory is full. From the first body that ends on, no other can stall."""

        async def acquire(
            self, size: int, deadline: asyncio.Timeout, body: Reservation | None = None
        ) -> float:
            waited = await super().acquire(size, deadline, body)
            if self._free < 0:
                is_full.set()
            return waited

        def release(self, size: int, body: Reservation | None = None) -> None:
            monkeypatch.setattr(byte_budget, "STALL_S", LIMIT_S)
            super().release(size, body)

    async def fill_and_hang(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"x" * 950_000, length=960_000))
        await asyncio.Event().wait()

    async def get_picture(client: Client) -> bytes:
        body = await client.get(web.url("/good"))
        assert isinstance(body, Body)
        body.release()
        return body.content

    async def main() -> None:
        params = FetchParams(allow_hosts=HOSTS, max_bytes=10**6, timeout_s=LIMIT_S)
        async with Client(params) as client:
            bad = [asyncio.create_task(client.get(web.url("/bad", HOSTS[1]))) for _ in range(3)]
            await is_full.wait()
            monkeypatch.setattr(byte_budget, "STALL_S", 0.05)
            good = [get_picture(client) for _ in range(12)]
            assert await asyncio.gather(*good) == [LARGE] * 12
            ended = [str(task.exception()) for task in bad if task.done()]
            assert ended and set(ended) == {"timeout"}
            for task in bad:
                task.cancel()
            await asyncio.wait(bad)

    assert SMALL_BYTES < len(LARGE) < 10**6
    # No body stalls before memory is full, however slow this machine is.
    monkeypatch.setattr(byte_budget, "STALL_S", LIMIT_S)
    monkeypatch.setattr("curation.stages.fetch.client.ByteBudget", Noted)
    monkeypatch.setattr("curation.stages.fetch.client._MAX_BODY_BYTES_IN_MEMORY", 1)
    web.pages |= {"/bad": fill_and_hang, "/good": answer(LARGE)}
    asyncio.run(asyncio.wait_for(main(), LIMIT_S / 2))
