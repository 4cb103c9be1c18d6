"""Our limits beside published ones of the same convention, with the uncertainty of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import special

from .conventions import depends_on
from .predict import GroupLaw, Kind, ReferenceModel, laws_for, outside
from .published import PublishedLimit

Verdict = Literal["within-margin", "differs", "inconclusive", "not-compared"]
LEVEL = 95.0
_Z = 1.959963984540054
# A margin wider than this share of the published interval could hide any difference.
_WIDE = 0.2
_BAND_YEARS = 10.0  # of an open band: its middle is taken as half of it above its start


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A published interval with ours; None where it could not be compared (``note`` says why).

    ``margin_*``: half the intervals of both limits, added in quadrature, and half the published
    last digit. ``below_percent``, ``above_percent``: our people outside the published limits.
    """

    measure: str
    unit: str
    sex: str
    ethnicity: str
    age_low: float | None
    age_high: float | None
    lower: float
    upper: float
    our_lower: float | None = None
    our_upper: float | None = None
    difference_lower: float | None = None
    difference_upper: float | None = None
    margin_lower: float | None = None
    margin_upper: float | None = None
    below_percent: float | None = None
    above_percent: float | None = None
    kind: str = ""
    method: str = ""
    verdict: Verdict = "not-compared"
    note: str = ""
    papillary: str = ""
    bsa_formula: str = ""
    source: str = ""


def verify(
    model: ReferenceModel,
    published: Sequence[PublishedLimit],
    *,
    kind: Kind = "marginal",
    same_conventions: bool = False,
) -> tuple[Comparison, ...]:
    """Each published interval of a measure that the model has, beside ours."""
    return tuple(
        _compare(model, row, kind, same_conventions=same_conventions)
        for row in published
        if row.measure in model.measures
    )


def _compare(
    model: ReferenceModel, row: PublishedLimit, kind: Kind, *, same_conventions: bool
) -> Comparison:
    empty = Comparison(
        measure=row.measure,
        unit=row.unit,
        sex=row.sex,
        ethnicity=row.ethnicity,
        age_low=row.age_low,
        age_high=row.age_high,
        lower=row.lower,
        upper=row.upper,
        papillary=row.papillary,
        bsa_formula=row.bsa_formula,
        source=row.source,
    )
    why_not = _other_convention(model, row, same_conventions=same_conventions)
    if why_not:
        return replace(empty, note=why_not)
    laws = laws_for(model, row.measure, row.sex, row.ethnicity, kind)
    # A band of our own that is theirs is compared like with like.
    strata = [
        law
        for law in model.laws
        if (law.measure, law.sex, law.ethnicity) == (row.measure, row.sex, row.ethnicity)
        and law.open_end
        and (law.age_low, law.age_high) == (row.age_low, row.age_high)
    ]
    if strata:
        best = next((law for law in strata if law.kind == kind), strata[0])
        return _against(empty, row, model, best, None)
    if not laws:
        return replace(empty, note="no limits for this group")
    age = _middle(row)
    if age is None:
        if laws[0].age_low is not None:
            return replace(empty, note="the published limits have no age, ours do")
        return _against(empty, row, model, laws[0], None)
    for law in laws:
        if law.holds(np.array([age]))[0]:
            return _against(empty, row, model, law, age)
    return replace(empty, note=outside(laws, age))


def _middle(row: PublishedLimit) -> float | None:
    if row.age_low is None:
        return None
    return (row.age_low + (row.age_high or row.age_low + _BAND_YEARS)) / 2


def _other_convention(model: ReferenceModel, row: PublishedLimit, *, same_conventions: bool) -> str:
    """Why the two cannot be compared: another convention, or one that a side does not state."""
    theirs = {"papillary": row.papillary, "bsa_formula": row.bsa_formula}
    for name, value in theirs.items():
        if name not in depends_on(row.measure):
            continue
        ours = model.conventions.get(name, ())
        if value and ours and value not in ours:
            return f"{name}: theirs {value}, ours {' and '.join(ours)}"
        if (not value or not ours) and not same_conventions:
            return f"{name} is not stated by {'them' if not value else 'us'}"
    return ""


def _against(
    empty: Comparison,
    row: PublishedLimit,
    model: ReferenceModel,
    law: GroupLaw,
    age: float | None,
) -> Comparison:
    ends = ((100 - LEVEL) / 2, (100 + LEVEL) / 2)
    at = np.array([0.0 if age is None else age])
    found = [law.limit_with_interval(age, c) for c in ends]
    notes = [] if age is None or law.age_low is None else [f"ours at {age:g} years"]
    if any(f is None for f in found):
        return replace(empty, note="our limits are not given")
    (low, low_half), (high, high_half) = (f for f in found if f is not None)
    theirs = _their_half(row, model.ci_level)
    if row.n is None:
        notes.append("their sampling error is unknown")
    if low_half is None or high_half is None:
        notes.append("our limits have no interval here")
    margins = [math.hypot(half or 0.0, theirs) + row.rounding for half in (low_half, high_half)]
    differences = [low - row.lower, high - row.upper]
    z = law.law.z_scores(np.array([row.lower, row.upper]), np.repeat(at, 2))
    outside_percent = 100 * special.ndtr(np.array([z[0], -z[1]]))
    known = np.isfinite(z)
    verdict: Verdict = "within-margin"
    if any(abs(d) > m for d, m in zip(differences, margins, strict=True)):
        verdict = "differs"
    elif max(margins) > _WIDE * (row.upper - row.lower):
        verdict = "inconclusive"
    return replace(
        empty,
        our_lower=low,
        our_upper=high,
        difference_lower=differences[0],
        difference_upper=differences[1],
        margin_lower=margins[0],
        margin_upper=margins[1],
        below_percent=float(outside_percent[0]) if known[0] else None,
        above_percent=float(outside_percent[1]) if known[1] else None,
        kind=law.kind,
        method=law.method,
        verdict=verdict,
        note="; ".join(notes),
    )


def _their_half(row: PublishedLimit, ci_level: float) -> float:
    """Half the interval of a published limit taken as mean ± 1.96 SD: z·SD·√(1/n + 1.96²/(2n))."""
    if row.n is None:
        return 0.0
    sd = (row.upper - row.lower) / (2 * _Z)
    z = float(special.ndtri((1 + ci_level / 100) / 2))
    return z * sd * math.sqrt(1 / row.n + _Z**2 / (2 * row.n))
