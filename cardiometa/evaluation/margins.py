"""How large a bias may be and still not matter: margins set before the comparison.

The default margins are what a second scan of the same heart changes. For volumes and mass: the
upper end of the interstudy coefficients of variability of 20 healthy people, 20 with heart failure
and 20 with hypertrophy (Grothues 2002, Am J Cardiol 90:29: EDV 4.9, ESV 9.2, mass 4.8 %), and for
the right ventricle those of Grothues 2004 (Am Heart J 147:218: EDV 6.2, ESV 14.1 %), each in per
cent of the reference mean. For ejection fractions 3 points, half of the reader-to-reader difference
of Suinesiaputra 2015 (J Cardiovasc Magn Reson 17:63: 4.6 to 7.5 points), rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

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
