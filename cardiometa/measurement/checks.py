"""Checks of a labelled scan and of a cohort; codes, limits and sentences are in `flags`.

Tier 2: do the labels at ED and ES show one complete ventricle? Tier 3: are the numbers possible?
Tier 4: the model's evidence. Tier 5: scans far from the others of their trial or participant.
Tiers 3 and 5 may ask for a review and never remove a scan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from ..flags import limit_of, raised
from ..records import LV_CAVITY, LV_MYOCARDIUM, Flag, ScanKey
from .phases import Extremes
from .volumes import STRUCTURE_LABELS, Areas, basal_end

# Wall without cavity below this share of the LV's largest slice is a remnant of cleaning: a few
# pixels far from the axis that are not worth a review (3 of 80 ACDC hearts labelled by a model).
SLIVER_SHARE = 0.1

_NAMES: Mapping[str, str] = {"lv": "LV cavity", "myocardium": "LV myocardium", "rv": "RV cavity"}


# ------------------------------------------------------------------ tier 2


def missing_frame_flags(lv: Extremes, rv: Extremes | None, frames: int) -> Iterator[Flag]:
    """Frames in which a structure was not found although other frames have it."""
    for code, extremes in (("lv-frames-missing", lv), ("rv-frames-missing", rv)):
        if extremes is not None and extremes.missing:
            yield raised(code, count=len(extremes.missing), frames=frames)


def extent_flags(areas: Areas, ed: int, es: int) -> Iterator[Flag]:
    """Length of the LV at ED, gaps, slices that ES has more, base or apex at the stack's end."""
    lv_ed = areas.lv[ed]
    length = float(areas.slice_weights_mm[lv_ed > 0].sum())
    if length < limit_of("lv-too-short"):
        yield raised("lv-too-short", value=length)
    elif length < limit_of("few-lv-slices"):
        yield raised("few-lv-slices", value=length)
    count = int(np.count_nonzero(lv_ed))
    if 0 < count < limit_of("few-slices-with-lv"):
        yield raised("few-slices-with-lv", value=count)
    for code, per_slice in (("lv-slice-gap", areas.lv), ("rv-slice-gap", areas.rv)):
        shares = {name: share_beyond_gap(per_slice[f]) for name, f in (("ED", ed), ("ES", es))}
        where = [name for name, share in shares.items() if share > limit_of(code)]
        if where:
            yield raised(code, where=" and ".join(where), value=max(shares.values()))
    # Slices from the first to the last with LV cavity, gaps counted in.
    filled = [np.flatnonzero(areas.lv[frame] > 0) for frame in (ed, es)]
    n_ed, n_es = (int(slices[-1] - slices[0] + 1) if len(slices) else 0 for slices in filled)
    if n_es > n_ed:
        yield raised("more-slices-at-es", ed=n_ed, es=n_es)
    base = basal_end(areas, ed, es)
    if base is None or lv_ed.max() <= 0:
        return
    for name, frame, factor in (("ED", ed, 1), ("ES", es, 2)):
        missing = basal_length_without_rv(areas, frame, base)
        if missing > factor * limit_of("rv-basal-slices-missing"):
            yield raised("rv-basal-slices-missing", where=name, value=missing)
            break
    at_base, at_apex = (0, -1) if base == "first" else (-1, 0)
    # The base moves down in systole, out of a stack that begins at it: a slice in which both
    # ventricles are then still wide has others above it.
    still = min(_share_in(areas.lv[es], at_base), _share_in(areas.rv[es], at_base))
    yield from _severest(still, ("base-at-stack-end",))
    yield from _severest(_share_in(lv_ed, at_apex), ("apex-cut", "apex-at-stack-end"))


def base_at_stack_end(areas: Areas, ed: int, es: int) -> bool | None:
    """True where the most basal slice of the stack has LV cavity at ED; None: base not known."""
    base = basal_end(areas, ed, es)
    return None if base is None else bool(areas.lv[ed, 0 if base == "first" else -1] > 0)


