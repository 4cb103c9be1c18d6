"""The process that works on scans: it is told a setup, then scans, and tells events back."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import struct
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import CardiometaError
from .process_scan import Network
from .scan_pipeline import Event, Pipeline

if TYPE_CHECKING:
    from ..segmentation.inference import TorchPredictor
    from ..segmentation.model import Model


_LENGTH = struct.Struct(">Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """How one process works.

    ``eager``: load the network before the first scan; else when a scan needs it, if one does.
    ``threads`` are batches side by side on a CPU; ``readers`` read ahead for an accelerator.
    """

    out: Path
    model: Model
    eager: bool
    device: str
    batch: int
    threads: int
    readers: int


class Channel:
    """Whole Python objects over a pair of byte streams between two processes of one run."""

    def __init__(self, source: BinaryIO, target: BinaryIO) -> None:
        self._source, self._target = source, target
        self._sending = threading.Lock()

    def send(self, value: Any) -> None:
        """Raises OSError where the other side is gone."""
        data = pickle.dumps(value)
        with self._sending:
            self._target.write(_LENGTH.pack(len(data)) + data)
            self._target.flush()

    def receive(self) -> Any:
        """The next object; EOFError where the other side is gone."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        return pickle.loads(self._exactly(length))  # noqa: S301 - a process this run started

    def _exactly(self, length: int) -> bytes:
        data = self._source.read(length)
        if data is None or len(data) < length:
            raise EOFError
        return data

    def close(self) -> None:
        """Close both streams."""
        for stream in (self._target, self._source):
            with contextlib.suppress(OSError, ValueError):
                stream.close()


def preload() -> None:
    """Import what every scan needs, so that forked processes share it."""


def preload_network() -> None:
    """Import torch too."""


def serve(channel: Channel) -> None:
    """Work until the other side goes; a run that is gone needs no more scans, so it just ends."""
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(EOFError, OSError):
        setup: WorkerSetup = channel.receive()
        pipeline = _ready(setup, channel)
        while pipeline is not None:
            ticket, job = channel.receive()
            pipeline.feed(ticket, job)


def _ready(setup: WorkerSetup, channel: Channel) -> Pipeline | None:
    def tell(event: Event) -> None:
        try:
            channel.send(event)
        except OSError:
            os._exit(0)  # nobody listens any more

    opened: list[TorchPredictor] = []

    def network() -> TorchPredictor:
        if not opened:
            opened.append(
                setup.model.predictor(device=setup.device, batch=setup.batch, workers=setup.threads)
            )
        return opened[0]

    try:
        device = network().device if setup.eager else "cpu"
    except CardiometaError as error:
        # What is wrong with device or weights is told before any scan.
        tell(Event(kind="fatal", error=error))
        return None
    readers = 1 if device == "cpu" else setup.readers
    pipeline = Pipeline(
        setup.out,
        Network(open=network, card=setup.model.card, sha256=setup.model.sha256),
        tell,
        readers=readers,
    )
    tell(Event(kind="ready", device=device))
    return pipeline


def main() -> None:
    """A process of its own, told through stdin and telling through stdout."""
    source, target = os.dup(0), os.dup(1)
    # What a library prints must not come between.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    serve(Channel(os.fdopen(source, "rb"), os.fdopen(target, "wb")))
    sys.stderr.flush()
    os._exit(0)
