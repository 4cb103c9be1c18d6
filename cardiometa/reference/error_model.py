"""Limits of the true value: those of the measured value without the error of the measurement.

A model measures Y* = α + β·Y + e (`statistics.measurement_error`); its limits are of Y*, and wider
than those of the hearts (``reference-ranges.md`` 6).

- Noise: with f the density of the measured values and σ² the variance of e, a centile q moves by
  (σ²·f)'/(2f), to the first order of σ² for any distribution (the convolution's Taylor expansion:
  Stefanski 1985, Biometrika 72:583); times 2(1 - √(1 - λ))/λ, λ the share of the variance that is
  error, it is exact for normal values at any σ². The density is the curve's; of a stratum, that of
  its Box-Cox power (a normal one where values are not positive).
- Systematic error: (q - α)/β, with the line of the participants' trials (their vendors', a new
  trial's, or that of all hearts), weighted by participants.
- The interval: the measured limit's, wider by 1/√(1 - λ), and the uncertainty of the line and of
  σ², in quadrature. Trials' lines count as fully dependent, which is never too narrow.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from scipy import special

from ..cohort.infer_columns import measure_of
from ..cohort.plausibility import possible_values
from ..errors import EstimationError, InputError, UsageError
from ..records import SeriousWarning
from ..statistics.measurement_error import ErrorInput, ErrorLine
from ..statistics.robust import MIN_N, tukey_fences
from .curves.curve import Curve
from .model import stratum_distribution
from .options import ReferenceOptions
from .results import ErrorAdjustedLimit, ReferenceLimit
from .select import ALL, MeasureData, Participants
from .strata.limits import Limit, possible_limit

# Of the measured variance: with less left, what is true is not known from what is measured.
LEAST_TRUE: Final = 0.2
MOSTLY_ERROR: Final = "most of the variance is error of measurement"
NO_DENSITY: Final = "beyond the end of the distribution"
_STEP: Final = 0.02  # of the SD, for the density's derivatives


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupError:
    """The error in a group of participants.

    ``lines`` with their share of the participants; none where only SDs of scans are known.
    ``variance``: that of e at 0 and its slope by the measured value.
    """

    lines: tuple[tuple[float, ErrorLine], ...]
    variance: tuple[float, float]
    label: str

    def mean(self, name: str) -> float:
        """The mean of a field of the lines."""
        return sum(share * float(getattr(line, name)) for share, line in self.lines)

    def true_value(self, value: float) -> tuple[float, float]:
        """What a reader finds where the model, but for noise, finds ``value``; its SE."""
        if not self.lines:
            return value, 0.0
        slope = self.mean("slope")
        true = (value - self.mean("intercept")) / slope
        return true, sum(s * math.sqrt(one.bias_at(true)[1]) for s, one in self.lines) / slope

    def bias_at(self, value: float) -> tuple[float, float]:
        """The mean error at a true value, and its SE."""
        found = [(s, one.bias_at(value)) for s, one in self.lines]
        return sum(s * b for s, (b, _) in found), sum(s * math.sqrt(v) for s, (_, v) in found)

    @property
    def df(self) -> float:
        """The least degrees of freedom of a line."""
        return min((line.residual_df for _, line in self.lines), default=math.inf)


def group_error(data: MeasureData, members: np.ndarray) -> GroupError:
    """The error of some of the participants (their numbers).

    Raises EstimationError where fewer than 20 of their scans have an SD.
    """
    error, participants = data.error, data.participants
    assert error is not None
    measure = error.measure(data.measure, measure_of(data.measure))
    if measure is None:
        sd = participants.values(f"{data.measure}_sd")[members]
        known = sd > 0
        squares, values = sd[known] ** 2, data.values[members][known]
        if known.sum() < MIN_N:
            raise EstimationError(f"fewer than {MIN_N} scans have an SD")
        slope, intercept = np.polyfit(values, squares, 1) if np.ptp(values) else (0.0, squares[0])
        return GroupError(lines=(), variance=(float(intercept), float(slope)), label="scan-sd")
    counts = np.bincount(participants.trial[members], minlength=len(participants.trials))
    found = [
        (n / len(members), *measure.of_trial(trial, error.vendors.get(trial, "")))
        for trial, n in zip(participants.trials, counts.tolist(), strict=True)
        if n
    ]
    return GroupError(
        lines=tuple((share, line) for share, line, _ in found),
        variance=(sum(share * line.residual_sd**2 for share, line, _ in found), 0.0),
        label="; ".join(dict.fromkeys(label for _, _, label in found)),
    )


# ------------------------------------------------------------------ noise


def without_noise(
    curve: Curve, ages: np.ndarray, limits: np.ndarray, variance: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Centiles ``[n]`` of a curve at ``ages`` ``[n]`` without noise, and the share that is error.

    ``variance`` of the noise as in `GroupError`. The SD of the measured values is half the distance
    of centiles 16 and 84, which heavy tails leave alone. NaN beyond the distribution's end.
    """
    eta = curve.parameters(ages)
    low, middle, high = curve.limits_of(eta, curve.tau, 100 * special.ndtr([-1.0, 0.0, 1.0])).T
    sd = (high - low) / 2
    step = _STEP * sd
    z = [curve.z_scores_of(eta, limits + by * step, curve.tau) for by in (-1, 0, 1)]
    first, second = (z[2] - z[0]) / (2 * step), (z[2] - 2 * z[1] + z[0]) / step**2
    at_limit, at_middle = (
        np.maximum(variance[0] + variance[1] * at, 0.0) for at in (limits, middle)
    )
    share = np.clip(at_middle / sd**2, 1e-12, 1.0)
    # The logarithm of the density has the slope -z·z' + z''/z'.
    moved = (variance[1] + at_limit * (second / first - z[1] * first)) / 2
    return limits + moved * 2 * (1 - np.sqrt(1 - share)) / share, share


