"""Overlap of two masks: Dice, Hausdorff 95 and mean surface distance, in three dimensions.

The surface of a mask are its voxels with a face on the outside (also across slices and at the edge
of the image); distances are between voxel centres in mm, slice distance included. With slices 8 to
10 mm apart a structure that is one slice longer in one mask is one slice distance away there.

Choices that differ between programs (Maier-Hein 2024, Metrics Reloaded): Hausdorff 95 is the
larger of the two directed 95th percentiles, the mean distance pools both surfaces.

What a reader drew on one scan, on the model's own grid, and how the labels are numbered.

One scan compared: the overlap of each structure in each phase, and the volumes drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from ..measurement.volumes import ejection_fraction_percent, mass_g
from ..records import LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY

BOTH_EMPTY = "absent-in-both"
ONE_EMPTY = "absent-in-one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Overlap of one structure; None where it cannot be given, ``note`` says why.

    In neither mask: no value at all. In one alone: Dice 0 and no distance.
    """

    dice: float | None
    hd95_mm: float | None
    assd_mm: float | None
    voxels_model: int
    voxels_reference: int
    note: str = ""


def dice(a: np.ndarray, b: np.ndarray) -> float | None:
    """Dice of two boolean masks of one shape; None where both are empty."""
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / total if total else None


def overlap(
    model: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, float, float]
) -> Overlap:
    """Overlap of two boolean masks ``[z, y, x]``; ``spacing_mm`` (slices, rows, columns)."""
    if model.shape != reference.shape or model.ndim != 3:
        raise ValueError(f"masks {model.shape} and {reference.shape} do not fit together")
    ours, theirs = int(np.count_nonzero(model)), int(np.count_nonzero(reference))
    if not ours or not theirs:
        note = BOTH_EMPTY if ours == theirs else ONE_EMPTY
        return Overlap(
            dice=dice(model, reference),
            hd95_mm=None,
            assd_mm=None,
            voxels_model=ours,
            voxels_reference=theirs,
            note=note,
        )
    to_reference, to_model = surface_distances(model, reference, spacing_mm)
    return Overlap(
        dice=dice(model, reference),
        hd95_mm=float(max(np.percentile(to_reference, 95), np.percentile(to_model, 95))),
        assd_mm=float((to_reference.sum() + to_model.sum()) / (to_reference.size + to_model.size)),
        voxels_model=ours,
        voxels_reference=theirs,
    )


def surface(mask: np.ndarray) -> np.ndarray:
    """The voxels of a mask ``[z, y, x]`` with at least one of six faces on the outside."""
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for axis in range(3):
        inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
    result: np.ndarray = mask & ~inner[1:-1, 1:-1, 1:-1]
    return result


def surface_distances(
    model: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Distances in mm from each surface voxel of either mask to the other's surface.

    Both masks hold something. Model to reference first.
    """
    from scipy.ndimage import distance_transform_edt

    box = _box(model | reference)
    one, other = surface(model[box]), surface(reference[box])
    to_other = distance_transform_edt(~other, sampling=spacing_mm)
    to_one = distance_transform_edt(~one, sampling=spacing_mm)
    return np.asarray(to_other[one]), np.asarray(to_one[other])


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around a mask; what lies outside it cannot change a distance."""
    box = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)


Phase = Literal["ED", "ES", "other"]
LabelOrder = Literal["cardiometa", "acdc"]

STRUCTURES: Final[Mapping[str, int]] = {
    "lv_cavity": LV_CAVITY,
    "lv_myocardium": LV_MYOCARDIUM,
    "rv_cavity": RV_CAVITY,
}
# The label of each order in ours: ACDC numbers 1 RV, 2 myocardium, 3 LV.
ORDERS: Final[Mapping[str, tuple[int, int, int, int]]] = {
    "cardiometa": (0, LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY),
    "acdc": (0, RV_CAVITY, LV_MYOCARDIUM, LV_CAVITY),
}

