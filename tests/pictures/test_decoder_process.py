"""Whatever a decoder does, it costs its own picture; the next one is decoded."""

from __future__ import annotations

import os
import random
import signal
import struct
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from curation.errors import RecipeError, StoreError
from curation.media.pictures.decoder import MAX_BATCH, MAX_SENT, Decoder, Outcome
from curation.media.pictures.decoder_messages import Message
from curation.media.pictures.decoder_process import DecoderProcess
from curation.media.pictures.decoder_worker import Limits
from curation.media.web.fetch_error import FetchError
from tests.pictures import poison
from tests.pictures.asking import ask_decoder
from tests.pictures.poison import act

LIMITS = Limits(memory_bytes=2**28, processor_s=1, wall_s=3.0)
CONTENT = bytes(range(256)) * 5000


def reason(what: str, content: bytes = b"x", limits: Limits = LIMITS) -> str:
    """Why an act has no answer."""
    with pytest.raises(FetchError) as raised:
        ask_decoder(act, {"act": what}, content, limits)
    return raised.value.reason


def fine(limits: Limits = LIMITS) -> int:
    """Check that a picture is decoded, and return the number of the process."""
    answer = ask_decoder(act, {}, CONTENT, limits)
    assert answer.content == CONTENT
    number: int = answer.header["pid"]
    return number


@pytest.mark.parametrize(
    ("what", "expected", "survives"),
    [
        ("segfault", "decoder_died", False),
        ("abort", "decoder_died", False),
        ("kill", "decoder_died", False),
        ("exit", "decoder_died", False),
        ("close", "decoder_died", False),
        ("claim", "decoder_died", False),
        ("loop", "decoder_timeout", False),
        ("sleep", "decoder_timeout", False),
        ("memory", "decoder_memory", True),
        ("library memory", "decoder_died", False),
        ("error", "error_KeyError", True),
        ("recursion", "error_RecursionError", True),
        ("files", "error_FileNotFoundError", True),
    ],
)
def test_a_poisoned_picture_is_a_reason(what: str, expected: str, survives: bool) -> None:
    before = fine()
    started = time.monotonic()
    assert reason(what) == expected
    assert time.monotonic() - started < 20
    assert (fine() == before) == survives


def test_what_libraries_print_reaches_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    before = fine()
    assert ask_decoder(act, {"act": "noise"}, CONTENT, LIMITS).content == CONTENT
    assert fine() == before
    assert capfd.readouterr() == ("", "")


def test_an_error_of_the_recipe_is_raised_as_such() -> None:
    with pytest.raises(RecipeError, match="no network"):
        ask_decoder(act, {"act": "refuse"}, b"", LIMITS)


def test_the_limit_of_memory_is_that_of_one_picture_and_not_of_all() -> None:
    number = fine()
    for _ in range(5):
        assert reason("memory") == "decoder_memory"
        assert fine() == number
    # The file itself does not count.
    large = bytes(LIMITS.memory_bytes + 2**20)
    assert len(ask_decoder(act, {}, large, LIMITS).content) == len(large)
    assert fine() == number
    assert psutil.Process(number).memory_info().rss < 2 * LIMITS.memory_bytes


def test_the_limit_of_time_is_that_of_one_picture_and_not_of_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    number = fine()
    limits = LIMITS._replace(wall_s=30.0)
    assert reason("loop", limits=limits) == "decoder_timeout"
    # The kernel has ended it, long before the limit of the clock.
    assert f"has ended with status {-signal.SIGXCPU}" in caplog.text
    assert fine() == number


def test_a_process_that_somebody_killed_is_replaced_without_a_loss() -> None:
    number = fine()
    psutil.Process(number).kill()
    assert fine() != number


def test_a_picture_is_tried_again_if_the_system_has_killed_its_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number, send = fine(), DecoderProcess.send
    killed: list[int] = []

    def kill_first(self: DecoderProcess, *packed: Any) -> None:
        if not killed:
            killed.append(number)
            psutil.Process(number).kill()
        send(self, *packed)

    monkeypatch.setattr(DecoderProcess, "send", kill_first)
    assert fine() != number and killed


def test_each_thread_has_a_process_of_its_own() -> None:
    limits, numbers = LIMITS._replace(processor_s=2), []
    barrier = threading.Barrier(2)

    def decode() -> None:
        for _ in range(20):
            answer = ask_decoder(act, {}, CONTENT, limits)
            assert answer.content == CONTENT
            numbers.append(answer.header["pid"])
        barrier.wait(30)

    threads = [threading.Thread(target=decode) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(numbers) == 40 and 1 <= len(set(numbers)) <= 2


def test_the_process_has_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    limits = LIMITS._replace(processor_s=3)
    assert ask_decoder(act, {}, b"", limits).header["secret"] is None


def test_the_process_ends_with_the_one_that_asks(tmp_path: Path) -> None:
    number, ended = os.fork(), tmp_path / "number"
    if number == 0:
        answer = ask_decoder(act, {}, b"", LIMITS)
        ended.write_text(str(answer.header["pid"]))
        os._exit(0)
    os.waitpid(number, 0)
    decoder = int(ended.read_text())
    assert decoder != fine()
    with pytest.raises(psutil.NoSuchProcess):
        psutil.Process(decoder).wait(5)
        psutil.Process(decoder)


def test_a_process_that_does_not_start_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poison.act, "__qualname__", "missing")
    with pytest.raises(StoreError, match="does not start"):
        ask_decoder(act, {}, b"", LIMITS._replace(processor_s=4))


