"""What may be wrong with the labels of ED and ES: each slice's doubt, and the views' volumes.

From what a run computes anyway, with no further pass of the network. Two kinds of doubt:

- *views*: the volumes that each mirrored view and the shifted one (`quality`) give by themselves;
- *slices*: how likely each slice has a cavity at all, and the volume that depends on it. The
  probability is the network's own (`inference.presence_of`), and for the LV's basal slices also
  that of the rule of the base (`base`): a wall of 0.7 times the next one's is as likely
  ventricle as atrium, one of 0.9 is ventricle in nine of ten. A slice that the rule or the cleaning
  removed is never more likely ventricle than not.

`measurement.error` makes the standard deviation of each measure from them, by the model's card.
"""

from __future__ import annotations

import numpy as np

from ..flags import limit_of
from ..records import LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY, CineStack, ScanDoubt
from .base import wall_thickness
from .cleaning import wider_end

_LABELS = (LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY)
# Ratio of walls over which the odds that a basal slice is ventricle grow by e.
_WALL_SCALE = 0.1
# No reader and no network is surer than this of the last slice at the base.
_LEAST_DOUBT = 0.05
# At ED and ES, where a slice has LV and the next one RV: of 80 expert-read hearts (ACDC) 68 have RV
# in every basal slice with LV at ED, and 14 at ES.
_LOST_RV = (0.3, 0.1)
_LV, _RV = 0, 2


def scan_doubt(
    cine: CineStack,
    frames: tuple[int, int],
    labels: tuple[np.ndarray, np.ndarray],
    views: tuple[np.ndarray, np.ndarray],
    grid_mm: float,
) -> ScanDoubt:
    """The doubt of two frames of a cine.

    ``labels``: ``[2, z, y, x]`` as the network and the cleaning gave them, before the rule of the
    base, and as they are measured. ``views``: area of each view ``[2, z, 3, v]`` and presence
    ``[2, z, 2, 2]``, in pixels of the network's grid of ``grid_mm``.
    """
    network, measured = labels
    areas, presence = views
    weights = cine.slice_weights_mm / 1000.0
    pixel_ml, crop_ml = np.prod(cine.spacing_mm) * weights, grid_mm**2 * weights
    drawn, counted = (
        np.stack([np.count_nonzero(one == label, axis=(2, 3)) for label in _LABELS], axis=2)
        for one in (network, measured)
    )
    # A view counts where the structure is measured: what cleaning took away is not in the volumes.
    by_slice = np.where((counted > 0)[..., None], areas, 0.0)
    views_ml = np.einsum("fzsv,z->fvs", by_slice, crop_ml)
    lv, rv = presence[..., 0, :], presence[..., 1, :]
    likely = np.stack([lv[..., 0], rv[..., 0]], axis=2).astype(np.float64)
    likely[..., 0] *= _likely_below_base(drawn, counted)
    removed = (drawn[..., 0] > 0) & (counted[..., 0] == 0)
    likely[..., 0] = np.where(removed, np.minimum(likely[..., 0], 0.5), likely[..., 0])
    # A slice next to the drawn ones would have what the network sees in it, and no more than they
    # have; what it sees further away is no part of this heart.
    own = drawn * pixel_ml[:, None]
    around = np.pad(own, ((0, 0), (1, 1), (0, 0)))
    most = np.maximum(around[:, :-2], around[:, 2:])
    seen = np.stack([lv[..., 1], np.zeros_like(lv[..., 1]), rv[..., 1]], axis=2)
    at_stake = np.where(drawn > 0, own, np.minimum(seen * crop_ml[:, None], most))
    likely[((drawn == 0) & (most == 0))[..., [_LV, _RV]]] = 0.0
    from_base = _from_base(counted.sum(axis=2))
    if from_base is not None:
        _doubt_the_base(likely, at_stake, counted, from_base)
    return ScanDoubt(
        frames=frames,
        views_ml=views_ml,
        at_stake_ml=at_stake,
        likely=likely,
        counted=counted[..., [0, 2]] > 0,
        from_base=from_base,
    )


def _from_base(heart: np.ndarray) -> np.ndarray | None:
    """Number of each slice from the heart's first at its base; None where that is not known."""
    sizes = heart.sum(axis=0)
    present = np.flatnonzero(sizes)
    end = wider_end(sizes[present]) if len(present) > 1 else None
    if end is None:
        return None
    steps = np.arange(len(sizes))
    return np.asarray(steps - present[0] if end == "first" else present[-1] - steps)


def _doubt_the_base(
    likely: np.ndarray, at_stake: np.ndarray, counted: np.ndarray, from_base: np.ndarray
) -> None:
    """Leave doubt about the last slice of each cavity at the base and the next one, in place.

    The slice beyond would have as much as the last one, or what the network sees in it.
    """
    order = np.argsort(from_base)
    for structure, column in ((_LV, 0), (_RV, 1)):
        for frame in range(len(counted)):
            slices = order[counted[frame, order, structure] > 0]
            if not len(slices):
                continue
            last = slices[0]
            likely[frame, last, column] = min(likely[frame, last, column], 1 - _LEAST_DOUBT)
            beyond = np.flatnonzero(from_base == from_base[last] - 1)
            lost = structure == _RV and counted[frame, beyond, _LV].any()
            least = _LOST_RV[frame] if lost else _LEAST_DOUBT
            likely[frame, beyond, column] = np.maximum(likely[frame, beyond, column], least)
            own = slice(structure, structure + (2 if structure == _LV else 1))
            at_stake[frame, beyond, own] = np.maximum(
                at_stake[frame, beyond, own], at_stake[frame, last, own]
            )


def _likely_below_base(drawn: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """How likely each slice lies below the base by its wall, ``[2, z]``; 1 where that cannot tell.

    Judged are the outermost basal slice that is measured and those beyond it, where they are
    neither the last of the stack nor without a slice to compare. ``drawn`` and ``counted``
    ``[2, z, 3]``: pixels before and after the rule.
    """
    likely = np.ones(drawn.shape[:2])
    from_base = _from_base(drawn.sum(axis=2))
    if from_base is None:
        return likely
    step = int(np.sign(from_base[-1] - from_base[0]))  # towards the apex
    outer = 0 if step > 0 else drawn.shape[1] - 1
    for frame in range(len(drawn)):
        cavity, wall = drawn[frame, :, 0], drawn[frame, :, 1]
        thickness = wall_thickness(cavity, wall)
        kept = np.flatnonzero(counted[frame, :, 0])
        if not len(kept):
            continue
        last = kept[0] if step > 0 else kept[-1]
        for z in range(outer + step, last + step, step):
            following = z + step
            if 0 <= following < len(cavity) and cavity[z] and cavity[following]:
                ratio = thickness[z] / max(thickness[following], 1e-9)
                odds = np.exp((ratio - limit_of("slices-above-base")) / _WALL_SCALE)
                likely[frame, z] = odds / (1 + odds)
    return likely
