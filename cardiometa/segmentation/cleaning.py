"""Clean predicted labels: one left ventricle, the right one next to it, no islands, no holes.

The rules remove, or fill what is enclosed; nothing is invented, grown or smoothed. Labels of
readers pass all but unchanged (of 80 ACDC hearts three change, none by more than 1 % of a
structure). A *part* is a connected region (8 neighbours) of one slice of one phase.
It weighs the sum, over its pixels, of how many phases have the structure there, so that an error
of one phase never outweighs the heart.

1. Parts one or two slices apart are linked where their centres lie within 20 mm, neighbours also
   where they overlap. A chain of links may so step over one lost slice: that is reported by the
   checks of the measurement, and not a reason to remove half a heart.
2. LV (cavity with wall): in each phase the heaviest chain that has a cavity stays, and of it, in
   each slice, the heaviest part with those whose centres lie within 20 mm of its centre: an open
   wall next to its cavity is one ventricle, a second disc is not.
3. RV: of the chains within 10 mm of that LV the heaviest stays, with any other of at least a
   quarter of its weight; where a phase has no LV, the heaviest chain.
4. A chain where fewer than a fifth of the phases, on average, have the structure goes (from five
   phases on), even if nothing is left: a missing frame is flagged, a wrong one is not.
5. Holes in the LV cavity become cavity (papillary muscles belong to the blood pool). Holes of at
   most 100 mm² in the wall become what most of their border is, such holes in the RV become RV.
6. End slices whose cavity is not half enclosed by myocardium are not LV: the basal slice counts as
   LV where at least half of the blood's circumference is surrounded by myocardium (SCMR:
   Schulz-Menger 2020, doi:10.1186/s12968-020-00610-6); beyond it lies the atrium or the outflow
   tract. Readers' end slices of 80 ACDC hearts are enclosed by 77 to 100 %.
7. Myocardium beyond the last slice with cavity goes: above the base always, at the apex where it
   does not follow on slice by slice or the slice has no cavity in any other phase (from five
   phases on: in fewer than a fifth). Readers of 80 ACDC hearts draw none at ED, and 16 such apical
   slices at ES, all with a cavity at ED.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..flags import limit_of, raised
from ..records import BACKGROUND, LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY, Flag

MOST_SLICES = 3
LEAST_LEFT = 3
# A ventricle that loses less of its blood has a base that comes down by less than 6 mm (Matos 2012,
# doi:10.1016/j.echo.2012.06.017), less than most slices.
LEAST_CONTRACTION = 0.35
PHASES_TO_FOLLOW = 8  # fewer phases are judged one by one


def base_stays(blood: np.ndarray) -> bool:
    """Whether the areas ``[t, z]`` of LV cavity of a cine show a base that stays in its slice.

    Then a slice is ventricle in all phases or in none. Slices with LV in every phase are compared.
    """
    filled = blood[:, (blood > 0).all(axis=0)].sum(axis=1)
    least: bool = filled.min() > (1 - LEAST_CONTRACTION) * filled.max()
    return len(blood) >= PHASES_TO_FOLLOW and bool(least)


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


def drop_unenclosed_end_slices(labels: np.ndarray) -> tuple[np.ndarray, tuple[Flag, ...]]:
    """Labels ``[t, z, y, x]`` without the LV of unenclosed end slices; the RV there stays.

    From each end of each phase's LV at most three slices go, and three always stay. In a cine
    whose base stays (`base_stays`) a slice enclosed in half of the phases counts as enclosed in
    all. The info flag ``open-end-slices`` says in how many phases.
    """
    share = enclosed_share(labels)
    least = limit_of("open-end-slices")
    if base_stays(np.count_nonzero(labels == LV_CAVITY, axis=(2, 3))):
        often = np.count_nonzero(share >= least, axis=0) >= len(share) / 2
        share[:, often] = np.maximum(share[:, often], 1.0)
    gone = np.zeros(share.shape, dtype=bool)
    for own, out in zip(share, gone, strict=True):
        remaining = [int(z) for z in np.flatnonzero(np.isfinite(own))]
        for end in (0, -1):
            for _ in range(MOST_SLICES):
                if len(remaining) <= LEAST_LEFT or own[remaining[end]] >= least:
                    break
                out[remaining.pop(end)] = True
    return without(labels, gone, (LV_CAVITY, LV_MYOCARDIUM), "open-end-slices")


def without(
    labels: np.ndarray, gone: np.ndarray, structures: Sequence[int], code: str
) -> tuple[np.ndarray, tuple[Flag, ...]]:
    """Labels ``[t, z, y, x]`` without structures in the slices ``gone`` ``[t, z]``.

    The flag ``code`` says in how many phases; without any the input itself comes back.
    """
    phases = int(gone.any(axis=1).sum())
    if not phases:
        return labels, ()
    result = labels.copy()
    planes = result[gone]
    planes[np.isin(planes, structures)] = BACKGROUND
    result[gone] = planes
    return result, (raised(code, count=phases, phases=len(labels)),)


# The heart is wider at its base; both halves of the LV must differ by this much to say which.
BASE_TO_APEX_RATIO = 1.1


def wider_end(sizes: np.ndarray) -> Literal["first", "last"] | None:
    """Which half of the LV's slices, by the sizes ``[z]`` of the heart in them, is the base.

    None where the halves differ by a factor below 1.1.
    """
    half = max(1, len(sizes) // 2)
    first, last = float(sizes[:half].mean()), float(sizes[-half:].mean())
    if first >= BASE_TO_APEX_RATIO * last:
        return "first"
    return "last" if last >= BASE_TO_APEX_RATIO * first else None


def drop_wall_beyond_cavity(labels: np.ndarray) -> tuple[np.ndarray, tuple[Flag, ...]]:
    """Labels ``[t, z, y, x]`` without the myocardium of rule 7; the RV there stays.

    The info flag ``wall-beyond-cavity`` says in how many phases. Where the base is unknown,
    both ends are taken for the apex. Phases without any cavity stay as they are.
    """
    cavity = (labels == LV_CAVITY).any(axis=(2, 3))
    wall = (labels == LV_MYOCARDIUM).any(axis=(2, 3))
    extent = np.flatnonzero(cavity.any(axis=0))
    if len(extent) == 0:
        return labels, ()
    # The wall is left out, so that a second pass finds the same base.
    blood = ((labels == LV_CAVITY) | (labels == RV_CAVITY)).sum(axis=(0, 2, 3))
    base = wider_end(blood[extent[0] : extent[-1] + 1])
    enough = LEAST_PHASE_SHARE * len(labels) if len(labels) >= PHASES_TO_JUDGE else 1
    closed = cavity.sum(axis=0) >= enough
    gone = np.zeros(wall.shape, dtype=bool)
    for phase, own in enumerate(cavity):
        filled = np.flatnonzero(own)
        if len(filled) == 0:
            continue
        ends = {"first": range(filled[0] - 1, -1, -1), "last": range(filled[-1] + 1, len(own))}
        for end, outward in ends.items():
            stays = end != base
            for place in outward:
                stays = stays and bool(wall[phase, place] and closed[place])
                gone[phase, place] = wall[phase, place] and not stays
    return without(labels, gone, (LV_MYOCARDIUM,), "wall-beyond-cavity")


SMALL_HOLE_MM2 = 100.0
LINK_MM = 20.0
RV_TO_LV_MM = 10.0
SECOND_RV_SHARE = 0.25
LEAST_PHASE_SHARE = 0.2
PHASES_TO_JUDGE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The connected regions of a mask, numbered from 1 in ``ids`` ``[t, z, y, x]``.

    The other arrays are by part, ``[n]`` with part 1 at index 0: phase, slice, centre in mm
    ``[n, 2]``, pixels, weight (see the module), and the chain of links it belongs to.
    """

    ids: np.ndarray
    phase: np.ndarray
    place: np.ndarray
    centre_mm: np.ndarray
    pixels: np.ndarray
    weight: np.ndarray
    chain: np.ndarray


