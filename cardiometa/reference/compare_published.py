"""Published limits as rows: a file of the contract's columns, or a known transcription.

They are facts of others, second hand: they print with their source, never as ours.

Our limits beside published ones of the same convention, with the uncertainty of both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ..errors import Problem, TableError
from ..measurement.measures import definition
from ..records import ETHNICITIES
from .strata.groups import ALL

if TYPE_CHECKING:
    import pandas as pd
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy import special

from .model import GroupLaw, ReferenceModel, laws_for, outside
from .options import Kind
from .select import depends_on

REQUIRED: Final = ("measure", "sex", "lower", "upper")
COLUMNS: Final = (
    "measure", "unit", "sex", "ethnicity", "age_low", "age_high", "lower", "upper", "papillary",
    "bsa_formula", "source",
)  # fmt: skip
PAPILLARY: Final = ("blood-pool", "myocardium")
HHC2024: Final = "hhc2024"
_SEXES: Final = {"m": "male", "male": "male", "f": "female", "female": "female", "all": ALL}
_HHC_COLUMNS: Final = (
    "ethnicity", "sex", "segmentation", "index", "age_band", "metric", "lower", "upper",
)  # fmt: skip
_HHC_MEASURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "LVEDV": "lv_edv_ml",
        "LVESV": "lv_esv_ml",
        "LVEF": "lv_ef_percent",
        "LVM": "lv_mass_g",
        "RVEDV": "rv_edv_ml",
        "RVESV": "rv_esv_ml",
        "RVEF": "rv_ef_percent",
        "LVEDVi": "lv_edvi_ml_m2",
        "LVESVi": "lv_esvi_ml_m2",
        "LVSVi": "lv_svi_ml_m2",
        "LVMi": "lv_massi_g_m2",
        "RVEDVi": "rv_edvi_ml_m2",
        "RVESVi": "rv_esvi_ml_m2",
        "RVSVi": "rv_svi_ml_m2",
    }
)
# Raisi-Estabragh Z et al. 2024: people by ethnicity, of both sexes; each sex is about half.
_HHC_PEOPLE: Final[Mapping[str, int]] = MappingProxyType(
    {"white": 7425, "south-asian": 510, "mixed-other": 478, "black": 340, "chinese": 335}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedLimit:
    """One published reference interval; ``rounding`` is half its last digit.

    ``n`` None where nobody said how many people it is of; "" for a convention not stated.
    """

    measure: str
    unit: str
    sex: str
    ethnicity: str
    age_low: float | None
    age_high: float | None
    lower: float
    upper: float
    rounding: float
    papillary: str
    bsa_formula: str
    source: str
    n: int | None = None


def published_limits(table: pd.DataFrame, where: str) -> tuple[PublishedLimit, ...]:
    """The rows of a file with the contract's columns, read as text.

    Raises TableError that lists every problem.
    """
    missing = [name for name in REQUIRED if name not in table]
    if missing:
        raise TableError(
            f"{where} has no column {', '.join(missing)}.",
            hint=f"Published limits have {', '.join(COLUMNS)} (and n, where it is known).",
        )
    rows, problems = [], []
    for number, texts in _texts(table):
        found = _row(texts, f"{where}, row {number}")
        if isinstance(found, PublishedLimit):
            rows.append(found)
        else:
            problems += found
    if problems or not rows:
        raise TableError(f"{where} cannot be used.", problems=problems)
    return tuple(rows)


def hhc2024(table: pd.DataFrame, where: str) -> tuple[PublishedLimit, ...]:
    """The transcription of the Healthy Hearts Consortium's limits (``hhc2024.csv``).

    Segmentation ``smooth`` has the papillary muscles in the blood pool, ``papillary`` and
    ``anatomical`` in the myocardium; bodies are indexed by Mosteller's formula.
    """
    missing = [name for name in _HHC_COLUMNS if name not in table]
    if missing:
        raise TableError(f"{where} is not the transcription: it has no {', '.join(missing)}.")
    rows, problems = [], []
    for number, texts in _texts(table):
        low, _, high = texts["age_band"].partition("-")
        measure = _HHC_MEASURES.get(texts["metric"])
        if measure is None:
            problems.append(
                Problem(where=f"{where}, row {number}", what=f"unknown metric {texts['metric']!r}")
            )
            continue
        ethnicity = _ethnicity(texts["ethnicity"])
        people = _HHC_PEOPLE.get(ethnicity)
        found = _row(
            {
                "measure": measure,
                "unit": definition(measure).unit,
                "sex": texts["sex"],
                "ethnicity": ethnicity,
                "age_low": low.rstrip("+"),
                # Bands are whole years: 18-29 ends where 30 begins.
                "age_high": str(float(high) + 1) if high else "",
                "lower": texts["lower"],
                "upper": texts["upper"],
                "papillary": "blood-pool" if texts["segmentation"] == "smooth" else "myocardium",
                "bsa_formula": "mosteller" if texts["index"] == "bsa" else "",
                "source": f"Healthy Hearts Consortium 2024, {texts['segmentation']}",
                "n": "" if people is None else str(people // 2),
            },
            f"{where}, row {number}",
        )
        if isinstance(found, PublishedLimit):
            rows.append(found)
        else:
            problems += found
    if problems or not rows:
        raise TableError(f"{where} cannot be used.", problems=problems)
    return tuple(rows)


def _texts(table: pd.DataFrame) -> Iterator[tuple[int, dict[str, str]]]:
    columns = {
        str(name): table[name].astype(str).where(table[name].notna(), "").str.strip().tolist()
        for name in table.columns
    }
    for place, number in enumerate(table.index.tolist()):
        yield number, {name: column[place] for name, column in columns.items()}


def _ethnicity(text: str) -> str:
    """``South Asian`` and ``Mixed/Other`` as the harmonised codes; blank is everybody."""
    return text.casefold().replace(" ", "-").replace("/", "-") or ALL


def _row(texts: Mapping[str, str], where: str) -> PublishedLimit | list[Problem]:
    problems: list[Problem] = []

    def number(name: str, *, needed: bool) -> float | None:
        text = texts.get(name, "")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if text and math.isfinite(value):
            return value
        if text or needed:
            problems.append(Problem(where=where, what=f"{name} is {text!r}, no number"))
        return None

    lower, upper = number("lower", needed=True), number("upper", needed=True)
    low, high = number("age_low", needed=False), number("age_high", needed=False)
    n = number("n", needed=False)
    if lower is not None and upper is not None and lower >= upper:
        problems.append(Problem(where=where, what=f"lower {lower:g} is not below {upper:g}"))
    if low is not None and high is not None and low >= high:
        problems.append(Problem(where=where, what=f"age_low {low:g} is not below {high:g}"))
    sex = _SEXES.get(texts["sex"].casefold() or ALL)
    if sex is None:
        problems.append(
            Problem(where=where, what=f"sex is {texts['sex']!r}", fix="Use male, female or all.")
        )
    ethnicity = _ethnicity(texts.get("ethnicity", ""))
    if ethnicity not in (ALL, *ETHNICITIES):
        known = ", ".join((*ETHNICITIES, ALL))
        problems.append(Problem(where=where, what=f"ethnicity is {ethnicity!r}", fix=known))
    papillary = texts.get("papillary", "")
    if papillary not in ("", *PAPILLARY):
        problems.append(
            Problem(
                where=where,
                what=f"papillary is {papillary!r}",
                fix=f"Use {' or '.join(PAPILLARY)}.",
            )
        )
    measure, unit = texts["measure"], definition(texts["measure"]).unit
    if texts.get("unit") and unit and texts["unit"] != unit:
        problems.append(
            Problem(where=where, what=f"the unit of {measure} is {texts['unit']!r}, not {unit!r}")
        )
    if problems or lower is None or upper is None or sex is None:
        return problems
    return PublishedLimit(
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


def _half_digit(text: str) -> float:
    """Half of the last printed digit: 0.5 for ``57``, 0.05 for ``57.0``."""
    digits = text.partition(".")[2]
    return 0.5 * 10.0 ** -len(digits) if digits.isdigit() or not digits else 0.0


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