def stratum_curve(ordered: np.ndarray) -> Curve:
    """The distribution of a stratum's sorted values ``[n]`` within Tukey's fences, at every age."""
    low, high = tukey_fences(ordered)
    values = ordered[(ordered >= low) & (ordered <= high)]
    curve = stratum_distribution("boxcox" if values[0] > 0 else "parametric", values)
    assert isinstance(curve, Curve)
    return curve


# ------------------------------------------------------------------ rows


def adjusted_rows(
    data: MeasureData, rows: Sequence[ReferenceLimit], curve: Curve, members: np.ndarray
) -> Iterator[ErrorAdjustedLimit]:
    """The true limits of a group's ``rows`` that have a limit; ``members`` number its participants.

    None where noise would be more than 80 % of the measured variance, or the group's error is not
    known.
    """
    shown = [(row, row.limit) for row in rows if row.limit is not None]
    if not shown:
        return
    try:
        error = group_error(data, members)
    except EstimationError as unknown:
        yield from (_row(row, notes=(unknown.message,)) for row, _ in shown)
        return
    ages = np.array([row.age or 0.0 for row, _ in shown])
    limits = np.array([limit for _, limit in shown])
    calm, shares = without_noise(curve, ages, limits, error.variance)
    hearts = min((line.n_people for _, line in error.lines), default=None)
    for (row, limit), q, share in zip(shown, calm.tolist(), shares.tolist(), strict=True):
        true, se = error.true_value(q)
        bias, bias_se = error.bias_at(true)
        cells: dict[str, Any] = {
            "error_sd": math.sqrt(max(error.variance[0] + error.variance[1] * limit, 0.0)),
            "error_share_percent": 100 * share,
            "line": error.label,
            "n_hearts": hearts,
        }
        if error.lines and share <= 1 - LEAST_TRUE:
            cells |= {"bias": bias, "bias_se": bias_se}
        if share > 1 - LEAST_TRUE:
            yield _row(row, **cells, notes=(MOSTLY_ERROR,))
            continue
        # ln σ² has the variance 2/df, and the limit moves by q - limit with it.
        slope = error.mean("slope") if error.lines else 1.0
        reach = float(special.stdtrit(min(error.df, 1e9), (1 + row.ci_level / 100) / 2))
        of_error = reach * math.hypot(se, (q - limit) * math.sqrt(2 / error.df) / slope)
        ends = [
            None
            if end is None
            else math.hypot((end - limit) / slope / math.sqrt(1 - share), of_error)
            for end in (row.ci_low, row.ci_high)
        ]
        found = Limit(row.centile, None, notes=(NO_DENSITY,))
        if math.isfinite(true):
            low, high = (
                None if half is None else true + sign * half
                for half, sign in zip(ends, (-1, 1), strict=True)
            )
            found = possible_limit(
                Limit(row.centile, true, low, high), possible_values(data.measure)
            )
        names = {"true_limit": "limit", "true_ci_low": "ci_low", "true_ci_high": "ci_high"}
        cells |= {name: getattr(found, source) for name, source in names.items()}
        yield _row(row, **cells, notes=found.notes)


def _row(row: ReferenceLimit, **cells: Any) -> ErrorAdjustedLimit:
    """The columns that the limit has, and ``cells``."""
    shared = {f.name for f in fields(row)} & {f.name for f in fields(ErrorAdjustedLimit)}
    return ErrorAdjustedLimit(**{n: getattr(row, n) for n in shared - {"notes"}}, **cells)


# ------------------------------------------------------------------ differences between groups


