"""Scans run in this process by a function that stands in the network's place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest

from cardiometa.errors import ImageError
from cardiometa.pipeline.engine import EngineSetup
from cardiometa.pipeline.process_scan import (
    Network,
    ScanJob,
    failure_of,
    read,
    segment_and_measure,
    write_failure,
    write_finished,
)
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
        model, out = self._setup.model, self._setup.out
        network = Network(open=lambda: cast("Any", None), card=model.card, sha256=model.sha256)
        results = []
        for job in jobs:
            try:
                cine, seconds = read(job)
                done = segment_and_measure(job, cine, network)
                result = write_finished(out, done, seconds)
            except ImageError as error:
                result = write_failure(out, failure_of(job, error))
            results.append(slim(result))
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
