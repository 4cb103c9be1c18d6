"""Where the ventricles end at their base: one declared rule for every scan.

The network reads each slice between its neighbours; above the mitral plane it often takes the
atrium, a bright cavity with a thin rim, for ventricle, most of all at ES when the base has come
down by 8 to 16 mm. The stack and the time course tell them apart:

1. A ventricle's wall is about as thick in its most basal slice as in the next one, an atrium's is
   thin. The outermost one, two or three basal slices go where each has a wall thinner than the
   flag's limit times that of the next slice, which stays (thickness: radii of the circles of the
   areas of cavity and wall), or a cavity less than half as large, a sliver of atrium or outflow
   tract; of such numbers the largest. In the experts' labels of 80 ACDC hearts no basal cavity is
   less than 0.58 of the next one; the ratio of the walls is 0.71 to 1.37 at ED, and at ES 0.9 in
   the median and below 0.7 in 4 of the 23 basal slices that have a slice above them; slices of
   atrium that networks counted had 0.4 to 0.7. Not where the slices that stay never lose 35 % of
   their blood: there the base hardly comes down (`cleaning.LEAST_CONTRACTION`), and to lose a slice
   at ES alone would be a large error of a small EF.
2. The base comes down once a beat and is lowest at ES, so in a cine a basal slice is no ventricle
   in one stretch of phases around ES, or in none, or throughout: of all of these the one that
   contradicts rule 1 and the network in the fewest phases is taken, and a slice that is left in
   less than a quarter of the beat goes. Where the base hardly comes down the stretch is the whole
   beat or nothing.
3. The RV counts with its outflow tract, but its most basal slice goes where it is less than a tenth
   of the next one, a sliver of atrium or outflow tract: of the 160 expert stacks one has such a
   slice, of a network's 40 five that no expert counts and one where the expert counts a full slice,
   which then counts as missing (`rv-basal-slices-missing`).

Labels are removed, none is made.

Where the LV reaches the end of the stack it is left to the network: nothing above can be compared,
and the readers of ACDC, whose stacks end at the base, count it. SCMR's rule, that a slice counts
where muscle encloses half of its blood (Schulz-Menger 2020, doi:10.1186/s12968-020-00610-6), comes
before this one (`cleaning.drop_unenclosed_end_slices`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..flags import limit_of
from ..records import LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY, Flag
from .cleaning import (
    LEAST_CONTRACTION,
    LEAST_LEFT,
    MOST_SLICES,
    PHASES_TO_FOLLOW,
    base_stays,
    wider_end,
    without,
)

BASE_RULE = (
    "wall of the basal slice at least 0.7 of the next one's, cavity at least half, RV a tenth; "
    "stack end as the network says"
)
LEAST_CAVITY = 0.5
LEAST_RV = 0.1


def drop_slices_above_base(labels: np.ndarray) -> tuple[np.ndarray, tuple[Flag, ...]]:
    """Labels ``[t, z, y, x]`` without what lies above the base of each ventricle.

    At most three LV slices of a phase go and one of the RV; three always stay. Where the base
    cannot be distinguished from the apex nothing goes. The info flag ``slices-above-base`` says
    in how many phases the LV loses slices.
    """
    cavity, wall, right = (
        np.count_nonzero(labels == k, axis=(2, 3)) for k in (LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY)
    )
    lv_slices = np.flatnonzero(cavity.any(axis=0))
    heart = cavity + wall + right
    end = wider_end(heart.sum(axis=0)[lv_slices]) if len(lv_slices) > 1 else None
    if end is None:
        return labels, ()
    # Slice 0 of a view is the most basal one of the stack.
    order = slice(None, None, 1 if end == "first" else -1)
    gone = np.zeros(cavity.shape, dtype=bool)
    for own, out in zip(right[:, order], gone[:, order], strict=True):
        slices = np.flatnonzero(own)
        if len(slices) > LEAST_LEFT:
            out[slices[0]] = own[slices[0]] < LEAST_RV * own[slices[1]]
    labels, _ = without(labels, gone, (RV_CAVITY,), "slices-above-base")
    gone[:, order] = (cavity > 0)[:, order] & ~_below_base(cavity[:, order], wall[:, order])
    return without(labels, gone, (LV_CAVITY, LV_MYOCARDIUM), "slices-above-base")


def wall_thickness(cavity: np.ndarray, wall: np.ndarray) -> np.ndarray:
    """Thickness of each wall up to a factor: radii of the circles of the areas in pixels."""
    thickness: np.ndarray = np.sqrt(cavity + wall) - np.sqrt(cavity)
    return thickness


def _below_base(area: np.ndarray, wall: np.ndarray) -> np.ndarray:
    """Boolean ``[t, z]``: LV that the rule keeps, from its pixels of cavity and wall ``[t, z]``.

    Slice 0 is the most basal one.
    """
    network, thickness = area > 0, wall_thickness(area, wall)
    kept = network.copy()
    least = limit_of("slices-above-base")
    for there, own, size in zip(kept, thickness, area, strict=True):
        slices = np.flatnonzero(there)
        for count in range(min(MOST_SLICES, len(slices) - LEAST_LEFT), 0, -1):
            above, blood = slices[:count], area[:, slices[count:]].sum(axis=1)
            contracts = blood.min() <= (1 - LEAST_CONTRACTION) * blood.max()
            thin = own[above] < least * own[slices[count]]
            sliver = size[above] < LEAST_CAVITY * size[slices[count]]
            if above[0] > 0 and contracts and (thin | sliver).all():
                there[above] = False
                break
    if len(kept) >= PHASES_TO_FOLLOW:
        always = kept.all(axis=0)
        es = int((area * always).sum(axis=1).argmin())
        lengths = (len(kept),) if base_stays(area) else range(1, len(kept) + 1)
        # From the apex on, so that no slice stays above one that goes.
        for z in range(int(always.argmax()) - 1, 0, -1):
            kept[:, z] = network[:, z] & kept[:, z + 1] & _outside_stretch(kept[:, z], es, lengths)
    return kept


def _outside_stretch(kept: np.ndarray, es: int, lengths: Iterable[int]) -> np.ndarray:
    """Boolean ``[t]``: phases outside the one stretch around ``es`` that fits ``kept`` ``[t]``.

    Its length is one of ``lengths`` phases, or there is none.
    """
    phases = len(kept)
    best, fewest = np.ones(phases, dtype=bool), np.count_nonzero(~kept)
    for length in lengths:
        for start in range(es - length + 1, es + 1):
            outside = np.ones(phases, dtype=bool)
            outside[np.arange(start, start + length) % phases] = False
            wrong = np.count_nonzero(outside != kept)
            if wrong < fewest:
                best, fewest = outside, wrong
    return best & (np.count_nonzero(best) >= phases / 4)
