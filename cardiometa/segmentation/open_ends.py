"""End slices that are not ventricle: cavity that myocardium encloses by less than half.

The basal slice counts as LV where at least half of the blood's circumference is surrounded by
myocardium (SCMR: Schulz-Menger 2020, doi:10.1186/s12968-020-00610-6); beyond it lies the atrium or
the outflow tract, which a network that saw few slices there may label. Readers' end slices of 80
ACDC hearts are enclosed by 77 to 100 %.
"""

from __future__ import annotations

import numpy as np

from ..records import BACKGROUND, LV_CAVITY, LV_MYOCARDIUM, Flag

LEAST_ENCLOSED = 0.5
MOST_SLICES = 3
LEAST_LEFT = 3


def enclosed_share(labels: np.ndarray) -> np.ndarray:
    """Share ``[...]`` of the cavity's border that is myocardium, of slices ``[..., y, x]``.

    NaN where a slice has no cavity. The border is counted in pixel edges; the image's own edge
    does not count.
    """
    cavity, wall = labels == LV_CAVITY, labels == LV_MYOCARDIUM
    edges = np.zeros(labels.shape[:-2])
    walled = np.zeros(labels.shape[:-2])
    for one, other in (
        (np.s_[..., :-1, :], np.s_[..., 1:, :]),
        (np.s_[..., :, :-1], np.s_[..., :, 1:]),
    ):
        for inside, outside in ((one, other), (other, one)):
            border = cavity[inside] & ~cavity[outside]
            edges += border.sum(axis=(-2, -1))
            walled += (border & wall[outside]).sum(axis=(-2, -1))
    present = cavity.any(axis=(-2, -1))
    share: np.ndarray = np.where(present, walled / np.maximum(edges, 1), np.nan)
    return share


def without_open_ends(labels: np.ndarray) -> tuple[np.ndarray, tuple[Flag, ...]]:
    """Labels ``[t, z, y, x]`` without the LV of open end slices; the RV there stays.

    From each end of each phase's LV at most three slices go, and three always stay. Where any
    went, the info flag ``open-end-slices`` tells in how many phases.
    """
    share = enclosed_share(labels)
    result = labels.copy()
    phases = 0
    for phase, own in enumerate(share):
        open_slices = _open_slices(own)
        for z in open_slices:
            plane = result[phase, z]
            plane[(plane == LV_CAVITY) | (plane == LV_MYOCARDIUM)] = BACKGROUND
        phases += bool(open_slices)
    if not phases:
        return result, ()
    sentence = (
        f"In {phases} of {len(labels)} phases end slices were not counted as LV: myocardium "
        "encloses less than half of their cavity."
    )
    return result, (Flag(code="open-end-slices", level="info", sentence=sentence),)


def _open_slices(share: np.ndarray) -> list[int]:
    """The slices of one phase to leave out, ``share`` ``[z]`` being NaN without cavity."""
    remaining = [int(z) for z in np.flatnonzero(np.isfinite(share))]
    left_out: list[int] = []
    for end in (0, -1):
        for _ in range(MOST_SLICES):
            if len(remaining) <= LEAST_LEFT or share[remaining[end]] >= LEAST_ENCLOSED:
                break
            left_out.append(remaining.pop(end))
    return left_out
