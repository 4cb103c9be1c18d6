"""The records of pooling: rows of its tables, in the contract's column order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

from ..privacy.characteristics import Characteristic
from ..records import Exclusion
from .options import PoolingOptions, Presentation

Variant = Literal[
    "main",  # the analysis as asked for
    "sensitivity",  # the main analysis with one thing changed: `label` says which
    "mantel-haenszel",  # 2 x 2 tables pooled without correction
    "stratified-cox",  # one Cox model over all trials
    "joint-model",  # all arms in one model
    "source-difference",  # participants' data less published effects
    "small-study",  # Egger's test
    "joint-test",  # that the effect is the same at all levels
    "ecological",  # between trials, not within
    "not-pooled",  # a level with too few trials or participants
]
Suppressed = Literal["", "below-threshold", "complementary"]
_NOT_A_COLUMN: Final = {"column": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One trial's effect as the second stage takes it, from rows or from a publication.

    ``estimate`` and ``se`` on the analysis scale (ratios: log), None where the trial cannot give
    one; ``df`` infinite where only a normal distribution is known; counts None where not known.
    """

    trial: str
    arm: str
    control: str
    estimate: float | None
    se: float | None
    df: float = float("inf")
    n_control: int | None = None
    n_active: int | None = None
    n: int | None = None
    events_control: int | None = None
    events_active: int | None = None
    residual_sd: float | None = None
    aggregate: bool = False
    note: str = ""

    @classmethod
    def of_rows(
        cls,
        named: tuple[str, str, str],
        n: tuple[int, int],
        found: tuple[float, float, str] | str,
        **more: Any,
    ) -> Study:
        """The study of a trial, arm and control from participants' rows.

        ``n`` are the analysed of control and active arm, ``found`` estimate, SE and note, or why
        there is no estimate.
        """
        estimate, se, note = (None, None, found) if isinstance(found, str) else found
        trial, arm, control = named
        return cls(
            trial=trial,
            arm=arm,
            control=control,
            estimate=estimate,
            se=se,
            note=note,
            n_control=n[0],
            n_active=n[1],
            n=n[0] + n[1],
            **more,
        )

    @property
    def estimable(self) -> bool:
        """True where the trial has an estimate."""
        return self.estimate is not None and self.se is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectRow:
    """One row of ``effects.csv``; its fields are the file's columns, None an empty cell.

    The last five are no columns; they say as data what ``note`` says in words. ``label`` names the
    analysis where it is not the main one (``change score``). ``suppressed``: numbers of this row
    were removed, because they are of fewer participants than the least cell (``small_counts``
    names the counts, ``control`` or ``active`` or ``events``; empty: the row itself), or because
    they would give such a number back. ``aggregate``: a published effect, no participants' data.
    """

    analysis: str
    source: str = "harmonised"
    model: str = "two-stage"
    outcome: str = ""
    effect: str = ""
    arm: str = ""
    control: str = ""
    term: str = "treatment"
    trial: str = ""
    level: str = ""
    n_control: int | None = None
    n_active: int | None = None
    estimate: float | None = None
    se: float | None = None
    df: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    pi_low: float | None = None
    pi_high: float | None = None
    weight_percent: float | None = None
    tau2: float | None = None
    i2_percent: float | None = None
    q: float | None = None
    q_df: int | None = None
    q_p: float | None = None
    k: int | None = None
    tau2_method: str = ""
    ci_method: str = ""
    headline: bool = False
    exp_estimate: float | None = None
    exp_ci_low: float | None = None
    exp_ci_high: float | None = None
    note: str = ""
    variant: Variant = field(default="main", metadata=_NOT_A_COLUMN)
    label: str = field(default="", metadata=_NOT_A_COLUMN)
    suppressed: Suppressed = field(default="", metadata=_NOT_A_COLUMN)
    small_counts: tuple[str, ...] = field(default=(), metadata=_NOT_A_COLUMN)
    aggregate: bool = field(default=False, metadata=_NOT_A_COLUMN)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonCells:
    """The first columns of most tables: which comparison a row is of."""

    outcome: str
    effect: str
    arm: str
    control: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeterogeneityRow(ComparisonCells):
    """One row of ``heterogeneity.csv``: one tau² estimator for one arm.

    The Q-profile limits do not depend on the estimator; they are repeated so that each row can
    be read alone. ``i2_q_percent`` is the older I² from Q.
    """

    k: int
    tau2_method: str
    headline: bool
    tau2: float
    tau2_se: float | None
    tau2_low: float | None
    tau2_high: float | None
    tau: float
    tau_low: float | None
    tau_high: float | None
    i2_percent: float | None
    i2_low: float | None
    i2_high: float | None
    h2: float | None
    h2_low: float | None
    h2_high: float | None
    i2_q_percent: float | None
    q: float
    q_df: int
    q_p: float | None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InfluenceRow(ComparisonCells):
    """One row of ``influence.csv``: what one trial does to the pooled effect (metafor's names).

    Of the model with Wald tests; cells are empty where the trial may not be shown.
    """

    trial: str
    k: int
    rstudent: float | None = None
    dffits: float | None = None
    cook_d: float | None = None
    cov_ratio: float | None = None
    tau2_deleted: float | None = None
    q_deleted: float | None = None
    hat: float | None = None
    dfbetas: float | None = None
    influential: bool | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionRow(ComparisonCells):
    """One row of ``meta_regression.csv``: the trials' effects by a covariate of the trials.

    ``kind`` is ``slope`` (of a number), ``level`` (pooled effect of the trials of one word) or
    ``difference`` (test that all levels have one effect: ``test``, ``test_df`` and the second df
    in ``df``). ``tau2_model``: one tau² for all trials, or ``separate`` by level. ``tau2_without``
    is of the same trials without the covariate. ``q`` is the residual one. ``trials`` of a level.
    """

    covariate: str
    kind: str
    level: str
    tau2_model: str
    k: int
    estimate: float | None = None
    se: float | None = None
    df: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p: float | None = None
    test: float | None = None
    test_df: int | None = None
    tau2: float | None = None
    tau2_without: float | None = None
    r2_percent: float | None = None
    i2_percent: float | None = None
    q: float | None = None
    q_df: int | None = None
    q_p: float | None = None
    tau2_method: str = ""
    ci_method: str = ""
    headline: bool = False
    exp_estimate: float | None = None
    exp_ci_low: float | None = None
    exp_ci_high: float | None = None
    note: str = ""
    trials: tuple[str, ...] = field(default=(), metadata=_NOT_A_COLUMN)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplineRow(ComparisonCells):
    """One row of ``spline.csv``: the effect over a number, from within the trials.

    ``kind`` ``curve``: the effect at ``value`` less that at ``reference``; ``test``: that the
    effect is the same at all values (``overall``) or changes in a straight line (``non-linear``),
    ``test`` on ``test_df`` and ``df``. ``knots`` are common to all trials.
    """

    covariate: str
    kind: str
    level: str
    value: float | None = None
    reference: float | None = None
    estimate: float | None = None
    se: float | None = None
    df: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p: float | None = None
    test: float | None = None
    test_df: int | None = None
    k: int = 0
    knots: str = ""
    tau2_method: str = ""
    ci_method: str = ""
    exp_estimate: float | None = None
    exp_ci_low: float | None = None
    exp_ci_high: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProportionalRow(ComparisonCells):
    """One row of ``proportional_hazards.csv``: does the hazard ratio change over time?

    ``trial`` is empty for all trials together; ``chi2`` on ``df``, of scaled Schoenfeld residuals.
    """

    trial: str
    events: int | None
    chi2: float | None
    df: int | None
    p: float | None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestrictedMeanRow(ComparisonCells):
    """One row of ``rmst.csv``: the difference in restricted mean time free of the event.

    Of one trial or pooled (``trial`` empty), up to ``time``, all in its unit: active less control.
    """

    trial: str
    time: float
    n_control: int | None = None
    n_active: int | None = None
    rmst_control: float | None = None
    rmst_active: float | None = None
    estimate: float | None = None
    se: float | None = None
    df: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p: float | None = None
    pi_low: float | None = None
    pi_high: float | None = None
    tau2: float | None = None
    k: int | None = None
    tau2_method: str = ""
    ci_method: str = ""
    headline: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivalRow(ComparisonCells):
    """One row of ``survival.csv``: a point of a curve of one ``group`` (arm), or a number at risk.

    Of one trial, or of all (``trial`` empty; ``k`` of them), at ``time`` in its unit. ``kind``:
    ``event-free`` (Kaplan-Meier), ``incidence`` of the event and ``competing`` (Aalen-Johansen,
    with --competing), or ``at-risk``: followed beyond ``time``, None where that is not shown.
    """

    trial: str
    group: str
    kind: str
    time: float
    estimate: float | None = None
    se: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n_at_risk: int | None = None
    k: int = 1
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPoint:
    """A trial in the figure of a meta-regression: its value of the covariate and its effect.

    ``counts`` of participants behind them: of both arms, then of the value.
    """

    arm: str
    covariate: str
    trial: str
    value: float
    estimate: float
    weight: float
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionLine:
    """The fitted line of a meta-regression with its headline interval, for the figure.

    ``x`` in the covariate's own unit, named ``label``; all ``[n]`` on the analysis scale.
    """

    arm: str
    covariate: str
    label: str
    x: tuple[float, ...]
    estimate: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRow:
    """One row of ``compare_reported.csv``: one quantity of each source on the same participants.

    ``combat`` is of the reported values after ComBat (None with one trial), fitted to
    ``combat_measures`` reported measures. ``difference`` is reported less harmonised,
    ``combat_difference`` ComBat less harmonised; the limits are of one paired bootstrap. All in
    the outcome's unit.
    """

    outcome: str
    arm: str
    control: str
    quantity: str
    k: int
    harmonised: float
    harmonised_low: float
    harmonised_high: float
    reported: float
    reported_low: float
    reported_high: float
    difference: float
    difference_low: float
    difference_high: float
    combat: float | None = None
    combat_low: float | None = None
    combat_high: float | None = None
    combat_difference: float | None = None
    combat_difference_low: float | None = None
    combat_difference_high: float | None = None
    combat_measures: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRow(ComparisonCells):
    """One row of ``error_adjusted.csv``: what the error of the measurement does to an effect.

    ``quantity`` says what ``estimate`` is, in the outcome's unit unless it ends in ``%``;
    ``term`` and ``level`` as in ``effects.csv``, of a ``slope`` the trials or hearts it is of.
    ``method`` of the interval: ``delta``, or ``fieller``. ``n_hearts`` of the evaluation.
    """

    quantity: str
    term: str = "treatment"
    level: str = ""
    estimate: float | None = None
    se: float | None = None
    df: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    method: str = ""
    k: int | None = None
    n_hearts: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneStageCheck:
    """What was checked of one arm's one-stage fit.

    ``gradient`` in standard errors; ``scan_gain`` by how much the profile scan or a restart found
    a lower criterion than the first fit; ``self_check`` how far the model with the first stage's
    variances is from the two-stage fit, in standard errors; ``difference`` is one-stage less
    two-stage.
    """

    arm: str
    k: int
    residual: str
    criterion: float
    steps: int
    starts: int
    gradient: float
    scan_gain: float
    converged: bool
    self_check: float
    two_stage: float
    difference: float
    tau2_two_stage: float
    tau2_one_stage: float
    reason: str
    random_effects: str = "effect"
    intercept_sd: float | None = None
    correlation: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCount:
    """One row of ``participants_by_arm.csv``; None where not known or fewer than the cell.

    ``died`` and ``withdrew`` before the follow-up scan; ``no_outcome`` and ``no_baseline`` of the
    randomised; outcome and baseline means are of those analysed, ``baseline_others`` of the
    ``n_baseline_others`` others. Not columns, what ``note`` says as data: ``suppressed`` as of
    `EffectRow`, ``small_counts`` the counts below the cell, ``deaths_recorded`` whether the trial
    has any day of death.
    """

    trial: str
    arm: str
    randomised: int | None
    died: int | None
    withdrew: int | None
    alive: int | None
    scanned: int | None = None
    no_outcome: int | None
    no_baseline: int | None = None
    paired: int | None = None
    baseline_only: int | None = None
    followup_only: int | None = None
    analysed: int | None
    events: int | None = None
    outcome_mean: float | None = None
    outcome_sd: float | None = None
    n_baseline_others: int | None
    baseline_analysed: float | None
    baseline_others: float | None
    note: str = ""
    deaths_recorded: bool = field(default=True, metadata=_NOT_A_COLUMN)
    suppressed: Suppressed = field(default="", metadata=_NOT_A_COLUMN)
    small_counts: tuple[str, ...] = field(default=(), metadata=_NOT_A_COLUMN)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaRow(ComparisonCells):
    """One row of ``delta_adjusted.csv``: the pooled effect with the active arm's missing shifted.

    ``delta`` in the outcome's unit; ``kind`` is ``grid`` or ``tipping-point``.
    """

    kind: str
    delta: float
    estimate: float | None
    se: float | None
    ci_low: float | None
    ci_high: float | None
    p: float | None
    k: int | None
    ci_method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrityRow:
    """One row of ``integrity.csv``: a check of one trial.

    ``result`` is ``ok``, ``review`` or ``not-checked``; ``value`` is the number
    that decided, where the check has one. Not columns: ``warning``, what the report says of a
    finding; ``suppressed``, counts were removed, which ``sentence`` says after ``statement``.
    """

    trial: str
    check: str
    result: str
    n_checked: int | None
    n_found: int | None
    value: float | None
    sentence: str
    warning: str = field(default="", metadata=_NOT_A_COLUMN)
    suppressed: Suppressed = field(default="", metadata=_NOT_A_COLUMN)

    @property
    def statement(self) -> str:
        """The sentence without what it says of suppressed counts."""
        return self.sentence.rpartition(" (n<")[0] if self.suppressed else self.sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounting:
    """Participants of the table: those analysed and those excluded, by code; it closes."""

    participants: int
    analysed: int
    excluded: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowCounts:
    """Trials and participants for the flow diagram; None where the count is not stated.

    ``provided`` are those in the table, ``aggregate`` trials known by a published effect.
    """

    provided_trials: int
    provided_participants: int
    analysed_trials: int
    analysed_participants: int
    aggregate_trials: int = 0
    aggregate_participants: int | None = None
    sought_trials: int | None = None
    sought_participants: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingResult:
    """All that one run of pooling found, ready to be written and shown."""

    options: PoolingOptions
    name: str
    unit: str
    control: str
    arms: tuple[str, ...]
    effects: tuple[EffectRow, ...]
    heterogeneity: tuple[HeterogeneityRow, ...]
    methods: str
    endpoint: str
    by_arm: tuple[ArmCount, ...] = ()
    table1: tuple[Characteristic, ...] = ()
    integrity: tuple[IntegrityRow, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    accounting: Accounting | None = None
    warnings: tuple[str, ...] = ()
    review_rows: int | None = None
    checks: tuple[OneStageCheck, ...] = ()
    comparison: tuple[ComparisonRow, ...] = ()
    compared: tuple[EffectRow, ...] = ()
    delta: tuple[DeltaRow, ...] = ()
    error_adjusted: tuple[ErrorRow, ...] = ()
    error_source: str = ""
    influence: tuple[InfluenceRow, ...] = ()
    regression: tuple[RegressionRow, ...] = ()
    points: tuple[TrialPoint, ...] = ()
    lines: tuple[RegressionLine, ...] = ()
    spline: tuple[SplineRow, ...] = ()
    proportional: tuple[ProportionalRow, ...] = ()
    rmst: tuple[RestrictedMeanRow, ...] = ()
    survival: tuple[SurvivalRow, ...] = ()
    flow: FlowCounts | None = None
    presentation: Presentation = field(default_factory=Presentation)
    conventions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of_arm(self, arm: str, analysis: str) -> list[EffectRow]:
        """The effects of one arm from one analysis (``trial``, ``pooled``, ``subgroup``, ...)."""
        return [row for row in self.effects if row.arm == arm and row.analysis == analysis]

    def headline(self, arm: str, model: str | None = None) -> EffectRow | None:
        """The pooled effect of an arm: two-stage where it is given, or of the ``model`` named."""
        found = (row for row in self.of_arm(arm, "pooled") if row.headline)
        return next((row for row in found if model in (None, row.model)), None)


def columns_of(record: type[Any]) -> tuple[str, ...]:
    """The column names of a row record, in order."""
    return tuple(item.name for item in fields(record) if item.metadata.get("column", True))


def cells_of(row: Any) -> tuple[Any, ...]:
    """The cells of a row record, in order."""
    return tuple(getattr(row, name) for name in columns_of(type(row)))


def documents_of(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows as JSON objects, their columns alone."""
    return [dict(zip(columns_of(type(row)), cells_of(row), strict=True)) for row in rows]


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Key of an order in which ``T2`` is before ``T10``."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts)
