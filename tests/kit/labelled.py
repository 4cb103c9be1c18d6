"""Labelled hearts for tests: discs and rings whose volumes are counted, and the experts' own."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache

import numpy as np

from cardiometa.records import CineSource, CineStack, Flag, LabelStack
from tests.kit.data import shared_data

# One beat of 20 frames as shares of the stroke volume still in the ventricle: ED 0, ES 8.
BEAT = np.array([1, 0.98, 0.9, 0.75, 0.55, 0.35, 0.18, 0.06, 0, 0.03,
                 0.12, 0.3, 0.5, 0.63, 0.7, 0.73, 0.75, 0.78, 0.86, 0.96])  # fmt: skip


def cine_of(
    labels: np.ndarray,
    *,
    spacing_mm: tuple[float, float] = (1.5, 1.5),
    slice_mm: float = 10.0,
    pair: bool = False,
    flags: tuple[Flag, ...] = (),
    **source,
) -> CineStack:
    """A cine of the labels' shape without a picture."""
    frames, slices = labels.shape[:2]
    return CineStack(
        pixels=np.zeros(labels.shape, dtype=np.float32),
        affine=np.eye(4),
        spacing_mm=spacing_mm,
        slice_weights_mm=np.full(slices, slice_mm),
        slice_distance_mm=slice_mm,
        frame_times_ms=np.full(frames, np.nan),
        frame_numbers=np.arange(frames),
        source=CineSource(
            format="nifti-ed-es" if pair else "nifti-4d",
            sha256="0" * 64,
            files=1,
            flags=flags,
            **source,
        ),
    )


def labelled(labels: np.ndarray, flags: tuple[Flag, ...] = ()) -> LabelStack:
    """The labels as a model would give them."""
    return LabelStack(
        labels=labels,
        confidence=np.full(labels.shape[:2], np.nan, dtype=np.float32),
        model_id="test",
        model_sha256="0" * 64,
        flags=flags,
    )


def disc_heart(
    filling: np.ndarray = BEAT, *, slices: int = 9, size: int = 96, contraction: float = 0.6
) -> np.ndarray:
    """Labels ``[t, z, y, x]`` of discs in rings with an RV crescent, base in slice 1.

    The first and last slice are empty. ``filling`` is the share of the stroke area still in the
    cavity; at 0 the cavity's area is ``1 - contraction`` of that at 1.
    """
    y, x = np.mgrid[:size, :size]
    lv_distance = np.hypot(y - size / 2, x - size / 2 - 8)
    rv_distance = np.hypot(y - size / 2, x - size / 2 + 12)
    labels = np.zeros((len(filling), slices, size, size), dtype=np.uint8)
    for t, share in enumerate(filling):
        area = 1 - contraction * (1 - share)
        for z in range(1, slices - 1):
            taper = 1 - 0.6 * (z - 1) / (slices - 3)
            inner = 18 * taper * np.sqrt(area)
            # The wall's area stays: myocardium is not compressible.
            outer = np.sqrt(inner**2 + (23**2 - 18**2) * taper)
            labels[t, z][rv_distance < 24 * taper * np.sqrt(area)] = 3
            labels[t, z][lv_distance < outer] = 2
            labels[t, z][lv_distance < inner] = 1
    return labels


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertPair:
    """One ACDC patient's expert labels (ours: 1 LV, 2 myocardium, 3 RV), ED then ES."""

    participant_id: str
    labels: np.ndarray
    spacing_mm: tuple[float, float]
    slice_mm: float
    reference: dict[str, str]


@cache
def _expert_pairs(folder) -> tuple[ExpertPair, ...]:
    import nibabel

    with (folder / "reference_volumes.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    ours = np.array([0, 3, 2, 1], dtype=np.uint8)  # theirs: 1 RV, 2 myocardium, 3 LV
    pairs = []
    for row in rows:
        name = row["participant_id"]
        images = [nibabel.load(folder / name / f"{name}_{p}_gt.nii.gz") for p in ("ED", "ES")]
        column_mm, row_mm, slice_mm = (float(v) for v in images[0].header.get_zooms()[:3])
        pairs.append(
            ExpertPair(
                participant_id=name,
                labels=np.stack([ours[np.asarray(i.dataobj).astype(int)].T for i in images]),
                spacing_mm=(row_mm, column_mm),
                slice_mm=slice_mm,
                reference=row,
            )
        )
    return tuple(pairs)


def expert_pairs() -> tuple[ExpertPair, ...]:
    """All ACDC patients' expert labels; skips where the folder of real hearts is absent."""
    return _expert_pairs(shared_data() / "acdc")
