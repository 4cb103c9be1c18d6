"""Normal, LMS, BCT and BCPE distributions that change smoothly, by penalised likelihood.

Each parameter (mean and log SD; log M, log S, L and a number for the tails) has a predictor of its
own, a sum of terms: smooths of age, random or fixed effects of trials and groups. Coefficients by
Fisher scoring; every penalty by the Fellner-Schall update (Wood SN, Fasiolo M. Biometrics 2017;73:
1071-81, eq. 2), which for a random effect is REML's; the scale's score is adjusted for what the
mean's coefficients cost (Smyth GK, Verbyla AP. Environmetrics 1999;10:695-709), so that a normal
one with one SD gives the REML estimates of a linear mixed model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.polynomial import chebyshev
from scipy import linalg

from ..errors import EstimationError
from .basis_functions import Term
from .box_cox_tails import TAILS, Tail, beyond_cut
from .lms import lms_log_density_terms, lms_shape_score, scaled_power, shape_quotient

_MAX_PASSES = 200
_MAX_UPDATES = 25  # of the penalties between two passes over the data
_HALVINGS = 12
_MOST_LS = 0.6
_SLOWEST = 30.0  # how much a penalty may fall from one pass to the next
_KNOWN, _AT_END = 1e12, 1e-6  # the information on a coefficient at the end of its range
_CUT_DEGREE, _INFORMATION_DEGREE = 16, 6  # of polynomials in S·L
_STEP, _NODES = 0.12, 108  # of the quadrature for expected information, on each side


class Family(Protocol):
    """A distribution: its predictors' names, and what Fisher scoring needs of it."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the predictors, in order."""

    @property
    def bounds(self) -> Mapping[int, tuple[float, float]]:
        """The range of each predictor's coefficients that has one, by the predictor's number."""

    def start(self, y: np.ndarray) -> tuple[float, ...]:
        """A constant to start each predictor from."""

    def scores(
        self, y: np.ndarray, eta: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Log density up to a constant, and its derivative by each predictor, ``[n]`` each."""

    def information(self, eta: Sequence[np.ndarray]) -> np.ndarray:
        """Expected information of one participant, ``[predictors, predictors, cells]``."""

    def constant(self, y: np.ndarray) -> float:
        """What `scores` leaves out of the log likelihood."""


class NormalDistribution:
    """y ~ N(mean, SD²); predictors the mean and the log SD."""

    names: tuple[str, ...] = ("mean", "log_sd")
    bounds: Mapping[int, tuple[float, float]] = {}

    def start(self, y: np.ndarray) -> tuple[float, ...]:
        """Mean and log SD of all."""
        return float(y.mean()), float(np.log(y.std()))

    def scores(
        self, y: np.ndarray, eta: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """z/SD and z² - 1."""
        inverse = np.exp(-eta[1])
        z = (y - eta[0]) * inverse
        square = z * z
        return -eta[1] - square / 2, (z * inverse, square - 1)

    def information(self, eta: Sequence[np.ndarray]) -> np.ndarray:
        """1/SD² and 2."""
        found = np.zeros((2, 2, len(eta[0])))
        found[0, 0] = np.exp(-2 * eta[1])
        found[1, 1] = 2.0
        return found

    def constant(self, y: np.ndarray) -> float:
        """-n·ln(2π)/2."""
        return -len(y) * float(np.log(2 * np.pi)) / 2


class LmsDistribution:
    """The LMS distribution; predictors log M, log S and L. ``y`` is ln of the values."""

    names: tuple[str, ...] = ("log_m", "log_s", "l")
    bounds: Mapping[int, tuple[float, float]] = {}

    def start(self, y: np.ndarray) -> tuple[float, ...]:
        """Mean and SD of the logarithms, L = 0."""
        return float(y.mean()), float(np.log(y.std())), 0.0

    def scores(
        self, y: np.ndarray, eta: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Cole & Green 1992, appendix: z/S + L(z² - 1), z² - 1 and the shape's."""
        log_m, log_s, ell = eta
        s = np.exp(log_s)
        w = y - log_m
        z, density = lms_log_density_terms(w, s, ell)
        above = z * z - 1
        return density, (z / s + ell * above, above, lms_shape_score(w, z, s, ell))

    def information(self, eta: Sequence[np.ndarray]) -> np.ndarray:
        """Cole & Green 1992, appendix."""
        s = np.exp(eta[1])
        # Where S·|L| is large the matrix is no longer positive definite; no limit lies there.
        ell = np.clip(eta[2], -_MOST_LS / s, _MOST_LS / s)
        found = np.empty((3, 3, len(s)))
        found[0, 0] = (1 + 2 * (ell * s) ** 2) / s**2
        found[1, 1] = 2.0
        found[2, 2] = 7 * s**2 / 4
        found[0, 1] = found[1, 0] = 2 * ell
        found[0, 2] = found[2, 0] = -0.5
        found[1, 2] = found[2, 1] = ell * s**2
        return found

    def constant(self, y: np.ndarray) -> float:
        """-Σ ln(value) - n·ln(2π)/2."""
        return float(-y.sum()) - len(y) * float(np.log(2 * np.pi)) / 2


class BoxCoxTailDistribution:
    """BCT or BCPE (`box_cox_tails`); predictors log M, log S, L and ln τ, which is one number.

    ``y`` is ln of the values.
    """

    names: tuple[str, ...] = ("log_m", "log_s", "l", "log_tail")

    def __init__(self, tail: Tail) -> None:
        self.tail = tail
        self.bounds: Mapping[int, tuple[float, float]] = {3: tail.bounds}

    def start(self, y: np.ndarray) -> tuple[float, ...]:
        """Median and interquartile SD of the logarithms (far values do not move them), L = 0."""
        low, middle, high = np.quantile(y, [0.25, 0.5, 0.75])
        sd = (high - low) / 1.349 or float(y.std())
        return float(middle), float(np.log(sd)), 0.0, self.tail.start

    def scores(
        self, y: np.ndarray, eta: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """With g = -d log f/dz: g·exp(L·w)/S - L, g·z - 1, w - g·dz/dL, d log f/d ln τ.

        The cut at A = 1/|S·L| adds -log F(A) and its derivatives.
        """
        log_m, log_s, ell = eta[:3]
        log_tail, s, w = float(eta[3][0]), np.exp(log_s), y - log_m
        z = scaled_power(w, ell) / s
        cut = self._cut(ell * s, log_tail)
        g = self.tail.slope(z, log_tail)
        by_ell = w * z - shape_quotient(w, z, s, ell)
        density = ell * w - log_s + self.tail.log_density(z, log_tail) - cut[0]
        return density, (
            g * np.exp(ell * w) / s - ell,
            g * z - 1 + cut[1],
            w - g * by_ell + cut[2] * s * np.sign(ell),
            self.tail.tail_slope(z, log_tail) - cut[3],
        )

    def _cut(self, shape: np.ndarray, log_tail: float) -> np.ndarray:
        """Log F(A), h·A, h·A² (h = f(A)/F(A)) and d log F(A)/d ln τ, ``[4, n]``."""

        def parts(at: np.ndarray) -> np.ndarray:
            A = 1 / np.maximum(at, 1e-6)
            beyond = beyond_cut(self.tail, at, log_tail)
            h = np.exp(self.tail.log_density(A, log_tail)) / (1 - beyond)
            ends = [beyond_cut(self.tail, at, log_tail + d) for d in (1e-5, -1e-5)]
            by_tail = (np.log1p(-ends[0]) - np.log1p(-ends[1])) / 2e-5
            return np.stack([np.log1p(-beyond), h * A, h * A * A, by_tail])

        return _along(np.abs(shape), parts, _CUT_DEGREE)

    def information(self, eta: Sequence[np.ndarray]) -> np.ndarray:
        """E[score·score'] by quadrature: with log M / S and L·S it depends on S·L and τ alone."""
        s, log_tail = np.exp(eta[1]), float(eta[3][0])
        shape = np.clip(eta[2] * s, -_MOST_LS, _MOST_LS)

        def unit(at: np.ndarray) -> np.ndarray:
            x = _STEP * (np.arange(-_NODES, _NODES) + 0.5)
            w = np.repeat(np.sinh(x), len(at))
            ell = np.tile(at, len(x))
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                one = [np.zeros_like(w), np.zeros_like(w), ell, np.full_like(w, log_tail)]
                density, scores = self.scores(w, one)
                weight = np.exp(density) * np.cosh(np.repeat(x, len(at))) * _STEP
                used = np.where(weight > 0, np.stack(scores) * np.sqrt(weight), 0.0)
            used = used.reshape(4, len(x), len(at))
            return np.asarray(np.einsum("ixa,jxa->ija", used, used).reshape(16, -1))

        found = _along(shape, unit, _INFORMATION_DEGREE).reshape(4, 4, -1)
        scale = np.stack([1 / s, np.ones_like(s), s, np.ones_like(s)])
        return np.asarray(found * scale[:, None] * scale)

    def constant(self, y: np.ndarray) -> float:
        """-Σ ln(value)."""
        return float(-y.sum())


def _along(at: np.ndarray, function: Callable[[np.ndarray], np.ndarray], degree: int) -> np.ndarray:
    """A smooth function ``[k, n]`` of ``at`` ``[n]``, computed at few points and interpolated."""
    low, high = float(at.min()), float(at.max())
    middle, half = (low + high) / 2, max((high - low) / 2, 1e-4)
    nodes = chebyshev.chebpts1(degree + 1)
    # At these nodes Chebyshev's polynomials are orthogonal.
    weights = chebyshev.chebvander(nodes, degree) * (2 / len(nodes))
    weights[:, 0] /= 2
    fitted = weights.T @ function(middle + half * nodes).T
    return np.asarray(chebyshev.chebval((at - middle) / half, fitted))


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How to fit: ``adjust`` the scale for the mean's coefficients; when to stop.

    ``tolerance`` is of the last step in units of the coefficients' own standard errors (squared).
    ``penalties`` by predictor and term are taken as they are; ``start``: the first coefficients.
    """

    adjust: bool = True
    tolerance: float = 1e-9
    max_passes: int = _MAX_PASSES
    penalties: Mapping[tuple[int, str], float] = field(default_factory=dict)
    start: np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TermFit:
    """A term after the fit: its place in the stacked coefficients, its penalty and edf.

    ``variance`` of a random term is 1/lambda; ``variance_df`` the degrees of freedom that its
    variance is estimated on.
    """

    name: str
    predictor: int
    place: slice
    penalty: float
    edf: float
    variance: float | None = None
    variance_df: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationScaleFit:
    """Coefficients ``[p]`` of all predictors stacked and their covariance ``[p, p]``.

    The covariance is the posterior one, (I + penalties)⁻¹, whose intervals count smoothing bias in
    (Marra G, Wood SN. Scand J Stat 2012;39:53-74). ``deviance`` is -2 log likelihood.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    terms: tuple[TermFit, ...]
    deviance: float
    n: int

    @property
    def parameters(self) -> float:
        """The effective number of all terms' parameters."""
        return sum(term.edf for term in self.terms)

    def term(self, predictor: int, name: str) -> TermFit | None:
        """The term of that name, None where there is none."""
        return next((t for t in self.terms if (t.predictor, t.name) == (predictor, name)), None)


@dataclass(slots=True)
class _State:
    """Where the fit stands after a pass over the data."""

    coefficients: np.ndarray
    eta: list[np.ndarray]
    log_likelihood: float
    gradient: np.ndarray
    information: np.ndarray


@dataclass(slots=True)
class _Model:
    """Values sorted by cell, and every predictor's columns, a row per cell."""

    family: Family
    y: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    designs: list[np.ndarray]
    places: list[slice]
    terms: list[tuple[Term, int, slice]]
    held: list[bool]
    lambdas: np.ndarray = field(init=False)
    leverage: np.ndarray = field(init=False)
    used: np.ndarray = field(init=False)

    def penalty(self) -> np.ndarray:
        total = np.zeros((self.places[-1].stop,) * 2)
        for (term, _, place), value in zip(self.terms, self.lambdas, strict=True):
            if term.penalty is not None:
                total[place, place] += value * term.penalty
        return total


def fit_location_scale(
    family: Family,
    y: np.ndarray,
    cell: np.ndarray,
    predictors: Sequence[Sequence[Term]],
    settings: FitSettings | None = None,
) -> LocationScaleFit:
    """Fit a distribution to ``y`` ``[n]``; values of one ``cell`` share their predictors' rows.

    Terms have a row per cell. Raises EstimationError where the fit does not settle.
    """
    settings = settings or FitSettings()
    model = _prepared(family, y, cell, predictors, settings)
    state = _pass(model, _starting_values(model, settings), settings)
    step2, moved = np.inf, np.inf
    for number in range(1, settings.max_passes + 1):
        # Expected information may overshoot for ever where the fit is bad: shorter steps then.
        stride = 1.0 if number <= 10 else 0.5 if number <= 40 else 0.25
        target, moved = _penalised_solution(model, state, settings, stride)
        step = stride * (target - state.coefficients)
        A = state.information + model.penalty()
        step2 = float(step @ A @ step)
        state = _move(model, state, step, settings)
        if step2 < settings.tolerance * len(step) and moved < np.sqrt(settings.tolerance) * 10:
            return _finished(model, state)
    if step2 < 1e-4 and moved < 1e-2:  # far below what any limit could show
        return _finished(model, state)
    raise EstimationError(
        f"The curves did not settle in {settings.max_passes} steps.",
        hint="Too few participants, or a few values far from all others: check the outliers.",
    )


def _prepared(
    family: Family,
    y: np.ndarray,
    cell: np.ndarray,
    predictors: Sequence[Sequence[Term]],
    settings: FitSettings,
) -> _Model:
    order = np.argsort(cell, kind="stable")
    counts = np.bincount(cell, minlength=len(predictors[0][0].columns))
    if (counts == 0).any():
        raise ValueError("every cell needs values")
    designs, places, terms, start = [], [], [], 0
    for number, parts in enumerate(predictors):
        first = start
        for term in parts:
            terms.append((term, number, slice(start, start + term.size)))
            start += term.size
        designs.append(np.hstack([t.columns for t in parts]))
        places.append(slice(first, start))
    model = _Model(
        family=family,
        y=np.asarray(y, dtype=float)[order],
        starts=np.concatenate([[0], np.cumsum(counts)[:-1]]),
        counts=counts,
        designs=designs,
        places=places,
        terms=terms,
        held=[t.held or (number, t.name) in settings.penalties for t, number, _ in terms],
    )
    model.lambdas = np.array([0.0 if t.penalty is None else 1.0 for t, _, _ in terms])
    model.leverage = np.zeros(len(counts))
    model.used = np.ones(len(terms))
    return model


def _starting_values(model: _Model, settings: FitSettings) -> np.ndarray:
    """Coefficients whose predictors are constant; penalties of the size of the information."""
    values = model.family.start(model.y)
    b = np.zeros(model.places[-1].stop)
    for X, place, value in zip(model.designs, model.places, values, strict=True):
        first = next(i for i, (_, _, p) in enumerate(model.terms) if p.start == place.start)
        size = model.terms[first][0].size
        part, *_ = np.linalg.lstsq(X[:, :size], np.full(len(X), value), rcond=1e-10)
        b[place.start : place.start + size] = part
    info = model.family.information(
        [X @ b[place] for X, place in zip(model.designs, model.places, strict=True)]
    )
    for index, (term, predictor, _) in enumerate(model.terms):
        if term.penalty is not None:
            typical = float(np.mean(info[predictor, predictor]))
            weight = model.counts @ np.square(term.columns)
            model.lambdas[index] = max(typical * float(weight.mean()), 1e-8)
            if term.held:
                model.lambdas[index] *= 1e-4
            if predictor == 2:
                # Far from the fit the shape's score is noise: let it bend last.
                model.lambdas[index] *= 1e6
            given = settings.penalties.get((predictor, term.name))
            model.lambdas[index] = model.lambdas[index] if given is None else given
    if settings.start is not None:
        b[: len(settings.start)] = settings.start
    return b


def _pass(model: _Model, b: np.ndarray, settings: FitSettings) -> _State:
    """One look at every person: log likelihood, scores and information at ``b``."""
    eta = [X @ b[place] for X, place in zip(model.designs, model.places, strict=True)]
    spread = [np.repeat(e, model.counts) for e in eta]
    # A step too far runs over here: its likelihood is not finite, and it is halved.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        density, scores = model.family.scores(model.y, spread)
        total = float(density.sum())
        by_cell = [np.add.reduceat(s, model.starts) for s in scores]
        info = model.family.information(eta) * model.counts
        if settings.adjust:
            by_cell[1] = by_cell[1] + model.leverage
        gradient = np.concatenate([X.T @ s for X, s in zip(model.designs, by_cell, strict=True)])
        size = len(model.designs)
        blocks = [
            [model.designs[i].T @ (info[i, j][:, None] * model.designs[j]) for j in range(size)]
            for i in range(size)
        ]
    information = np.block(blocks)
    for number, (low, high) in model.family.bounds.items():
        place = np.arange(model.places[number].start, model.places[number].stop)
        outward = np.where(b[place] <= low + _AT_END, gradient[place] < 0, False)
        outward |= np.where(b[place] >= high - _AT_END, gradient[place] > 0, False)
        ended = place[outward]  # it stays there, and the others are estimated given it
        gradient[ended] = 0
        information[ended] = information[:, ended] = 0
        information[ended, ended] = _KNOWN
    return _State(
        coefficients=b,
        eta=eta,
        log_likelihood=total,
        gradient=gradient,
        information=information,
    )


def _penalised_solution(
    model: _Model, state: _State, settings: FitSettings, stride: float
) -> tuple[np.ndarray, float]:
    """The coefficients and penalties of the quadratic approximation at ``state``.

    Between two passes the penalties are updated to convergence on the approximation alone; of
    their (log) way they go ``stride``. Also gives how far they moved.
    """
    G = state.information
    g = G @ state.coefficients + state.gradient
    before = model.lambdas.copy()
    # The penalty beyond which a term has nothing left but what its penalty leaves free.
    ceilings = np.full(len(model.terms), np.inf)
    for index, (term, _, place) in enumerate(model.terms):
        if term.penalty is not None:
            size = float(np.trace(G[place, place]) / np.trace(term.penalty))
            ceilings[index] = max(size, 1e-8) * 1e6
    for _ in range(_MAX_UPDATES):
        V = _inverse(G + model.penalty())
        b = V @ g
        change = _update_penalties(model, b, V, (before / _SLOWEST, ceilings))
        if change < settings.tolerance**0.5:
            break
    model.lambdas = before * (model.lambdas / np.where(before > 0, before, 1.0)) ** stride
    V = _inverse(G + model.penalty())
    if settings.adjust:  # by the sum over each cell of the leverage in the mean's predictor
        mean, X = model.places[0], model.designs[0]
        info = model.family.information(state.eta)[0, 0]
        inverse = _inverse(G[mean, mean] + model.penalty()[mean, mean])
        model.leverage = model.counts * info * np.einsum("ij,ij->i", X @ inverse, X)
    penalised = model.lambdas > 0
    moved = np.abs(np.log(model.lambdas[penalised] / before[penalised]))
    return V @ g, float((moved * model.used[penalised]).max(initial=0.0))


def _update_penalties(
    model: _Model, b: np.ndarray, V: np.ndarray, bounds: tuple[np.ndarray, np.ndarray]
) -> float:
    """One Fellner-Schall update of each penalty; the largest change of a log penalty.

    A term that its penalty has nearly emptied counts by what is left of it (``used``, at most 1):
    its penalty may rise for ever and moves nothing.
    """
    change = 0.0
    for index, (term, _, place) in enumerate(model.terms):
        if term.penalty is None or model.held[index]:
            continue
        old = model.lambdas[index]
        part = b[place]
        quadratic = float(part @ term.penalty @ part)
        trace = float(np.sum(V[place, place] * term.penalty))
        if term.avoid_zero:
            # A likelihood times sqrt of the variance has no maximum at 0 (Chung Y et al.
            # Psychometrika 2013;78:685-709): one degree of freedom less in the update, which is
            # EM's where Fellner-Schall's has nothing left.
            freedom = term.rank - 1 - old * trace
            if freedom > 0.2 * term.rank:
                new = freedom / quadratic if quadratic > 0 else np.inf
            else:
                new = max(term.rank - 1, 0.5) / (quadratic + trace)
        else:
            freedom = max(term.rank - old * trace, 0.0)
            new = freedom / quadratic if quadratic > 0 else np.inf
        low, high = max(bounds[0][index], bounds[1][index] * 1e-14), bounds[1][index]
        new = min(max(new, old * 1e-3, low), old * 1e3, high)
        model.lambdas[index] = new
        model.used[index] = min(max(term.rank - old * trace, 0.0), 1.0)
        change = max(change, abs(np.log(new / old)) * model.used[index])
    return change


def _move(model: _Model, state: _State, step: np.ndarray, settings: FitSettings) -> _State:
    """The state after ``step``, halved while the penalised likelihood falls."""
    P = model.penalty()

    def value(s: _State) -> float:
        b = s.coefficients
        return s.log_likelihood - float(b @ P @ b) / 2

    least = value(state)
    # Penalty and adjustment move as well: small falls are theirs, and not a step too far.
    allowed = 1e-3 * len(step) + 1e-9 * abs(least)
    for halving in range(_HALVINGS):
        b = state.coefficients + step / 2**halving
        for number, bounds in model.family.bounds.items():
            b[model.places[number]] = np.clip(b[model.places[number]], *bounds)
        new = _pass(model, b, settings)
        if np.isfinite(new.log_likelihood) and value(new) >= least - allowed:
            return new
    raise EstimationError(
        "The curves cannot be estimated: no step improves the fit.",
        hint="Look for values far from all others, or for a measure that hardly varies.",
    )


def _finished(model: _Model, state: _State) -> LocationScaleFit:
    V = _inverse(state.information + model.penalty())
    influence = V @ state.information
    terms = []
    for (term, predictor, place), value in zip(model.terms, model.lambdas, strict=True):
        edf = float(np.trace(influence[place, place]))
        variance = 1 / float(value) if term.random else None
        left = term.rank - float(value) * float(np.trace(V[place, place]))
        terms.append(
            TermFit(
                name=term.name,
                predictor=predictor,
                place=place,
                penalty=float(value),
                edf=edf,
                variance=variance,
                variance_df=max(left, 0.0) if term.random else None,
            )
        )
    return LocationScaleFit(
        coefficients=state.coefficients,
        covariance=V,
        terms=tuple(terms),
        deviance=-2 * (state.log_likelihood + model.family.constant(model.y)),
        n=len(model.y),
    )


def _inverse(A: np.ndarray) -> np.ndarray:
    """The inverse of a symmetric positive definite matrix, scaled to a unit diagonal first."""
    scale = 1 / np.sqrt(np.maximum(np.diag(A), 1e-300))
    unit = A * scale[:, None] * scale
    unit.flat[:: len(A) + 1] += 1e-13
    factor, wrong = linalg.lapack.dpotrf(unit, lower=1, overwrite_a=1)
    if not wrong:
        inverse, wrong = linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
    if wrong:
        raise EstimationError(
            "The curves cannot be estimated: the model is not determined by these participants.",
            hint="A group or trial may be nearly empty, or all its participants of one age.",
        )
    low = np.tril(inverse)
    whole = low + low.T
    whole.flat[:: len(A) + 1] /= 2
    return np.asarray(whole * scale[:, None] * scale)


DISTRIBUTIONS: Mapping[str, Family] = {
    "normal": NormalDistribution(),
    "lms": LmsDistribution(),
    **{name: BoxCoxTailDistribution(tail) for name, tail in TAILS.items()},
}
