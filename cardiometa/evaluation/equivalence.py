"""How large a bias may be and still not matter: margins set before the comparison.

The default margins are what a second scan of the same heart changes. For volumes and mass: the
upper end of the interstudy coefficients of variability of 20 healthy people, 20 with heart failure
and 20 with hypertrophy (Grothues 2002, Am J Cardiol 90:29: EDV 4.9, ESV 9.2, mass 4.8 %), and for
the right ventricle those of Grothues 2004 (Am Heart J 147:218: EDV 6.2, ESV 14.1 %), each in per
cent of the reference mean. For ejection fractions 3 points, half of the reader-to-reader difference
of Suinesiaputra 2015 (J Cardiovasc Magn Reson 17:63: 4.6 to 7.5 points), rounded.

Equivalence of a bias to zero within a margin: two one-sided tests by their interval.

The bias is equivalent to zero at 5 % where its 90 % interval lies inside ± margin (Schuirmann 1987;
Westlake 1981). An interval that lies wholly outside is a difference beyond the margin; all else is
not shown, whatever the p of a difference from zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import numpy as np

from ..errors import UsageError

USER: Final = "set by --margin"
# Of differences in Dice between groups; there is no default, for want of a published one.
DICE: Final = "dice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """The largest bias that does not matter: in the measure's unit, or ``percent`` of the mean."""

    value: float
    percent: bool
    source: str

    def of(self, mean_reference: float) -> float:
        """The margin in the measure's unit, given the mean of the reference values."""
        return abs(mean_reference) * self.value / 100 if self.percent else self.value


def _percent(value: float, source: str) -> Margin:
    return Margin(value=value, percent=True, source=source)


def _points(value: float, source: str) -> Margin:
    return Margin(value=value, percent=False, source=source)


_LV, _RV, _EF = "Grothues 2002", "Grothues 2004", "Suinesiaputra 2015"
DEFAULT_MARGINS: Final[Mapping[str, Margin]] = MappingProxyType(
    {
        "lv_edv_ml": _percent(4.9, _LV),
        "lv_esv_ml": _percent(9.2, _LV),
        "lv_mass_g": _percent(4.8, _LV),
        "lv_ef_percent": _points(3.0, _EF),
        "rv_edv_ml": _percent(6.2, _RV),
        "rv_esv_ml": _percent(14.1, _RV),
        "rv_ef_percent": _points(3.0, _EF),
    }
)


def margins_of(texts: Sequence[str], known: Sequence[str]) -> dict[str, Margin]:
    """The default margins with those of ``["lv_ef_percent=3", "lv_edv_ml=5%"]`` in their place.

    Raises UsageError for anything else.
    """
    margins = dict(DEFAULT_MARGINS)
    for text in texts:
        name, sign, number = text.partition("=")
        name = name.strip()
        percent = number.strip().endswith("%")
        try:
            value = float(number.strip().removesuffix("%"))
        except ValueError:
            value = -1.0
        if not sign or not 0 < value < float("inf"):
            raise UsageError(
                f"--margin {text} is not MEASURE=NUMBER.",
                hint="Say --margin lv_ef_percent=3, or --margin lv_edv_ml=5% of the mean.",
            )
        if name not in known:
            raise UsageError(
                f"--margin names the unknown measure {name}.", hint=f"Known: {', '.join(known)}."
            )
        margins[name] = Margin(value=value, percent=percent, source=USER)
    return margins


Verdict = Literal["equivalent", "not shown", "different beyond margin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalence:
    """An estimate with the interval of level 100 - 2 alpha, and what it says."""

    estimate: float
    low: float
    high: float
    verdict: Verdict
    p: float


def verdict_of(low: float, high: float, margin: float) -> Verdict:
    """What an interval says about a margin."""
    if -margin < low and high < margin:
        return "equivalent"
    if low > margin or high < -margin:
        return "different beyond margin"
    return "not shown"


def bias_equivalence(
    means: np.ndarray, margin: float, ci_level: float = 90.0
) -> Equivalence | None:
    """Mean of the people's mean differences ``[n]`` against a margin, by t; None below 3."""
    n = len(means)
    if n < 3:
        return None
    se = float(means.std(ddof=1)) / math.sqrt(n)
    return _tested(float(means.mean()), se, n - 1, margin, ci_level)


def difference_equivalence(
    group: np.ndarray, rest: np.ndarray, margin: float, ci_level: float = 90.0
) -> Equivalence | None:
    """Mean of a group less that of the rest against a margin, by Welch's t; None below 3 each."""
    if min(len(group), len(rest)) < 3:
        return None
    a, b = (float(v.var(ddof=1)) / len(v) for v in (group, rest))
    if a + b <= 0:
        df = float(len(group) + len(rest) - 2)
    else:
        df = (a + b) ** 2 / (a**2 / (len(group) - 1) + b**2 / (len(rest) - 1))
    return _tested(float(group.mean() - rest.mean()), math.sqrt(a + b), df, margin, ci_level)


def _tested(estimate: float, se: float, df: float, margin: float, ci_level: float) -> Equivalence:
    from scipy import stats

    half = float(stats.t.ppf(0.5 + ci_level / 200, df)) * se
    if se > 0:
        p = float(stats.t.sf((margin - abs(estimate)) / se, df))
    else:
        p = 0.0 if abs(estimate) < margin else 1.0
    low, high = estimate - half, estimate + half
    return Equivalence(
        estimate=estimate, low=low, high=high, verdict=verdict_of(low, high, margin), p=p
    )
