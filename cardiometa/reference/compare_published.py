"""Our limits compared with published ones of the same convention, with the uncertainty of both.

Published limits are read from a file of the contract's columns, or a known transcription. They are
others' results, second hand: they print with their source, never as ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from scipy import special

from ..errors import TableError
from ..measurement.measures import definition
from .model import NO_LIMITS, GroupDistribution, ReferenceModel, outside
from .options import Kind
from .select import TextRow, depends_on, text_rows

if TYPE_CHECKING:
    import pandas as pd

REQUIRED: Final = ("measure", "sex", "lower", "upper")
COLUMNS: Final = (
    "measure", "unit", "sex", "ethnicity", "age_low", "age_high", "lower", "upper", "papillary",
    "bsa_formula", "source",
)  # fmt: skip
PAPILLARY: Final = ("blood-pool", "myocardium")
HHC2024: Final = "hhc2024"
_HHC_COLUMNS: Final = (
    "ethnicity", "sex", "segmentation", "index", "age_band", "metric", "lower", "upper",
)  # fmt: skip
_HHC_PARTS: Final = (
    ("EDV", "edv_ml"), ("ESV", "esv_ml"), ("EF", "ef_percent"), ("EDVi", "edvi_ml_m2"),
    ("ESVi", "esvi_ml_m2"), ("SVi", "svi_ml_m2"),
)  # fmt: skip
_HHC_MEASURES: Final[Mapping[str, str]] = {
    **{f"{s.upper()}{short}": f"{s}_{name}" for s in ("lv", "rv") for short, name in _HHC_PARTS},
    "LVM": "lv_mass_g",
    "LVMi": "lv_massi_g_m2",
}
# Raisi-Estabragh Z et al. 2024: participants by ethnicity, of both sexes; each sex is about half.
_HHC_PARTICIPANTS: Final[Mapping[str, int]] = MappingProxyType(
    {"white": 7425, "south-asian": 510, "mixed-other": 478, "black": 340, "chinese": 335}
)

Verdict = Literal["within-margin", "differs", "inconclusive", "not-compared"]
LEVEL = 95.0
_Z = 1.959963984540054
# A margin wider than this share of the published interval could hide any difference.
_WIDE = 0.2
_BAND_YEARS = 10.0  # of an open band: its middle is taken as half of it above its start


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A published interval with ours; None where it is not compared (``note`` says why).

    ``margin_*``: half the intervals of both limits, added in quadrature, and half the published
    last digit (``rounding``). ``below_percent``, ``above_percent``: our participants outside the
    published limits. ``n``: their participants, None where that is not stated; "" for a convention
    not stated.
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
    rounding: float = field(default=0.0, metadata={"csv": False})
    n: int | None = field(default=None, metadata={"csv": False})


def published_limits(table: pd.DataFrame, where: str) -> tuple[Comparison, ...]:
    """The rows of a file with the contract's columns, read as text.

    Raises TableError that lists every problem.
    """
    missing = [name for name in REQUIRED if name not in table]
    if missing:
        raise TableError(
            f"{where} has no column {', '.join(missing)}.",
            hint=f"Published limits have {', '.join(COLUMNS)} (and n, where it is known).",
        )
    return _read(text_rows(table, where), where)


def hhc2024(table: pd.DataFrame, where: str) -> tuple[Comparison, ...]:
    """The transcription of the Healthy Hearts Consortium's limits (``hhc2024.csv``).

    Segmentation ``smooth`` has the papillary muscles in the blood pool, ``papillary`` and
    ``anatomical`` in the myocardium; bodies are indexed by Mosteller's formula.
    """
    missing = [name for name in _HHC_COLUMNS if name not in table]
    if missing:
        raise TableError(f"{where} is not the transcription: it has no {', '.join(missing)}.")
    rows = []
    for row in text_rows(table, where):
        low, _, high = row.texts["age_band"].partition("-")
        measure = _HHC_MEASURES.get(row.texts["metric"], "")
        if not measure:
            row.refuse(f"unknown metric {row.texts['metric']!r}")
        participants = _HHC_PARTICIPANTS.get(row.ethnicity())
        smooth = row.texts["segmentation"] == "smooth"
        row.texts = {
            **{name: row.texts[name] for name in ("sex", "ethnicity", "lower", "upper")},
            "measure": measure,
            "age_low": low.rstrip("+"),
            # Bands are whole years: 18-29 ends where 30 begins.
            "age_high": str(float(high) + 1) if high else "",
            "papillary": "blood-pool" if smooth else "myocardium",
            "bsa_formula": "mosteller" if row.texts["index"] == "bsa" else "",
            "source": f"Healthy Hearts Consortium 2024, {row.texts['segmentation']}",
            "n": "" if participants is None else str(participants // 2),
        }
        rows.append(row)
    return _read(rows, where)


def _read(rows: Iterable[TextRow], where: str) -> tuple[Comparison, ...]:
    found, problems = [], []
    for row in rows:
        texts, measure = row.texts, row.texts["measure"]
        lower, upper, n = row.number("lower"), row.number("upper"), row.number("n", needed=False)
        low, high = row.ages()
        if lower is not None and upper is not None and lower >= upper:
            row.refuse(f"lower {lower:g} is not below {upper:g}")
        sex, ethnicity = row.sex(), row.ethnicity()
        papillary, unit = texts.get("papillary", ""), definition(measure).unit
        if papillary not in ("", *PAPILLARY):
            row.refuse(f"papillary is {papillary!r}", f"Use {' or '.join(PAPILLARY)}.")
        if texts.get("unit") and unit and texts["unit"] != unit:
            row.refuse(f"the unit of {measure} is {texts['unit']!r}, not {unit!r}")
        problems += list(dict.fromkeys(row.problems))
        if row.problems or lower is None or upper is None:
            continue
        found.append(
            Comparison(
                measure=measure,
                unit=unit,
                sex=sex,
                ethnicity=ethnicity,
                age_low=low,
                age_high=high,
                lower=lower,
                upper=upper,
                rounding=max(_half_digit(texts["lower"]), _half_digit(texts["upper"])),
                papillary=papillary,
                bsa_formula=texts.get("bsa_formula", ""),
                source=texts.get("source", ""),
                n=None if n is None else int(n),
            )
        )
    if problems or not found:
        raise TableError(f"{where} cannot be used.", problems=problems)
    return tuple(found)


def _half_digit(text: str) -> float:
    """Half of the last printed digit: 0.5 for ``57``, 0.05 for ``57.0``."""
    digits = text.partition(".")[2]
    return 0.5 * 10.0 ** -len(digits) if digits.isdigit() or not digits else 0.0


# ------------------------------------------------------------------ the comparison


def compare_limits(
    model: ReferenceModel,
    published: Sequence[Comparison],
    *,
    kind: Kind = "marginal",
    same_conventions: bool = False,
) -> tuple[Comparison, ...]:
    """Each published interval of a measure that the model has, with ours."""
    found = []
    for row in published:
        if row.measure not in model.measures:
            continue
        why_not = _other_convention(model, row, same_conventions=same_conventions)
        group, age = None, None
        if not why_not:
            group, age, why_not = _counterpart(model, row, kind)
        if group is None:
            found.append(replace(row, note=why_not))
        else:
            found.append(_compare(row, model, group, age))
    return tuple(found)


def _counterpart(
    model: ReferenceModel, row: Comparison, kind: Kind
) -> tuple[GroupDistribution | None, float | None, str]:
    """Our distribution for a published interval, the age to compare at, or why there is none."""
    # A band of our own that is theirs is compared like with like.
    names = ("measure", "sex", "ethnicity", "age_low", "age_high")
    same = [
        group
        for group in model.groups
        if group.open_end and all(getattr(group, name) == getattr(row, name) for name in names)
    ]
    if same:
        return next((group for group in same if group.kind == kind), same[0]), None, ""
    groups = model.distributions(row.measure, row.sex, row.ethnicity, kind)
    if not groups:
        return None, None, NO_LIMITS
    if row.age_low is None:
        if groups[0].age_low is not None:
            return None, None, "the published limits have no age, ours do"
        return groups[0], None, ""
    age = (row.age_low + (row.age_high or row.age_low + _BAND_YEARS)) / 2
    found = next((group for group in groups if group.covers(np.array([age]))[0]), None)
    return found, age, "" if found else outside(groups, age)


def _other_convention(model: ReferenceModel, row: Comparison, *, same_conventions: bool) -> str:
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


def _compare(
    row: Comparison, model: ReferenceModel, group: GroupDistribution, age: float | None
) -> Comparison:
    ours = [group.limit_with_interval(age, c) for c in ((100 - LEVEL) / 2, (100 + LEVEL) / 2)]
    found = [limit for limit in ours if limit is not None]
    if len(found) < 2:
        return replace(row, note="our limits are not given")
    notes = [] if age is None or group.age_low is None else [f"ours at {age:g} years"]
    theirs = 0.0
    if row.n is None:
        notes.append("their sampling error is unknown")
    else:
        # Of a published limit taken as mean ± 1.96 SD: z·SD·√(1/n + 1.96²/(2n)).
        sd = (row.upper - row.lower) / (2 * _Z)
        z_ci = float(special.ndtri((1 + model.ci_level / 100) / 2))
        theirs = z_ci * sd * math.sqrt(1 / row.n + _Z**2 / (2 * row.n))
    if any(half is None for _, half in found):
        notes.append("our limits have no interval here")
    margins = [math.hypot(half or 0.0, theirs) + row.rounding for _, half in found]
    differences = [found[0][0] - row.lower, found[1][0] - row.upper]
    at = np.full(2, 0.0 if age is None else age)
    z = group.distribution.z_scores(np.array([row.lower, row.upper]), at)
    shares = 100 * special.ndtr(np.array([z[0], -z[1]]))
    verdict: Verdict = "within-margin"
    if any(abs(d) > m for d, m in zip(differences, margins, strict=True)):
        verdict = "differs"
    elif max(margins) > _WIDE * (row.upper - row.lower):
        verdict = "inconclusive"
    return replace(
        row,
        our_lower=found[0][0],
        our_upper=found[1][0],
        difference_lower=differences[0],
        difference_upper=differences[1],
        margin_lower=margins[0],
        margin_upper=margins[1],
        below_percent=float(shares[0]) if np.isfinite(z[0]) else None,
        above_percent=float(shares[1]) if np.isfinite(z[1]) else None,
        kind=group.kind,
        method=group.method,
        verdict=verdict,
        note="; ".join(notes),
    )