def test_an_answer_that_is_none_is_a_reason() -> None:
    # The last two claim more content than they may have, and none of it comes.
    for header, claimed in ((b"[]", 0), (b"1" * 5000, 0), (b"{}", 101), (b"{}", 2**32 - 1)):
        process = DecoderProcess(act, LIMITS)
        read, written = os.pipe()
        os.write(written, struct.pack("<II", len(header), claimed) + header)
        process._from = read
        os.set_blocking(read, False)
        with pytest.raises(FetchError, match="decoder_died"):
            process.receive(100)
        os.close(written)
        os.close(read)
        process.close()


@pytest.mark.parametrize(
    ("what", "expected"), [("drip", "decoder_timeout"), ("flood", "decoder_died")]
)
def test_an_answer_that_goes_on_and_on_is_a_reason(what: str, expected: str) -> None:
    limits, outcomes = LIMITS._replace(wall_s=1.0), list[Outcome]()
    with Decoder(act, limits) as decoder:
        decoder.ask(Message({"act": what}, CONTENT), outcomes.append)
        decoder.ask(Message({}, CONTENT), outcomes.append)
    first, second = outcomes
    assert isinstance(first, FetchError) and first.reason == expected
    assert isinstance(second, Message) and second.content == CONTENT


def test_a_process_that_takes_a_file_in_small_parts_is_a_reason() -> None:
    """The picture before has taken it over."""
    limits, outcomes = LIMITS._replace(wall_s=1.0), list[Outcome]()
    with Decoder(act, limits) as decoder:
        decoder.ask(Message({"act": "sip"}, b"x"), outcomes.append)
        decoder.wait()
        decoder.ask(Message({}, bytes(2**22)), outcomes.append)
    answered, sipped = outcomes
    assert isinstance(answered, Message)
    assert isinstance(sipped, FetchError) and sipped.reason == "decoder_timeout"


ACTS = {
    "segfault": "decoder_died",
    "kill": "decoder_died",
    "exit": "decoder_died",
    "memory": "decoder_memory",
    "error": "error_KeyError",
    "loop": "decoder_timeout",
}
KILLED_EVERY = MAX_BATCH + MAX_SENT + 1
SIZES = (0, 100, 7_000, 100_000, 600_000, 3_000_000)


NIGHTLY_SEEDS = [pytest.param(seed, marks=pytest.mark.nightly) for seed in range(2, 60)]


@pytest.mark.parametrize("seed", [0, 1, *NIGHTLY_SEEDS])
def test_each_of_many_pictures_on_their_way_gets_its_outcome(seed: int) -> None:
    """Pictures of all sizes, some of which do harm, and processes that somebody kills."""
    rng = random.Random(seed)
    acts = [rng.choice([*ACTS] if rng.random() < 0.08 else [""]) for _ in range(80)]
    contents = [rng.randbytes(rng.choice(SIZES[: 3 + seed % 4])) for _ in acts]
    outcomes: dict[int, list[Outcome]] = {number: [] for number in range(len(acts))}
    with Decoder(act, LIMITS) as decoder:
        for number, (what, content) in enumerate(zip(acts, contents, strict=True)):
            decoder.ask(Message({"act": what}, content), outcomes[number].append)
            process = decoder._process
            # Not twice while a picture is on its way: it is tried once more, and no more.
            if number % KILLED_EVERY == seed % KILLED_EVERY and process is not None:
                process._process.kill()
    for number, (what, content) in enumerate(zip(acts, contents, strict=True)):
        (outcome,) = outcomes[number]
        if isinstance(outcome, FetchError):
            assert outcome.reason == ACTS[what], number
        else:
            assert not what and outcome.content == content, number


def test_answers_larger_than_their_pictures_block_nobody() -> None:
    grown: list[int] = []
    limits = LIMITS._replace(memory_bytes=2**29)
    with Decoder(poison.grow, limits, most=10 * 2**23) as decoder:
        for size in (10, 2**22, 10, 2**17, 2**17, *[1000] * 100, 2**23, 5):
            request = Message({"size": 10 * size}, bytes(size))
            decoder.ask(request, lambda outcome: grown.append(len(outcome.content)))  # type: ignore[union-attr]
    assert grown == [10 * size for size in (10, 2**22, 10, 2**17, 2**17, *[1000] * 100, 2**23, 5)]


def test_few_pictures_wait_and_an_error_leaves_no_answer_behind() -> None:
    delivered: list[Outcome] = []
    with pytest.raises(KeyError), Decoder(act, LIMITS) as decoder:
        for _ in range(MAX_BATCH - 1):
            decoder.ask(Message({}, b"x"), delivered.append)
        assert not delivered
        raise KeyError
    assert not delivered
    assert fine() == fine()


def test_an_error_of_the_one_who_gets_an_outcome_is_raised() -> None:
    def full(_: Outcome) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"), Decoder(act, LIMITS) as decoder:
        decoder.ask(Message({}, CONTENT), full)
    assert fine()
