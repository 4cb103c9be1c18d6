"""``reference_ranges.json``: the limits as a portable model that scores new participants.

One path for fitting, drawing and scoring: a curve is the `Curve` that was fitted, a stratum the
same distribution without age.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
from scipy import special

from ..errors import InputError
from ..records import ETHNICITIES, SEXES
from ..statistics.box_cox_tails import TAILS
from ..statistics.lms import box_cox, box_cox_power, inverse_box_cox
from ..statistics.order_statistics import interpolated_quantile
from ..statistics.robust import robust_fit
from ..validation import validate
from .curves.curve import POWER_FAMILIES, AgeFunction, Curve, FamilyName, gap_text, gaps_of
from .options import Kind, ScoreOptions, Sided
from .select import ALL, CONVENTIONS, depends_on, numbers_of, texts_of
from .strata.groups import FittedCell
from .strata.limits import Limit

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "cardiometa-reference-ranges"
FORMAT_VERSION = 1
SAMPLING_ERROR = "sampling error within these trials"
STRATA = "strata"
NO_VALUE = "no value"
NO_LIMITS = "no limits for this group"
# Hardly one of a million is so far out: another unit, or a heart unlike the reference's.
FAR_Z = 5.0
FAR_NOTE = f"|z| > {FAR_Z:g}: check the value and its unit"

# Centiles of a nonparametric stratum that a score interpolates between; none is near an extreme.
_GRID = (2.5, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5)
# What is taken where a reference does not have the kind asked for.
_INSTEAD: Mapping[str, tuple[Kind, ...]] = {
    "marginal": ("marginal", "population", "conditional"),
    "conditional": ("conditional", "population"),
    "population": ("population",),
}


# ------------------------------------------------------------------ writing


def stratum_model(measure: str, unit: str, fitted: FittedCell, n: int) -> dict[str, Any] | None:
    """One measure in one stratum, None where it has no limits that may be printed."""
    if fitted.rule is None or any(found.limit is None for found in fitted.printed):
        return None
    columns = {"measure": measure, "unit": unit, **fitted.cell.key.columns()}
    score = _score(fitted.rule, fitted.cell.ordered)
    return stratum_entry(columns, n, fitted.cell.n_trials, fitted.rule, fitted.printed, score)


def stratum_entry(
    columns: Mapping[str, Any],
    n: int,
    n_trials: int,
    rule: str,
    limits: Sequence[Limit],
    score: Mapping[str, Any],
) -> dict[str, Any]:
    """The entry of a stratum in the document; ``columns`` say of which measure and group."""
    return {
        **columns,
        "n": n,
        "n_trials": n_trials,
        "limits": rule,
        "centiles": [found.columns for found in limits],
        "score": score,
        "provisional": columns["ethnicity"] != ALL,
    }


def _score(rule: str, ordered: np.ndarray) -> dict[str, Any]:
    """How a new value gets its z and centile, by the family of the stratum's rule.

    ``normal``: z = (y - mean)/sd; ``log-normal``: the same of ln y; ``box-cox``: the same of
    (y^power - 1)/power; ``t``: (y - centre)/spread on df degrees of freedom; ``grid``: linear
    between the centiles, beyond them only "below" or "above".
    """
    n = len(ordered)
    if rule in ("parametric", "log"):
        values = np.log(ordered) if rule == "log" else ordered
        family = "log-normal" if rule == "log" else "normal"
        return {"family": family, "mean": float(values.mean()), "sd": float(values.std(ddof=1))}
    if rule == "boxcox":
        power = box_cox_power(ordered)
        moved = box_cox(ordered, power)
        mean, sd = float(moved.mean()), float(moved.std(ddof=1))
        return {"family": "box-cox", "power": power, "mean": mean, "sd": sd}
    if rule in ("prediction", "robust"):
        centre, spread = ordered.mean(), ordered.std(ddof=1) * np.sqrt(1 + 1 / n)
        if rule == "robust":
            fit = robust_fit(ordered[None, :])
            centre, spread = fit.centre[0], fit.spread[0]
        return {"family": "t", "centre": float(centre), "spread": float(spread), "df": n - 1}
    # Only centiles that at least two participants lie beyond.
    grid = [c for c in _GRID if min(c, 100 - c) / 100 * (n + 1) >= 2]
    values = [interpolated_quantile(ordered, c / 100) for c in grid]
    return {"family": "grid", "centiles": grid, "values": values}


# ------------------------------------------------------------------ the model


class Distribution(Protocol):
    """The distribution of a measure by age, arrays ``[n]`` of values and ages in years."""

    def z_scores(self, values: np.ndarray, ages: np.ndarray) -> np.ndarray:
        """``[n]``; NaN where it has no such value, infinite beyond what is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentDistribution:
    """(y - centre)/spread follows Student's t: robust and prediction limits."""

    centre: float
    spread: float
    df: float

    def z_scores(self, values: np.ndarray, ages: np.ndarray) -> np.ndarray:
        """The normal score of the same share below, from the smaller tail."""
        del ages
        t = (values - self.centre) / self.spread
        return np.asarray(-np.sign(t) * special.ndtri(special.stdtr(self.df, -np.abs(t))))


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """What the tables of the document have in common: further keys are for other readers."""

    __pydantic_config__: ClassVar[Any] = {
        "extra": "ignore",
        "strict": True,
        "allow_inf_nan": False,
    }


