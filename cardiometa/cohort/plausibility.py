"""What a measure can be: one table, and the checks of a harmonised table against it.

`LIMITS` is the table; unit and definition of each measure are in `measurement.measures`. Each check
has a code that ``--accept`` takes (`models.CHECKS`). Only columns that the analysis uses are
checked. Everything works by column, so that a million rows take a second.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product

import numpy as np
import pandas as pd

from ..errors import Problem
from ..measurement.indexing import HEIGHT_CM, WEIGHT_KG
from ..measurement.measures import definition
from ..records import SEXES, SeriousWarning
from .infer_columns import measure_of
from .models import CHECKS
from .recode import (
    ADULT_BOUNDS,
    COLUMN_KINDS,
    UNITS,
    as_numbers,
    as_text,
    kind_of,
    quoted,
    rows_text,
    toml_key,
)

Span = tuple[float, float]
_POSITIVE: Span = (0.0, float("inf"))
_ANY: Span = (float("-inf"), float("inf"))


@dataclass(frozen=True, slots=True)
class MeasureLimits:
    """What a measure can be in adults, in the unit of its name.

    ``plausible``: of one person; beyond it an error is likelier than a heart.
    ``median``: of a trial's participants, from the smallest healthy groups to the most dilated
    hearts; None where it is not judged.
    ``causes``: factor and reason; a median that ``factor`` brings into its range is explained so.
    ``possible``: open interval; a value at or beyond an end is not one of a living heart.
    """

    plausible: Span
    median: Span | None = None
    causes: tuple[tuple[float, str], ...] = ()
    possible: Span = _POSITIVE


_LITRES = ((1000.0, "litres instead of millilitres"), (0.001, "microlitres"))
_GRAMS = ((1000.0, "kilograms instead of grams"), (0.001, "milligrams"))
_BSA = 1.9  # m², of an ordinary adult
_VOLUME = (*_LITRES, (_BSA, "an index (mL/m²) instead of the volume"))
_VOLUME_INDEX = (*_LITRES, (1 / _BSA, "the volume (mL) instead of the index"))
_MASS = (*_GRAMS, (_BSA, "an index (g/m²) instead of the mass"))
_MASS_INDEX = (*_GRAMS, (1 / _BSA, "the mass (g) instead of the index"))
_FRACTION = ((100.0, "fractions instead of percent"), (0.01, "percent multiplied by 100"))
# Healthy adults: Kawel-Boehm et al., J Cardiovasc Magn Reson 22:87, 2020; the upper ends are of
# trials of heart failure. An index is the measure divided by 1.5 to 2.2 m².
# fmt: off
_VENTRICLE = {  # the same for both
    "edv_ml": MeasureLimits((30.0, 700.0), (85.0, 400.0), _VOLUME),
    "esv_ml": MeasureLimits((5.0, 650.0), (25.0, 330.0), _VOLUME),
    "sv_ml": MeasureLimits((10.0, 250.0), (35.0, 160.0), _VOLUME),
    "ef_percent": MeasureLimits((5.0, 85.0), (12.0, 80.0), _FRACTION, (0.0, 100.0)),
    "edvi_ml_m2": MeasureLimits((15.0, 400.0), (40.0, 220.0), _VOLUME_INDEX),
    "esvi_ml_m2": MeasureLimits((2.0, 350.0), (12.0, 180.0), _VOLUME_INDEX),
    "svi_ml_m2": MeasureLimits((5.0, 130.0), (18.0, 85.0), _VOLUME_INDEX),
}
LIMITS: Mapping[str, MeasureLimits] = {
    **{f"{side}_{name}": limits for side in ("lv", "rv") for name, limits in _VENTRICLE.items()},
    "lv_mass_g": MeasureLimits((25.0, 600.0), (50.0, 350.0), _MASS),
    "lv_massi_g_m2": MeasureLimits((12.0, 320.0), (25.0, 180.0), _MASS_INDEX),
    "heart_rate_bpm": MeasureLimits((25.0, 220.0), (45.0, 130.0), ((60.0, "beats per second"),)),
    "lv_co_l_min": MeasureLimits((1.0, 25.0), (2.0, 12.0), ((0.001, "mL/min instead of L/min"),)),
    "lv_wall_thickness_max_mm": MeasureLimits((3.0, 50.0), (5.0, 35.0),
        ((10.0, "centimetres instead of millimetres"), (0.1, "micrometres"))),
    **dict.fromkeys(("lv_per_edv_s", "lv_pfr_edv_s"), MeasureLimits((0.3, 12.0), (1.0, 8.0),
        ((1 / 150, "mL/s instead of a rate divided by EDV"),))),
    "lv_time_to_pfr_ms": MeasureLimits((20.0, 700.0), (60.0, 400.0),
        ((1000.0, "seconds instead of milliseconds"),)),
    "lv_dvr80_fraction": MeasureLimits((0.1, 1.0), (0.3, 0.95),
        ((0.01, "percent instead of fractions"),), (0.0, 1.01)),
    "lv_gcs_percent": MeasureLimits((-50.0, 5.0), possible=(-100.0, 100.0)),
    "bsa_m2": MeasureLimits((1.0, 3.2), (1.3, 2.5), ((0.0001, "cm² instead of m²"),)),
    "age_years": MeasureLimits((16.0, 105.0), (18.0, 95.0),
        ((1 / 12, "months instead of years"), (1 / 365.25, "days instead of years")), (0.0, 120.0)),
    "height_cm": MeasureLimits(ADULT_BOUNDS["height_cm"], (150.0, 190.0),
        ((100.0, "metres instead of centimetres"), (2.54, "inches instead of centimetres"),
         (0.1, "millimetres instead of centimetres")), HEIGHT_CM),
    "weight_kg": MeasureLimits(ADULT_BOUNDS["weight_kg"], (45.0, 130.0),
        ((0.45359237, "pounds instead of kilograms"), (0.001, "grams instead of kilograms")),
        WEIGHT_KG),
    "visit_day": MeasureLimits((-3700.0, 22000.0), possible=_ANY),
    "death_day": MeasureLimits((0.0, 22000.0), possible=(-0.5, 37000.0)),
    "withdrawal_day": MeasureLimits((0.0, 22000.0), possible=(-0.5, 37000.0)),
}
# fmt: on


def possible_values(name: str) -> Span:
    """The open interval of values that a measure can have.

    A trial's own value (``reported_lv_edv_ml``) has the measure's; a measure divided by a power of
    body size is above 0; any other name can be anything.
    """
    limits = LIMITS.get(name.removeprefix("reported_"))
    if limits is not None:
        return limits.possible
    return _POSITIVE if "_per_" in name else _ANY


def plausible_values(name: str) -> Span:
    """The interval beyond which a value of a measure is likelier an error; else any number."""
    return LIMITS[name].plausible if name in LIMITS else _ANY


def in_another_trial(values: pd.DataFrame, trials: pd.Series) -> pd.Series[bool]:
    """True for rows whose values, number for number, are in another trial too; same index."""
    codes = pd.Series(pd.factorize(trials)[0], index=values.index)
    alike = codes.groupby(pd.util.hash_pandas_object(values, index=False))
    return alike.transform("min") < alike.transform("max")


@dataclass(slots=True, kw_only=True)
class Findings:
    """What the checks found: ``problems`` refuse, ``warnings`` are accepted ones.

    ``missing`` are the codes to declare with ``--missing``; ``codes`` the checks that refuse.
    """

    accept: Collection[str] = ()
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)

    def add(self, code: str, where: str, what: str, why: str, fix: str = "") -> None:
        """A problem of the check ``code``, or a serious warning where that is accepted."""
        if code in self.accept:
            # On pages for release: no row and no value of a participant.
            place = where.partition(", row")[0]
            self.warnings.append(SeriousWarning(f"Accepted, {code}: {CHECKS[code]} ({place})."))
            return
        self.problems.append(Problem(where=where, what=what, why=why, fix=fix))
        if code not in self.codes:
            self.codes.append(code)

    def hint(self) -> str:
        """What to add to the command."""
        lines = []
        if self.missing:
            lines.append(f"Add to the command: --missing {','.join(dict.fromkeys(self.missing))}")
        if self.codes:
            codes = ",".join(self.codes)
            lines.append(f"To continue all the same, which the report then says: --accept {codes}")
        return "\n  ".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedColumns:
    """What is checked: ``rows`` harmonised, on the row numbers of the file ``where``.

    ``needed`` are the columns that the analysis uses (None: all); ``names`` the user's names;
    ``baseline_visit`` and ``time`` (a column of days) where the analysis has them; ``roles`` the
    measures of columns whose names do not say them. ``measured``:
    the rows are an output of `segment`, whose own measures are in their units however small a
    heart is.
    """

    rows: pd.DataFrame
    where: str
    needed: Collection[str] | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    baseline_visit: str = "baseline"
    time: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    measured: bool = False
    labels: pd.Index | None = None

    def uses(self, name: str) -> bool:
        """True where the table has the column and the analysis uses it."""
        if name not in self.rows:
            return False
        return self.needed is None or name in self.needed or self.names.get(name) in self.needed

    def measure(self, name: str) -> str:
        """The measure that a column is of; its own name where it is not known."""
        found = measure_of(self.names.get(name, name), name)
        return found if found in LIMITS else self.roles.get(name, found)

    def place(self, name: str, rows: pd.Index | None = None) -> str:
        """``t.csv, column 'LVEF' (lv_ef_percent), rows 3, 7``."""
        theirs = self.names.get(name, name)
        shown = f"column {theirs!r}" + (f" ({name})" if theirs != name else "")
        labels = rows if rows is None or self.labels is None else self.labels[rows]
        at = "" if labels is None else f", {rows_text(labels)}"
        return f"{self.where}, {shown}{at}"


def check_plausible(columns: CheckedColumns, found: Findings) -> None:
    """Add everything that makes the numbers of a table doubtful to ``found``."""
    # Row numbers of several files may be equal: rows are counted, and named by their labels.
    rows = columns.rows.reset_index(drop=True)
    rows["trial"] = rows["trial"].astype("category")
    columns = replace(columns, rows=rows, labels=columns.rows.index)
    numbers: dict[str, pd.Series] = {}
    for name in map(str, rows.columns):
        if not columns.uses(name) or (name in COLUMN_KINDS and kind_of(name) in _TEXTS):
            continue
        if pd.api.types.is_bool_dtype(rows[name]):
            continue
        values, bad = as_numbers(rows[name])
        if not bad.any():  # columns with words are left to who needs them
            possible = _check_values(columns, name, values.dropna(), found)
            numbers[name] = _check_units(columns, name, possible, found)
    for name in ("arm", "visit"):
        if columns.uses(name):
            _check_names(columns, name, found)
    _check_names(columns, "trial", found)
    _check_volumes(columns, numbers, found)
    _check_days(columns, found)
    _check_people(columns, numbers, found)


def declared_missing(
    cells: pd.Series, declared: Sequence[str], where: str, found: Findings
) -> pd.Series:
    """``cells`` without the codes of ``--missing``: ``-99``, or ``LVEF=-99`` for one column.

    A code for all columns is ambiguous where it lies amid the other values of one: a problem.
    """
    column = str(cells.name)
    own = [c.partition("=")[2] for c in declared if c.partition("=")[0] == column]
    codes = [*own, *(code for code in declared if "=" not in code)]
    numbers, bad = as_numbers(cells)
    is_number = pd.api.types.is_numeric_dtype(cells)
    texts = None if is_number else as_text(cells).str.casefold()
    gone = pd.Series(data=False, index=cells.index)
    for code in dict.fromkeys(codes):
        value = _number(code)
        hit = numbers.eq(np.nan if value is None else value)
        if texts is not None:
            hit |= texts.eq(code.casefold())
        others = numbers[~hit & ~bad].dropna()
        if hit.any() and code not in own and value is not None and len(others) >= _FEW:
            low, high = others.quantile([0.05, 0.95])
            if low < value < high and others.nunique() >= _CONTINUOUS:
                found.add(
                    "ambiguous-missing",
                    f"{where}, column {column!r}, {rows_text(cells.index[hit])}",
                    f"{code} is declared as missing, and is also an ordinary value here",
                    f"Most values lie between {low:g} and {high:g}.",
                    f"Name the columns that use the code: --missing COLUMN={code}.",
                )
        gone |= hit
    return cells.mask(gone) if is_number else cells.mask(gone, "")


# ------------------------------------------------------------------ values of one column

_FOLLOWED_YEARS = 25.0  # hardly any participant is scanned over a longer time
_FEW = 5  # values that say something about the others
_CONTINUOUS = 12  # distinct values, from which a column is of measurements and not of codes
_MOST_SHOWN = 12
_TEXTS = frozenset({"id", "text", "sex", "ethnicity", "boolean"})
# 9, 99, 999, 99.9, 8888, 77 … with both signs, and small negative whole numbers.
_DIGITS = [digit * count for digit in "789" for count in range(1, 7)]
_CODES = sorted(
    {sign * float(text) for text in (*_DIGITS, "9.9", "99.9", "999.9", "99.99") for sign in (1, -1)}
    | {float(-number) for number in range(1, 10)}
    | {-11.0 * number for number in range(1, 10)}
)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _check_values(
    columns: CheckedColumns, name: str, values: pd.Series, found: Findings
) -> pd.Series:
    """Codes and impossible values; the values that are neither."""
    measure = columns.measure(name)
    low, high = possible_values(measure)
    outside = ~values.between(low, high, inclusive="both" if name == "age_years" else "neither")
    codes = _codes_among(values, outside, measure)
    is_code = values.isin(codes)
    rest = values[~is_code]
    for code in codes:
        rows = values.index[values == code]
        others = f": the others are {rest.min():g} to {rest.max():g}" if len(rest) else ""
        found.add(
            "missing-code",
            columns.place(name, rows),
            f"{code:g} appears {_times(len(rows))}",
            f"It looks like a code for a missing value{others}.",
            f"If it is one, add --missing {code:g}.",
        )
        if "missing-code" not in found.accept:
            found.missing.append(f"{code:g}")
    wrong = values[outside & ~is_code]
    if len(wrong):
        span = f"above {low:g}" if np.isinf(high) else f"between {low:g} and {high:g}"
        found.add(
            "impossible-value",
            columns.place(name, wrong.index),
            f"impossible: {', '.join(f'{v:g}' for v in wrong.head(_MOST_SHOWN))}",
            f"{measure} lies {span}.",
            "Correct the cells, or leave them blank.",
        )
    return values[~outside & ~is_code]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _codes_among(values: pd.Series, outside: pd.Series, measure: str) -> list[float]:
    """The values that look like codes for a missing one."""
    impossible = values[outside].value_counts()
    repeated = impossible.index[(impossible >= 3) | impossible.index.isin(_CODES)]
    codes = {float(value) for value in repeated.to_numpy()}
    inside = values[~outside]
    counts = inside[inside.isin(_CODES)].value_counts()
    others = inside[~inside.isin(counts.index)]
    if counts.empty or len(others) < _FEW:
        return sorted(codes)
    plausible = plausible_values(measure)
    low, high = float(others.min()), float(others.max())
    span = max(high - low, 1e-9 * abs(high))
    many = max(_FEW, 4 * int(others.value_counts().iloc[0]))
    is_day = kind_of(measure) == "day"
    for value, count in zip(counts.index.astype(float), counts, strict=True):
        gap = max(low - value, value - high)
        far = (count > 1 and gap > span / 2) or (gap > 3 * span and abs(value) > 9)
        lone_sign = value < 0 < low and not is_day
        # Amid the others, but far more frequent than any of them.
        frequent = set(f"{value:g}") <= {"9", "."} and count >= many and not is_day
        frequent = frequent and others.nunique() > _CONTINUOUS
        if far or lone_sign or frequent or not plausible[0] <= value <= plausible[1]:
            codes.add(value)
    return sorted(codes)


def _check_units(
    columns: CheckedColumns, name: str, values: pd.Series, found: Findings
) -> pd.Series:
    """A trial's median against the measure's range; of an unknown measure, trials' scales.

    The values that seem to be in the measure's unit.
    """
    measure = columns.measure(name)
    trials = columns.rows["trial"]
    trials = trials if len(trials) == len(values) else trials.loc[values.index]
    facts = values.groupby(trials, observed=True).agg(["count", "median", "std"])
    facts = facts[facts["count"] >= _FEW]
    limits = LIMITS.get(measure)
    if limits is None:
        if not values.dropna().isin([0, 1]).all():  # an event has no unit
            _check_scales(columns, name, facts, found)
        return values
    if limits.median is None or (columns.measured and name in LIMITS):
        return values
    low, high = limits.median
    unit = definition(measure).unit
    odd = facts[~facts["median"].between(low, high)]
    if len(odd):
        medians = ", ".join(f"{m:.3g} in {trial}" for trial, m in odd["median"].items())
        if len(facts) == 1:
            medians = f"{odd['median'].iloc[0]:.3g}"
        middle = float(odd["median"].median())
        cause = _cause(middle, limits, limits.median)
        found.add(
            "unit",
            columns.place(name),
            f"the median is {medians}",
            f"{measure} has medians of {low:g} to {high:g} {unit} in adults{cause}.",
            _unit_fix(columns.names.get(name, name), name, measure, middle)
            or f"Give the values in {unit}, or name the right column.",
        )
    rest = values[~trials.isin(odd.index)]
    strange = rest[~rest.between(*limits.plausible)]
    likely = [v for v in strange if _cause(v, limits, limits.plausible, least=10)]
    if likely:
        rows = strange.index[strange.isin(likely)]
        found.add(
            "unit",
            columns.place(name, rows),
            f"{', '.join(f'{v:g}' for v in likely[:_MOST_SHOWN])} among values in {unit}",
            f"This seems another unit{_cause(likely[0], limits, limits.plausible, least=10)}.",
            f"Give the values in {unit}.",
        )
    return rest.drop(strange.index[strange.isin(likely)])


def _unit_fix(column: str, name: str, measure: str, middle: float) -> str:
    """The line of [columns] that converts the unit, where the column can have one."""
    low, high = LIMITS[measure].median or _ANY
    for unit, factor in UNITS.get(kind_of(measure), {}).items():
        if factor != 1 and low <= middle * factor <= high:
            line = f'{toml_key(name)} = {{ column = {quoted(column)}, unit = "{unit}" }}'
            return f"If all trials use it, add under [columns] of --config: {line}"
    return ""


def _cause(value: float, limits: MeasureLimits, span: Span, least: float = 1.0) -> str:
    """The reason whose factor brings the value into ``span``, for the end of a sentence."""
    for factor, reason in limits.causes:
        if max(factor, 1 / factor) >= least and span[0] <= value * factor <= span[1]:
            return f": these look like {reason}"
    return ""


def _check_scales(columns: CheckedColumns, name: str, facts: pd.DataFrame, found: Findings) -> None:
    """Trials whose SD, or whose median by more than chance, differs ten-fold from another's."""
    scatter = facts[facts["std"] > 0]
    if len(scatter) < 2:
        return
    sd, median = scatter["std"], scatter["median"]
    size = median.abs()
    apart = size.max() - size.min() > 2 * sd.max()
    if sd.max() < 10 * sd.min() and not (apart and size.max() >= 10 * size.min()):
        return
    shown = ", ".join(
        f"{t} {m:.3g} (SD {s:.3g})" for t, m, s in zip(sd.index, median, sd, strict=True)
    )
    found.add(
        "units-differ",
        columns.place(name),
        f"the medians of the trials are {shown}",
        "A ten-fold difference in level or spread is likelier one of units.",
        "Bring all trials to one unit.",
    )


