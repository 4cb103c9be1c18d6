"""Which harmonised column a column of the user's is, by its name: CDISC, REDCap, spreadsheets.

A name is recognised without regard to case, signs and its unit (``LVEDV (ml)``, ``ht_in``), and
only where exactly one column fits. Nothing is inferred from the cells here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..measurement.measures import COLUMN_NAMES, INDEX_OF, MEASURES
from .models import ColumnRule
from .recode import UNITS, kind_of

# The option of each column that the commands let a user name.
FLAGS = {
    "trial": "--trial",
    "participant_id": "--participant",
    "age_years": "--age",
    "sex": "--sex",
    "ethnicity": "--ethnicity",
    "arm": "--arm",
    "visit": "--visit",
    "visit_day": "--visit-day",
}
_IDS = ("participant", "subject", "patient", "subj", "pat")
_NUMBERS = ("", "id", "no", "nr", "num", "number", "code")
_CHAMBERS = {"lv": ("", "lv", "leftventricular"), "rv": ("rv", "rightventricular")}
_MEASURE_WORDS = {
    "edv": ("edv", "enddiastolicvolume", "edvol"),
    "esv": ("esv", "endsystolicvolume", "esvol"),
    "sv": ("sv", "strokevolume"),
    "ef": ("ef", "ejectionfraction"),
}
_INDEX_WORDS = ("{}i", "{}index", "{}indexed", "indexed{}", "{}bsa")


def _measure_names() -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for chamber, prefixes in _CHAMBERS.items():
        for word, forms in _MEASURE_WORDS.items():
            unit = "percent" if word == "ef" else "ml"
            names[f"{chamber}_{word}_{unit}"] = tuple(p + f for p in prefixes for f in forms)
    names["lv_mass_g"] = ("lvmass", "lvm", "leftventricularmass", "myocardialmass")
    names |= {
        index: tuple(form.format(name) for name in names[of] for form in _INDEX_WORDS)
        for index, of in INDEX_OF.items()
    }
    names["heart_rate_bpm"] = ("heartrate", "hr")
    names["lv_co_l_min"] = ("cardiacoutput", "lvco")
    return names


# Names as letters and digits alone, without a unit.
_WORDS: Mapping[str, str | tuple[str, ...]] = {
    "trial": "trial trialid trialname trialcode study studyid studyname studycode protocol "
    "protocolid",
    "participant_id": (
        *(f"{who}{what}" for who in _IDS for what in _NUMBERS),
        *("usubjid", "ptid", "pid", "id", "recordid", "studyid"),
    ),
    "visit": "visit visitname visitcode avisit studyvisit timepoint session redcapeventname "
    "eventname",
    "visit_day": "visitday visitdy studyday ady daysfromrandomisation daysfromrandomization "
    "dayssincerandomisation dayssincerandomization",
    "age_years": "age ageyr ageatbaseline baselineage ageatenrolment ageatenrollment "
    "ageatrandomisation ageatrandomization ageatscan",
    "sex": "sex gender sexatbirth",
    "ethnicity": "ethnicity race ethnic ethnicgroup ethnicorigin",
    "height_cm": "height ht bodyheight",
    "weight_kg": "weight wt bodyweight",
    "arm": "arm trt trt01p treatment treatmentarm treatmentgroup group allocation "
    "allocatedarm randomisedarm randomizedarm studyarm armname",
    "randomised": "randomised randomized randfl",
    "healthy": "healthy hvfl healthyvolunteer healthycontrol",
    "death_day": "deathday",
    "withdrawal_day": "withdrawalday",
    "reason_no_scan": "reasonnoscan",
    "bsa_m2": "bsa bodysurfacearea",
    **_measure_names(),
}
NAMES: Mapping[str, tuple[str, ...]] = {
    name: tuple(words.split()) if isinstance(words, str) else words
    for name, words in _WORDS.items()
}
_BY_NAME: dict[str, tuple[str, ...]] = {}
for _name, _forms in NAMES.items():
    for _form in _forms:
        _BY_NAME[_form] = (*_BY_NAME.get(_form, ()), _name)
# Units as names of columns write them, by the harmonised word.
_UNIT_WORDS = {
    word: unit
    for unit, words in {
        "ml": "ml mls cc cm3",
        "l": "l litre litres liter liters",
        "percent": "% percent pct perc pc",
        "fraction": "fraction frac proportion",
        "g": "g gm gram grams",
        "kg": "kg kgs kilograms",
        "lb": "lb lbs pounds",
        "cm": "cm",
        "mm": "mm",
        "m": "m",
        "ft": "ft",
        "in": "in inch inches",
        "years": "y yr yrs year years",
        "months": "mo month months",
        "weeks": "wk wks week weeks",
        "days": "d day days",
        "index": "mlm2 gm2 mlpersqm gpersqm",
        "m2": "m2 sqm",
        "bpm": "bpm min permin 1min",
        "lmin": "lmin lpermin",
    }.items()
    for word in words.split()
}
# A unit that a name may end with, glued to it; a single letter would be found by chance.
_GLUED = sorted((word for word in _UNIT_WORDS if len(word) > 1), key=len, reverse=True)
_BRACKETED = re.compile(r"[(\[{]([^)\]}]*)[)\]}]?\s*$")
_OTHER_UNITS = {"bsa_m2": "m2", "heart_rate_bpm": "bpm", "lv_co_l_min": "lmin"}
_MEASURE_NAMES = frozenset(measure.name for measure in MEASURES)
_HARMONISED = frozenset(COLUMN_NAMES) | NAMES.keys()
_TRIAL_WORDS = ("trial", "study", "protocol", "site", "centre", "center", "cohort", "source")
_NOT_TRIALS = ("day", "date", "arm", "visit", "group", "time")
_VISIT = re.compile(
    r"(bl|base|baseline|pre|post|fu\d*|followup\d*|follow|up|screening"
    r"|[mwvtyd]\d+|\d+[mwyd]|(month|week|visit|year|day)s?\d*|\d+)"
)


def plain_name(column: str) -> str:
    """A column's name without case and signs, as it is looked up."""
    return "".join(sign for sign in column.casefold() if sign.isalnum())


