"""Guess what the columns of a trial's roster are: names, units, codes; each guess says so."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from .column_rules import ROSTER_COLUMNS, UNITS, kind_of
from .ethnicity import SCHEMES, group_of
from .parsing import FALSE_WORDS, TRUE_WORDS, as_numbers, as_text, is_unknown

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_NAMES: dict[str, tuple[str, ...]] = {
    "participant_id": (
        *("participantid", "participant", "subjid", "usubjid", "subjectid", "subject", "subj"),
        *("patientid", "patient", "pid", "id", "studyid"),
    ),
    "age_years": ("ageyears", "age", "ageyr", "ageyrs", "ageatbaseline"),
    "sex": ("sex", "gender"),
    "ethnicity": ("ethnicity", "race", "ethnicgroup", "ethnic"),
    "height_cm": ("heightcm", "height", "ht", "heightin", "htin", "heightm", "htm", "htcm"),
    "weight_kg": ("weightkg", "weight", "wt", "weightlb", "wtlb", "weightlbs", "wtkg"),
    "arm": ("arm", "trt01p", "trt01a", "treatment", "trt", "allocation", "armcd", "group"),
    "healthy": ("healthy", "hvfl", "healthyvolunteer"),
    "death_day": ("deathday",),
    "withdrawal_day": ("withdrawalday",),
    "reason_no_scan": ("reasonnoscan",),
}
_CONTROL_WORDS = frozenset({"placebo", "control", "usual care", "standard care", "standard"})
_SEX_WORDS = frozenset({"m", "f", "male", "female"})
# Units by the median that adults have in them, and what a name may say.
_MEDIANS: dict[str, dict[str, tuple[float, float]]] = {
    "height_cm": {"cm": (130, 210), "m": (1.3, 2.1), "in": (51, 83), "ft": (4.3, 6.9)},
    "weight_kg": {"kg": (40, 130), "lb": (130, 290), "g": (40_000, 130_000)},
}
_MOST_CODES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class GuessedColumn:
    """One line of a ``[columns]`` table and the remark behind it."""

    name: str
    column: str
    text: str
    remark: str


def quoted(text: str) -> str:
    """A TOML string: its escapes are those of JSON, and it has none for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_key(text: str) -> str:
    """A TOML key, quoted where it must be."""
    return text if _BARE_KEY.fullmatch(text) else quoted(text)


def plain_name(column: str) -> str:
    """A column's name without case and signs, as it is looked up."""
    return "".join(sign for sign in column.casefold() if sign.isalnum())


def id_column(table: pd.DataFrame) -> str | None:
    """The column that looks like the participants' id."""
    return _column_of("participant_id", table)


def guess_columns(table: pd.DataFrame) -> list[GuessedColumn]:
    """A guess for each harmonised column that the roster seems to have."""
    guesses = []
    taken: set[str] = set()
    for name in ROSTER_COLUMNS:
        column = _column_of(name, table)
        if column is not None and column not in taken:
            taken.add(column)
            guesses.append(_guess(name, column, table[column]))
    return guesses


def _column_of(name: str, table: pd.DataFrame) -> str | None:
    # Read from the right, so that the first of two alike is taken.
    by_plain = {plain_name(str(c)): str(c) for c in reversed(list(table.columns))}
    return next((by_plain[word] for word in _NAMES[name] if word in by_plain), None)


def _guess(name: str, column: str, values: pd.Series) -> GuessedColumn:
    extra, remark = {
        "length": _guess_unit,
        "mass": _guess_unit,
        "sex": _guess_sex,
        "ethnicity": _guess_ethnicity,
        "boolean": _guess_boolean,
    }.get(kind_of(name), _no_extra)(name, values)
    if name == "arm":
        extra, remark = _guess_arm(values)
    text = quoted(column) if not extra else f"{{ column = {quoted(column)}, {extra} }}"
    return GuessedColumn(name=name, column=column, text=text, remark=remark)


def _no_extra(_name: str, _values: pd.Series) -> tuple[str, str]:
    return "", "by its name"


def _counts(values: pd.Series) -> list[tuple[str, int]]:
    text = as_text(values)
    counts = pd.Series(text[~text.map(is_unknown).astype(bool)]).value_counts()
    return sorted((str(value), int(count)) for value, count in counts.items())


def _listed(counts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{value!r} {count}" for value, count in counts[:_MOST_CODES])


def _to_fill_in(counts: Sequence[tuple[str, int]]) -> str:
    """A map whose values the user must give: "?" is refused until then."""
    pairs = ", ".join(f'{toml_key(value)} = "?"' for value, _ in counts[:_MOST_CODES])
    return f"map = {{ {pairs} }}"


def _guess_unit(name: str, values: pd.Series) -> tuple[str, str]:
    numbers, bad = as_numbers(values)
    if bad.any() or not numbers.notna().any():
        return "", "by its name; not all cells are numbers"
    median = float(numbers.median())
    home = next(iter(UNITS[kind_of(name)]))
    for unit, (low, high) in _MEDIANS[name].items():
        if low <= median < high:
            remark = f"by its median {median:.4g}"
            return (f"unit = {quoted(unit)}" if unit != home else ""), f"{remark}: {unit}"
    return "", f"the median {median:.4g} fits no unit: look at it"


def _guess_sex(_name: str, values: pd.Series) -> tuple[str, str]:
    counts = _counts(values)
    if all(value.casefold() in _SEX_WORDS for value, _ in counts):
        return "", f"understood: {_listed(counts)}"
    return _to_fill_in(counts), f"say male, female or NA for each: {_listed(counts)}"


def _guess_ethnicity(_name: str, values: pd.Series) -> tuple[str, str]:
    counts = _counts(values)
    for scheme in ("hhc", "cdisc", "ons2021", "ukb21000", "omb1997", "spd15-2024"):
        if scheme in SCHEMES and counts and all(group_of(scheme, v)[1] for v, _ in counts):
            return f"scheme = {quoted(scheme)}", f"all terms are of {scheme}: {_listed(counts)}"
    return _to_fill_in(counts), f"say the group or NA for each: {_listed(counts)}"


def _guess_boolean(_name: str, values: pd.Series) -> tuple[str, str]:
    counts = _counts(values)
    if all(value.casefold() in TRUE_WORDS | FALSE_WORDS for value, _ in counts):
        return "", f"understood: {_listed(counts)}"
    return _to_fill_in(counts), f"say true, false or NA for each: {_listed(counts)}"


def _guess_arm(values: pd.Series) -> tuple[str, str]:
    counts = _counts(values)
    control = [value for value, _ in counts if value.casefold() in _CONTROL_WORDS]
    if len(control) != 1 or control[0] == "control" or len(counts) > _MOST_CODES:
        return "", f"its arms: {_listed(counts)}; the reference arm should become control"
    pairs = ", ".join(
        f'{toml_key(value)} = "control"'
        if value == control[0]
        else f"{toml_key(value)} = {quoted(value)}"
        for value, _ in counts
    )
    return f"map = {{ {pairs} }}", f"its arms: {_listed(counts)}"