# ------------------------------------------------------------------ names, volumes, days

# Letters of other alphabets that are read as Latin letters, and digits that are.
_LOOKALIKES = str.maketrans("авекмнорстухіјѕαορτυνικ", "abekmhopctyxijsaoptuvik")
_DIGIT_PAIRS = ("0o", "o0", "1l", "l1", "1i", "i1")


def _check_names(columns: CheckedColumns, name: str, found: Findings) -> None:
    """One name in two spellings: case, blanks, punctuation, letters that look alike, a slip."""
    cells = columns.rows[name].dropna()
    counts = cells[cells.ne("")].value_counts()
    if len(counts) > 1000:
        return
    spellings: dict[str, list[str]] = {}
    for text in sorted(map(str, counts.index)):
        spellings.setdefault(folded(text), []).append(text)
    groups = [names for names in spellings.values() if len(names) > 1]
    if name == "arm":
        _check_arm_codes(columns, counts, found)
        groups += [
            [spellings[one][0], spellings[other][0]]
            for one, other in combinations(spellings, 2)
            if _is_slip(one, other)
        ]
    for names in groups:
        common = max(names, key=lambda text: counts[text])
        shown = ", ".join(f"{text!r} ({counts[text]})" for text in names)
        codes = ", ".join(
            f'"{t}" = "{common if t in names else t}"' for t in map(str, counts.index)
        )
        line = f'arm = {{ column = "{columns.names.get(name, name)}", map = {{ {codes} }} }}'
        found.add(
            "spelling",
            columns.place(name),
            f"one {name} seems to be spelled in {len(names)} ways: {shown}",
            f"They would be taken as different {name}s.",
            f"Correct the cells to {common!r}"
            + (f", or add under [columns] of --config: {line}" if name == "arm" else "."),
        )