@dataclass(frozen=True, kw_only=True)
class GroupDistribution(_Entry):
    """The distribution of a measure in one group: an entry of the document.

    ``open_end``: ``age_high`` belongs to the next band; a curve includes both of its ends.
    """

    open_end: ClassVar[bool]
    measure: str
    unit: str
    sex: str
    ethnicity: str
    method: str = STRATA
    kind: Kind = "population"
    age_low: float | None
    age_high: float | None

    @cached_property
    def distribution(self) -> Distribution:
        """How values are distributed by age."""
        raise NotImplementedError

    def limit_with_interval(
        self, age_years: float | None, centile: float
    ) -> tuple[float, float | None] | None:
        """A limit and half its interval (None: not known); None where it is not given."""
        raise NotImplementedError

    def covers(self, ages: np.ndarray) -> np.ndarray:
        """True for each age ``[n]`` that the distribution is for; all where it has no ages."""
        if self.age_low is None and self.age_high is None:
            return np.ones(len(ages), dtype=bool)
        with np.errstate(invalid="ignore"):
            inside = ages >= (self.age_low if self.age_low is not None else -math.inf)
            if self.age_high is not None:
                inside &= ages < self.age_high if self.open_end else ages <= self.age_high
        return np.asarray(inside)

    def known_ends(self) -> tuple[float, float]:
        """The centiles between which a score is known: 0 and 100 but for a nonparametric one."""
        found = self.distribution
        if isinstance(found, Curve) and found.family == "quantile":
            centiles = [float(name) for name in found.functions]
            return min(centiles), max(centiles)
        return 0.0, 100.0


def outside(groups: Sequence[GroupDistribution], age_years: float | None) -> str:
    """Why no distribution of the group is for an age."""
    if age_years is None or not math.isfinite(age_years):
        return "age unknown"
    for group in groups:
        for low, high in (
            gaps_of(group.observed_ages) if isinstance(group, CurveDistribution) else ()
        ):
            if low < age_years < high:
                return f"age in a gap of the reference ({gap_text(low, high)})"
    lows = [group.age_low for group in groups if group.age_low is not None]
    highs = [group.age_high for group in groups if group.age_high is not None]
    bounded = len(highs) == len(groups)  # the last band may be open
    if (lows and age_years < min(lows)) or (bounded and age_years >= max(highs)):
        ages = f"{min(lows):g} to {max(highs):g} years" if bounded else f"from {min(lows):g} years"
        return f"age outside the reference ({ages})"
    return "no limits for this age band"


# ------------------------------------------------------------------ reading


_MOST_SEGMENTS = 1000


@dataclass(frozen=True, kw_only=True)
class _Function(AgeFunction):
    """A named function of age."""

    __pydantic_config__: ClassVar[Any] = _Entry.__pydantic_config__
    name: str

    def __post_init__(self) -> None:
        # More knots than any fit has would take all memory at the first score.
        if not 0 <= self.segments <= _MOST_SEGMENTS:
            raise ValueError(f"segments is not between 0 and {_MOST_SEGMENTS}")


@dataclass(frozen=True, kw_only=True)
class _Printed(_Entry):
    ages: tuple[float, ...]
    centiles: tuple[float, ...]
    ci_low: tuple[tuple[float, ...], ...]
    ci_high: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        sizes = {len(rows) for rows in (self.ages, self.ci_low, self.ci_high)}
        widths = {len(row) for row in (self.centiles, *self.ci_low, *self.ci_high)}
        if len(sizes) > 1 or len(widths) > 1:
            raise ValueError("ages, centiles and intervals are not of one size")


