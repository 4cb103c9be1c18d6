"""What is to be done with a scan, by what means, and the protocol of what runs it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..records import BodySize, ScanKey, ScanResult, ScanSource

if TYPE_CHECKING:
    from ..segmentation.model import Model

# Options of a scan that the network and its labels do not depend on.
POSTPROCESSING_OPTIONS = ("correction_sha256", "dicom_seg", "radiomics")


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What a reader made of a scan: a mask, or a decision with or without one.

    ``sha256`` is the hash of all that can change the result: the mask's file alone
    (``mask_sha256``) where there is no decision. ``decision`` is empty, ``accepted``, ``edited`` or
    ``rejected``; ``frames`` are those the reader chose (``ed_frame``, ``es_frame``), in the
    source's numbering; ``before`` the hash of the mask that was shown, empty where unknown.
    """

    key: ScanKey
    path: Path | None = None
    sha256: str
    mask_sha256: str = ""
    decision: str = ""
    reader: str = ""
    reason: str = ""
    before: str = ""
    frames: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanJob:
    """One scan to do: what it is, where its images are, the body size, the options that matter.

    ``stored``: OUT has the model's own result for these options, so the network need not run.
    ``source_stat``: the state of the images' files when the run was planned (`source_state`).
    """

    key: ScanKey
    source: ScanSource
    body: BodySize
    options: Mapping[str, Any]
    series_regex: str | None = None
    correction: Correction | None = None
    stored: bool = False
    source_stat: str = ""

    @property
    def model_options(self) -> dict[str, Any]:
        """The options of the record of the model's own result: all but the correction."""
        return {k: v for k, v in self.options.items() if k != "correction_sha256"}

    def with_absolute_paths(self) -> ScanJob:
        """The job for another process, whose working directory may differ."""
        paths = tuple(path.absolute() for path in self.source.paths)
        correction = self.correction
        if correction is not None and correction.path is not None:
            correction = replace(correction, path=correction.path.absolute())
        return replace(self, source=replace(self.source, paths=paths), correction=correction)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanFailure:
    """Why a scan could not be measured."""

    code: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSetup:
    """Where to write, the model, and by what means.

    ``workers`` 0 is one per core; ``timeout_s`` 0 is no limit.
    """

    out: Path
    model: Model
    device: str = "auto"
    batch: int = 0
    workers: int = 0
    timeout_s: float = 600.0


class Engine(Protocol):
    """Maps scans to results. Every engine runs the same functions, so the files are the same."""

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
        """Every job's result (`result_file.slim`), in the order of completion.

        ``on_result`` is called as each is committed. Raises what would fail every scan alike.
        """
        ...

    def close(self) -> None:
        """End every process that was started."""
        ...


def available_cores() -> int:
    """Cores this process may use; asked here without torch, which masks alone do not need."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