def candidates(column: str) -> dict[str, str | None]:
    """The harmonised columns that a name may be, each with the unit in the name (None: unsaid)."""
    for plain, unit in _readings(column):
        found: dict[str, str | None] = {}  # "?" where the column cannot have the unit
        for name in _BY_NAME.get(plain, ()):
            units = UNITS.get(kind_of(name))
            if units is None:
                found[name] = None if unit in (None, _OTHER_UNITS.get(name)) else "?"
            else:
                found[name] = unit if unit is None or unit in units else "?"
        if unit == "index":
            found = {index: None for index, of in INDEX_OF.items() if of in found or index in found}
        known = {name: told for name, told in found.items() if told != "?"}
        if found:
            return known
    return {}


def _readings(column: str) -> Iterable[tuple[str, str | None]]:
    """The name with and without a unit at its end."""
    bracketed = _BRACKETED.search(column)
    if bracketed:
        unit = "%" if "%" in bracketed[1] else plain_name(bracketed[1].replace("²", "2"))
        if unit in _UNIT_WORDS:
            yield plain_name(column[: bracketed.start()]), _UNIT_WORDS[unit]
    elif column.rstrip().endswith("%"):
        yield plain_name(column), "percent"
    yield plain_name(column), None
    words = [plain_name(word) for word in re.split(r"[\W_]+", column) if word]
    for number in (1, 2):
        unit = "".join(words[-number:])
        if len(words) > number and unit in _UNIT_WORDS:
            yield "".join(words[:-number]), _UNIT_WORDS[unit]
    plain = "".join(words)
    for word in _GLUED:
        if plain.endswith(word) and plain != word:
            yield plain.removesuffix(word), _UNIT_WORDS[word]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """``rules`` by harmonised name; ``several``: names of which it is not clear which column it is.

    ``like_trial`` are columns that are none of these and may tell the trials apart.
    """

    rules: Mapping[str, ColumnRule] = field(default_factory=dict)
    several: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    like_trial: tuple[str, ...] = ()