@dataclass(frozen=True, kw_only=True)
class BetweenTrials(_Entry):
    """The SD between trials of the location and the log spread of a curve."""

    trials: int
    location_sd: float
    log_spread_sd: float

    def __post_init__(self) -> None:
        if min(self.location_sd, self.log_spread_sd, self.trials) <= 0:
            raise ValueError("an SD between trials, or their number, is not above 0")


@dataclass(frozen=True, kw_only=True)
class CurveDistribution(GroupDistribution):
    """A curve; ``observed_ages`` are the intervals without a gap (none in older documents).

    ``n`` participants are behind it (None: too few to be stated).
    """

    open_end: ClassVar[bool] = False
    family: FamilyName
    functions: tuple[_Function, ...]
    age_low: float
    age_high: float
    tau: float
    n: int | None = None
    observed_ages: tuple[tuple[float, float], ...] = ()
    printed: _Printed | None = None
    between_trials: BetweenTrials | None = None

    def __post_init__(self) -> None:
        ends = self.printed and (*self.printed.ci_low, *self.printed.ci_high)
        if ends and self.family in POWER_FAMILIES and np.min(ends) <= 0:
            raise ValueError(f"an interval of a {self.family} curve is not above 0")
        if self.family not in TAILS:
            return
        *others, tail = self.functions or (None,)
        low, high = TAILS[self.family].bounds
        if len(others) != 3 or tail is None or tail.basis != "polynomial":
            raise ValueError(f"a {self.family} curve has log_m, log_s, l and a number log_tail")
        if len(tail.coefficients) != 1 or not low - 0.01 <= tail.coefficients[0] <= high + 0.01:
            raise ValueError(f"log_tail is not one number between {low:.3g} and {high:.3g}")

    @cached_property
    def distribution(self) -> Curve:
        """The curve."""
        return Curve(
            family=self.family,
            functions={f.name: f for f in self.functions},
            age_low=self.age_low,
            age_high=self.age_high,
            observed=self.observed_ages,
            tau=self.tau,
        )

    def covers(self, ages: np.ndarray) -> np.ndarray:
        """True for each age ``[n]`` in an interval that was observed."""
        return self.distribution.is_observed(ages)

    def limit_with_interval(
        self, age_years: float | None, centile: float
    ) -> tuple[float, float | None] | None:
        """The interval is linear between the printed ages, beyond them the nearest's."""
        if age_years is None:
            return None
        try:
            limit = float(self.distribution.limits(np.array([age_years]), (centile,))[0, 0])
        except ValueError:  # a nonparametric distribution has only its own centiles
            return None
        printed = self.printed
        if printed is None or centile not in printed.centiles:
            return limit, None
        half = (np.array(printed.ci_high) - np.array(printed.ci_low)) / 2
        at = printed.centiles.index(centile)
        return limit, float(np.interp(age_years, printed.ages, half[:, at]))


@dataclass(frozen=True, kw_only=True)
class _Centile(_Entry):
    centile: float
    limit: float
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True, kw_only=True)
class _Score(_Entry):
    family: Literal["normal", "log-normal", "box-cox", "t", "grid"]
    mean: float = math.nan
    sd: float = math.nan
    power: float = 0.0
    centre: float = math.nan
    spread: float = math.nan
    df: float = math.nan
    centiles: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def distribution(self) -> Distribution:
        """A stratum's family as a distribution without age."""
        if self.family == "t":
            return StudentDistribution(centre=self.centre, spread=self.spread, df=self.df)
        if self.family == "grid":
            pairs = zip(self.centiles, self.values, strict=True)
            return _constant("quantile", {f"{c:g}": v for c, v in pairs})
        if self.family == "normal":
            return _constant("normal", {"mean": self.mean, "sd": self.sd})
        # The same as (M, S, L): z = ((y/M)^L - 1)/(L·S) with S = sd·M^-L.
        power = self.power if self.family == "box-cox" else 0.0
        m = float(inverse_box_cox(np.array(self.mean), power))
        log_s = math.log(self.sd) - power * math.log(m)
        return _constant("lms", {"log_m": math.log(m), "log_s": log_s, "l": power})


def _constant(family: FamilyName, values: Mapping[str, float]) -> Curve:
    functions = {
        name: AgeFunction(basis="polynomial", coefficients=(value,))
        for name, value in values.items()
    }
    return Curve(family=family, functions=functions, age_low=0.0, age_high=math.inf)


