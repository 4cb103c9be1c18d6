"""End-diastole and end-systole: the extremes of a volume curve, never frame numbers.

The rule, for the LV and for the RV each with its own curve:

1. Frames without a volume (no label, a missing frame) are left out; their neighbours meet.
2. A *spike* is a frame that leaves both its neighbours on the same side by more than a fifth of
   the curve's range (more for fewer than 20 frames, each then standing for a longer time). No
   heart does that in one frame; a segmentation that slipped does. Spikes are bridged by the line
   between the frames around them and are never chosen.
3. The bridged curve is smoothed by weights 1-2-1, round the cycle where the frames cover it.
4. The extreme of the smooth curve says where; of that frame and its two neighbours, spikes left
   out, the one with the most extreme volume is chosen.

Below 12 frames a true end-systole can look like a spike, so there the plain extremes are taken
(the reader of the images flags such scans). Volumes are then read from the unsmoothed labels at
the chosen frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SPIKE_SHARE_OF_RANGE = 0.2
FRAMES_OF_A_FULL_CINE = 20
FEWEST_FRAMES_TO_SMOOTH = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Extremes:
    """Indices of the frames of the largest and smallest volume, and of the spikes left out.

    ``roughness`` is the typical (1.48 × median) distance of a frame from the mean of its two
    neighbours as a share of the curve's range (scaled down below 20 frames); 0 for curves too
    short to tell.
    """

    largest: int
    smallest: int
    spikes: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    roughness: float = 0.0


def find_extremes(volumes_ml: np.ndarray, *, cyclic: bool) -> Extremes | None:
    """Find the frames of the largest and the smallest volume of a curve ``[t]`` in mL.

    ``cyclic``: the last frame is followed by the first (frames cover the full heart cycle).
    Zero and NaN are missing frames. None where no frame has a volume.
    """
    volumes = np.asarray(volumes_ml, dtype=np.float64)
    present = np.flatnonzero(np.nan_to_num(volumes) > 0)
    missing = tuple(int(frame) for frame in np.setdiff1d(np.arange(len(volumes)), present))
    curve = volumes[present]
    if len(curve) == 0:
        return None
    if len(curve) < FEWEST_FRAMES_TO_SMOOTH:
        return Extremes(
            largest=int(present[np.argmax(curve)]),
            smallest=int(present[np.argmin(curve)]),
            missing=missing,
        )
    spiky = _spikes(curve, cyclic=cyclic)
    bridged = _bridged(curve, spiky, cyclic=cyclic)
    before, after = _neighbours(bridged, cyclic=cyclic)
    # Weights 1-2-1; at an open end 2-1 with the only neighbour.
    smooth = (before + 2 * bridged + after) / 4
    if not cyclic:
        smooth[0] = (2 * bridged[0] + bridged[1]) / 3
        smooth[-1] = (2 * bridged[-1] + bridged[-2]) / 3
    before, after = _neighbours(curve, cyclic=cyclic)
    span = _range_ml(curve, cyclic=cyclic)
    # Fewer frames bend more from one to the next: 12 frames of a smooth beat reach 0.115 unscaled.
    scale = min(1.0, len(curve) / FRAMES_OF_A_FULL_CINE)
    distance = np.median(abs(curve - (before + after) / 2))
    return Extremes(
        largest=int(present[_nearby_extreme(curve, smooth, spiky, cyclic=cyclic)]),
        smallest=int(present[_nearby_extreme(-curve, -smooth, spiky, cyclic=cyclic)]),
        spikes=tuple(int(present[index]) for index in np.flatnonzero(spiky)),
        missing=missing,
        roughness=float(scale * 1.4826 * distance / span) if span else 0.0,
    )


def _neighbours(curve: np.ndarray, *, cyclic: bool) -> tuple[np.ndarray, np.ndarray]:
    """The frame before and after each; beyond an open end, the end's only neighbour."""
    before, after = np.roll(curve, 1), np.roll(curve, -1)
    if not cyclic:
        before[0], after[-1] = curve[1], curve[-2]
    return before, after


def _range_ml(curve: np.ndarray, *, cyclic: bool) -> float:
    """Range of the curve after a median of three, which no single spike can move."""
    before, after = _neighbours(curve, cyclic=cyclic)
    return float(np.ptp(np.median([before, curve, after], axis=0)))


def _spikes(curve: np.ndarray, *, cyclic: bool) -> np.ndarray:
    """Boolean ``[t]``: frames further from both neighbours, on one side, than a heart can go.

    The worst is found and bridged first, so that a sound frame next to it is not taken for one.
    """
    share = SPIKE_SHARE_OF_RANGE * max(1.0, FRAMES_OF_A_FULL_CINE / len(curve))
    limit = share * _range_ml(curve, cyclic=cyclic)
    spiky = np.zeros(len(curve), dtype=bool)
    bridged = curve
    for _ in range(len(curve) // 4):
        excess = np.where(spiky, 0.0, _excess(bridged, limit, cyclic=cyclic))
        if excess.max() <= limit:
            break
        spiky[np.argmax(excess)] = True
        bridged = _bridged(curve, spiky, cyclic=cyclic)
    return spiky


def _excess(curve: np.ndarray, limit: float, *, cyclic: bool) -> np.ndarray:
    """How far each frame lies from the nearer of its neighbours, 0 where it lies between them."""
    before, after = _neighbours(curve, cyclic=cyclic)
    from_before, from_after = curve - before, curve - after
    nearer = np.minimum(abs(from_before), abs(from_after))
    excess = np.where(from_before * from_after > 0, nearer, 0.0)
    if not cyclic:
        # An end frame has one neighbour: it is a spike where that neighbour's own step is small.
        for end, next_to, third in ((0, 1, 2), (-1, -2, -3)):
            step, next_step = abs(curve[end] - curve[next_to]), abs(curve[next_to] - curve[third])
            excess[end] = step if step > max(limit, 2 * next_step) else 0.0
    return excess


def _bridged(curve: np.ndarray, spiky: np.ndarray, *, cyclic: bool) -> np.ndarray:
    """The curve with each spike replaced on the line between the sound frames around it."""
    sound = np.flatnonzero(~spiky)
    period = len(curve) if cyclic else None
    bridged: np.ndarray = np.interp(np.arange(len(curve)), sound, curve[sound], period=period)
    return bridged


def _nearby_extreme(
    curve: np.ndarray, smooth: np.ndarray, spiky: np.ndarray, *, cyclic: bool
) -> int:
    """Index of the largest value of ``curve`` within one frame of the largest of ``smooth``."""
    top = int(np.argmax(smooth))
    near = np.array([top, top - 1, top + 1])
    near = near % len(curve) if cyclic else near[(near >= 0) & (near < len(curve))]
    usable = near[~spiky[near]]
    if len(usable) == 0:  # every frame there is a spike: the curve has no shape to trust
        return top
    return int(usable[np.argmax(curve[usable])])
