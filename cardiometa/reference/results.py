"""The results of a run of reference ranges: each record is a row of one of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..files import record_columns
from ..privacy.characteristics import Characteristic
from ..privacy.suppression import suppress_tables
from ..records import Exclusion
from .curves.curve import CurveLimits
from .model import FORMAT, FORMAT_VERSION, SAMPLING_ERROR
from .options import NOT_A_REFERENCE, Factor, Method, ReferenceOptions

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["ok", "small-n", "pooled-thin", "single-trial", "suppressed"]
# Notes that pages ask for.
NO_SHARED_TRIAL = "no trial has both groups"
MAY_BE_TRIALS = f"{NO_SHARED_TRIAL}: the difference may be the trials'"
UNLINKED = "level-of-all: no trial has this group and another"
EXTREME_KEPT = "outliers-kept"  # values far from all others are among those of the row
LEAST_PARTICIPANTS = 10  # of a trial in --method meta: with fewer its variance says nothing
CONSTANT_TRIAL = "a trial without spread left out"
TINY_TRIALS = f"trials of fewer than {LEAST_PARTICIPANTS} left out"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """What every row says of itself: ``notes`` in order, the CSV's ``note``.

    ``below_n``: there are fewer participants than this, so nothing is given (None: enough).
    """

    notes: tuple[str, ...] = field(default=(), metadata={"csv": False})
    below_n: int | None = field(default=None, metadata={"csv": False})

    @property
    def note(self) -> str:
        """The notes as one text."""
        return "; ".join(self.notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRow(ResultRow):
    """A row of one measure."""

    measure: str
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow(MeasureRow):
    """A row of one measure in one stratum (`StratumKey`)."""

    sex: str
    ethnicity: str
    age_low: float | None
    age_high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceLimit(MeasureRow):
    """One row of ``reference_ranges.csv``; None is an empty cell."""

    method: str
    limits: str
    kind: Literal["population", "marginal", "conditional"]
    sex: str
    ethnicity: str
    age_low: float | None
    age_high: float | None
    age: float | None
    n: int | None
    n_trials: int | None
    centile: float
    limit: float | None
    ci_low: float | None
    ci_high: float | None
    ci_level: float
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLimit(GroupRow):
    """A row of ``by_trial.csv``: one trial's own limit, and the pooled limit without this trial.

    ``span_low`` and ``span_high`` are the least and greatest limit when one trial is left out: the
    same on each row of a stratum and centile.
    """

    centile: float
    trial: str
    n: int | None
    limits: str
    limit: float | None
    ci_low: float | None
    ci_high: float | None
    ci_level: float
    status: str
    n_without: int | None
    limit_without: float | None
    span_low: float | None
    span_high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionTest(MeasureRow):
    """A row of ``partition.csv``: do two groups need limits of their own?

    ``z`` and ``z_critical`` of Harris & Boyd, ``sd_ratio`` larger over smaller; the percentages of
    each group below and above the 95 % limits of both together (Lahti).
    """

    factor: Factor
    group_a: str
    group_b: str
    sex: str
    age_low: float | None
    age_high: float | None
    n_a: int | None
    n_b: int | None
    mean_a: float | None = None
    mean_b: float | None = None
    sd_a: float | None = None
    sd_b: float | None = None
    z: float | None = None
    z_critical: float | None = None
    sd_ratio: float | None = None
    harris_boyd: str = ""
    below_percent_a: float | None = None
    above_percent_a: float | None = None
    below_percent_b: float | None = None
    above_percent_b: float | None = None
    lahti: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast(MeasureRow):
    """A row of ``contrasts.csv``: a difference of means, ``group`` minus ``versus``.

    ``source``: ``within-trial`` (participants of one trial compared), ``between-trial`` (trials
    with more of the group compared with trials with fewer), ``ignoring-trials`` (both mixed).
    """

    factor: Factor
    group: str
    versus: str
    sex: str
    source: Literal["within-trial", "between-trial", "ignoring-trials"]
    n_group: int | None
    n_versus: int | None
    n_trials: int | None = None
    adjusted_for: str
    difference: float | None = None
    se: float | None = None
    df: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ci_level: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration(MeasureRow):
    """A row of ``calibration.csv``: the share of participants outside their own group's limits.

    ``check``: ``fitted`` (the participants that the limits were made of), ``age-third`` (the same
    by age), ``left-out-trial`` (a trial against the limits made without it).
    """

    method: str
    sex: str
    ethnicity: str
    check: Literal["fitted", "age-third", "left-out-trial"]
    group: str
    n: int | None
    below_percent: float | None
    above_percent: float | None
    expected_below_percent: float | None
    expected_above_percent: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaEstimate(GroupRow):
    """A row of ``meta.csv``: the distribution behind a group's meta-analytic range.

    ``meta``: ``frequentist`` or ``empirical``; ``trial_effect``: ``random``, ``fixed`` (fewer than
    5 trials: no tau) or ``none``; ``sigma`` the SD within trials, ``tau`` between them with the
    Q-profile interval; ``tau_share`` = tau/√(tau² + sigma²).
    """

    meta: str
    trial_effect: str
    n: int | None
    n_trials: int
    mean: float
    sigma: float
    tau: float | None
    tau_low: float | None
    tau_high: float | None
    tau_share: float | None
    ci_level: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """A value beyond the fences of its group; names a participant, so for internal use only.

    ``rule``: those of ``tukey``, ``horn`` and ``dixon`` (an extreme value a third of the range
    apart) that call it an outlier; the fences are the first one's (of Dixon alone, Tukey's).
    """

    measure: str
    trial: str
    participant_id: str
    visit: str
    value: float
    rule: str
    fence_low: float
    fence_high: float
    sex: str
    age_low: float | None
    age_high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of the table's rows for one measure: ``rows_in`` = analysed + excluded.

    ``excluded`` counts rows by code; ``ethnicity_unknown`` are analysed in ``all`` alone.
    """

    measure: str
    rows_in: int
    excluded: Mapping[str, int]
    analysed: int
    ethnicity_unknown: int
    outliers: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allometry(MeasureRow):
    """A row of ``indexing.csv``: the exponent with its SE and interval; None: too few participants.

    ``index`` is the name to give ``--measure`` for the measure divided by size to that exponent.
    """

    size: str
    adjusted_for: str
    n: int | None
    exponent: float | None = None
    se: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ci_level: float
    index: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveLine:
    """A group's curve as it is drawn: arrays ``[ages]`` and ``[ages, centiles]``."""

    measure: str
    unit: str
    method: str
    sex: str
    ethnicity: str
    kind: str
    thin: bool
    ages: np.ndarray
    centiles: tuple[float, ...]
    limits: CurveLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveParticipants:
    """The participants behind a sex's curves, for internal pages alone: arrays ``[n]``."""

    measure: str
    method: str
    sex: str
    age: np.ndarray
    value: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class QStatistics:
    """A row of the table of fit: chi² with its p for mean, variance, skewness and kurtosis of z.

    ``groups`` age groups of about equal size, all participants of one sex.
    """

    measure: str
    method: str
    sex: str
    n: int
    groups: int
    q_mean: float
    p_mean: float
    q_variance: float
    p_variance: float
    q_skewness: float
    p_skewness: float
    q_kurtosis: float
    p_kurtosis: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WormPlot:
    """One age group's worm plot: the observed less the expected z at centiles, ``[centiles]``.

    ``half_width`` is that of the point-wise 95 % band.
    """

    measure: str
    method: str
    sex: str
    ages: str
    n: int
    expected: np.ndarray
    deviation: np.ndarray
    half_width: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionFit(MeasureRow):
    """A row of ``distributions.csv``: how a distribution fits all participants of one sex.

    ``distribution``: the ``--method`` that assumes it; ``chosen``: the curves' own. ``aic`` and
    ``bic`` from -2 log likelihood and the effective number of ``parameters``; ``tail``: the degrees
    of freedom (bct) or the power (bcpe; 2 is normal). Of z within participants' own trials:
    ``worm_outside`` of ``worm_points`` worm plots' points are outside their band, ``worm_largest``
    is the greatest |observed - expected z|; the percentages below and above the limits by age third
    (``thirds``). ``limit_difference_percent``: the greatest distance of its limits from those of
    the lowest BIC, of the interval's width.
    """

    method: str
    sex: str
    distribution: str
    chosen: bool
    n: int | None
    parameters: float | None = None
    tail: float | None = None
    aic: float | None = None
    bic: float | None = None
    bic_difference: float | None = None
    limit_difference_percent: float | None = None
    worm_points: int | None = None
    worm_outside: int | None = None
    worm_largest: float | None = None
    thirds: str = ""
    below_percent_youngest: float | None = None
    above_percent_youngest: float | None = None
    below_percent_middle: float | None = None
    above_percent_middle: float | None = None
    below_percent_oldest: float | None = None
    above_percent_oldest: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAdjustedLimit(GroupRow):
    """A row of ``error_adjusted.csv``: a limit as measured and that of the true value.

    ``error_sd`` is the SD of the noise at the limit, ``error_share_percent`` its share of the
    measured variance; ``bias`` model less reader at the true limit; ``line`` says which trials,
    vendors or hearts the error is of, ``n_hearts`` the fewest evaluated for one. ``difference`` of
    the measured limit from that of ``versus`` (an ethnicity, or men), with its interval;
    ``error_to_zero`` the difference of the mean error between the groups that would bring the
    interval to zero; ``evaluated_difference`` what the evaluation found of that.
    """

    method: str
    kind: str
    age: float | None
    n: int | None
    centile: float
    limit: float
    ci_low: float | None
    ci_high: float | None
    true_limit: float | None = None
    true_ci_low: float | None = None
    true_ci_high: float | None = None
    ci_level: float
    error_sd: float | None = None
    error_share_percent: float | None = None
    bias: float | None = None
    bias_se: float | None = None
    line: str = ""
    n_hearts: int | None = None
    versus: str = ""
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    error_to_zero: float | None = None
    evaluated_difference: float | None = None
    evaluated_low: float | None = None
    evaluated_high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedWidth(GroupRow):
    """A row of ``compare_reported.csv``: the width of the reference interval from each source.

    Of a group, or without ages of a sex's groups together (where there are several). Differences
    are less the ``harmonised`` width; ``combat`` is None with one trial, ``combat_measures`` the
    reported measures that its empirical Bayes learns from.
    """

    n: int | None
    n_trials: int
    harmonised: float
    harmonised_low: float
    harmonised_high: float
    reported: float
    reported_low: float
    reported_high: float
    combat: float | None = None
    combat_low: float | None = None
    combat_high: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    combat_difference: float | None = None
    combat_difference_low: float | None = None
    combat_difference_high: float | None = None
    combat_measures: int | None = None
    ci_level: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRanges:
    """The result of ``reference-ranges``: everything that the files and the page are made of.

    ``participants`` is their number, ``rows`` are the limits; ``conventions`` and ``scanners``
    (vendor, field_strength_t): the values found with their participants. ``methods`` in order;
    ``strata_models`` and ``curve_models`` are the entries of the portable `model`; ``curve_lines``
    what the centile figures show; ``without_review`` the limits without the scans that ask for
    review, None where there are none.
    """

    name: str
    options: ReferenceOptions
    by: tuple[Factor, ...]
    measures: tuple[str, ...]
    trials: tuple[str, ...]
    participants: int
    input_sha256: str
    methods: tuple[Method, ...]
    review_rows: int = 0
    visits: tuple[tuple[str, int], ...] = ()
    conventions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    scanners: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rows: tuple[ReferenceLimit, ...] = ()
    by_trial: tuple[TrialLimit, ...] = ()
    partition: tuple[PartitionTest, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    calibration: tuple[Calibration, ...] = ()
    outliers: tuple[Outlier, ...] = ()
    accounts: tuple[Account, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    strata_models: tuple[Mapping[str, Any], ...] = ()
    curve_models: tuple[Mapping[str, Any], ...] = ()
    curve_lines: tuple[CurveLine, ...] = ()
    curve_participants: tuple[CurveParticipants, ...] = ()
    q_statistics: tuple[QStatistics, ...] = ()
    worm_plots: tuple[WormPlot, ...] = ()
    distributions: tuple[DistributionFit, ...] = ()
    meta: tuple[MetaEstimate, ...] = ()
    indexing: tuple[Allometry, ...] = ()
    error_adjusted: tuple[ErrorAdjustedLimit, ...] = ()
    error_source: str = ""
    reported_widths: tuple[ReportedWidth, ...] = ()
    without_review: tuple[ReferenceLimit, ...] | None = None
    table1: tuple[Characteristic, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, tables: Mapping[str, Sequence[Any]], options: ReferenceOptions, **facts: Any
    ) -> ReferenceRanges:
        """The result with ``tables``, rows by field, and small counts suppressed.

        Rows of unselected participants say so.
        """
        found: dict[str, Any] = {}
        shown = suppress_tables(tables, options.min_cell, internal=options.internal)
        for name, rows in shown.items():
            if not options.healthy_only and name != "warnings":
                noted = [isinstance(row, ResultRow) for row in rows]
                rows = [  # noqa: PLW2901
                    replace(row, notes=(*row.notes, NOT_A_REFERENCE)) if has_notes else row
                    for row, has_notes in zip(rows, noted, strict=True)
                ]
            found[name] = tuple(rows)
        return cls(options=options, **found, **facts)

    @property
    def title(self) -> str:
        """What the limits are of."""
        healthy = self.options.healthy_only
        return "Reference ranges" if healthy else NOT_A_REFERENCE.capitalize()

    @property
    def limits(self) -> pd.DataFrame:
        """The limits as a table, a row per group, age and centile."""
        import pandas as pd

        names = record_columns(ReferenceLimit)
        cells = [[getattr(row, name) for name in names] for row in self.rows]
        return pd.DataFrame(cells, columns=names)

    @property
    def model(self) -> dict[str, Any]:
        """The document of ``reference_ranges.json``, with which new participants are scored."""
        options = self.options
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "title": self.title,
            "name": self.name,
            "notice": "" if options.healthy_only else NOT_A_REFERENCE,
            "methods": list(self.methods),
            "level": options.level,
            "sided": options.sided,
            "ci_level": options.ci_level,
            "ci_is": SAMPLING_ERROR,
            "age_bands": list(options.age_bands),
            "strata": list(self.strata_models),
            "curves": list(self.curve_models),
            "conventions": {name: sorted(values) for name, values in self.conventions.items()},
            "trials": list(self.trials),
            "healthy_rule": options.healthy_rule,
            "by": list(self.by),
            "input_sha256": self.input_sha256,
        }