def with_differences(
    rows: Sequence[ErrorAdjustedLimit], data: MeasureData
) -> list[ErrorAdjustedLimit]:
    """Each ethnicity's rows with the difference of its measured limits from the largest group's.

    Women's, of all ethnicities, from men's. The interval takes the two limits as independent
    (Zou & Donner 2008: each side has both limits' halves in quadrature).
    """
    sizes: Counter[str] = Counter()
    for row in rows:
        if row.ethnicity != ALL and row.n:
            sizes[row.ethnicity] += row.n
    largest = max(sizes, key=lambda name: (sizes[name], name), default="")
    place = {tuple(_place(row).values()): row for row in rows}
    assert data.error is not None
    measure = data.error.measure(data.measure, measure_of(data.measure))
    found = []
    for row in rows:
        by, versus = ("ethnicity", largest) if row.ethnicity != ALL else ("sex", "male")
        key = _place(row)
        key[by] = versus
        other = place.get(tuple(key.values()))
        if other is None or other is row:
            found.append(row)
            continue
        cells: dict[str, Any] = {"versus": versus, "difference": row.limit - other.limit}
        ends = (row.ci_low, row.ci_high, other.ci_low, other.ci_high)
        known = [end for end in ends if end is not None]
        if len(known) == len(ends):
            low = cells["difference"] - math.hypot(row.limit - known[0], known[3] - other.limit)
            high = cells["difference"] + math.hypot(known[1] - row.limit, other.limit - known[2])
            cells |= {"difference_low": low, "difference_high": high}
            if low > 0 or high < 0:
                cells["error_to_zero"] = low if low > 0 else high
        own, theirs = (measure and measure.line(by, name) for name in (getattr(row, by), versus))
        if own and theirs:
            at = row.limit if row.true_limit is None else row.true_limit
            (bias, variance), (other_bias, other_variance) = own.bias_at(at), theirs.bias_at(at)
            df = min(own.residual_df, theirs.residual_df)
            reach = float(special.stdtrit(df, (1 + row.ci_level / 100) / 2))
            half = reach * math.sqrt(variance + other_variance)
            cells["evaluated_difference"] = bias - other_bias
            cells["evaluated_low"] = bias - other_bias - half
            cells["evaluated_high"] = bias - other_bias + half
        found.append(replace(row, **cells))
    return found


def _place(row: ErrorAdjustedLimit) -> dict[str, Any]:
    names = ("method", "kind", "sex", "ethnicity", "age_low", "age", "centile")
    return {name: getattr(row, name) for name in names}


# ------------------------------------------------------------------ what can be corrected


def error_input_of(
    error: ErrorInput,
    measures: Sequence[str],
    participants: Participants,
    options: ReferenceOptions,
) -> tuple[frozenset[str], list[str]]:
    """The measures whose error is known, and what to know of it.

    Raises UsageError for a method without a distribution, InputError where no measure, or not every
    one asked for, has its error.
    """
    if options.method in ("quantile", "meta"):
        raise UsageError(
            f"--error-model cannot be combined with --method {options.method}, which has no "
            "distribution to remove the error from.",
            hint="Use strata, lms or another method.",
        )
    usable, warnings, refused = list[str](), list[str](), list[InputError]()
    for name in measures:
        if error.evaluated is None and not (participants.values(f"{name}_sd") > 0).any():
            refused.append(InputError(f"The table has no value of {name}_sd."))
            continue
        try:
            measure = error.measure(name, measure_of(name))
        except InputError as problem:
            refused.append(problem)
            continue
        usable.append(name)
        if measure is not None:
            what = "the limits of true values are"
            warnings += error.warnings(measure, name, participants.trials, what)
    if refused and (options.measures is not None or not usable):
        raise refused[0]
    if error.evaluated is None:
        warnings.append(
            "The SDs of the scans say nothing of a systematic error or of one that differs between "
            "groups: limits of true values are without the random error alone. Evaluate the model "
            "on hearts of these trials."
        )
    lacking = [name for name in measures if name not in usable]
    if lacking:
        warnings.append(f"No error is known of {', '.join(lacking)}: no limits of true values.")
    return frozenset(usable), warnings


def refusals(rows: Sequence[ErrorAdjustedLimit], options: ReferenceOptions) -> Iterator[str]:
    """A warning for each measure with groups that are mostly error.

    Raises EstimationError where that is all groups of all ethnicities of a measure asked for, or of
    every measure.
    """
    by_measure: dict[str, list[ErrorAdjustedLimit]] = {}
    for row in rows:
        by_measure.setdefault(row.measure, []).append(row)
    gone = []
    for name, mine in by_measure.items():
        high = [row for row in mine if MOSTLY_ERROR in row.notes]
        share = max((row.error_share_percent or 0.0 for row in high), default=0.0)
        if not high:
            continue
        what = (
            f"{name}: error of measurement is up to {share:.0f} % of the observed variance in "
            f"{len(high)} of {len(mine)} limits, and true values cannot be separated from it there."
        )
        if all(row.true_limit is None for row in mine):
            gone.append(what)
        yield SeriousWarning(what)
    if gone and (options.measures is not None or len(gone) == len(by_measure)):
        raise EstimationError(
            " ".join(gone),
            hint="The hearts of the evaluation are not like these, or the SDs are in another unit.",
        )
