"""Overlap of masks in three dimensions, and a scan's masks and volumes against a reader's.

The surface of a mask are its voxels with a face on the outside (also across slices and at the edge
of the image); distances are between voxel centres in mm, slice distance included. With slices 8 to
10 mm apart a structure that is one slice longer in one mask is one slice distance away there.

Choices that differ between programs (Maier-Hein 2024, Metrics Reloaded): Hausdorff 95 is the
larger of the two directed 95th percentiles, the mean distance pools both surfaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from ..measurement.volumes import basal_end, ejection_fraction_percent, mass_g, structure_areas
from ..measurement.wall_thickness import measure_wall
from ..records import LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY
from ..segmentation.cleaning import wider_end

BOTH_EMPTY = "absent-in-both"
ONE_EMPTY = "absent-in-one"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOverlap:
    """One row of ``overlap.csv`` but its scan: the overlap of a structure in a phase.

    In neither mask: no value at all. In one alone: Dice 0 and no distance; ``note`` says so.
    """

    phase: str = ""
    frame: int = 0
    frame_source: str = ""
    structure: str = ""
    scope: str = ""
    slices: int = 0
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
    model: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, float, float], **place: Any
) -> ScanOverlap:
    """Overlap of two boolean masks ``[z, y, x]``; ``spacing_mm`` (slices, rows, columns).

    ``place`` are the other fields of the row.
    """
    if model.shape != reference.shape or model.ndim != 3:
        raise ValueError(f"masks {model.shape} and {reference.shape} do not fit together")
    ours, theirs = int(np.count_nonzero(model)), int(np.count_nonzero(reference))
    if not ours or not theirs:
        hd95 = assd = None
        note = BOTH_EMPTY if ours == theirs else ONE_EMPTY
    else:
        to_reference, to_model = surface_distances(model, reference, spacing_mm)
        hd95 = float(max(np.percentile(to_reference, 95), np.percentile(to_model, 95)))
        assd = float((to_reference.sum() + to_model.sum()) / (to_reference.size + to_model.size))
        note = ""
    return ScanOverlap(
        dice=dice(model, reference),
        hd95_mm=hd95,
        assd_mm=assd,
        voxels_model=ours,
        voxels_reference=theirs,
        note=note,
        **place,
    )


def surface(mask: np.ndarray) -> np.ndarray:
    """The voxels of a mask ``[z, y, x]`` with at least one of six faces on the outside."""
    from scipy.ndimage import binary_erosion

    return np.asarray(mask & ~binary_erosion(mask))


def surface_distances(
    model: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Distances in mm from each surface voxel of either mask to the other's surface.

    Neither mask is empty. Model to reference first.
    """
    from scipy.ndimage import distance_transform_edt

    # The smallest box around both: what lies outside it cannot change a distance.
    found = np.nonzero(model | reference)
    box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in found)
    one, other = surface(model[box]), surface(reference[box])
    to_other = distance_transform_edt(~other, sampling=spacing_mm)
    to_one = distance_transform_edt(~one, sampling=spacing_mm)
    return np.asarray(to_other[one]), np.asarray(to_one[other])


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

