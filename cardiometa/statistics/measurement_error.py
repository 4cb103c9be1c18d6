"""The error of a measurement against a reader: its model, its document, what it does to an effect.

A model measures Y* = α + β·Y + e where a reader measures Y; e has SD σ. `line_of` estimates α, β
and σ by least squares of the model's values on the reader's; `partially_pooled` shrinks the lines
of trials towards their mean. The document (section ``measurement_error`` of ``evaluation.json`` of
`evaluate`, or of a model's card) is `MeasurementError`; `read_measurement_error` checks it.

The reader is taken as the truth. A reader's own random error, which one reading of each heart
cannot show, makes β too small: by the share of the readings' variance that it is.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np

from ..errors import InputError, Problem
from ..files import read_json
from ..records import SeriousWarning
from ..validation import STRICT, Count, Limits, Text, validate
from .meta import between_trial_variance, likelihood_se, pool_estimates

KEY: Final = "measurement_error"
FORMAT: Final = "cardiometa-measurement-error/1"
ALL: Final = "all"
LEAST_PARTICIPANTS: Final = 4
LEAST_TRIALS: Final = 3
# Below this number of hearts the lines are too uncertain to be relied on.
FEW_HEARTS: Final = 50
# Above this coefficient of variation of β the delta method's interval is too short.
FIELLER_CV: Final = 0.10

_Positive = Annotated[float, Limits(ge=0.0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorLine:
    """The model's value on the reader's in one group: Y* = ``intercept`` + ``slope`` · Y + e.

    ``group_by`` and ``group`` are ``all``, or as in ``agreement.csv`` (``trial``, ``vendor``,
    ``arm``, ``sex``, ``ethnicity``). ``residual_sd`` is the SD of e, with ``residual_df`` degrees
    of freedom; variances are of the estimates. ``method``: ``least-squares`` of the group alone,
    or ``partially-pooled`` over trials.
    """

    __pydantic_config__ = STRICT

    group_by: Text = ALL
    group: Text = ALL
    n_people: Annotated[int, Limits(ge=LEAST_PARTICIPANTS)]
    n_scans: Count
    intercept: float
    slope: float
    var_intercept: _Positive
    var_slope: _Positive
    covariance: float
    residual_sd: _Positive
    residual_df: Annotated[float, Limits(ge=1.0)]
    mean_reference: float
    method: Literal["least-squares", "partially-pooled"] = "least-squares"

    def bias_at(self, value: float) -> tuple[float, float]:
        """Bias (model - reader) at a reader's value, and its variance."""
        variance = self.var_intercept + value**2 * self.var_slope + 2 * value * self.covariance
        return self.intercept + (self.slope - 1) * value, max(variance, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BetweenTrials:
    """Mean and between-trial variance of trials' lines, by REML; intercepts are at ``centre``."""

    __pydantic_config__ = STRICT

    k: Annotated[int, Limits(ge=LEAST_TRIALS)]
    centre: float
    intercept: float
    slope: float
    var_intercept: _Positive
    var_slope: _Positive
    tau2_intercept: _Positive
    tau2_slope: _Positive


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureError:
    """The lines of one measure: all hearts, then groups; those of trials also partially pooled."""

    __pydantic_config__ = STRICT

    measure: Text
    unit: str
    scope: str
    lines: tuple[ErrorLine, ...]
    between_trials: BetweenTrials | None = None

    def line(self, by: str = ALL, group: str = ALL) -> ErrorLine | None:
        """The line of a group, partially pooled where there is one; None without any."""
        found = [one for one in self.lines if (one.group_by, one.group) == (by, group)]
        return max(found, key=lambda one: one.method == "partially-pooled", default=None)

    def groups(self, by: str) -> tuple[str, ...]:
        """The groups of a kind that have a line."""
        return tuple(dict.fromkeys(one.group for one in self.lines if one.group_by == by))

    def of_trial(self, trial: str, vendor: str = "") -> tuple[ErrorLine, str]:
        """The line for a trial: its own, its vendor's, that of a new trial, or of all hearts.

        With what it is of: ``trial ALPHA``, ``vendor Siemens``, ``new trial`` or ``all``. A new
        trial has the mean line, with the between-trial variance added to its uncertainty.
        """
        for by, group in (("trial", trial), ("vendor", vendor)):
            own = self.line(by, group)
            if own is not None:
                return own, f"{by} {group}"
        overall = self.line()
        assert overall is not None  # `read_measurement_error`
        between = self.between_trials
        if between is None:
            return overall, "all"
        mean = replace(
            overall,
            intercept=between.intercept,
            slope=between.slope,
            var_intercept=between.var_intercept + between.tau2_intercept,
            var_slope=between.var_slope + between.tau2_slope,
            covariance=0.0,
        )
        return _moved(mean, between.centre), "new trial"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementError:
    """The errors of one model, by measure.

    ``source``: ``evaluation`` against readers of the user's own hearts, or the model's ``card``.
    ``against``: ``labels`` of readers, or values that trials ``reported``. ``trained_on``: how
    hearts that the model was trained on enter: ``none`` is among them, they are ``excluded`` or
    ``included`` (errors are then too small), or it is ``unknown``.
    """

    __pydantic_config__ = STRICT

    format: Literal["cardiometa-measurement-error/1"]
    source: Literal["evaluation", "card"]
    against: Text
    cohort: str
    model_id: str
    model_sha256: str
    min_cell: Count
    trained_on: Literal["none", "excluded", "included", "unknown"]
    measures: tuple[MeasureError, ...]

    def of(self, measure: str) -> MeasureError | None:
        """The errors of a measure; None where it was not evaluated."""
        return next((one for one in self.measures if one.measure == measure), None)

    def document(self) -> dict[str, Any]:
        """The section as plain values."""
        return asdict(self)


def measurement_error_of(document: object, where: str) -> MeasurementError:
    """The section of a document (of an evaluation or a card); InputError with every problem."""
    section = document.get(KEY) if isinstance(document, Mapping) else None
    if section is None:
        raise InputError(
            f"{where} has no section {KEY}.",
            hint="Give evaluation.json of `cardiometa evaluate OUT --against labels`.",
        )
    found = validate(MeasurementError, section, f"{where}, {KEY}")
    problems = [
        Problem(where=where, what=f"{one.measure} has no line of all hearts")
        for one in found.measures
        if one.line() is None
    ]
    problems += [
        Problem(where=where, what=f"{one.measure}: a slope of 0 or less cannot be of one measure")
        for one in found.measures
        if any(line.slope <= 0 for line in one.lines)
    ]
    if problems:
        raise InputError(f"{where} cannot be used.", problems=problems)
    return found


def read_measurement_error(path: Path) -> MeasurementError:
    """The section ``measurement_error`` of ``evaluation.json`` or of a model's card.

    Raises InputError where the file cannot be read, has no such section, or one with problems.
    """
    return measurement_error_of(read_json(path), path.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInput:
    """What is known of the error: an evaluation's lines, or (None) the SDs of scans alone.

    ``scan_sd`` the SD of each trial's scans; ``vendors`` by trial, where all its scans are of one
    maker; ``model_sha256`` of the table.
    """

    evaluated: MeasurementError | None = None
    scan_sd: Mapping[str, float] = field(default_factory=dict)
    vendors: Mapping[str, str] = field(default_factory=dict)
    model_sha256: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Where the error model comes from, as a sentence names it."""
        found = self.evaluated
        if found is None:
            return "scan-sd"
        return "the model's card" if found.source == "card" else f"evaluation of {found.cohort}"

    def measure(self, *names: str) -> MeasureError | None:
        """The lines of the first of the names that has any; None where only SDs are known.

        Raises InputError where the evaluation has none.
        """
        if self.evaluated is None:
            return None
        found = next(filter(None, map(self.evaluated.of, names)), None)
        if found is None:
            known = ", ".join(one.measure for one in self.evaluated.measures)
            raise InputError(
                f"The error model has no line of {names[0]}.",
                hint=f"It has {known}. A column of another name is recognised by its measure's "
                "name.",
            )
        return found

    def warnings(
        self, measure: MeasureError, name: str, trials: Collection[str], corrected: str
    ) -> list[str]:
        """What a correction by an evaluation rests on; ``corrected`` says what is."""
        evaluated, found = self.evaluated, list[str]()
        assert evaluated is not None
        if evaluated.source == "card":
            sentence = (
                "No evaluation on hearts of these trials: the error is assumed equal to that "
            )
            found.append(SeriousWarning(f"{sentence}of the model's card."))
        elif not {*trials} & {*measure.groups("trial")}:
            sentence = "The evaluation has no hearts of these trials: the error is assumed equal "
            found.append(SeriousWarning(f"{sentence}to that of {evaluated.cohort}."))
        line = measure.line()
        assert line is not None
        if line.n_people < FEW_HEARTS:
            found.append(
                SeriousWarning(
                    f"The error model of {name} is of {line.n_people} hearts: {corrected} "
                    "uncertain, and the interval says by how much only if these hearts are like "
                    "those of the trials."
                )
            )
        known = {*self.model_sha256} - {""}
        if known and evaluated.model_sha256 and known != {evaluated.model_sha256}:
            found.append(
                SeriousWarning("The error model is of another segmentation model than the table's.")
            )
        if evaluated.trained_on == "included":
            found.append(
                "The error model includes hearts that the model was trained on: too small."
            )
        if evaluated.against == "reported":
            found.append(
                "The error model is against values that trials reported, whose conventions may "
                "differ."
            )
        return found


# ------------------------------------------------------------------ estimation


def line_of(
    model: np.ndarray,
    reference: np.ndarray,
    participants: np.ndarray,
    group_by: str = ALL,
    group: str = ALL,
) -> ErrorLine | None:
    """The least-squares line of the model's values ``[n]`` on the reader's ``[n]``.

    ``participants`` ``[n]`` are integers, equal for the scans of one participant; where any has
    several, variances are clustered by participant (Liang & Zeger 1986, with the correction
    G/(G - 1) · (n - 1)/(n - 2)) and degrees of freedom count participants. None below 4
    participants, or where the reader's values are all alike.
    """
    n, people = len(model), len(np.unique(participants))
    if people < LEAST_PARTICIPANTS:
        return None
    centre = float(reference.mean())
    x = reference - centre
    spread = float(x @ x)
    if spread <= 1e-12 * max(float(reference @ reference), 1e-300):
        return None
    slope = float(x @ model / spread)
    rest = model - model.mean() - slope * x
    variance = float(rest @ rest) / (n - 2)
    bread = np.diag([1 / n, 1 / spread])
    if people == n:
        covariance = variance * bread
    else:
        _, index = np.unique(participants, return_inverse=True)
        scores = np.zeros((people, 2))
        np.add.at(scores, index, np.stack([rest, rest * x], axis=1))
        factor = people / (people - 1) * (n - 1) / (n - 2)
        covariance = factor * bread @ (scores.T @ scores) @ bread
    line = ErrorLine(
        n_people=people,
        n_scans=n,
        intercept=float(model.mean()),
        slope=slope,
        var_intercept=float(covariance[0, 0]),
        var_slope=float(covariance[1, 1]),
        covariance=float(covariance[0, 1]),
        residual_sd=math.sqrt(variance),
        residual_df=float(people - 2),
        mean_reference=centre,
        group_by=group_by,
        group=group,
    )
    return _moved(line, centre)


def _moved(line: ErrorLine, centre: float) -> ErrorLine:
    """The line whose intercept is at a reader's value of 0, of one whose is at ``centre``."""
    variance = line.var_intercept + centre**2 * line.var_slope - 2 * centre * line.covariance
    return replace(
        line,
        intercept=line.intercept - centre * line.slope,
        var_intercept=max(variance, 0.0),
        covariance=line.covariance - centre * line.var_slope,
    )


def partially_pooled(
    lines: Sequence[ErrorLine],
) -> tuple[tuple[ErrorLine, ...], BetweenTrials | None]:
    """The lines of trials shrunk towards their mean, and that mean; nothing below 3 trials.

    Slope and intercept (at the mean of the reader's values, where they are all but uncorrelated)
    each have a random effect of the trial with its variance by REML (`shrunken`).
    """
    known = [one for one in lines if one.var_slope > 0 and one.var_intercept > 0]
    if len(known) < LEAST_TRIALS:
        return (), None
    weights = [one.n_scans for one in known]
    centre = float(np.average([one.mean_reference for one in known], weights=weights))
    centred = [_moved(one, -centre) for one in known]
    shrunk: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    means: dict[str, float] = {}
    for name in ("intercept", "slope"):
        y = np.array([getattr(one, name) for one in centred])
        v = np.array([getattr(one, f"var_{name}") for one in centred])
        values, variances, share, fit = shrunken(y, v)
        shrunk[name] = values, variances, share
        means |= {name: fit[0], f"var_{name}": fit[1], f"tau2_{name}": fit[2]}
    result = []
    for at, one in enumerate(centred):
        cells: dict[str, Any] = {name: float(shrunk[name][0][at]) for name in shrunk}
        cells |= {f"var_{name}": float(shrunk[name][1][at]) for name in shrunk}
        kept = math.prod(1 - float(shrunk[name][2][at]) for name in shrunk)
        pooled = replace(one, **cells, covariance=one.covariance * kept, method="partially-pooled")
        result.append(_moved(pooled, centre))
    return tuple(result), BetweenTrials(k=len(known), centre=centre, **means)


def shrunken(
    y: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Estimates ``[k]`` with variances ``[k]`` shrunk towards their mean; k >= 2.

    Empirical Bayes (Morris 1983, JASA 78:47): y + B (mean - y), B = v/(v + tau²), tau² by REML.
    Their mean squared errors are those of small-area estimation (Prasad & Rao 1990, JASA 85:163;
    Datta & Lahiri 2000): (1 - B) v + B² Var(mean) + 2 v² Var(tau²)/(v + tau²)³, never above v, as
    shrinking does not lose on average. Values, their errors, the shares B; mean, its variance,
    tau².
    """
    tau2 = between_trial_variance(y, v, "reml")
    fit = pool_estimates(y, v, "reml", tau2)
    share = v / (v + tau2)
    values = y + share * (fit.estimate - y)
    doubt = likelihood_se(v, tau2, "reml") or 0.0
    errors = (1 - share) * v + (share * fit.se_wald) ** 2
    errors += 2 * v**2 * doubt**2 / (v + tau2) ** 3
    return values, np.minimum(errors, v), share, (fit.estimate, fit.se_wald**2, tau2)
