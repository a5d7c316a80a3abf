"""Loads an ONNX graph and runs it once in a process with limits, before this process loads it.

A graph is not a program, but a few bytes of it may ask for any memory, as constants that expand do,
and a loop in it for any time. What a graph takes for few images it takes in proportion for more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from curation.errors import RecipeError
from curation.media.pictures.decoder_messages import Header, Message, packed
from curation.media.pictures.decoder_process import DecoderProcess
from curation.media.pictures.decoder_worker import Limits
from curation.media.web.fetch_error import FetchError

MEMORY_RATIO, MEMORY_MORE = 4, 2 * 2**30
"""A graph may take so many times the bytes of its files, and so many more."""
WALL_S = 600.0
"""Seconds within which it is loaded and has run."""
_PROCESSOR_S = 3600
_IMAGES = 2
_PROBLEM_CHARACTERS = 2000


def sides_of(shape: list[Any], input_size: int | None) -> set[int]:
    """Return the sides in pixels that a graph, by the shape of its input, and a recipe name."""
    return {each for each in (*shape[2:], input_size) if isinstance(each, int)}


def check_graph(path: Path, shown: str, size: int, input_size: int | None, threads: int) -> None:
    """Check that a graph can be loaded and run for few images within limits of memory and time.

    What else is wrong with it, loading it in this process shows.

    Args:
        path: of the graph.
        shown: of the original, for messages.
        size: bytes of its files.
        input_size: side in pixels that a recipe gives.
        threads: that it runs on.

    Raises:
        RecipeError: it cannot.
    """
    memory = MEMORY_RATIO * size + MEMORY_MORE
    asked = {"path": str(path), "input_size": input_size, "threads": threads}
    process = DecoderProcess(try_graph, Limits(memory, _PROCESSOR_S, WALL_S))
    try:
        process.send(packed(Message(asked, b"")), 1)
        problem = process.receive(0).header.get("problem")
    except FetchError as error:
        problem = _ENDED.get(error.reason, "it ends the process that loads it")
    finally:
        process.close()
    if problem is not None:
        raise RecipeError(
            f"The ONNX graph {shown!r} cannot be loaded and run for {_IMAGES} images within "
            f"{memory >> 20:,} MiB and {WALL_S:.0f} s: {problem}",
            fix="Export the model again, without loops and without constants that expand",
        )


_ENDED = {
    "decoder_memory": "it takes more memory",
    "decoder_timeout": "it takes more time",
}


def try_graph(header: Header, content: bytes) -> Message:
    """Load a graph, and run it for some images of zeros, in the process with limits.

    Returns:
        `problem`: why it takes too much memory, or None.
    """
    try:
        _run(header["path"], header["input_size"], header["threads"])
    except Exception as error:
        # The runtime raises errors of its own where it gets no memory.
        if isinstance(error, MemoryError) or "alloc" in str(error).lower():
            return Message({"problem": _ENDED["decoder_memory"]}, b"")
        return Message({"error": str(error)[:_PROBLEM_CHARACTERS]}, b"")
    return Message({}, b"")


def _run(path: str, input_size: int | None, threads: int) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.load_model_format", "ONNX")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    shape = list(inputs[0].shape)
    sides = sides_of(shape, input_size)
    if len(inputs) == 1 and len(shape) == 4 and len(sides) == 1:
        (side,) = sides
        images = shape[0] if isinstance(shape[0], int) else _IMAGES
        dtype = np.float16 if inputs[0].type == "tensor(float16)" else np.float32
        session.run(None, {inputs[0].name: np.zeros((images, 3, side, side), dtype)})
