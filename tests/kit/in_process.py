"""Scans run in this process by a function that stands in for the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from typing import Any, cast

import numpy as np
import pytest

from cardiometa.pipeline.jobs import EngineSetup, ScanJob
from cardiometa.pipeline.process_scan import Network, process
from cardiometa.pipeline.result_file import slim
from cardiometa.records import LabelStack, ScanResult
from cardiometa.reports.figures.overlay import gallery_picture, overlay_png

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


_gallery_picture = lru_cache(maxsize=256)(gallery_picture)
_overlays: dict[tuple[object, ...], bytes] = {}


def _overlay_png(pixels: np.ndarray, labels: np.ndarray, *more: Any) -> bytes:
    arrays = (pixels, labels)
    key = (*((a.shape, str(a.dtype), sha256(a.tobytes()).digest()) for a in arrays), *more)
    if key not in _overlays:
        _overlays[key] = overlay_png(pixels, labels, *more)
    return _overlays[key]


@contextmanager
def pictures_made_once() -> Iterator[None]:
    """The picture of a scan is a function of its arrays: the same hearts are drawn once only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cardiometa.pipeline.process_scan.overlay_png", _overlay_png)
        patch.setattr("cardiometa.reports.pages.segment.gallery_picture", _gallery_picture)
        yield


@contextmanager
def segmented_by(function: SegmentCine) -> Iterator[None]:
    """``segment`` takes its labels from ``function(cine, predictor, card, model_sha256)``."""
    with pytest.MonkeyPatch.context() as patch, pictures_made_once():
        patch.setattr("cardiometa.segmentation.segment.segment_cine", function)
        patch.setattr("cardiometa.pipeline.segment.engine_for", InProcess)
        yield
