"""One standard deviation of the model's error for each volume, mass and EF of a scan.

For each measure SD² = scale² · Σ (coefficient · term)², the terms being in the measure's unit:

- ``constant``: 1;
- ``size``: the measure (of a stroke volume its EDV, of an EF 100 points) times 1 - `quality`;
- ``views``: SD of the measure over the mirrored and shifted views of the network;
- ``basal``, ``apical``: √Σ V² p (1 - p) over the slices of that half of the heart, V being what
  the slice adds and p the probability that it belongs to the ventricle (`segmentation.doubt`).
  In an EF, V at ED counts 100 · ESV / EDV² and at ES 100 / EDV. One slice is judged much alike in
  both phases (correlation 0.5): in an EF or stroke volume the two then partly cancel.

The coefficients, none negative, are in the model's card (section ``error``): fitted for each
measure to the errors of hearts that the network was not trained on, and scaled by split conformal
prediction (Lei 2018, doi:10.1080/01621459.2017.1307116) so that measure ± 1.96 SD contains what an
expert reads in 95 of 100 of them. An EF has coefficients of its own, since the errors of EDV and
ESV are correlated. Bias is part of it: the SD is a root mean square error about the expert's value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ..flags import limit_of, raised
from ..records import CineStack, Flag, ScanDoubt
from ..segmentation.model import ERROR_TERMS, PROPAGATED_MEASURES, ErrorModel
from .measures import ERROR_OF, MYOCARDIUM_G_PER_ML

Terms = dict[str, dict[str, float]]
Values = Mapping[str, float | None]

_ED, _ES = 0, 1
_LV, _MYOCARDIUM, _RV = 0, 1, 2
# A slice is doubtful where neither answer is less likely than this.
_DOUBTFUL = 0.3
NORMAL_95 = 1.96
SAME_SLICE = 0.5


def error_terms(values: Values, doubt: ScanDoubt) -> Terms:
    """The terms of every measure that ``values`` has, by measure and name."""
    quality = values.get("quality")
    share = np.nan if quality is None else 1.0 - quality
    variances, together = _slice_variances(doubt)
    terms: Terms = {}
    for side, structure in (("lv", _LV), ("rv", _RV)):
        edv, esv = values.get(f"{side}_edv_ml"), values.get(f"{side}_esv_ml")
        if edv is None or esv is None or edv <= 0:
            continue
        by_view = doubt.views_ml[:, :, structure]
        per_ed, per_es = 100.0 * esv / edv**2, 100.0 / edv
        with np.errstate(divide="ignore", invalid="ignore"):
            ef_by_view = 100.0 * (1.0 - by_view[_ES] / by_view[_ED])
        own = variances[:, :, structure]  # [frame, half]
        for name, size, spread, weights in (
            ("edv_ml", edv, by_view[_ED], (1.0, 0.0)),
            ("esv_ml", esv, by_view[_ES], (0.0, 1.0)),
            ("sv_ml", edv, by_view[_ED] - by_view[_ES], (1.0, 1.0)),
            ("ef_percent", 100.0, ef_by_view, (per_ed, per_es)),
        ):
            shared = 2 * SAME_SLICE * weights[0] * weights[1] * together[:, structure]
            halves = np.sqrt(np.square(weights) @ own - shared)
            terms[f"{side}_{name}"] = _named(size * share, spread, halves)
    mass = values.get("lv_mass_g")
    if mass is not None:
        spread = MYOCARDIUM_G_PER_ML * doubt.views_ml[_ED, :, _MYOCARDIUM]
        halves = MYOCARDIUM_G_PER_ML * np.sqrt(variances[_ED, :, _MYOCARDIUM])
        terms["lv_mass_g"] = _named(mass * share, spread, halves)
    return terms


def _named(size: float, by_view: np.ndarray, halves: np.ndarray) -> dict[str, float]:
    known = by_view[np.isfinite(by_view)]
    spread = float(known.std(ddof=1)) if len(known) > 1 else float("nan")
    values = (1.0, float(size), spread, float(halves[0]), float(halves[1]))
    return dict(zip(ERROR_TERMS, values, strict=True))


def _slice_variances(doubt: ScanDoubt) -> tuple[np.ndarray, np.ndarray]:
    """Σ V² p (1 - p) by frame, half (basal, apical) and structure, ``[2, 2, 3]``.

    And of the products of ED's and ES's V √(p (1 - p)) in each slice, ``[2, 3]``.
    """
    p = doubt.likely[:, :, [0, 0, 1]]
    sd = doubt.at_stake_ml * np.sqrt(p * (1 - p))
    basal = basal_half(doubt)
    halves = (basal, ~basal)
    variances = np.stack([np.square(sd[:, half]).sum(axis=1) for half in halves], axis=1)
    product = sd[_ED] * sd[_ES]
    return variances, np.stack([product[half].sum(axis=0) for half in halves])


def basal_half(doubt: ScanDoubt) -> np.ndarray:
    """Boolean ``[z]``: slices of the half of the heart at its base; all where it is not known."""
    if doubt.from_base is None:
        return np.ones(doubt.likely.shape[1], dtype=bool)
    heart = doubt.from_base[doubt.counted.any(axis=(0, 2))]
    middle = heart.max() / 2 if len(heart) else 0.0
    return np.asarray(doubt.from_base < max(middle, 1.0))


def standard_deviations(terms: Terms, model: ErrorModel, vendor: str | None) -> dict[str, float]:
    """``<measure>_sd`` of every measure with terms; those with an unknown term are left out.

    Hearts of a maker of scanners that the coefficients were not fitted on have them times the
    card's factor.
    """
    known = model.knows(vendor)
    deviations = {}
    for measure, own in terms.items():
        coefficients = model.measures[measure]
        variance = sum(
            (coefficients[term] * value) ** 2
            for term, value in own.items()
            if coefficients[term] > 0
        )
        elsewhere = 1.0 if known else model.elsewhere[measure[:2]]
        sd = coefficients["scale"] * elsewhere * float(np.sqrt(variance))
        if np.isfinite(sd):
            deviations[ERROR_OF[measure]] = sd
    return deviations


def wall_deviations(values: Values, model: ErrorModel) -> dict[str, float]:
    """The SD of maximal wall thickness and of strain, from those of mass and EF.

    A wall that is outlined 5 % too heavy is 5 % too thick. The middle of the heart contracts by
    the area ratio r of ES to ED, whose error is taken to be, as a share of it, that of ESV / EDV;
    strain is 100 (√r - 1). The card's scales make ± 1.96 SD hold what an expert's outlines give in
    95 of 100 hearts; a card without them leaves both as they follow.
    """
    wall, mass, mass_sd, strain, ef, ef_sd = (
        values.get(name)
        for of, by in zip(PROPAGATED_MEASURES, ("lv_mass_g", "lv_ef_percent"), strict=True)
        for name in (of, by, f"{by}_sd")
    )
    found = {}
    if wall is not None and mass and mass_sd is not None:
        found[PROPAGATED_MEASURES[0]] = wall * mass_sd / mass
    if strain is not None and ef is not None and ef_sd is not None and ef < 100:
        found[PROPAGATED_MEASURES[1]] = (100 + strain) / 2 * ef_sd / (100 - ef)
    return {f"{name}_sd": model.propagated.get(name, 1.0) * sd for name, sd in found.items()}


# ------------------------------------------------------------------ what a reader should look at


def doubt_flags(
    cine: CineStack, values: Values, doubt: ScanDoubt, terms: Terms, model: ErrorModel
) -> Iterator[Flag]:
    """An EF or an RV that is too uncertain, and a basal slice that decides the EF.

    The factor of other makers' scanners is left out: it is the same for all scans of a scanner and
    says nothing about this one.
    """
    own = replace(model, elsewhere=dict.fromkeys(model.elsewhere, 1.0))
    deviations = standard_deviations(terms, own, None)
    edv = values.get("rv_edv_ml")
    for code, measure, size in (
        ("ef-uncertain", "lv_ef_percent", 1.0),
        ("rv-uncertain", "rv_edv_ml", edv or np.inf),
    ):
        half_width = NORMAL_95 * deviations.get(ERROR_OF[measure], 0.0) / size
        if half_width > limit_of(code):
            yield raised(
                code,
                value=half_width,
                scanner="" if model.knows(cine.source.vendor) else _BEFORE_FACTOR,
                where=_reason(terms[measure], model.measures[measure]),
            )
    yield from _basal_slice_flags(cine, values, doubt)


_BEFORE_FACTOR = " (before the factor for scanners of other makers)"
_REASONS = {
    "constant": "the usual error is large beside it",
    "size": "the network is unsure of the borders",
    "views": "mirrored and shifted views of the network differ",
    "basal": "it is doubtful where the heart ends at its base",
    "apical": "it is doubtful where the heart ends at its apex",
}


def _reason(terms: Mapping[str, float], coefficients: Mapping[str, float]) -> str:
    return _REASONS[max(ERROR_TERMS, key=lambda term: coefficients[term] * terms[term])]


def _basal_slice_flags(cine: CineStack, values: Values, doubt: ScanDoubt) -> Iterator[Flag]:
    """The basal slice of ED or ES that is doubtful and changes the EF most."""
    edv, esv = values.get("lv_edv_ml"), values.get("lv_esv_ml")
    if edv is None or esv is None or doubt.from_base is None or esv >= edv:
        return
    ef = 100.0 * (edv - esv) / edv
    found = []
    p = doubt.likely[:, :, 0]
    for frame, z in np.argwhere((np.minimum(p, 1 - p) >= _DOUBTFUL) & basal_half(doubt)):
        counted = bool(doubt.counted[frame, z, 0])
        change = float(doubt.at_stake_ml[frame, z, _LV]) * (-1 if counted else 1)
        new_edv, new_esv = edv + change * (frame == _ED), esv + change * (frame == _ES)
        if new_edv > 0:
            found.append((100.0 * (new_edv - new_esv) / new_edv - ef, counted, frame, z))
    change, counted, frame, z = max(found, key=lambda one: abs(one[0]), default=(0.0, True, 0, 0))
    if abs(change) > limit_of("basal-slice-doubtful"):
        number = int(cine.frame_numbers[doubt.frames[frame]])
        yield raised(
            "basal-slice-doubtful",
            slice=int(z) + 1,
            slices=cine.pixels.shape[1],
            where=f"{'ED' if frame == _ED else 'ES'} (frame {number})",
            what="it counts as LV and may lie above the base"
            if counted
            else "it does not count as LV and may lie below the base",
            value=abs(change),
            direction="higher" if change > 0 else "lower",
        )