def _share_in(per_slice: np.ndarray, index: int) -> float:
    """A slice's area ``[z]`` as a share of the largest; 0 where there is none."""
    largest = float(per_slice.max())
    return float(per_slice[index]) / largest if largest > 0 else 0.0


def basal_length_without_rv(areas: Areas, frame: int, base: str) -> float:
    """Length in mm of the LV's slices between its base and the first with RV cavity; 0 without."""
    order = slice(None, None, 1 if base == "first" else -1)
    lv, rv = areas.lv[frame, order] > 0, areas.rv[frame, order] > 0
    if not rv.any():
        return 0.0
    return float(areas.slice_weights_mm[order][lv & (np.arange(len(rv)) < rv.argmax())].sum())


def _severest(value: float, codes: Sequence[str], **values: Any) -> Iterator[Flag]:
    """The flag of the first of the codes, severest first, whose limit the value exceeds."""
    for code in codes:
        if value > limit_of(code):
            yield raised(code, value=value, **values)
            return


def share_beyond_gap(per_slice: np.ndarray) -> float:
    """Share of a structure's area ``[z]`` that empty slices separate from its largest run."""
    filled = np.flatnonzero(per_slice > 0)
    if len(filled) == 0:
        return 0.0
    runs = np.split(filled, np.flatnonzero(np.diff(filled) > 1) + 1)
    largest = max(float(per_slice[run].sum()) for run in runs)
    return 1 - largest / float(per_slice[filled].sum())


def shape_flags(
    labels: np.ndarray, ed: int, es: int, spacing_mm: tuple[float, float]
) -> Iterator[Flag]:
    """Image edge, enclosure, components and path at ED and ES; the worse of both is reported.

    ``labels`` ``[t, z, y, x]``.
    """
    frames = {"ED": labels[ed], "ES": labels[es]}
    volumes = {name: _cropped(volume) for name, volume in frames.items()}
    paths = {name: _lv_path(volume, spacing_mm) for name, volume in volumes.items()}
    apart = {
        f"{_NAMES[structure]} at {name}": share_apart(volume == label)
        for name, volume in volumes.items()
        for structure, label in STRUCTURE_LABELS.items()
    }
    for code, found in (
        ("cut-by-image-edge", {n: edge_length_mm(v, spacing_mm) for n, v in frames.items()}),
        ("cavity-not-enclosed", {n: open_border_share(v) for n, v in volumes.items()}),
        ("several-components", apart),
        ("centroid-jump", {n: centre_jump_mm(centre) for n, (_, centre) in paths.items()}),
        ("end-slice-jump", {n: end_jump_mm(centre) for n, (_, centre) in paths.items()}),
        ("lv-area-jump", {n: area_jump(pixels) for n, (pixels, _) in paths.items()}),
    ):
        where = max(found, key=lambda name: found[name])
        if found[where] > limit_of(code):
            yield raised(code, where=where, value=found[where])