def clean_labels(
    labels: np.ndarray, spacing_mm: tuple[float, float]
) -> tuple[np.ndarray, tuple[Flag, ...]]:
    """Clean labels ``[t, z, y, x]``; give the new uint8 labels, and flags of how much went.

    ``spacing_mm`` is between rows and between columns. The input is left as it is. Flags:
    ``labels-cleaned`` (info) where more than 1 % of a ventricle's voxels were removed,
    ``labels-cleaned-much`` (review) above 10 %.
    """
    if labels.ndim != 4 or len(spacing_mm) != 2 or not min(spacing_mm) > 0:
        raise ValueError(f"labels {labels.shape} and spacing {spacing_mm} do not fit")
    cleaned = np.array(labels, dtype=np.uint8)
    if not cleaned.any():
        return cleaned, ()
    window = _window(cleaned)
    before = cleaned[window].copy()
    lv = _kept_lv(before, spacing_mm)
    rv = _kept_rv(before, lv, spacing_mm)
    cleaned[window] = np.where(lv | rv, before, BACKGROUND)
    flags = _flags(before, cleaned[window])
    if cleaned.any():
        window = _window(cleaned)  # smaller, now that what lay apart is gone
        filled = _filled(cleaned[window], spacing_mm)
        closed, open_flags = drop_unenclosed_end_slices(filled)
        cleaned[window], wall_flags = drop_wall_beyond_cavity(closed)
        flags = (*flags, *open_flags, *wall_flags)
    return cleaned, flags


