"""Where a scan's labels lie, what grid they must fit, and why they cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...evaluation.overlap import LabelOrder, Phase
from ...records import ScanKey
from ..label_file import ScanGrid

Kind = Literal["nifti", "dicom-seg", "contours"]


class UnusableError(Exception):
    """Labels of one scan that cannot be used; the other scans go on. Never leaves this folder."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFile:
    """One file (or folder or zip of contours) with a reader's labels.

    ``frame``: the frame of the scan, from 0, where the table says it; contours tell their own.
    """

    kind: Kind
    path: Path
    phase: Phase = "other"
    frame: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanTarget:
    """The scan that labels must fit.

    ``grid`` of the model's mask; ``even`` False where the gaps between slices are irregular, so
    that the affine does not tell a slice's place; ``series_regex`` the one of the run;
    ``segmented_frames`` the source's frames that the mask holds, where it has ED and ES alone.
    """

    key: ScanKey
    grid: ScanGrid
    even: bool = True
    order: LabelOrder = "cardiometa"
    series_regex: str | None = None
    segmented_frames: tuple[int, ...] | None = None