WHOLE: Final = "whole-stack"
CONTOURED: Final = "contoured-slices"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualPhase:
    """A reader's masks of one phase, on the grid of the model's mask.

    ``masks`` boolean ``[z, y, x]`` by structure, only of structures that were drawn; ``slices``
    by structure: the slices in which it was looked for, None for all; ``volumes_ml`` of the drawn
    polygons where the masks come from polygons. ``frame`` is an index into the model's mask, None
    where the labels do not say (the model's own phase is then compared).
    """

    phase: Phase
    frame: int | None
    masks: Mapping[str, np.ndarray]
    slices: Mapping[str, np.ndarray] = field(default_factory=dict)
    volumes_ml: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualScan:
    """All phases that a reader drew of one scan; ``sha256`` of each file, in order."""

    phases: tuple[ManualPhase, ...]
    scope: str = WHOLE
    sha256: tuple[str, ...] = ()
    kind: str = "nifti"
    notes: tuple[str, ...] = ()


def masks_of(labels: np.ndarray, order: LabelOrder) -> dict[str, np.ndarray]:
    """Boolean masks of whole labels ``[z, y, x]`` numbered in ``order``, in our structures."""
    ours = np.array(ORDERS[order], dtype=np.uint8)[labels]
    return {name: ours == label for name, label in STRUCTURES.items()}


def enclosure(labels: np.ndarray, cavity: int) -> float | None:
    """Share of a cavity's in-plane border that touches myocardium (label 2); None without any.

    The LV cavity lies inside the myocardium, the RV beside it, so that this tells which is which.
    """
    inside = labels == cavity
    padded = np.pad(labels, ((0, 0), (1, 1), (1, 1)))
    wall = border = 0
    for axis in (1, 2):
        for step in (1, -1):
            near = np.roll(padded, step, axis)[:, 1:-1, 1:-1]
            wall += int(np.count_nonzero(inside & (near == LV_MYOCARDIUM)))
            border += int(np.count_nonzero(inside & (near != cavity)))
    return wall / border if border else None


def likely_order(labels: np.ndarray) -> LabelOrder | None:
    """The order that fits the shape of labels ``[z, y, x]``; None where both cavities are alike."""
    one, three = enclosure(labels, 1), enclosure(labels, 3)
    if one is None or three is None or abs(one - three) < 0.2:
        return None
    return "cardiometa" if one > three else "acdc"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScan:
    """The model's masks ``[t, z, y, x]`` of one scan and what its record says.

    ``spacing_mm`` (between rows, between columns); ``measures`` by the contract's names;
    ``rv_at_lv_phases`` holds the RV's volumes at the LV's ED and ES, where the RV has its own.
    """

    labels: np.ndarray
    spacing_mm: tuple[float, float]
    slice_distance_mm: float
    ed_frame: int
    es_frame: int
    measures: Mapping[str, float | None]
    rv_at_lv_phases: Mapping[str, float | None]
    even_slices: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOverlap:
    """The overlap of one structure in one phase of a scan."""

    phase: str
    frame: int
    frame_source: str
    structure: str
    scope: str
    slices: int
    dice: float | None
    hd95_mm: float | None
    assd_mm: float | None
    voxels_model: int
    voxels_reference: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanPair:
    """One measure of a scan, by the model and by the reference."""

    measure: str
    scope: str
    model: float
    reference: float


def frame_of(phase: ManualPhase, scan: ModelScan) -> tuple[int, str]:
    """The frame of the model's mask to compare, and who said so."""
    if phase.frame is not None:
        return phase.frame, "reference"
    return (scan.ed_frame if phase.phase == "ED" else scan.es_frame), "model"