def _window(labels: np.ndarray) -> tuple[slice, ...]:
    """Index of the rows and columns of ``[t, z, y, x]`` with any label."""
    rows = np.flatnonzero(labels.any(axis=(0, 1, 3)))
    columns = np.flatnonzero(labels.any(axis=(0, 1, 2)))
    return (
        slice(None),
        slice(None),
        slice(rows[0], rows[-1] + 1),
        slice(columns[0], columns[-1] + 1),
    )


def _in_plane(connectivity: int) -> np.ndarray:
    """Neighbours in ``[t, z, y, x]`` that lie in the same slice: 4 (1) or 8 (2) of them."""
    from scipy import ndimage

    structure = np.zeros((3, 3, 3, 3), dtype=bool)
    structure[1, 1] = ndimage.generate_binary_structure(2, connectivity)
    return structure


# ------------------------------------------------------------------ parts and chains


def _parts(mask: np.ndarray, spacing_mm: tuple[float, float]) -> _Parts | None:
    """The parts of a mask ``[t, z, y, x]`` with their chains; None where it is empty."""
    from scipy import ndimage

    ids, n_parts = ndimage.label(mask, _in_plane(2))
    if n_parts == 0:
        return None
    t, z, y, x = np.nonzero(ids)
    of = ids[t, z, y, x] - 1
    pixels = np.bincount(of, minlength=n_parts)
    phases_there = mask.sum(axis=0)
    weight = np.bincount(of, weights=phases_there[z, y, x], minlength=n_parts)
    centre_mm = np.stack(
        [
            np.bincount(of, weights=axis, minlength=n_parts) * length / pixels
            for axis, length in ((y, spacing_mm[0]), (x, spacing_mm[1]))
        ],
        axis=1,
    )
    phase, place = np.zeros(n_parts, dtype=np.int64), np.zeros(n_parts, dtype=np.int64)
    phase[of], place[of] = t, z
    return _Parts(
        ids=ids,
        phase=phase,
        place=place,
        centre_mm=centre_mm,
        pixels=pixels,
        weight=weight,
        chain=_chains(ids, phase, place, centre_mm),
    )


