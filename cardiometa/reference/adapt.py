"""A reference for a new site from 25 or more of its healthy controls.

Level and spread are the site's own (a shift of log M or the mean, and of log S or log SD, at every
age), shrunk towards the reference by what differs between its trials; L, the tail and the age
course are the reference's. The shifts are those of both sexes and all ethnicities together: they
come from scanner, protocol and recruitment. Shrinkage of a normative model to a site: Bayer JMM et
al. NeuroImage 2022;264:119699.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from ..errors import EstimationError, Problem, TableError
from ..records import SeriousWarning
from .curves.curve import POWER_FAMILIES, Curve
from .curves.shift import Shift, fit_shift, shift_parameters, shrink_shift
from .model import (
    FAR_Z,
    CurveDistribution,
    NewParticipants,
    ReferenceModel,
    reference_model,
    score_participants,
)
from .options import ReferenceOptions, ScoreOptions
from .select import ALL

LEAST_CONTROLS = 25
_FEW = 40  # participants of a curve that does not state how many
_LEAST_COVERAGE = 0.5  # of the curve's ages
_DRAWS = 2000
_SURELY_OTHER = 2.576  # z of the difference between sexes


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """How far a measure's limits moved; shifts with their interval at the reference's level.

    ``location``: percent of M, or the unit of the mean; ``spread_ratio``: the new SD over the old;
    ``kept_location``, ``kept_spread``: the share of the site's own shift that is kept (1: not
    shrunk). ``miscalibration``: the expected distance, in percentage points, of the share outside a
    limit from its nominal value, and its 95th centile.
    """

    measure: str
    unit: str
    n: int
    location: float
    location_low: float
    location_high: float
    location_unit: str
    spread_ratio: float
    spread_ratio_low: float
    spread_ratio_high: float
    kept_location: float
    kept_spread: float
    miscalibration: float
    miscalibration_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Controls:
    """The controls of a measure ``[n]``: ``eta`` their parameters before the shift.

    ``far``: a value is hardly possible by the reference.
    """

    family: str
    eta: np.ndarray
    values: np.ndarray
    ages: np.ndarray
    sex: np.ndarray
    curves: tuple[CurveDistribution, ...]
    far: bool


def adapt_reference(
    document: Mapping[str, Any],
    name: str,
    participants: NewParticipants,
    values: Mapping[str, np.ndarray],
    *,
    same_conventions: bool,
    by_name: bool,
    site: str,
) -> tuple[dict[str, Any], tuple[Adaptation, ...], tuple[str, ...]]:
    """The adapted document, what moved by measure, and warnings.

    ``values`` ``[rows]`` by measure, NaN missing. Raises InputError where ``document`` is no
    reference, TableError with all reasons where no measure, or one asked for (``by_name``), can be
    adapted.
    """
    model = reference_model(document, name)
    options = ScoreOptions(kind="conditional", same_conventions=same_conventions)
    found: list[Adaptation] = []
    curves: list[dict[str, Any]] = []
    problems: list[Problem] = []
    said: dict[str, list[str]] = {}  # what is true of several measures is said once
    for measure, mine in values.items():
        try:
            controls = _controls(model, measure, participants, mine, options)
            shift, adapted, more = _adapt(model, measure, controls)
        except (TableError, EstimationError) as error:
            problems.append(Problem(where=measure, what=error.message, fix=error.hint))
            continue
        found.append(adapted)
        for text in more:
            said.setdefault(text, []).append(measure)
        curves += _moved_entries(document, model, measure, shift)
    if problems and (by_name or not found):
        raise TableError(
            f"{name} cannot be adapted to {site}: {len(problems)} "
            f"measure{'s' * (len(problems) > 1)} without enough to go by.",
            hint="Give more controls, or name the measures that have them with --measure.",
            problems=problems,
        )
    warnings: list[str] = [
        SeriousWarning(f"{', '.join(names)}: {text}") for text, names in said.items()
    ]
    warnings += [SeriousWarning(f"{p.where} is left out: {p.what}.") for p in problems]
    dropped = [m for m in model.measures if m not in values]
    if dropped:
        warnings.append(
            f"Not in the adapted reference, because not asked for: {', '.join(dropped)}."
        )
    result = {
        **copy.deepcopy(dict(document)),
        "name": f"{model.name}, adapted to {site}",
        "strata": [],
        "curves": curves,
        "adapted_to": {"site": site, "measures": [asdict(one) for one in found]},
    }
    return result, tuple(found), tuple(warnings)


def _controls(
    model: ReferenceModel,
    measure: str,
    participants: NewParticipants,
    values: np.ndarray,
    options: ScoreOptions,
) -> _Controls:
    """The rows that can be judged by a curve; TableError with the reasons where 25 are not."""
    scores = score_participants(model, measure, values, participants, options)
    usable = np.isfinite(scores.z)
    if int(usable.sum()) < LEAST_CONTROLS:
        reasons = Counter(str(note) for note in scores.note[~usable])
        why = "; ".join(f"{count} rows: {note}" for note, count in sorted(reasons.items()))
        raise TableError(
            f"{int(usable.sum())} controls can be used, and {LEAST_CONTROLS} are needed"
            + (f" ({why})" if why else ""),
            hint="Fewer do not show a site's level and spread.",
        )
    rows = np.flatnonzero(usable)
    of_row: list[CurveDistribution] = []
    for row in rows.tolist():
        sex, ethnicity = str(participants.sex[row]), str(participants.ethnicity[row])
        groups = model.distributions(measure, sex, ethnicity or ALL, "conditional")
        groups = groups or model.distributions(measure, sex, ALL, "conditional")
        if not isinstance(groups[0], CurveDistribution) or groups[0].family == "quantile":
            raise TableError(
                "the reference has no curve with a location and a spread for it",
                hint="Make the reference with --method lms, bct, bcpe or gaussian.",
            )
        of_row.append(groups[0])
    curves = tuple({id(curve): curve for curve in of_row}.values())
    ages = participants.age_years[rows]
    eta = np.empty((len(curves[0].functions), len(rows)))
    for curve in curves:
        at = np.flatnonzero([one is curve for one in of_row])
        eta[:, at] = shift_parameters(curve.distribution, ages[at])
    return _Controls(
        family=curves[0].family,
        eta=eta,
        values=values[rows],
        ages=ages,
        sex=participants.sex[rows].astype(str),
        curves=curves,
        far=bool((np.abs(scores.z[rows]) > FAR_Z).any()),
    )


def _adapt(
    model: ReferenceModel, measure: str, controls: _Controls
) -> tuple[Shift, Adaptation, list[str]]:
    """The shifts of a measure, how far that is, and what is to be said of them."""
    known = [c.between_trials for c in controls.curves]
    sizes = [curve.n or _FEW for curve in controls.curves]
    own = fit_shift(controls.family, controls.eta, controls.values)
    # The reference is an estimate too: as far as that of as many more participants.
    of_one = own.covariance * len(controls.values)
    own = replace(own, covariance=own.covariance + of_one / sum(sizes))
    shift, kept, warnings = own, np.ones(2), list[str]()
    if stated := [k for k in known if k] if all(known) else []:
        trials = float(np.mean([k.trials for k in stated]))
        squares = np.array([[k.location_sd, k.log_spread_sd] for k in stated]) ** 2
        error = np.diag(of_one) * trials * np.mean([1 / n for n in sizes])
        shift, kept = shrink_shift(own, squares.mean(axis=0), trials, error)
    else:
        warnings.append(
            "the reference does not state how its trials differ (it has fewer than 5, or is of an "
            "older version). The site's level and spread are not shrunk: they rest on its controls "
            "alone."
        )
    if controls.far:
        warnings.append(
            f"a control has |z| > {FAR_Z:g} by the reference, and moves level and spread. Check "
            "its value and unit."
        )
    warnings += _ages(controls) + _sexes(controls)
    reach = float(special.ndtri((1 + model.ci_level / 100) / 2)) * np.sqrt(
        np.diag(shift.covariance)
    )
    ends = np.stack([shift.estimate, shift.estimate - reach, shift.estimate + reach])
    by_ratio = controls.family in POWER_FAMILIES
    moved = 100 * np.expm1(ends[:, 0]) if by_ratio else ends[:, 0]
    ratio = np.exp(ends[:, 1])
    expected, high = _miscalibration(model, controls, shift)
    unit = controls.curves[0].unit
    return (
        shift,
        Adaptation(
            measure=measure,
            unit=unit,
            n=len(controls.values),
            location=float(moved[0]),
            location_low=float(moved[1]),
            location_high=float(moved[2]),
            location_unit="percent" if by_ratio else unit,
            spread_ratio=float(ratio[0]),
            spread_ratio_low=float(ratio[1]),
            spread_ratio_high=float(ratio[2]),
            kept_location=float(kept[0]),
            kept_spread=float(kept[1]),
            miscalibration=expected,
            miscalibration_high=high,
        ),
        warnings,
    )


def _ages(controls: _Controls) -> list[str]:
    """A warning where the controls' ages cover less than half of those of the curves."""
    low = min(curve.age_low for curve in controls.curves)
    high = max(curve.age_high for curve in controls.curves)
    covered = float(np.ptp(controls.ages)) / max(high - low, 1e-9)
    if covered >= _LEAST_COVERAGE:
        return []
    text = (
        f"the controls' ages cover {100 * covered:.0f} % of the reference's ({low:g} to {high:g} "
        "years). At other ages the adapted limits assume the same shift."
    )
    return [text]


