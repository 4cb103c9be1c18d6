"""``reference_ranges.json``: the limits as a portable model that can score new people.

``reference_ranges.json`` read back: the law of a measure for one person.

One path for fitting, drawing and scoring: a curve is the `Curve` that was fitted, a stratum the
same law without age. ``predict(model, "lv_edv_ml", sex="male", ethnicity="white", age_years=54)``

New people against a reference: z score and centile, or the reason why there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy import special

from ..errors import InputError
from ..records import ETHNICITIES, SEXES
from ..statistics.lms import box_cox, box_cox_power, inverse_box_cox
from ..statistics.order_statistics import interpolated_quantile
from .curves.curve import AgeFunction, Curve, FamilyName, curve_from_document
from .options import NOT_A_REFERENCE, Kind, ReferenceOptions, ScoreOptions
from .select import depends_on
from .strata.groups import ALL, FittedCell
from .strata.limits import robust_fit

FORMAT = "cardiometa-reference-ranges"
FORMAT_VERSION = 1
SAMPLING_ERROR = "sampling error within these trials"

# Centiles of a nonparametric stratum that a score interpolates between; none is near an extreme.
_GRID = (2.5, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5)


def stratum_model(
    measure: str, unit: str, fitted: FittedCell, *, n: int | None
) -> dict[str, Any] | None:
    """One measure in one stratum, None where it has no limits that may be printed.

    ``n`` None: the number of people is withheld.
    """
    if fitted.rule is None or any(found.limit is None for found in fitted.printed):
        return None
    key = fitted.cell.key
    return {
        "measure": measure,
        "unit": unit,
        "sex": key.sex,
        "ethnicity": key.ethnicity,
        "age_low": key.age_low,
        "age_high": key.age_high,
        "n": n,
        "n_trials": fitted.cell.n_trials,
        "limits": fitted.rule,
        "centiles": [
            {
                "centile": found.centile,
                "limit": found.limit,
                "ci_low": found.ci_low,
                "ci_high": found.ci_high,
            }
            for found in fitted.printed
        ],
        "score": _score(fitted),
        "provisional": key.ethnicity != "all",
    }


def _score(fitted: FittedCell) -> dict[str, Any]:
    """How a new value gets its z and centile, by the family of the stratum's rule.

    ``normal``: z = (y - mean)/sd; ``log-normal``: the same of ln y; ``box-cox``: the same of
    (y^power - 1)/power; ``t``: (y - centre)/spread on
    df degrees of freedom; ``grid``: linear between the centiles, beyond them only "below" or
    "above".
    """
    ordered = fitted.cell.ordered
    n = len(ordered)
    if fitted.rule in ("parametric", "log"):
        values = np.log(ordered) if fitted.rule == "log" else ordered
        family = "log-normal" if fitted.rule == "log" else "normal"
        return {"family": family, "mean": float(values.mean()), "sd": float(values.std(ddof=1))}
    if fitted.rule == "boxcox":
        power = box_cox_power(ordered)
        moved = box_cox(ordered, power)
        mean, sd = float(moved.mean()), float(moved.std(ddof=1))
        return {"family": "box-cox", "power": power, "mean": mean, "sd": sd}
    if fitted.rule == "prediction":
        spread = float(ordered.std(ddof=1)) * float(np.sqrt(1 + 1 / n))
        return {"family": "t", "centre": float(ordered.mean()), "spread": spread, "df": n - 1}
    if fitted.rule == "robust":
        fit = robust_fit(ordered[None, :])
        return {
            "family": "t",
            "centre": float(fit.centre[0]),
            "spread": float(fit.spread[0]),
            "df": n - 1,
        }
    # Only centiles that at least two people lie beyond.
    grid = [c for c in _GRID if min(c, 100 - c) / 100 * (n + 1) >= 2]
    return {
        "family": "grid",
        "centiles": grid,
        "values": [interpolated_quantile(ordered, c / 100) for c in grid],
    }


def model_document(
    strata: Sequence[Mapping[str, Any]],
    curves: Sequence[Mapping[str, Any]],
    options: ReferenceOptions,
    *,
    methods: Sequence[str],
    title: str,
    name: str,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """The whole document; ``facts`` are conventions, people, trials and the input's hash."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "title": title,
        "name": name,
        "notice": "" if options.healthy_only else NOT_A_REFERENCE,
        "methods": list(methods),
        "level": options.level,
        "sided": options.sided,
        "ci_level": options.ci_level,
        "ci_is": SAMPLING_ERROR,
        "age_bands": list(options.age_bands),
        "strata": list(strata),
        "curves": list(curves),
        **facts,
    }