def stratum_distribution(rule: str, ordered: np.ndarray) -> Distribution:
    """The distribution that a rule of limits takes the sorted values ``[n]`` of a stratum for."""
    return _Score(**_score(rule, ordered)).distribution()


@dataclass(frozen=True, kw_only=True)
class _Stratum(GroupDistribution):
    open_end: ClassVar[bool] = True
    score: _Score
    centiles: tuple[_Centile, ...]

    @cached_property
    def distribution(self) -> Distribution:
        return self.score.distribution()

    def limit_with_interval(
        self, age_years: float | None, centile: float
    ) -> tuple[float, float | None] | None:
        """As it was printed."""
        del age_years
        for found in self.centiles:
            if found.centile == centile:
                low, high = found.ci_low, found.ci_high
                half = None if low is None or high is None else (high - low) / 2
                return found.limit, half
        return None


@dataclass(frozen=True, kw_only=True)
class ReferenceModel(_Entry):
    """The document as distributions; ``conventions`` maps a name to the values behind it."""

    name: str
    notice: str
    level: float
    sided: Sided
    ci_level: float
    strata: tuple[_Stratum, ...]
    conventions: dict[str, tuple[str, ...]]
    curves: tuple[CurveDistribution, ...] = ()
    healthy_rule: str = ""

    @property
    def groups(self) -> tuple[GroupDistribution, ...]:
        """The distributions of all groups, the curves first."""
        return (*self.curves, *self.strata)

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures with limits, in the document's order."""
        return tuple(dict.fromkeys(group.measure for group in self.groups))

    def distributions(
        self, measure: str, sex: str, ethnicity: str, kind: Kind = "marginal"
    ) -> tuple[GroupDistribution, ...]:
        """Those of one group by age: the curve where there is one, else its age bands.

        A reference that is not stratified by sex is for both. Where the kind asked for does not
        exist the nearest of the same method is given (`GroupDistribution.kind` says which).
        """
        mine = [
            group
            for group in self.groups
            if group.measure == measure and group.sex in (sex, ALL) and group.ethnicity == ethnicity
        ]
        methods = dict.fromkeys(group.method for group in mine)
        for method in sorted(methods, key=lambda name: name == STRATA):
            for wanted in _INSTEAD[kind]:
                found = tuple(g for g in mine if g.method == method and g.kind == wanted)
                if found:
                    return found
        return ()


def reference_model(document: Any, name: str) -> ReferenceModel:
    """The model of a ``reference_ranges.json``; InputError where it is another file or damaged.

    ``name`` is the file's, for messages.
    """
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise InputError(
            f"{name} is not a reference of cardiometa.",
            hint="Give the reference_ranges.json that `cardiometa reference-ranges` wrote.",
        )
    if document.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{name} has format {document.get('format_version')}, this program reads "
            f"{FORMAT_VERSION}.",
            hint="Make it again with this version, or use the version that made it.",
        )
    model = validate(ReferenceModel, document, name)
    try:
        for group in model.groups:
            group.known_ends()
    except (ValueError, IndexError, OverflowError) as error:
        raise InputError(
            f"{name} is damaged: {type(error).__name__} in its groups.",
            hint="Make it again with `cardiometa reference-ranges`.",
        ) from error
    return model


# ------------------------------------------------------------------ scoring