def overlaps(scan: ModelScan, manual: ManualScan) -> Iterator[ScanOverlap]:
    """The overlap of every structure that was drawn, phase by phase."""
    spacing = (scan.slice_distance_mm, *scan.spacing_mm)
    for phase in manual.phases:
        frame, source = frame_of(phase, scan)
        for name, whole in phase.masks.items():
            drawn, ours = whole, scan.labels[frame] == STRUCTURES[name]
            looked = phase.slices.get(name)
            count = len(ours)
            if looked is not None:
                keep = np.zeros(len(ours), dtype=bool)
                keep[looked] = True
                ours = ours & keep[:, None, None]
                drawn = drawn & keep[:, None, None]
                count = int(keep.sum())
            found = overlap(ours, drawn, spacing)
            yield ScanOverlap(
                phase=phase.phase,
                frame=frame,
                frame_source=source,
                structure=name,
                scope=manual.scope,
                slices=count,
                dice=found.dice,
                hd95_mm=found.hd95_mm,
                assd_mm=found.assd_mm,
                voxels_model=found.voxels_model,
                voxels_reference=found.voxels_reference,
                note=found.note,
            )


# ------------------------------------------------------------------ measures


def pairs(scan: ModelScan, manual: ManualScan) -> list[ScanPair]:
    """The measures that both give.

    Whole stacks: the model's own measures (its own ED and ES) against those of the reader's masks.
    The RV is taken at the LV's phases where the reader drew those alone. Contoured slices: both
    on these slices and at the reader's frames.
    """
    phases = {p.phase: p for p in manual.phases if p.phase != "other"}
    ours: dict[str, float | None]
    if manual.scope == CONTOURED:
        ours = dict(_values({n: _contoured(p, scan) for n, p in phases.items()}))
        theirs = _values({name: dict(p.volumes_ml) for name, p in phases.items()})
    else:
        if not scan.even_slices:
            return []
        theirs = _values({name: _drawn_ml(p, scan) for name, p in phases.items()})
        ours = {**scan.measures, **_rv(scan)}
    return [
        ScanPair(measure=name, scope=manual.scope, model=float(mine), reference=value)
        for name, value in theirs.items()
        if (mine := ours.get(name)) is not None and np.isfinite(mine)
    ]


def _rv(scan: ModelScan) -> dict[str, float | None]:
    """The model's RV at the LV's phases; its stroke volume too."""
    found: dict[str, float | None] = dict(scan.rv_at_lv_phases)
    if not found:
        return {}
    edv, esv = found.get("rv_edv_ml"), found.get("rv_esv_ml")
    found["rv_sv_ml"] = None if edv is None or esv is None else edv - esv
    # A measure that the checks rejected must not come back from the details.
    return {n: v for n, v in found.items() if scan.measures.get(n) is not None}


def _voxel_ml(scan: ModelScan) -> float:
    return scan.spacing_mm[0] * scan.spacing_mm[1] * scan.slice_distance_mm / 1000


def _drawn_ml(phase: ManualPhase, scan: ModelScan) -> dict[str, float]:
    return {n: float(np.count_nonzero(m)) * _voxel_ml(scan) for n, m in phase.masks.items()}


def _contoured(phase: ManualPhase, scan: ModelScan) -> dict[str, float]:
    """The model's volumes in the slices that the reader drew, at the reader's frame."""
    frame, _ = frame_of(phase, scan)
    volumes = {}
    for name in phase.masks:
        looked = phase.slices.get(name)
        labels = scan.labels[frame] if looked is None else scan.labels[frame][looked]
        volumes[name] = float(np.count_nonzero(labels == STRUCTURES[name])) * _voxel_ml(scan)
    return volumes


def _values(volumes: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Measures from the volumes in mL of each structure at ED and ES."""
    ed, es = volumes.get("ED", {}), volumes.get("ES", {})
    values: dict[str, Any] = {}
    for chamber, structure in (("lv", "lv_cavity"), ("rv", "rv_cavity")):
        edv, esv = ed.get(structure), es.get(structure)
        if edv is not None and edv <= 0:
            continue  # not drawn at ED at all: nothing to compare
        values[f"{chamber}_edv_ml"], values[f"{chamber}_esv_ml"] = edv, esv
        if edv is not None and esv is not None:
            values[f"{chamber}_sv_ml"] = edv - esv
            values[f"{chamber}_ef_percent"] = ejection_fraction_percent(edv, esv)
    if ed.get("lv_myocardium") is not None:
        values["lv_mass_g"] = mass_g(ed["lv_myocardium"])
    return {name: float(value) for name, value in values.items() if value is not None}