STRATA = "strata"

# What is taken where a reference does not have the kind asked for.
_INSTEAD: Mapping[str, tuple[Kind, ...]] = {
    "marginal": ("marginal", "population", "conditional"),
    "conditional": ("conditional", "population"),
    "population": ("population",),
}


class Law(Protocol):
    """The distribution of a measure by age, arrays ``[n]`` of values and ages in years."""

    def z_scores(self, values: np.ndarray, ages: np.ndarray) -> np.ndarray:
        """``[n]``; NaN where the law has no such value, infinite beyond what is known."""

    def limits(self, ages: np.ndarray, centiles: Sequence[float]) -> np.ndarray:
        """``[ages, centiles]``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentLaw:
    """(y - centre)/spread follows Student's t: robust and prediction limits."""

    centre: float
    spread: float
    df: float

    def z_scores(self, values: np.ndarray, ages: np.ndarray) -> np.ndarray:
        """The normal score of the same share below, from the smaller tail."""
        del ages
        t = (values - self.centre) / self.spread
        return np.asarray(-np.sign(t) * special.ndtri(special.stdtr(self.df, -np.abs(t))))

    def limits(self, ages: np.ndarray, centiles: Sequence[float]) -> np.ndarray:
        """Centre + t·spread."""
        t = special.stdtrit(self.df, np.asarray(centiles, dtype=float) / 100)
        return np.tile(self.centre + t * self.spread, (len(ages), 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedCurve:
    """Half the intervals of a curve's printed limits: ``halves`` ``[ages, centiles]``."""

    ages: tuple[float, ...]
    centiles: tuple[float, ...]
    halves: np.ndarray

    def half(self, age_years: float, centile: float) -> float | None:
        """Linear between the printed ages; that of the nearest beyond them."""
        if not self.ages or centile not in self.centiles:
            return None
        column = self.halves[:, self.centiles.index(centile)]
        return float(np.interp(age_years, self.ages, column))


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLaw:
    """The law of a measure in one group between two ages, both None where age plays no part.

    ``open_end``: ``age_high`` belongs to the next band; a curve holds both of its ends.
    ``printed`` maps a centile to the limit printed with its interval (None: not given);
    ``intervals`` are those of a curve.
    """

    measure: str
    unit: str
    method: str
    kind: Kind
    sex: str
    ethnicity: str
    age_low: float | None
    age_high: float | None
    open_end: bool
    law: Law
    printed: Mapping[float, tuple[float, float | None, float | None]]
    intervals: PrintedCurve | None = None

    def limit_with_interval(
        self, age_years: float | None, centile: float
    ) -> tuple[float, float | None] | None:
        """A limit and half its interval (None: not known); None where it is not given."""
        if self.printed:
            found = self.printed.get(centile)
            if found is None:
                return None
            limit, low, high = found
            return limit, None if low is None or high is None else (high - low) / 2
        if age_years is None:
            return None
        try:
            limit = float(self.law.limits(np.array([age_years]), (centile,))[0, 0])
        except ValueError:
            return None
        return limit, self.intervals.half(age_years, centile) if self.intervals else None

    def holds(self, ages: np.ndarray) -> np.ndarray:
        """True for each age ``[n]`` that the law covers; all of them where age plays no part."""
        if self.age_low is None and self.age_high is None:
            return np.ones(len(ages), dtype=bool)
        with np.errstate(invalid="ignore"):
            inside = ages >= (self.age_low if self.age_low is not None else -math.inf)
            if self.age_high is not None:
                inside &= ages < self.age_high if self.open_end else ages <= self.age_high
        return np.asarray(inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceModel:
    """The document as laws; ``conventions`` maps a name to the values of the people behind it."""

    name: str
    notice: str
    level: float
    sided: str
    ci_level: float
    healthy_rule: str
    conventions: Mapping[str, tuple[str, ...]]
    laws: tuple[GroupLaw, ...]

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures with a law, in the document's order."""
        return tuple(dict.fromkeys(law.measure for law in self.laws))

    def sexes(self, measure: str) -> set[str]:
        """The sexes that the measure's laws are for; ``all`` where they are for both."""
        return {law.sex for law in self.laws if law.measure == measure}


def reference_model(document: Any, name: str) -> ReferenceModel:
    """The model of a ``reference_ranges.json``; InputError where it is none or damaged.

    ``name`` is the file's, for messages.
    """
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise InputError(
            f"{name} is no reference of cardiometa.",
            hint="Give the reference_ranges.json that `cardiometa reference-ranges` wrote.",
        )
    if document.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{name} is of format {document.get('format_version')}, this program reads "
            f"{FORMAT_VERSION}.",
            hint="Make it again with this version, or use the version that made it.",
        )
    try:
        laws = [_curve_law(entry) for entry in document.get("curves", ())]
        laws += [_stratum_law(entry) for entry in document["strata"]]
        conventions = {
            str(key): tuple(str(v) for v in values)
            for key, values in document["conventions"].items()
        }
        return ReferenceModel(
            name=str(document["name"]),
            notice=str(document["notice"]),
            level=float(document["level"]),
            sided=str(document["sided"]),
            ci_level=float(document["ci_level"]),
            healthy_rule=str(document.get("healthy_rule", "")),
            conventions=conventions,
            laws=tuple(laws),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"{name} is damaged: {type(error).__name__} in its groups.",
            hint="Make it again with `cardiometa reference-ranges`.",
        ) from error


# ------------------------------------------------------------------ which law


def laws_for(
    model: ReferenceModel, measure: str, sex: str, ethnicity: str, kind: Kind = "marginal"
) -> tuple[GroupLaw, ...]:
    """The laws of one group by age: the curve where there is one, else its age bands.

    A reference that does not part the sexes holds for both. Where the kind asked for does not
    exist the nearest of the same method is given (`GroupLaw.kind` says which).
    """
    mine = [
        law
        for law in model.laws
        if law.measure == measure and law.sex in (sex, ALL) and law.ethnicity == ethnicity
    ]
    methods = dict.fromkeys(law.method for law in mine)
    for method in sorted(methods, key=lambda name: name == STRATA):
        for wanted in _INSTEAD[kind]:
            found = tuple(law for law in mine if law.method == method and law.kind == wanted)
            if found:
                return found
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Where people like this one lie: ``limits`` maps centiles to values.

    Empty, with the reason in ``why_not``, where the reference cannot say.
    """

    limits: Mapping[float, float]
    group: GroupLaw | None
    why_not: str = ""


def predict(
    model: ReferenceModel,
    measure: str,
    *,
    sex: str,
    ethnicity: str = ALL,
    age_years: float | None = None,
    kind: Kind = "marginal",
    centiles: Sequence[float] = (2.5, 50.0, 97.5),
) -> Prediction:
    """The centiles of a measure for people of one sex, ethnicity and age."""
    laws = laws_for(model, measure, sex, ethnicity, kind)
    if not laws:
        return Prediction(limits={}, group=None, why_not="no limits for this group")
    age = np.array([math.nan if age_years is None else age_years])
    for group in laws:
        if group.holds(age)[0]:
            try:
                found = group.law.limits(age, centiles)[0]
            except ValueError:  # a nonparametric law has only its own centiles
                return Prediction(limits={}, group=group, why_not="centile not in the reference")
            limits = {c: float(v) for c, v in zip(centiles, found, strict=True)}
            return Prediction(limits=limits, group=group)
    return Prediction(limits={}, group=None, why_not=outside(laws, age_years))


def outside(laws: Sequence[GroupLaw], age_years: float | None) -> str:
    """Why no law of the group holds for an age."""
    if age_years is None or not math.isfinite(age_years):
        return "age unknown"
    lows = [law.age_low for law in laws if law.age_low is not None]
    highs = [law.age_high for law in laws if law.age_high is not None]
    below = lows and age_years < min(lows)
    # The last band may be open.
    above = len(highs) == len(laws) and age_years >= max(highs)
    if below or above:
        bounded = len(highs) == len(laws)
        ages = f"{min(lows):g} to {max(highs):g} years" if bounded else f"from {min(lows):g} years"
        return f"age outside the reference ({ages})"
    return "no limits for this age band"


# ------------------------------------------------------------------ entries of the document


def _curve_law(entry: Mapping[str, Any]) -> GroupLaw:
    curve = curve_from_document(entry)
    return GroupLaw(
        measure=str(entry["measure"]),
        unit=str(entry["unit"]),
        method=str(entry["method"]),
        kind=_kind(entry),
        sex=str(entry["sex"]),
        ethnicity=str(entry["ethnicity"]),
        age_low=curve.age_low,
        age_high=curve.age_high,
        open_end=False,
        law=curve,
        printed={},
        intervals=_printed_curve(entry.get("printed")),
    )


def _printed_curve(entry: Mapping[str, Any] | None) -> PrintedCurve | None:
    if entry is None:
        return None
    low, high = (np.array(entry[name], dtype=float) for name in ("ci_low", "ci_high"))
    return PrintedCurve(
        ages=tuple(float(a) for a in entry["ages"]),
        centiles=tuple(float(c) for c in entry["centiles"]),
        halves=(high - low) / 2,
    )


def _stratum_law(entry: Mapping[str, Any]) -> GroupLaw:
    return GroupLaw(
        measure=str(entry["measure"]),
        unit=str(entry["unit"]),
        method=str(entry.get("method", STRATA)),
        kind=_kind(entry),
        sex=str(entry["sex"]),
        ethnicity=str(entry["ethnicity"]),
        age_low=_optional(entry["age_low"]),
        age_high=_optional(entry["age_high"]),
        open_end=True,
        law=_law_of_score(entry["score"]),
        printed={
            float(c["centile"]): (
                float(c["limit"]),
                _optional(c["ci_low"]),
                _optional(c["ci_high"]),
            )
            for c in entry["centiles"]
        },
    )


def _kind(entry: Mapping[str, Any]) -> Kind:
    kind = entry.get("kind", "population")
    if kind not in _INSTEAD:
        raise ValueError(f"unknown kind {kind!r}")
    return kind  # type: ignore[no-any-return]


def _optional(value: Any) -> float | None:
    return None if value is None else float(value)


def _law_of_score(score: Mapping[str, Any]) -> Law:
    """A stratum's family as a law without age."""
    family = score["family"]
    if family == "t":
        return StudentLaw(
            centre=float(score["centre"]), spread=float(score["spread"]), df=float(score["df"])
        )
    if family == "grid":
        pairs = zip(score["centiles"], score["values"], strict=True)
        return _constant("quantile", {f"{float(c):g}": float(v) for c, v in pairs})
    mean, sd = float(score["mean"]), float(score["sd"])
    if family == "normal":
        return _constant("normal", {"mean": mean, "sd": sd})
    if family not in ("log-normal", "box-cox"):
        raise ValueError(f"unknown family {family!r}")
    # The same law as (M, S, L): z = ((y/M)^L - 1)/(L·S) with S = sd·M^-L.
    power = float(score["power"]) if family == "box-cox" else 0.0
    m = float(inverse_box_cox(np.array(mean), power))
    log_s = math.log(sd) - power * math.log(m)
    return _constant("lms", {"log_m": math.log(m), "log_s": log_s, "l": power})


def _constant(family: FamilyName, values: Mapping[str, float]) -> Curve:
    return Curve(
        family=family,
        functions={
            name: AgeFunction(basis="polynomial", coefficients=(value,))
            for name, value in values.items()
        },
        age_low=0.0,
        age_high=math.inf,
    )


NO_VALUE = "no value"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPeople:
    """Rows to score, arrays ``[rows]``: ``sex`` and ``ethnicity`` as text, "" unknown.

    ``conventions`` maps each convention that the table states to its text, "" where it does not.
    """

    sex: np.ndarray
    ethnicity: np.ndarray
    age_years: np.ndarray
    conventions: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Arrays ``[rows]``: NaN where there is no score; ``note`` says why, or by which limits."""

    z: np.ndarray
    centile: np.ndarray
    note: np.ndarray

    @property
    def scored(self) -> int:
        """Rows with a score."""
        return int(np.isfinite(self.z).sum())


def score_people(
    model: ReferenceModel,
    measure: str,
    values: np.ndarray,
    people: NewPeople,
    options: ScoreOptions,
) -> Scores:
    """The scores of ``values`` ``[rows]`` (NaN missing) of a measure that the model has."""
    n = len(values)
    z = np.full(n, np.nan)
    note = np.full(n, "", dtype=object)
    refused = convention_refusals(model, measure, people, options)
    note[refused != ""] = refused[refused != ""]
    missing = ~np.isfinite(values)
    note[missing] = NO_VALUE
    free = (note == "") & ~missing
    sexes = model.sexes(measure)
    keys, code = np.unique(
        np.char.add(np.char.add(people.sex.astype(str), "/"), people.ethnicity.astype(str)),
        return_inverse=True,
    )
    for number, key in enumerate(keys.tolist()):
        rows = np.flatnonzero((code == number) & free)
        if not len(rows):
            continue
        sex, _, ethnicity = key.partition("/")
        if sex not in SEXES and ALL not in sexes:
            note[rows] = "sex unknown"
            continue
        laws, remark = _choose(model, measure, sex, ethnicity, options)
        if not laws:
            note[rows] = "no limits for this group"
            continue
        _score_rows(laws, values, people.age_years, rows, (z, note))
        done = rows[np.isfinite(z[rows])]
        note[done] = remark
    return Scores(z=z, centile=100 * special.ndtr(z), note=note)


def _choose(
    model: ReferenceModel, measure: str, sex: str, ethnicity: str, options: ScoreOptions
) -> tuple[tuple[GroupLaw, ...], str]:
    """The laws of a group and what must be known about the choice."""
    wanted = ethnicity if options.ethnicity == "own" and ethnicity in ETHNICITIES else ALL
    laws = laws_for(model, measure, sex, wanted, options.kind)
    remarks = []
    if not laws and wanted != ALL:
        laws = laws_for(model, measure, sex, ALL, options.kind)
        remarks.append(f"limits of everybody (none of {wanted})")
    elif wanted == ALL and options.ethnicity == "own" and _parts(model, measure):
        remarks.append("limits of everybody (ethnicity unknown)")
    if laws and laws[0].kind != options.kind and laws[0].kind == "conditional":
        remarks.append("conditional limits")
    return laws, "; ".join(remarks)


def _parts(model: ReferenceModel, measure: str) -> bool:
    return any(law.ethnicity != ALL for law in model.laws if law.measure == measure)


def _score_rows(
    laws: Sequence[GroupLaw],
    values: np.ndarray,
    ages: np.ndarray,
    rows: np.ndarray,
    into: tuple[np.ndarray, np.ndarray],
) -> None:
    """Fill z and note ``[rows of the table]`` for some rows of one group."""
    z, note = into
    left = rows
    for group in laws:
        mine = left[group.holds(ages[left])]
        left = np.setdiff1d(left, mine, assume_unique=True)
        if not len(mine):
            continue
        # Where age plays no part any age will do.
        at = np.nan_to_num(ages[mine])
        found = group.law.z_scores(values[mine], at)
        z[mine] = np.where(np.isfinite(found), found, np.nan)
        note[mine[np.isnan(found)]] = "the law of this group has no such value"
        low, high = known_ends(group)
        note[mine[found == -np.inf]] = f"below centile {low:g}"
        note[mine[found == np.inf]] = f"above centile {high:g}"
    for row in left.tolist():
        note[row] = outside(laws, float(ages[row]))


def known_ends(group: GroupLaw) -> tuple[float, float]:
    """The centiles between which the law knows a score: 0 and 100 but for a nonparametric one."""
    law = group.law
    if isinstance(law, Curve) and law.family == "quantile":
        centiles = [float(name) for name in law.functions]
        return min(centiles), max(centiles)
    return 0.0, 100.0


# ------------------------------------------------------------------ conventions


def convention_refusals(
    model: ReferenceModel, measure: str, people: NewPeople, options: ScoreOptions
) -> np.ndarray:
    """For each row why its convention forbids a score, "" where nothing does."""
    refused = np.full(len(people.sex), "", dtype=object)
    for name in depends_on(measure):
        wanted = model.conventions.get(name, ())
        if not wanted:
            continue
        stated: Any = people.conventions.get(name)
        if stated is None:
            stated = np.full(len(refused), "", dtype=object)
        other = ~np.isin(stated.astype(str), ["", *wanted])
        unstated = stated == ""
        theirs = " or ".join(v[:12] if name.endswith("sha256") else v for v in wanted)
        for row in np.flatnonzero(other & (refused == "")).tolist():
            mine = str(stated[row])
            mine = mine[:12] if name.endswith("sha256") else mine
            refused[row] = f"{name} is {mine}, the reference's is {theirs}"
        if not options.same_conventions:
            refused[unstated & (refused == "")] = (
                f"{name} is not stated, the reference's is {theirs}"
            )
    return refused
