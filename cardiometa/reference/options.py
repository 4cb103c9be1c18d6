"""The options of reference ranges: declared, grouped and checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, get_args

from ..options import CompareReported, Conflict, Needs, Option, Options, is_given, is_in, is_not

Factor = Literal["sex", "ethnicity", "age"]
LimitsRule = Literal[
    "nonparametric",
    "nonparametric-ranks",
    "parametric",
    "prediction",
    "log",
    "boxcox",
    "robust",
]
Method = Literal[
    "strata",
    "lms",
    "bct",
    "bcpe",
    "gaussian",
    "linear",
    "quantile",
    "fractional-polynomial",
    "meta",
]
MetaRule = Literal["frequentist", "empirical"]
TrialEffect = Literal["auto", "random", "fixed", "none", "random-kept"]
Sided = Literal["two", "lower", "upper"]
OutlierRule = Literal["list", "tukey", "none"]
StatusRule = Literal["ok", "all"]
Kind = Literal["population", "marginal", "conditional"]
EthnicityRule = Literal["own", "all"]

LIMITS: tuple[LimitsRule, ...] = get_args(LimitsRule)
META_RULES: tuple[MetaRule, ...] = get_args(MetaRule)
AGE_BANDS = (18.0, 30.0, 40.0, 50.0, 60.0, 70.0)

NONPARAMETRIC_MIN_N = 120  # EP28-A3c: 120 participants per partition
NOT_A_REFERENCE = "population distribution, not a reference interval"


_STRATA, _CURVES, _LIMITS = "Strata", "Curves and meta-analysis", "Limits"
_ROWS = "Participants"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceOptions(Options):
    """The options of ``reference-ranges`` that decide the result.

    ``measures`` and ``by`` are None where the user named none: what is absent from the table is
    then left out with a warning, where naming it is an error. ``limits`` None is the default rule
    (nonparametric; below 120 participants robust, or boxcox of skewed values); a name is that
    method for every n ≥ ``min_n``.
    ``method`` None gives strata and, where there are ages, LMS curves. ``quick`` is for refits
    that only count participants. ``level`` and ``ci_level`` are percentages.
    """

    measures: Annotated[
        tuple[str, ...] | None,
        Option(flag="--measure", help="Measure (default: all known ones).", repeat=True),
    ] = None
    by: Annotated[
        tuple[Factor, ...] | None,
        Option(help="Groups (default: those that the table has)."),
    ] = None
    age_bands: Annotated[
        tuple[float, ...],
        Option(help="Lower ends of age bands in years; the last is open.", group=_STRATA),
    ] = AGE_BANDS
    method: Annotated[
        Method | None,
        Option(
            help="Method (default: strata and, where there are ages, lms; bct and bcpe: lms with "
            "heavier or lighter tails)."
        ),
    ] = None
    limits: Annotated[
        LimitsRule | None,
        Option(
            help="How limits are estimated (default: nonparametric; below 120 participants robust, "
            "boxcox if skewed; with --method meta: log or parametric).",
            group=_STRATA,
        ),
    ] = None
    meta: Annotated[
        tuple[MetaRule, ...], Option(help="Intervals of --method meta.", group=_CURVES)
    ] = META_RULES
    at_ages: Annotated[
        tuple[float, ...] | None,
        Option(help="Ages of a curve's limits (default: every 5 observed years).", group=_CURVES),
    ] = None
    trial_effect: Annotated[
        TrialEffect,
        Option(help="Trial effect in curves.", group=_CURVES, internal=("random-kept",)),
    ] = "auto"
    level: Annotated[float, Option(help="Percent of participants inside the interval.")] = 95.0
    ci_level: Annotated[
        float, Option(help="Confidence level of each limit, percent.", group=_LIMITS)
    ] = 90.0
    sided: Annotated[Sided, Option(help="Limits to give.", group=_LIMITS)] = "two"
    healthy_only: Annotated[
        bool,
        Option(flag="--healthy-only/--all", help="Only rows marked healthy, or all rows."),
    ] = True
    healthy_rule: Annotated[
        str, Option(help="Definition of healthy, printed with the ranges.", group=_ROWS)
    ] = ""
    use_visit: Annotated[
        str | None, Option(help="Visit (default: baseline, else the earliest).", group=_ROWS)
    ] = None
    repeated: Annotated[
        bool,
        Option(help="Keep all scans of a participant; resample participants.", group=_ROWS),
    ] = False
    status: Annotated[
        StatusRule,
        Option(help="Scans to use; ok excludes those marked for review.", group=_ROWS),
    ] = "all"
    min_n: Annotated[
        int, Option(help="Smallest group that gets limits.", group=_LIMITS, minimum=10)
    ] = 40
    min_cell: Annotated[
        int, Option(help="Suppress counts below this number.", group=_LIMITS, minimum=1)
    ] = 10
    outliers: Annotated[
        OutlierRule,
        Option(help="list keeps outliers, tukey removes them, none ignores them.", group=_ROWS),
    ] = "list"
    bootstrap: Annotated[
        int,
        Option(
            help="Samples for intervals of robust limits and quantiles.",
            group=_LIMITS,
            minimum=200,
        ),
    ] = 1000
    seed: Annotated[int, Option(help="Random seed.", group=_LIMITS, minimum=0)] = 1
    internal: Annotated[
        bool,
        Option(help="Include individual-level data in the report (marked as internal)."),
    ] = False
    compare_reported: CompareReported = False
    quick: bool = False

    RULES: ClassVar[tuple[Conflict | Needs, ...]] = (
        Conflict(
            {"method": is_in("quantile")},
            {"trial_effect": is_in("random")},
            hint="Use --trial-effect fixed, or another method.",
        ),
        Conflict(
            {"method": is_in("meta")},
            {"limits": is_not(None, "parametric", "log")},
            hint="The distribution is normal (parametric) or log-normal (log); limits by t are for "
            "one sample (--method strata --limits prediction).",
        ),
        Conflict({"repeated": is_given}, {"use_visit": is_given}),
        Conflict({"repeated": is_given}, {"compare_reported": is_given}),
        Conflict(
            {"repeated": is_given},
            {"method": is_not(None, "strata")},
            hint="--repeated resamples participants, which --method strata does.",
        ),
    )

    def other_problems(self) -> list[str]:
        """Levels and ages."""
        problems = [
            f"{name} {value:g} is not a percentage from 50 to below 100."
            for name, value in (("--level", self.level), ("--ci-level", self.ci_level))
            if not (math.isfinite(value) and 50 <= value < 100)
        ]
        bands, ages = self.age_bands, self.at_ages
        if not bands or any(not math.isfinite(b) or b < 0 for b in bands):
            problems.append("--age-bands needs ages in years. For example 18,30,40,50.")
        elif any(b <= a for a, b in pairwise(bands)):
            problems.append("--age-bands must increase. For example 18,30,40,50.")
        if ages is not None and not (ages and all(math.isfinite(a) and a > 0 for a in ages)):
            problems.append("--at-ages needs ages in years. For example 30,40,50.")
        if not self.meta:
            problems.append(f"--meta needs {' or '.join(META_RULES)}.")
        return problems

    @property
    def smallest_n(self) -> int:
        """Participants that a cell needs to get a limit."""
        return max(self.min_n, self.min_cell)

    def below(self, n: int) -> int | None:
        """The participants that a limit needs, where ``n`` are fewer."""
        return self.smallest_n if n < self.smallest_n else None

    @property
    def centiles(self) -> tuple[float, ...]:
        """The centiles to give: 2.5, 50, 97.5 at level 95; ``upper`` at 95 gives 50 and 95."""
        outside = 100 - self.level
        if self.sided == "lower":
            return (outside, 50.0)
        if self.sided == "upper":
            return (50.0, self.level)
        return (outside / 2, 50.0, 100 - outside / 2)

    @property
    def outer_centiles(self) -> tuple[float, ...]:
        """The limits proper: the centiles without the middle."""
        return tuple(c for c in self.centiles if c != 50)

    @property
    def tail(self) -> float:
        """The share of participants beyond the outermost centile."""
        return min(min(c, 100 - c) for c in self.centiles) / 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions(Options):
    """How participants are scored.

    ``ethnicity`` ``own``: by the limits of the participant's ethnicity where the reference has
    them, else those of all; ``all``: always those of all.
    """

    kind: Annotated[
        Kind, Option(help="Limits to score by; marginal is a participant of a new trial.")
    ] = "marginal"
    ethnicity: Annotated[
        EthnicityRule,
        Option(
            flag="--limits-of",
            help="own: by the limits of the participant's ethnicity; all: by those of all.",
        ),
    ] = "own"
    same_conventions: Annotated[
        bool, Option(help="Assume the reference's conventions where the table states none.")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptOptions(Options):
    """Whose values a reference is adapted to: healthy participants of the site, one row each."""

    measures: Annotated[
        tuple[str, ...] | None,
        Option(
            flag="--measure",
            help="Measure (default: all that reference and table have).",
            repeat=True,
        ),
    ] = None
    healthy_rule: Annotated[
        str, Option(help="Definition of healthy, where no column says who is; kept in the file.")
    ] = ""
    use_visit: Annotated[
        str | None, Option(help="Visit (default: baseline, else the earliest).")
    ] = None
    status: Annotated[
        StatusRule, Option(help="Scans to use; ok excludes those marked for review.")
    ] = "all"
    same_conventions: Annotated[
        bool, Option(help="Assume the reference's conventions where the table states none.")
    ] = False
