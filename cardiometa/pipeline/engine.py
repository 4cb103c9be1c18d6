"""What runs scans: one machine's processes or a cluster's, behind one protocol."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..records import ScanResult
from .process_scan import ScanJob

if TYPE_CHECKING:
    from ..segmentation.model import Model


class Engine(Protocol):
    """Maps scans to results. Every engine runs the same function, so the files are the same."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences about the means, for the print-out."""
        ...

    def warm(self) -> None:
        """Begin what takes a while before the first scan, without waiting for it."""
        ...

    def run(
        self, jobs: Sequence[ScanJob], on_result: Callable[[ScanResult], None]
    ) -> list[ScanResult]:
        """Every job's result (`scan_record.slim`), in the order of completion.

        ``on_result`` is called as each is committed. Raises what would fail every scan alike.
        """
        ...

    def close(self) -> None:
        """End every process that was started."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSetup:
    """What an engine needs beside the scans: where to write, the model, the means.

    ``workers`` 0 is one a core; ``timeout_s`` 0 is none.
    """

    out: Path
    model: Model
    device: str = "auto"
    batch: int = 0
    workers: int = 0
    timeout_s: float = 600.0


def available_cores() -> int:
    """Cores this process may use; asked here without torch, which masks alone do not need."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def absolute(job: ScanJob) -> ScanJob:
    """The job with whole paths: another process may stand in another folder."""
    source = replace(job.source, paths=tuple(path.absolute() for path in job.source.paths))
    correction, stored = job.correction, job.stored
    if correction is not None:
        correction = replace(correction, path=correction.path.absolute())
    if stored is not None:
        stored = replace(
            stored,
            segmentation=stored.segmentation.absolute(),
            overlay=stored.overlay.absolute(),
        )
    return replace(job, source=source, correction=correction, stored=stored)