def recognise(header: Sequence[str], taken: Mapping[str, str]) -> Recognised:
    """The columns of ``header`` that are known by name; ``taken`` are those already named by rules.

    A harmonised name is always its own column. ``taken`` maps harmonised names to columns.
    """
    exact = {name: name for name in (*NAMES, "status") if name in header and name not in taken}
    used = {*taken.values(), *exact.values()}
    fits: dict[str, dict[str, str | None]] = {}
    for column in header:
        if column not in used:
            for name, unit in candidates(column).items():
                if name not in taken and name not in exact:
                    fits.setdefault(name, {})[column] = unit
    asked = _settle_ids(fits, {*taken, *exact})
    rules = {
        # The unit of the harmonised name, whose factor is 1, need not be said.
        name: ColumnRule(
            name=name, column=column, unit=None if factors.get(unit or "") == 1 else unit
        )
        for name, columns in fits.items()
        for factors in [UNITS.get(kind_of(name), {})]
        for column, unit in columns.items()
        if len(columns) == 1 and name not in asked
    }
    rules |= {name: ColumnRule(name=name, column=name) for name in exact}
    used |= {rule.column for rule in rules.values()}
    several = {name: tuple(columns) for name, columns in fits.items() if name not in rules}
    others = {column: plain_name(column) for column in header if column not in used}
    like_trial = (
        column
        for column, plain in others.items()
        if any(word in plain for word in _TRIAL_WORDS)
        and not any(word in plain for word in _NOT_TRIALS)
    )
    return Recognised(rules=rules, several=several, like_trial=tuple(like_trial))


def _settle_ids(fits: dict[str, dict[str, str | None]], known: Collection[str]) -> set[str]:
    """What the standards settle: USUBJID names the participant where SUBJID does too (CDISC).

    ``study_id`` is the participant (REDCap) or the trial (CDISC): the one that nothing else is.
    Where it could be both, both names are given back: they are a question.
    """
    people, trials = fits.get("participant_id", {}), fits.get("trial", {})
    by_plain = {plain_name(column): column for column in people}
    if {"usubjid", "subjid"} <= by_plain.keys():
        del people[by_plain["subjid"]]
    column = by_plain.get("studyid")
    if column is None:
        return set()
    if len(people) > 1 or "participant_id" in known:
        del people[column]
    elif len(trials) > 1 or "trial" in known:
        trials.pop(column, None)
    else:
        return {"participant_id", "trial"}
    for name in ("participant_id", "trial"):
        if not fits.get(name):
            fits.pop(name, None)
    return set()


def measure_of(column: str, name: str = "") -> str:
    """The measure that a column is of: ``EF_BL``, ``ef0``, ``m12 LVEF`` are ``lv_ef_percent``.

    ``name`` is what the column is called in the harmonised table; the result where there is no
    measure or it is not clear. A change, a logarithm or a fraction by its name is not on the
    measure's scale.
    """
    name = (name or column).removeprefix("reported_")
    if name in _HARMONISED or re.search(r"frac|proportion", column.casefold()):
        return name
    for text in (column, re.sub(r"(?<=[a-zA-Z])\d+$", "", column)):
        words = [word for word in re.split(r"[\W_]+", text) if word]
        rest = [word for word in words if not _VISIT.fullmatch(word.casefold())]
        for one in (text, " ".join(rest)):
            found = [measure for measure in candidates(one) if measure in _MEASURE_NAMES]
            if len(found) == 1:
                return found[0]
    return name