def _check_arm_codes(columns: CheckedColumns, counts: pd.Series, found: Findings) -> None:
    """Arms such as 99 among words, or far from the numbers of the other arms."""
    numbers = {text: _number(text) for text in map(str, counts.index)}
    others = [v for v in numbers.values() if v not in _CODES]
    known = [v for v in others if v is not None]
    for text, value in numbers.items():
        if value not in _CODES or value is None or not others:
            continue
        words = len(known) < len(others)
        if words or value < 0 or value > max(known) + 3 * max(1.0, max(known) - min(known)):
            column = columns.names.get("arm", "arm")
            found.add(
                "missing-code",
                columns.place("arm"),
                f"the arm {text} appears {_times(int(counts[text]))}",
                "It looks like a code for a missing value.",
                f"If it is one, add --missing {column}={text}.",
            )
            if "missing-code" not in found.accept:
                found.missing.append(f"{column}={text}")


def folded(text: str) -> str:
    """What is left of a name without case, blanks, punctuation and look-alike letters."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_LOOKALIKES)
    bare = "".join(c for c in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(c))
    # A point between digits is of a number: 1.0 mg is not 10 mg.
    return re.sub(r"(?<!\d)\.|\.(?!\d)|[^\w.]|_", "", bare) or text


def _is_slip(one: str, other: str) -> bool:
    """True where two long names differ by one letter left out, doubled, changed or swapped."""
    if min(len(one), len(other)) < 6 or abs(len(one) - len(other)) > 1:
        return False
    pairs = list(zip(one, other, strict=False))
    start = next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))
    a, b = one[start:], other[start:]
    if a[1:] == b[1:] and a[:1] + b[:1] in _DIGIT_PAIRS:
        return True
    swapped = a[:2] == b[1::-1] and a[2:] == b[2:]
    same = a[1:] == b or a == b[1:] or a[1:] == b[1:]
    # Drug A and Drug B, 5 mg and 6 mg differ in their last sign or in a digit.
    return (same or swapped) and (a[:1] + b[:1]).isalpha() and len(a + b) > 2


def _check_volumes(
    columns: CheckedColumns, numbers: Mapping[str, pd.Series], found: Findings
) -> None:
    """ESV above EDV; a partner that the analysis does not use counts where it is in its unit."""
    for side, unit in product(("lv", "rv"), ("_ml", "i_ml_m2")):
        pair = f"{side}_edv{unit}", f"{side}_esv{unit}"
        if not any(name in numbers for name in pair):
            continue
        volumes = [_volumes(columns, name, numbers) for name in pair]
        if volumes[0] is None or volumes[1] is None:
            continue
        edv, esv = volumes[0].align(volumes[1], join="inner")
        rows = edv.index[esv > edv]
        if len(rows):
            swapped = len(rows) > len(edv) / 2
            found.add(
                "esv-above-edv",
                columns.place(pair[1], rows),
                f"ESV is above EDV in {len(rows)} of {len(edv)} rows",
                "The end-systolic volume is the smallest of the beat"
                + (": the columns seem to be swapped." if swapped else "."),
                "Correct the cells, or leave them blank.",
            )


def _volumes(
    columns: CheckedColumns, name: str, numbers: Mapping[str, pd.Series]
) -> pd.Series | None:
    if name in numbers:
        return numbers[name]
    if name not in columns.rows:
        return None
    values, bad = as_numbers(columns.rows[name])
    low, high = LIMITS[name].median or _ANY
    usable = not bad.any() and low <= values.median() <= high
    return values[values.between(*LIMITS[name].plausible)] if usable else None


def _check_days(columns: CheckedColumns, found: Findings) -> None:
    """Follow-up before baseline; scans and events after death."""
    rows = columns.rows
    day, death = _day(columns, "visit_day"), _day(columns, "death_day")
    if death is None and (day is None or not day.any()):
        return
    person = rows.groupby(["trial", "participant_id"], sort=False, observed=True).ngroup()
    if day is not None and columns.uses("visit"):
        is_first = rows["visit"].eq(columns.baseline_visit).eq(True)
        start = person.map(day[is_first].groupby(person[is_first]).min())
        early = rows.index[(day < start) & ~is_first]
        if len(early):
            found.add(
                "visit-order",
                columns.place("visit_day", early),
                f"{len(early)} follow-up scans are dated before the baseline scan",
                "Baseline and follow-up may be swapped, or a date is wrong.",
                "Correct visit or visit_day, or leave the row out.",
            )
    for name in ("visit_day", columns.time or ""):
        days = _day(columns, name)
        if death is None or days is None:
            continue
        late = rows.index[days > person.map(death.groupby(person).min()) + 0.5]
        if len(late):
            found.add(
                "after-death",
                columns.place(name, late),
                f"{len(late)} rows are later than the participant's death_day",
                "Participants are not scanned, and have no events, after their death.",
                "Correct the days, or leave them blank.",
            )


def _check_people(
    columns: CheckedColumns, numbers: Mapping[str, pd.Series], found: Findings
) -> None:
    """Rows of one participant with two sexes, or with ages further apart than any follow-up."""
    if not columns.uses("visit") or columns.rows["visit"].nunique() < 2:
        return  # one row per participant
    keys = [columns.rows[name] for name in ("trial", "participant_id")]
    apart: dict[str, pd.Series[bool]] = {}
    if (ages := numbers.get("age_years")) is not None:
        by_person = ages.astype(float).groupby([key[ages.index] for key in keys], observed=True)
        years = by_person.transform("max") - by_person.transform("min")
        apart["age_years"] = years > _FOLLOWED_YEARS
    if columns.uses("sex"):
        sexes = columns.rows["sex"].astype(object)
        known = sexes.where(sexes.isin(SEXES)).groupby(keys, observed=True)
        apart["sex"] = known.transform("nunique") > 1
    for name, rows in apart.items():
        if rows.any():
            found.add(
                "two-people",
                columns.place(name, rows.index[rows]),
                f"{name} changes within a participant",
                "Rows of two people seem to have one participant_id.",
                "Correct the ids or the cells.",
            )


def _day(columns: CheckedColumns, name: str) -> pd.Series | None:
    if not name or not columns.uses(name):
        return None
    values, bad = as_numbers(columns.rows[name])
    return None if bad.any() or values.isna().all() else values
