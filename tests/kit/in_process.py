"""Scans run in this process by a function that stands in for the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest

from cardiometa.pipeline.jobs import EngineSetup, ScanJob
from cardiometa.pipeline.process_scan import Network, process
from cardiometa.pipeline.result_file import slim
from cardiometa.records import LabelStack, ScanResult

SegmentCine = Callable[..., LabelStack]


class InProcess:
    """An `Engine` without workers: one scan after the other, each committed as ever."""

    notes: Sequence[str] = ()

    def __init__(self, setup: EngineSetup, *_: object) -> None:
        self._setup = setup

    def warm(self) -> None:
        """Nothing takes a while."""

    def run(
        self, jobs: Sequence[ScanJob], on_result: Callable[[ScanResult], None]
    ) -> list[ScanResult]:
        """Every job's result."""
        network = Network(self._setup)
        network.predictor = cast("Any", None)
        results = []
        for job in jobs:
            results.append(slim(process(self._setup.out, job, network)))
            on_result(results[-1])
        return results

    def close(self) -> None:
        """Nothing was started."""


@contextmanager
def segmented_by(function: SegmentCine) -> Iterator[None]:
    """``segment`` takes its labels from ``function(cine, predictor, card, model_sha256)``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cardiometa.segmentation.segment.segment_cine", function)
        patch.setattr("cardiometa.pipeline.segment.engine_for", InProcess)
        yield