WHOLE_STACK: Final = "whole-stack"
CONTOURED: Final = "contoured-slices"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualPhase:
    """A reader's masks of one phase, on the grid of the model's mask.

    ``masks`` boolean ``[z, y, x]`` by structure, only of structures that were drawn; ``slices``
    by structure: the slices in which it was sought (absent: all); ``volumes_ml`` of the drawn
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
    scope: str = WHOLE_STACK
    sha256: tuple[str, ...] = ()
    kind: str = "nifti"
    notes: tuple[str, ...] = ()


def masks_of(labels: np.ndarray, order: LabelOrder) -> dict[str, np.ndarray]:
    """Boolean masks by structure of labels ``[z, y, x]`` numbered in ``order``."""
    ours = np.array(ORDERS[order], dtype=np.uint8)[labels]
    return {name: ours == label for name, label in STRUCTURES.items()}


def enclosure(labels: np.ndarray, cavity: int) -> float | None:
    """Share of a cavity's in-plane border that touches myocardium (label 2); None without any.

    The LV cavity lies inside the myocardium and the RV next to it, so this distinguishes them.
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
    ``rv_at_lv_phases`` are the RV's volumes at the LV's ED and ES, where the RV has its own.
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
class ScanPair:
    """One measure of a scan, by the model (with its own SD, where it has one) and the reference."""

    measure: str
    scope: str
    model: float
    reference: float
    model_sd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceCounts:
    """Slices of a structure in a phase by either mask; of an end, those that one has alone."""

    phase: str
    structure: str
    end: Literal["base", "apex"]
    n_reference: int
    false_positive: int
    false_negative: int


def frame_of(phase: ManualPhase, scan: ModelScan) -> tuple[int, str]:
    """The frame of the model's mask to compare, and the source of that choice."""
    if phase.frame is not None:
        return phase.frame, "reference"
    return (scan.ed_frame if phase.phase == "ED" else scan.es_frame), "model"


def overlaps(scan: ModelScan, manual: ManualScan) -> Iterator[ScanOverlap]:
    """The overlap of every structure that was drawn, phase by phase."""
    spacing = (scan.slice_distance_mm, *scan.spacing_mm)
    for phase in manual.phases:
        frame, source = frame_of(phase, scan)
        for name, drawn in phase.masks.items():
            keep = np.zeros(len(drawn), dtype=bool)
            keep[phase.slices.get(name, slice(None))] = True
            ours = (scan.labels[frame] == STRUCTURES[name]) & keep[:, None, None]
            yield overlap(
                ours,
                drawn & keep[:, None, None],
                spacing,
                phase=phase.phase,
                frame=frame,
                frame_source=source,
                structure=name,
                scope=manual.scope,
                slices=int(keep.sum()),
            )


def slice_counts(scan: ModelScan, manual: ManualScan) -> Iterator[SliceCounts]:
    """Slices at base and apex in which only one of model and reader has a cavity.

    Of whole stacks, and of LV and RV cavity where both masks have them. The base is the end at
    which the reader's heart is wider (`wider_end`); a slice belongs to the nearer end of all
    slices that either has. Nothing where the base is not known.
    """
    if manual.scope != WHOLE_STACK:
        return
    for phase in manual.phases:
        if phase.phase == "other":
            continue
        labels = scan.labels[frame_of(phase, scan)[0]]
        filled = np.flatnonzero(np.any([m.any(axis=(1, 2)) for m in phase.masks.values()], axis=0))
        if len(filled) < 2:
            continue
        sizes = np.sum([np.count_nonzero(m, axis=(1, 2)) for m in phase.masks.values()], axis=0)
        base = wider_end(sizes[filled[0] : filled[-1] + 1])
        for name in ("lv_cavity", "rv_cavity"):
            ours = (labels == STRUCTURES[name]).any(axis=(1, 2))
            theirs = phase.masks[name].any(axis=(1, 2)) if name in phase.masks else ours & False
            if base is None or not (ours.any() and theirs.any()):
                continue
            either = np.flatnonzero(ours | theirs)
            first = np.arange(len(ours)) * 2 <= either[0] + either[-1]
            for end in ("base", "apex"):
                here = first if (end == "base") == (base == "first") else ~first
                yield SliceCounts(
                    phase=phase.phase,
                    structure=name,
                    end=end,
                    n_reference=int(np.count_nonzero(theirs)),
                    false_positive=int(np.count_nonzero(ours & ~theirs & here)),
                    false_negative=int(np.count_nonzero(theirs & ~ours & here)),
                )


# ------------------------------------------------------------------ measures