def _sexes(controls: _Controls) -> list[str]:
    """A warning where men and women of the site lie differently from the reference."""
    shifts = []
    for sex in np.unique(controls.sex):
        mine = controls.sex == sex
        if mine.sum() < LEAST_CONTROLS // 2:
            return []
        part = controls.eta[:, mine], controls.values[mine]
        shifts.append(fit_shift(controls.family, *part))
    if len(shifts) != 2:
        return []
    distance = shifts[0].estimate - shifts[1].estimate
    z = np.abs(distance) / np.sqrt(np.diag(shifts[0].covariance + shifts[1].covariance))
    if z.max() < _SURELY_OTHER:
        return []
    text = (
        f"men and women of the site lie differently from the reference (z = {z.max():.1f}); one "
        "shift for both may fit neither. Adapt them separately, from a table of each sex."
    )
    return [text]


def _miscalibration(
    model: ReferenceModel, controls: _Controls, shift: Shift
) -> tuple[float, float]:
    """The expected and the 95th centile of |share outside - nominal|, percentage points.

    The site's true shifts are drawn from their posterior distribution; shares are at the middle age
    of the controls, the mean over both limits.
    """
    middle = int(np.argsort(controls.ages)[len(controls.ages) // 2])
    curve = _shape_of(controls.curves[0].distribution)
    eta = controls.eta[:, [middle]].copy()
    eta[:2, 0] += shift.estimate
    centiles = ReferenceOptions(level=model.level, sided=model.sided).outer_centiles
    limits = curve.limits_of(eta, 0.0, centiles)[0]
    rng = np.random.default_rng(1)
    draws = rng.multivariate_normal(np.zeros(2), shift.covariance, _DRAWS)
    truth = np.repeat(eta, _DRAWS, axis=1)
    truth[:2] += draws.T
    away = np.zeros(_DRAWS)
    for limit, centile in zip(limits, centiles, strict=True):
        z = curve.z_scores_of(truth, np.full(_DRAWS, limit), 0.0)
        # Beyond the end of the distribution: no one is there.
        share = np.where(np.isfinite(z), special.ndtr(z), float(centile > 50))
        away += np.abs(100 * share - centile) / len(centiles)
    return float(away.mean()), float(np.quantile(away, 0.95))


def _shape_of(curve: Curve) -> Curve:
    """The curve whose spread is a logarithm, as `shift_parameters` gives it."""
    functions = {"log_sd" if name == "sd" else name: f for name, f in curve.functions.items()}
    return replace(curve, functions=functions, tau=0.0)


# ------------------------------------------------------------------ the adapted document


def _moved_entries(
    document: Mapping[str, Any], model: ReferenceModel, measure: str, shift: Shift
) -> list[dict[str, Any]]:
    """The curves of a measure for participants of the site, those of a new trial left out."""
    entries = []
    for entry, group in zip(document["curves"], model.curves, strict=True):
        if group.measure != measure or group.kind == "marginal" or group.family == "quantile":
            continue
        new = copy.deepcopy(dict(entry)) | {"kind": "population", "tau": 0.0}
        new["between_trials"] = None
        for function, moved in zip(new["functions"], shift.estimate, strict=False):
            if function["name"] == "sd":
                factor = math.exp(float(moved))
                function["offset"] *= factor
                function["coefficients"] = [factor * c for c in function["coefficients"]]
            else:
                function["offset"] += float(moved)
        if group.printed is not None:
            new["printed"] = _printed(model, group, shift)
        entries.append(new)
    return entries


def _printed(model: ReferenceModel, group: CurveDistribution, shift: Shift) -> dict[str, Any]:
    """The intervals of the moved limits: the reference's own and that of the shift, in quadrature.

    The reference's level counts in both, so that they are a little too wide.
    """
    printed = group.printed
    assert printed is not None
    ages, centiles = np.array(printed.ages), printed.centiles
    curve = _shape_of(group.distribution)
    before = shift_parameters(group.distribution, ages)

    def limits(by: np.ndarray) -> np.ndarray:
        eta = before.copy()
        eta[:2] += by[:, None]
        found = curve.limits_of(eta, 0.0, centiles)
        return np.log(found) if group.family in POWER_FAMILIES else found

    at, step = shift.estimate, 1e-4
    slopes = np.stack(
        [(limits(at + d) - limits(at - d)) / (2 * step) for d in step * np.eye(2)], axis=2
    )
    reach = float(special.ndtri((1 + model.ci_level / 100) / 2))
    of_shift = reach**2 * np.einsum("aci,ij,acj->ac", slopes, shift.covariance, slopes)
    ends = np.array(printed.ci_low), np.array(printed.ci_high)
    if group.family in POWER_FAMILIES:
        ends = np.log(ends[0]), np.log(ends[1])
    half = np.sqrt(((ends[1] - ends[0]) / 2) ** 2 + of_shift)
    low, high = limits(at) - half, limits(at) + half
    if group.family in POWER_FAMILIES:
        low, high = np.exp(low), np.exp(high)
    return {
        "ages": ages.tolist(),
        "centiles": list(centiles),
        "ci_low": low.tolist(),
        "ci_high": high.tolist(),
    }