def _chains(
    ids: np.ndarray, phase: np.ndarray, place: np.ndarray, centre_mm: np.ndarray
) -> np.ndarray:
    """The number of the chain of each part: links by overlap and by centres (rule 1)."""
    from scipy import sparse
    from scipy.sparse import csgraph

    n_parts = len(phase)
    below, above = ids[:, :-1], ids[:, 1:]
    both = (below > 0) & (above > 0)
    keys = np.unique((below[both].astype(np.int64) - 1) * n_parts + above[both] - 1)
    links = [np.stack([keys // n_parts, keys % n_parts])]
    for one in range(int(phase.max()) + 1):
        members = np.flatnonzero(phase == one)
        apart = place[members][None] - place[members][:, None]
        distance = np.linalg.norm(centre_mm[members][None] - centre_mm[members][:, None], axis=2)
        first, second = np.nonzero((apart > 0) & (apart <= 2) & (distance <= LINK_MM))
        links.append(np.stack([members[first], members[second]]))
    rows, columns = np.concatenate(links, axis=1)
    graph = sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(n_parts, n_parts))
    return np.asarray(csgraph.connected_components(graph, directed=False)[1])


def _believable(parts: _Parts, n_phases: int) -> np.ndarray:
    """Boolean by chain: enough phases have the structure in that place (rule 4)."""
    if n_phases < PHASES_TO_JUDGE:
        return np.ones(int(parts.chain.max()) + 1, dtype=bool)
    share = np.bincount(parts.chain, parts.weight) / np.bincount(parts.chain, parts.pixels)
    return np.asarray(share >= LEAST_PHASE_SHARE * n_phases)


def _kept_lv(labels: np.ndarray, spacing_mm: tuple[float, float]) -> np.ndarray:
    """Boolean ``[t, z, y, x]``: the LV of each phase (rule 2)."""
    cavity = labels == LV_CAVITY
    parts = _parts(cavity | (labels == LV_MYOCARDIUM), spacing_mm)
    if parts is None:
        return np.zeros(labels.shape, dtype=bool)
    of_chain = np.bincount(parts.chain, parts.weight)
    has_cavity = np.zeros(len(of_chain), dtype=bool)
    has_cavity[parts.chain[parts.ids[cavity] - 1]] = True
    # Any chain with a cavity comes before any without.
    rank = of_chain + has_cavity * of_chain.sum()
    rank[~_believable(parts, len(labels))] = 0
    keep = np.zeros(len(parts.phase) + 1, dtype=bool)
    for phase in range(len(labels)):
        members = np.flatnonzero(parts.phase == phase)
        if len(members) == 0:
            continue
        best = members[np.argmax(rank[parts.chain[members]])]
        if rank[parts.chain[best]] == 0:
            continue
        chosen = members[parts.chain[members] == parts.chain[best]]
        for place in np.unique(parts.place[chosen]):
            here = chosen[parts.place[chosen] == place]
            centres = parts.centre_mm[here]
            off = np.linalg.norm(centres - centres[np.argmax(parts.weight[here])], axis=1)
            keep[here[off <= LINK_MM] + 1] = True
    kept: np.ndarray = keep[parts.ids]
    return kept


def _kept_rv(labels: np.ndarray, lv: np.ndarray, spacing_mm: tuple[float, float]) -> np.ndarray:
    """Boolean ``[t, z, y, x]``: the RV of each phase, next to the LV that was kept (rule 3)."""
    from scipy import ndimage

    parts = _parts(labels == RV_CAVITY, spacing_mm)
    if parts is None:
        return np.zeros(labels.shape, dtype=bool)
    # The LV grown in its slices by a square of 10 mm to each side.
    wide = lv.astype(np.uint8)
    for axis, length in zip((2, 3), spacing_mm, strict=True):
        width = 2 * max(1, round(RV_TO_LV_MM / length)) + 1
        wide = ndimage.maximum_filter1d(wide, width, axis=axis, mode="constant")
    touched = np.unique(parts.ids[wide > 0])
    near = np.zeros(int(parts.chain.max()) + 1, dtype=bool)
    near[parts.chain[touched[touched > 0] - 1]] = True
    with_lv = np.asarray(lv.any(axis=(1, 2, 3)))
    rank = np.bincount(parts.chain, parts.weight)
    rank[~_believable(parts, len(labels))] = 0
    keep = np.zeros(len(parts.phase) + 1, dtype=bool)
    for phase in range(len(labels)):
        members = np.flatnonzero(parts.phase == phase)
        if with_lv[phase]:
            members = members[near[parts.chain[members]]]
        if len(members) == 0:
            continue
        ranks = rank[parts.chain[members]]
        least = ranks.max() * (SECOND_RV_SHARE if with_lv[phase] else 1.0)
        keep[members[(ranks > 0) & (ranks >= least)] + 1] = True
    kept: np.ndarray = keep[parts.ids]
    return kept


# ------------------------------------------------------------------ holes


def _filled(labels: np.ndarray, spacing_mm: tuple[float, float]) -> np.ndarray:
    """Labels with the holes of rule 5 filled."""
    # A margin of one pixel makes everything outside the heart one region of its slice.
    filled = np.pad(labels, ((0, 0), (0, 0), (1, 1), (1, 1)))
    where, _ = _holes(filled == LV_CAVITY)
    filled[where] = LV_CAVITY
    ventricle = (filled == LV_CAVITY) | (filled == LV_MYOCARDIUM)
    small_pixels = SMALL_HOLE_MM2 / (spacing_mm[0] * spacing_mm[1])
    for mask, members in (
        (ventricle, (LV_CAVITY, LV_MYOCARDIUM)),
        (filled == RV_CAVITY, (RV_CAVITY,)),
    ):
        where, hole = _holes(mask)
        if len(hole) == 0:
            continue
        sizes = np.bincount(hole)
        foreign = np.bincount(hole, weights=filled[where] != BACKGROUND)
        border = _bordering(filled, where, hole, members)
        becomes = np.asarray(members, dtype=np.uint8)[border.argmax(axis=0)]
        fits = (sizes <= small_pixels) & (foreign == 0)
        filled[where] = np.where(fits[hole], becomes[hole], filled[where])
    return filled[..., 1:-1, 1:-1]


def _holes(mask: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """The pixels enclosed by ``mask`` in their slice (index arrays), and their holes' numbers."""
    from scipy import ndimage

    regions, _ = ndimage.label(~mask, _in_plane(1))
    # The corner pixel belongs to the margin, so its region is what is not enclosed.
    where = np.nonzero(~mask & (regions != regions[:, :, :1, :1]))
    _, hole = np.unique(regions[where], return_inverse=True)
    return where, hole


def _bordering(
    labels: np.ndarray,
    where: tuple[np.ndarray, ...],
    hole: np.ndarray,
    members: tuple[int, ...],
) -> np.ndarray:
    """Count, by label of ``members`` and hole, the neighbours (4) of the hole's pixels."""
    t, z, y, x = where
    counts = np.zeros((len(members), hole.max() + 1))
    for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        neighbour = labels[t, z, y + down, x + right]
        for row, label in enumerate(members):
            counts[row] += np.bincount(hole, weights=neighbour == label)
    return counts


# ------------------------------------------------------------------ flags


def _flags(before: np.ndarray, after: np.ndarray) -> tuple[Flag, ...]:
    """The share of a ventricle's voxels, over all phases, that became background."""
    shares = {}
    for name, members in (("LV", (LV_CAVITY, LV_MYOCARDIUM)), ("RV", (RV_CAVITY,))):
        n_before, n_after = (
            sum(np.count_nonzero(labels == label) for label in members)
            for labels in (before, after)
        )
        shares[name] = (n_before - n_after) / n_before if n_before else 0.0
    least, much = limit_of("labels-cleaned"), limit_of("labels-cleaned-much")
    removed = [f"{share:.0%} of the {name}" for name, share in shares.items() if share > least]
    if not removed:
        return ()
    code = "labels-cleaned-much" if max(shares.values()) > much else "labels-cleaned"
    return (raised(code, where=" and ".join(removed)),)
