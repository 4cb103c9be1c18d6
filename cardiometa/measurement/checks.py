"""Checks of the labels at ED and ES (tier 2): is this the picture of one whole ventricle?

Checks of the numbers (tier 3): they may ask for a look and never remove a scan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..records import LV_CAVITY, LV_MYOCARDIUM, Flag
from .phases import Extremes
from .quality import limit_of, raised
from .volumes import STRUCTURE_LABELS, Areas, basal_end

# Wall without cavity below this share of the LV's largest slice is a remnant of cleaning: a few
# pixels far from the axis that ask nobody for a look (3 of 80 ACDC hearts labelled by a model).
SLIVER_SHARE = 0.1

_NAMES: Mapping[str, str] = {"lv": "LV cavity", "myocardium": "LV myocardium", "rv": "RV cavity"}


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
    for code, per_slice in (("lv-slice-gap", areas.lv), ("rv-slice-gap", areas.rv)):
        limit = limit_of(code)
        shares = {name: share_beyond_gap(per_slice[f]) for name, f in (("ED", ed), ("ES", es))}
        where = [name for name, share in shares.items() if share > limit]
        if where:
            yield raised(code, where=" and ".join(where), value=max(shares.values()))
    n_ed, n_es = (_span(areas.lv[frame]) for frame in (ed, es))
    if n_es > n_ed:
        yield raised("more-slices-at-es", ed=n_ed, es=n_es)
    yield from _stack_end_flags(lv_ed, basal_end(areas, ed, es))


def _span(per_slice: np.ndarray) -> int:
    """Slices from the first to the last that holds the structure, gaps counted in."""
    filled = np.flatnonzero(per_slice > 0)
    return int(filled[-1] - filled[0] + 1) if len(filled) else 0


def share_beyond_gap(per_slice: np.ndarray) -> float:
    """Share of a structure's area ``[z]`` that empty slices part from its largest run of slices."""
    filled = np.flatnonzero(per_slice > 0)
    if len(filled) == 0:
        return 0.0
    runs = np.split(filled, np.flatnonzero(np.diff(filled) > 1) + 1)
    largest = max(float(per_slice[run].sum()) for run in runs)
    return 1 - largest / float(per_slice[filled].sum())


def _stack_end_flags(lv_ed: np.ndarray, base: Literal["first", "last"] | None) -> Iterator[Flag]:
    if base is None or lv_ed.max() <= 0:
        return
    first, last = (float(share) for share in (lv_ed[0] / lv_ed.max(), lv_ed[-1] / lv_ed.max()))
    at_base, at_apex = (first, last) if base == "first" else (last, first)
    if at_base > limit_of("base-at-stack-end"):
        yield raised("base-at-stack-end", value=at_base)
    if at_apex > limit_of("apex-cut"):
        yield raised("apex-cut", value=at_apex)
    elif at_apex > limit_of("apex-at-stack-end"):
        yield raised("apex-at-stack-end", value=at_apex)


def shape_flags(
    labels: np.ndarray, ed: int, es: int, spacing_mm: tuple[float, float]
) -> Iterator[Flag]:
    """Image edge, enclosure, components and path at ED and ES; the worse of both is told.

    ``labels`` ``[t, z, y, x]``.
    """
    volumes = {"ED": _cropped(labels[ed]), "ES": _cropped(labels[es])}
    open_share = {name: open_border_share(volume) for name, volume in volumes.items()}
    apart = {
        f"{_NAMES[structure]} at {name}": share_apart(volume == label)
        for name, volume in volumes.items()
        for structure, label in STRUCTURE_LABELS.items()
    }
    paths = {name: _lv_path(volume, spacing_mm) for name, volume in volumes.items()}
    at_edge = {
        name: edge_length_mm(labels[frame], spacing_mm) for name, frame in (("ED", ed), ("ES", es))
    }
    for code, found in (
        ("cut-by-image-edge", at_edge),
        ("cavity-not-enclosed", open_share),
        ("several-components", apart),
        ("centroid-jump", {name: centre_jump_mm(path) for name, path in paths.items()}),
        ("end-slice-jump", {name: end_jump_mm(path) for name, path in paths.items()}),
        ("lv-area-jump", {name: area_jump(path) for name, path in paths.items()}),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LvPath:
    """Pixels ``[n]`` and centre in mm ``[n, 2]`` of the LV (cavity and wall) in its slices."""

    pixels: np.ndarray
    centre_mm: np.ndarray


def _lv_path(volume: np.ndarray, spacing_mm: tuple[float, float]) -> LvPath:
    ventricle = (volume == LV_CAVITY) | (volume == LV_MYOCARDIUM)
    pixels = ventricle.sum(axis=(1, 2))
    # A sliver of wall that is left of an end slice has no centre to compare.
    cavity = (volume == LV_CAVITY).any(axis=(1, 2))
    filled = np.flatnonzero((pixels > 0) & (cavity | (pixels > SLIVER_SHARE * pixels.max())))
    rows = ventricle.sum(axis=2)[filled] @ np.arange(volume.shape[1])
    columns = ventricle.sum(axis=1)[filled] @ np.arange(volume.shape[2])
    centre = np.stack([rows, columns], axis=1) / pixels[filled, np.newaxis]
    return LvPath(pixels=pixels[filled], centre_mm=centre * np.asarray(spacing_mm))


def centre_jump_mm(path: LvPath) -> float:
    """Largest distance of the LV's centre in a slice from the midpoint of its two neighbours'.

    A tilted stack moves the centre by equal steps and gives 0; a slice shifted by another
    breath-hold, or labelled elsewhere, does not. 0 for fewer than three slices with LV.
    """
    centre = path.centre_mm
    if len(centre) < 3:
        return 0.0
    off_line = centre[1:-1] - (centre[:-2] + centre[2:]) / 2
    return float(np.linalg.norm(off_line, axis=1).max())


def end_jump_mm(path: LvPath) -> float:
    """Larger of the steps of the LV's centre from an outermost slice to the next."""
    centre = path.centre_mm
    if len(centre) < 2:
        return 0.0
    steps = np.stack([centre[0] - centre[1], centre[-1] - centre[-2]])
    return float(np.linalg.norm(steps, axis=1).max())


def area_jump(path: LvPath) -> float:
    """Largest ratio of the LV's size in a slice to that of the larger of its neighbours."""
    pixels = path.pixels
    if len(pixels) < 2:
        return 0.0
    before, after = np.r_[0, pixels[:-1]], np.r_[pixels[1:], 0]
    return float((pixels / np.maximum(before, after)).max())


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
        code = _worst(apart, "sv-mismatch-large", "sv-mismatch")
        if code:
            yield raised(code, value=apart, lv=lv, rv=rv)
    mass = values.get("lv_mass_g")
    if mass:
        change = abs(mass_at_es_g - mass) / mass
        code = _worst(change, "mass-change-large", "mass-change")
        if code:
            yield raised(code, value=change)


def _worst(value: float, *codes: str) -> str | None:
    """The first of the codes, severest first, whose limit the value passes."""
    return next((code for code in codes if value > limit_of(code)), None)


def curve_flags(lv: Extremes, frame_numbers: Sequence[int]) -> Iterator[Flag]:
    """A rough LV curve, and frames that were passed over; ``frame_numbers`` are the source's."""
    if lv.roughness > limit_of("curve-rough"):
        yield raised("curve-rough", value=lv.roughness)
    if lv.spikes:
        yield raised("curve-spike", where=", ".join(str(frame_numbers[i]) for i in lv.spikes))