def pairs(scan: ModelScan, manual: ManualScan) -> list[ScanPair]:
    """The measures that both give.

    Whole stacks: the model's own measures (its own ED and ES) against those of the reader's masks.
    The RV is taken at the LV's phases where the reader drew those alone. Contoured slices: both
    on these slices and at the reader's frames.
    """
    phases = {p.phase: p for p in manual.phases if p.phase != "other"}
    voxel_ml = scan.spacing_mm[0] * scan.spacing_mm[1] * scan.slice_distance_mm / 1000

    def volumes(masks: Mapping[str, np.ndarray]) -> dict[str, float]:
        return {name: float(np.count_nonzero(mask)) * voxel_ml for name, mask in masks.items()}

    rv = dict(scan.rv_at_lv_phases)
    if rv:
        edv, esv = rv.get("rv_edv_ml"), rv.get("rv_esv_ml")
        rv["rv_sv_ml"] = None if edv is None or esv is None else edv - esv
    # A measure that the checks rejected must not come back from the details.
    rv = {name: value for name, value in rv.items() if scan.measures.get(name) is not None}
    ours: dict[str, float | None] = {**scan.measures, **rv}
    if manual.scope == CONTOURED:
        contoured: dict[str, dict[str, float]] = {}
        for name, phase in phases.items():
            labels = scan.labels[frame_of(phase, scan)[0]]
            drawn = {s: phase.slices.get(s, slice(None)) for s in phase.masks}
            contoured[name] = volumes({s: labels[at] == STRUCTURES[s] for s, at in drawn.items()})
        ours = {**_measures(contoured)}
        theirs = _measures({name: p.volumes_ml for name, p in phases.items()})
    elif scan.even_slices:
        theirs = _measures({name: volumes(p.masks) for name, p in phases.items()})
        theirs |= _wall(phases, scan.spacing_mm)
    else:
        return []
    return [
        ScanPair(measure=name, scope=manual.scope, model=float(mine), reference=value)
        for name, value in theirs.items()
        if (mine := ours.get(name)) is not None and np.isfinite(mine)
    ]


def _wall(phases: Mapping[Any, ManualPhase], spacing_mm: tuple[float, float]) -> dict[str, float]:
    """Largest wall thickness and strain where all structures were drawn at ED and ES."""
    masks = [phases[name].masks for name in ("ED", "ES") if name in phases]
    if len(masks) < 2 or not all(set(STRUCTURES) <= set(drawn) for drawn in masks):
        return {}
    frames = np.stack([sum(STRUCTURES[s] * drawn[s] for s in STRUCTURES) for drawn in masks])
    base = basal_end(structure_areas(frames, spacing_mm, np.ones(frames.shape[1])), 0, 1)
    # Which wall is the anterior one does not matter to either.
    wall = base and measure_wall(frames, spacing_mm, np.eye(4), base)
    found = [] if not wall else [wall.thickness_max_mm, wall.gcs_percent]
    names = ("lv_wall_thickness_max_mm", "lv_gcs_percent")
    return {name: v for name, v in zip(names, found, strict=False) if v is not None}


def _measures(volumes: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Measures from the volumes in mL of each structure at ED and ES."""
    ed, es = volumes.get("ED", {}), volumes.get("ES", {})
    values: dict[str, Any] = {}
    for chamber, structure in (("lv", "lv_cavity"), ("rv", "rv_cavity")):
        edv, esv = ed.get(structure), es.get(structure)
        if edv is not None and edv <= 0:
            continue  # not drawn at ED: nothing to compare
        values[f"{chamber}_edv_ml"], values[f"{chamber}_esv_ml"] = edv, esv
        if edv is not None and esv is not None:
            values[f"{chamber}_sv_ml"] = edv - esv
            values[f"{chamber}_ef_percent"] = ejection_fraction_percent(edv, esv)
    if ed.get("lv_myocardium") is not None:
        values["lv_mass_g"] = mass_g(ed["lv_myocardium"])
    return {name: float(value) for name, value in values.items() if value is not None}