@dataclass(frozen=True, slots=True, kw_only=True)
class NewParticipants:
    """Rows to score, arrays ``[rows]``: ``sex`` and ``ethnicity`` as text, "" unknown.

    ``conventions`` maps each convention that the table states to its text, "" where it does not.
    """

    sex: np.ndarray
    ethnicity: np.ndarray
    age_years: np.ndarray
    conventions: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> NewParticipants:
        """The rows of a table with harmonised columns."""
        return cls(
            sex=texts_of(frame, "sex"),
            ethnicity=texts_of(frame, "ethnicity"),
            age_years=numbers_of(frame, "age_years"),
            conventions={name: texts_of(frame, name) for name in CONVENTIONS if name in frame},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Arrays ``[rows]``: NaN where there is no score; ``note`` says why, or by which limits.

    ``beyond``: the value is below or above every centile of a nonparametric limit.
    """

    z: np.ndarray
    centile: np.ndarray
    note: np.ndarray
    beyond: np.ndarray

    @property
    def scored(self) -> int:
        """Rows with a score."""
        return int(np.isfinite(self.z).sum())


def score_participants(
    model: ReferenceModel,
    measure: str,
    values: np.ndarray,
    participants: NewParticipants,
    options: ScoreOptions,
) -> Scores:
    """The scores of ``values`` ``[rows]`` (NaN missing) of a measure that the model has."""
    z = np.full(len(values), np.nan)
    note = _convention_refusals(model, measure, participants, options)
    missing = ~np.isfinite(values)
    note[missing] = NO_VALUE
    free = (note == "") & ~missing
    mine = [group for group in model.groups if group.measure == measure]
    texts = [part.astype(str) for part in (participants.sex, participants.ethnicity)]
    keys, code = np.unique(np.char.add(np.char.add(texts[0], "/"), texts[1]), return_inverse=True)
    for number, key in enumerate(keys.tolist()):
        rows = np.flatnonzero((code == number) & free)
        sex, _, ethnicity = key.partition("/")
        if sex not in SEXES and all(group.sex != ALL for group in mine):
            note[rows] = "sex unknown"
            continue
        wanted = ethnicity if options.ethnicity == "own" and ethnicity in ETHNICITIES else ALL
        groups = model.distributions(measure, sex, wanted, options.kind)
        remarks = []
        if not groups and wanted != ALL:
            groups = model.distributions(measure, sex, ALL, options.kind)
            remarks.append(f"limits of all participants (none of {wanted})")
        elif wanted == ALL and options.ethnicity == "own" and any(g.ethnicity != ALL for g in mine):
            remarks.append("limits of all participants (ethnicity unknown)")
        if not groups:
            note[rows] = NO_LIMITS
            continue
        if groups[0].kind != options.kind and groups[0].kind == "conditional":
            remarks.append("conditional limits")
        _score_rows(groups, values, participants.age_years, rows, z, note)
        note[rows[np.isfinite(z[rows])]] = "; ".join(remarks)
        for row in rows[np.isfinite(z[rows]) & (np.abs(z[rows]) > FAR_Z)].tolist():
            note[row] = "; ".join([FAR_NOTE, *remarks])
    beyond = np.isinf(z)
    z[beyond] = np.nan
    return Scores(z=z, centile=100 * special.ndtr(z), note=note, beyond=beyond)


def _score_rows(
    groups: Sequence[GroupDistribution],
    values: np.ndarray,
    ages: np.ndarray,
    rows: np.ndarray,
    z: np.ndarray,
    note: np.ndarray,
) -> None:
    """Fill ``z`` (infinite: beyond what is known) and ``note`` for some rows of one group."""
    left = rows
    for group in groups:
        mine = left[group.covers(ages[left])]
        left = np.setdiff1d(left, mine, assume_unique=True)
        if not len(mine):
            continue
        # Where age plays no part any age will do.
        z[mine] = group.distribution.z_scores(values[mine], np.nan_to_num(ages[mine]))
        low, high = group.known_ends()
        note[mine[np.isnan(z[mine])]] = "the distribution of this group has no such value"
        note[mine[z[mine] == -np.inf]] = f"below centile {low:g}"
        note[mine[z[mine] == np.inf]] = f"above centile {high:g}"
    for row in left.tolist():
        note[row] = outside(groups, float(ages[row]))


def _convention_refusals(
    model: ReferenceModel, measure: str, participants: NewParticipants, options: ScoreOptions
) -> np.ndarray:
    """For each row why its convention forbids a score, "" where nothing does."""
    refused = np.full(len(participants.sex), "", dtype=object)
    for name in depends_on(measure):
        wanted = model.conventions.get(name, ())
        if not wanted:
            continue
        stated: Any = participants.conventions.get(name)
        if stated is None:
            stated = np.full(len(refused), "", dtype=object)
        other = ~np.isin(stated.astype(str), ["", *wanted])
        shown = slice(12 if name.endswith("sha256") else None)
        theirs = " or ".join(v[shown] for v in wanted)
        for row in np.flatnonzero(other & (refused == "")).tolist():
            refused[row] = f"{name} is {str(stated[row])[shown]}, the reference's is {theirs}"
        if not options.same_conventions:
            unstated = (stated == "") & (refused == "")
            refused[unstated] = f"{name} is not stated, the reference's is {theirs}"
    return refused


def score_names(measure: str) -> tuple[str, str, str]:
    """The columns that scoring a measure adds."""
    return f"{measure}_z", f"{measure}_centile", f"{measure}_score_note"