def _cropped(volume: np.ndarray) -> np.ndarray:
    """The part of ``[z, y, x]`` with labels, one voxel wider in the plane."""
    rows = np.flatnonzero(volume.any(axis=(0, 2)))
    columns = np.flatnonzero(volume.any(axis=(0, 1)))
    if len(rows) == 0:
        return np.zeros((len(volume), 1, 1), dtype=volume.dtype)
    inner = volume[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.pad(inner, ((0, 0), (1, 1), (1, 1)))


def edge_length_mm(volume: np.ndarray, spacing_mm: tuple[float, float]) -> float:
    """Length along the image's outermost rows and columns that is heart, most of any slice."""
    heart = volume > 0
    rows = heart[:, [0, -1], :].sum(axis=(1, 2)) * spacing_mm[1]
    columns = heart[:, :, [0, -1]].sum(axis=(1, 2)) * spacing_mm[0]
    return float((rows + columns).max())


def open_border_share(volume: np.ndarray) -> float:
    """Share of the pixels around the LV cavity that are not myocardium, over all slices.

    ``volume`` ``[z, y, x]`` with a margin. The in-plane direction alone counts: at base and apex
    the cavity is open through the plane by its nature.
    """
    from scipy import ndimage

    cavity = volume == LV_CAVITY
    cross = ndimage.generate_binary_structure(2, 1)[np.newaxis]
    around = ndimage.binary_dilation(cavity, cross) & ~cavity
    n_around = np.count_nonzero(around)
    if n_around == 0:
        return 0.0
    return float(1 - np.count_nonzero(around & (volume == LV_MYOCARDIUM)) / n_around)


def share_apart(mask: np.ndarray) -> float:
    """Share of a structure's voxels outside its largest part (26 neighbours), ``[z, y, x]``."""
    from scipy import ndimage

    parts, n_parts = ndimage.label(mask, ndimage.generate_binary_structure(3, 3))
    if n_parts < 2:
        return 0.0
    sizes = np.bincount(parts.ravel())[1:]
    return float((sizes.sum() - sizes.max()) / sizes.sum())


def _lv_path(volume: np.ndarray, spacing_mm: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels ``[n]`` and centre in mm ``[n, 2]`` of the LV (cavity and wall) in its slices."""
    ventricle = (volume == LV_CAVITY) | (volume == LV_MYOCARDIUM)
    pixels = ventricle.sum(axis=(1, 2))
    # A sliver of wall that is left of an end slice has no centre to compare.
    cavity = (volume == LV_CAVITY).any(axis=(1, 2))
    filled = np.flatnonzero((pixels > 0) & (cavity | (pixels > SLIVER_SHARE * pixels.max())))
    rows = ventricle.sum(axis=2)[filled] @ np.arange(volume.shape[1])
    columns = ventricle.sum(axis=1)[filled] @ np.arange(volume.shape[2])
    centre = np.stack([rows, columns], axis=1) / pixels[filled, np.newaxis]
    return pixels[filled], centre * np.asarray(spacing_mm)


def centre_jump_mm(centre_mm: np.ndarray) -> float:
    """Largest distance of the LV's centre ``[n, 2]`` in a slice from its neighbours' midpoint.

    A tilted stack moves the centre by equal steps and gives 0; a slice shifted by another
    breath-hold, or labelled elsewhere, does not. 0 for fewer than three slices with LV.
    """
    if len(centre_mm) < 3:
        return 0.0
    off_line = centre_mm[1:-1] - (centre_mm[:-2] + centre_mm[2:]) / 2
    return float(np.linalg.norm(off_line, axis=1).max())


def end_jump_mm(centre_mm: np.ndarray) -> float:
    """Larger of the steps of the LV's centre ``[n, 2]`` from an outermost slice to the next."""
    if len(centre_mm) < 2:
        return 0.0
    steps = np.stack([centre_mm[0] - centre_mm[1], centre_mm[-1] - centre_mm[-2]])
    return float(np.linalg.norm(steps, axis=1).max())


def area_jump(pixels: np.ndarray) -> float:
    """Largest ratio of the LV's size ``[n]`` in a slice to that of the larger neighbour."""
    if len(pixels) < 2:
        return 0.0
    before, after = np.r_[0, pixels[:-1]], np.r_[pixels[1:], 0]
    return float((pixels / np.maximum(before, after)).max())


# ------------------------------------------------------------------ tier 3


def physiology_flags(values: Mapping[str, float | None], mass_at_es_g: float) -> Iterator[Flag]:
    """EF out of 10 to 85 %, stroke volumes apart, myocardium that grows or shrinks over the beat.

    ``values`` are the measures by name (``lv_ef_percent``, ``lv_sv_ml``, ``rv_sv_ml``,
    ``lv_mass_g``).
    """
    ef = values.get("lv_ef_percent")
    if ef is not None and ef < limit_of("ef-low"):
        yield raised("ef-low", value=ef)
    if ef is not None and ef > limit_of("ef-high"):
        yield raised("ef-high", value=ef)
    lv, rv = values.get("lv_sv_ml"), values.get("rv_sv_ml")
    if lv is not None and rv is not None and max(lv, rv) > 0:
        apart = abs(lv - rv) / max(lv, rv)
        yield from _severest(apart, ("sv-mismatch-large", "sv-mismatch"), lv=lv, rv=rv)
    mass = values.get("lv_mass_g")
    if mass:
        change = abs(mass_at_es_g - mass) / mass
        yield from _severest(change, ("mass-change-large", "mass-change"))


def curve_flags(lv: Extremes, frame_numbers: Sequence[int]) -> Iterator[Flag]:
    """A rough LV curve, and frames that were passed over; ``frame_numbers`` are the source's."""
    if lv.roughness > limit_of("curve-rough"):
        yield raised("curve-rough", value=lv.roughness)
    if lv.spikes:
        yield raised("curve-spike", where=", ".join(str(frame_numbers[i]) for i in lv.spikes))


# ------------------------------------------------------------------ tier 4


def predicted_dice_flags(predicted: float | None) -> tuple[Flag, ...]:
    """``very-low-quality`` (reject) or ``low-quality`` (review) by the predicted mean Dice."""
    if predicted is not None:
        for code in ("very-low-quality", "low-quality"):
            if predicted < limit_of(code):
                return (raised(code, value=predicted),)
    return ()


# ------------------------------------------------------------------ tier 5

# Volumes and mass are skewed, so they are compared on the log scale; EF as it is.
_LOG_SCALE = ("lv_edv_ml", "lv_esv_ml", "lv_mass_g", "rv_edv_ml", "rv_esv_ml")
COHORT_MEASURES = (*_LOG_SCALE, "lv_ef_percent", "rv_ef_percent")
FEWEST_SCANS_OF_A_TRIAL = 10


def robust_z(values: np.ndarray) -> np.ndarray:
    """0.6745 (x - median) / MAD (Iglewicz and Hoaglin 1993); NaN stays, all NaN where MAD is 0."""
    known = values[np.isfinite(values)]
    if len(known):
        centre = np.median(known)
        spread = np.median(abs(known - centre))
        if spread > 0:
            return np.asarray(0.6745 * (values - centre) / spread)
    return np.full(values.shape, np.nan)


def cohort_flags(
    trials: Sequence[str], values: Mapping[str, np.ndarray]
) -> tuple[tuple[Flag, ...], ...]:
    """Flags of scans far from the others of their trial: one tuple per row, empty for most.

    ``trials`` ``[n]``; ``values`` maps names of `COHORT_MEASURES` to ``[n]``, NaN where a scan has
    no such measure or failed; other names are ignored. Trials with fewer than 10 values of a
    measure are not judged on it.
    """
    codes = np.asarray(trials, dtype=object)
    far: list[list[str]] = [[] for _ in trials]
    for name in COHORT_MEASURES:
        if name not in values:
            continue
        column = np.asarray(values[name], dtype=np.float64)
        if name in _LOG_SCALE:
            column = np.log(np.where(column > 0, column, np.nan))
        for trial in dict.fromkeys(trials):
            rows = np.flatnonzero(codes == trial)
            if np.isfinite(column[rows]).sum() < FEWEST_SCANS_OF_A_TRIAL:
                continue
            for row, score in zip(rows, robust_z(column[rows]), strict=True):
                if abs(score) > limit_of("cohort-outlier"):
                    far[row].append(f"{name} z {score:+.1f}")
    return tuple(
        (raised("cohort-outlier", where=", ".join(names)),) if names else () for names in far
    )


def visit_flags(
    participants: Sequence[object], lv_length_mm: np.ndarray, slice_distance_mm: np.ndarray
) -> tuple[tuple[Flag, ...], ...]:
    """Flags of scans whose LV is slices longer or shorter than at the participant's other visits.

    ``participants`` ``[n]`` says whose scan each row is; ``lv_length_mm`` ``[n]`` is what the
    slices with LV cavity at ED cover, NaN where unknown. Compared is the nearest of the other
    visits, so that of three the odd one is flagged, by the largest slice distance of the
    participant's scans.
    """
    rows_of: dict[object, list[int]] = {}
    for row, participant in enumerate(participants):
        if np.isfinite(lv_length_mm[row]) and np.isfinite(slice_distance_mm[row]):
            rows_of.setdefault(participant, []).append(row)
    flags: list[tuple[Flag, ...]] = [()] * len(participants)
    code = "slices-differ-between-visits"
    for rows in rows_of.values():
        for row in rows:
            own = float(lv_length_mm[row])
            others = [float(lv_length_mm[other]) for other in rows if other != row]
            nearest = min(others, key=lambda length: abs(length - own), default=own)
            if abs(own - nearest) > limit_of(code) * float(slice_distance_mm[rows].max()):
                flags[row] = (raised(code, value=own, other=nearest),)
    return tuple(flags)


# What scans of two participants must not share, the strongest finding first. Anonymisers give all
# of a trial one value of what is in headers: then it says nothing.
_SHARED = {
    "images": "the same images",
    "study": "the same examination (StudyInstanceUID)",
    "person": "the same patient in the headers",
}
_FROM_HEADERS = ("study", "header")
_LISTED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedMark:
    """Scans of several participants with one mark: the rows, and in words what they share."""

    rows: tuple[int, ...]
    participants: int
    what: str


def shared_marks(
    participants: Sequence[tuple[str, str]], marks: Sequence[Mapping[str, str]]
) -> list[SharedMark]:
    """The groups of scans that share a mark with a scan of another participant.

    ``participants`` ``[n]`` are trial and id of each scan; ``marks`` ``[n]`` have, by kind,
    ``images`` and ``study`` (`imaging.read.source_marks`), ``person``, or ``header`` (what headers
    say of the person). A mark from headers that more than half of the participants of its trials
    have, three or more, is an anonymiser's. A group that a stronger one contains is left out.
    """
    groups: list[SharedMark] = []
    for kind in (*_SHARED, "header"):
        rows_of: dict[str, list[int]] = {}
        for row, own in enumerate(marks):
            if kind in own:
                rows_of.setdefault(own[kind], []).append(row)
        known = {participants[row] for rows in rows_of.values() for row in rows}
        for rows in rows_of.values():
            who = {participants[row] for row in rows}
            trials = {trial for trial, _ in who}
            of_trials = sum(trial in trials for trial, _ in known) if len(who) > 2 else 0
            usual = kind in _FROM_HEADERS and len(who) > max(2, of_trials / 2)
            if len(who) > 1 and not usual and not any(set(rows) <= set(g.rows) for g in groups):
                groups.append(
                    SharedMark(rows=tuple(rows), participants=len(who), what=_SHARED.get(kind, ""))
                )
    return groups


def shared_between(
    keys: Sequence[ScanKey],
    marks: Sequence[Mapping[str, str]],
    same_person: Iterable[Iterable[ScanKey]],
) -> list[SharedMark]:
    """`shared_marks` with the groups of scans whose headers name one person (`models.Cohort`)."""
    person = {key: str(number) for number, group in enumerate(same_person) for key in group}
    return shared_marks(
        [(key.trial, key.participant) for key in keys],
        [
            {**own, **({"person": person[key]} if key in person else {})}
            for key, own in zip(keys, marks, strict=True)
        ],
    )


def shared_flags(keys: Sequence[ScanKey], groups: Iterable[SharedMark]) -> dict[int, Flag]:
    """The flag of each scan in a group, by row; of several groups that of the first."""
    flags: dict[int, Flag] = {}
    for group in groups:
        for row in group.rows:
            own = (keys[row].trial, keys[row].participant)
            others = (
                str(keys[other])
                for other in group.rows
                if (keys[other].trial, keys[other].participant) != own
            )
            first = list(islice(others, _LISTED + 1))
            where = ", ".join(first[:_LISTED]) + (" and more" if len(first) > _LISTED else "")
            flags.setdefault(row, raised("other-participant", what=group.what, where=where))
    return flags
