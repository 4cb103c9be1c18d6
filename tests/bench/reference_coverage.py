"""How often the 90 % intervals of limits hold the truth; prints a table a method, law and kind.

Run: ``python tests/bench/reference_coverage.py [simulations] [part of a task's name ...]``. A task
of 500 simulations takes seconds; each has its own seed, so that a part gives what the whole gives.

Laws of people by age (men of 20 to 80 years): ``skewed``, the LMS law of tests/kit/consortium.py
(L = 0.4, S rising); ``heavy``, the same with Student's t on 4 degrees of freedom; ``normal``, mean
and SD linear in age; ``curved``, a mean with its peak at 45 and an SD that grows. Trials differ by
a normal effect, drawn anew each time; ethnicities too.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import special

sys.path.insert(0, str(Path(__file__).parents[2]))

from cardiometa.reference.curves.curve import AgeFunction, Curve, FamilyName, curve_limits
from cardiometa.reference.curves.fit import CurveData
from cardiometa.reference.curves.measure import estimate_groups
from cardiometa.reference.options import LimitsRule, Method, ReferenceOptions
from cardiometa.reference.strata.limits import LimitRequest, estimate_limits
from cardiometa.statistics.box_cox_tails import TAILS, tail_centile
from cardiometa.statistics.lms import lms_centile
from tests.kit.consortium import true_parameters

TAU = 0.04  # between trials, and between ethnicities: of log M, or of the mean / 150
LOG_TAIL = float(np.log(4))
AGES = np.array([25.0, 35, 45, 55, 65, 75])
CENTILES = (2.5, 50.0, 97.5)
Z = special.ndtri(np.array(CENTILES) / 100)
_SAMPLES = 300  # of a quantile curve's bootstrap; the default, 1,000, takes three times as long
THIN = (500, 120, 80, 60, 40)  # people of five ethnicities in a hundred-fold smaller mix

Held = dict[str, np.ndarray]


def parameters(law: str, age: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """M, S and L of a law at ages; a normal law is the one with L = 1 and S = SD/M."""
    if law in ("skewed", "heavy"):
        log_m, s, ell = true_parameters(age, "male")
        return np.exp(log_m), s if law == "skewed" else s / 1.3, np.full(len(age), ell)
    if law == "normal":
        mean, sd = 150 - 0.5 * (age - 50), 20 + 0.15 * (age - 50)
    else:
        mean, sd = 155 - 0.012 * (age - 45) ** 2, 16 * np.exp(0.008 * (age - 50))
    return mean, sd / mean, np.ones(len(age))


def moved(law: str, age: np.ndarray, effect: np.ndarray) -> tuple[np.ndarray, ...]:
    """The parameters with an effect on log M, or on the mean of a normal law (of 150)."""
    m, s, ell = parameters(law, age)
    if law in ("skewed", "heavy"):
        return m * np.exp(effect), s, ell
    return m + 150 * effect, s * m / (m + 150 * effect), ell


def truth(law: str, tau: float, effect: float = 0.0) -> np.ndarray:
    """The law's limits ``[ages, centiles]``, of an average or (tau) a new trial."""
    m, s, ell = moved(law, AGES, np.full(len(AGES), effect))
    if law == "heavy" and tau == 0:
        share = np.array(CENTILES)[None, :] / 100
        return tail_centile(TAILS["bct"], share, m[:, None], s[:, None], ell[:, None], LOG_TAIL)
    if tau == 0:
        return lms_centile(Z[None, :], m[:, None], s[:, None], ell[:, None])
    if law not in ("skewed", "heavy"):
        return m[:, None] + np.hypot(m * s, 150 * tau)[:, None] * Z[None, :]
    rows = []
    for values in zip(np.log(m), np.log(s), ell, strict=True):
        functions = {
            name: AgeFunction(basis="polynomial", coefficients=(float(value),))
            for name, value in zip(("log_m", "log_s", "l"), values, strict=True)
        }
        if law == "heavy":
            functions["log_tail"] = AgeFunction(basis="polynomial", coefficients=(LOG_TAIL,))
        family: FamilyName = "bct" if law == "heavy" else "lms"
        curve = Curve(family=family, functions=functions, age_low=0, age_high=99, tau=tau)
        rows.append(curve.limits(np.array([50.0]), CENTILES)[0])
    return np.array(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveTask:
    """A curve method on a law: ``n`` men of ``trials`` trials of unequal size.

    ``groups`` draws five ethnicities of very different size, and judges the thin ones.
    """

    method: Method
    law: str
    n: int
    trials: int = 1
    groups: bool = False

    @property
    def name(self) -> str:
        """For the table and the seed."""
        group = " thin groups" if self.groups else ""
        return f"{self.method} {self.law} n {self.n} trials {self.trials}{group}"

    def run(self, rng: np.random.Generator) -> Held:
        """One simulation: for each kind whether the interval holds the truth."""
        n = self.n
        share = np.arange(1, self.trials + 1) / np.arange(1, self.trials + 1).sum()
        trial = rng.choice(self.trials, n, p=share)
        effects = TAU * rng.standard_normal(self.trials) if self.trials > 1 else np.zeros(1)
        if 1 < self.trials < 5 or self.method == "quantile":
            # Trials are fixed: the limit is of these trials' mean, as they are.
            effects -= effects[trial].mean()
        ethnicity = np.full(n, -1)
        ethnic = np.zeros(1)
        if self.groups:
            ethnicity = rng.choice(5, n, p=np.array(THIN) / sum(THIN))
            ethnic = TAU * rng.standard_normal(5)
        age = np.round(rng.uniform(20, 80, n), 1)
        effect = effects[trial] + (ethnic[ethnicity] if self.groups else 0.0)
        place = moved(self.law, age, effect)
        if self.law == "heavy":
            y = tail_centile(TAILS["bct"], rng.random(n), *place, LOG_TAIL)
        else:
            y = lms_centile(rng.standard_normal(n), *place)
        data = CurveData(y=y, age=age, ethnicity=ethnicity, trial=trial)
        options = ReferenceOptions(method=self.method, bootstrap=_SAMPLES)
        found: Held = {}
        for group in estimate_groups(data, tuple(range(5)) if self.groups else (), options):
            if self.groups and group.ethnicity < 0:
                continue
            for fitted in group.curves:
                own = float(ethnic[group.ethnicity]) if self.groups else 0.0
                wanted = truth(self.law, TAU if fitted.kind == "marginal" else 0.0, own)
                limits = curve_limits(fitted, AGES, CENTILES, 0.9)
                kind = f"{fitted.kind} group {group.ethnicity}" if self.groups else fitted.kind
                found[kind] = (limits.low <= wanted) & (wanted <= limits.high)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumTask:
    """A rule of ``--limits`` on ``n`` people of one law: LMS with S = 0.2 and this L."""

    rule: LimitsRule
    ell: float
    n: int
    s: float = 0.2

    @property
    def name(self) -> str:
        """For the table and the seed."""
        law = {1.0: "normal", 0.0: "log-normal"}.get(self.ell, f"L = {self.ell:g}")
        return f"{self.rule} {law} S {self.s:g} n {self.n}"

    def run(self, rng: np.random.Generator) -> Held:
        """One simulation."""
        law = (np.array(150.0), np.array(self.s), np.array(self.ell))
        ordered = np.sort(lms_centile(rng.standard_normal(self.n), *law))
        wanted = lms_centile(Z, *law)
        request = LimitRequest(centiles=CENTILES, ci_level=0.9, seed=int(rng.integers(1 << 30)))
        held = [
            f.ci_low is not None and f.ci_high is not None and f.ci_low <= w <= f.ci_high
            for f, w in zip(estimate_limits(ordered, self.rule, request), wanted, strict=True)
        ]
        return {"stratum": np.array([held])}


def tasks() -> Iterator[CurveTask | StratumTask]:
    """Everything that is asked for."""
    for law in ("skewed", "normal"):
        yield CurveTask(method="lms", law=law, n=600)
        yield CurveTask(method="lms", law=law, n=2000)
        yield CurveTask(method="lms", law=law, n=5000)
        yield CurveTask(method="quantile", law=law, n=800)
        yield CurveTask(method="quantile", law=law, n=2000)
        yield CurveTask(method="quantile", law=law, n=6000)
    for law in ("heavy", "skewed"):
        yield CurveTask(method="bct", law=law, n=1200)
        yield CurveTask(method="bct", law=law, n=1200, trials=6)
    yield CurveTask(method="bcpe", law="skewed", n=1200)
    for law in ("normal", "curved"):
        yield CurveTask(method="gaussian", law=law, n=600)
        yield CurveTask(method="fractional-polynomial", law=law, n=600)
        yield CurveTask(method="fractional-polynomial", law=law, n=2000)
    for trials in (3, 6, 12):
        yield CurveTask(method="lms", law="skewed", n=1200, trials=trials)
        yield CurveTask(method="gaussian", law="curved", n=1200, trials=trials)
        yield CurveTask(method="fractional-polynomial", law="normal", n=1200, trials=trials)
    yield CurveTask(method="quantile", law="skewed", n=2000, trials=3)
    yield CurveTask(method="quantile", law="normal", n=2000, trials=6)
    for law in ("skewed", "curved"):
        yield CurveTask(method="lms", law=law, n=1600, groups=True)
        yield CurveTask(method="quantile", law=law, n=1600, groups=True)
    for n in (120, 240, 1000):
        yield StratumTask(rule="nonparametric", ell=1.0, n=n)
        yield StratumTask(rule="nonparametric-ranks", ell=0.0, n=n)
    for n in (60, 200):
        for rule in ("parametric", "prediction"):
            yield StratumTask(rule=rule, ell=1.0, n=n)
        yield StratumTask(rule="log", ell=0.0, n=n)
        for ell in (1.0, 0.4, 0.0, -0.5):
            yield StratumTask(rule="boxcox", ell=ell, n=n)
    for n in (40, 60, 110):
        yield StratumTask(rule="robust", ell=1.0, n=n)
        yield StratumTask(rule="robust", ell=0.8, n=n)


def shares(task: CurveTask | StratumTask, simulations: int) -> dict[str, np.ndarray]:
    """The share held, ``[ages, centiles]`` by kind."""
    rng = np.random.default_rng(zlib.crc32(task.name.encode()))
    run: Callable[[np.random.Generator], Held] = task.run
    held: dict[str, list[np.ndarray]] = {}
    # Rank intervals cost microseconds: many, so that theory is met closely.
    ranks = isinstance(task, StratumTask) and task.rule.startswith("nonparametric")
    for _ in range(simulations * (40 if ranks else 1)):
        for kind, inside in run(rng).items():
            held.setdefault(kind, []).append(inside)
    return {kind: np.mean(parts, axis=0) for kind, parts in held.items()}


def main(simulations: int, only: list[str]) -> None:
    """Print the mean share over ages, and the least and most of an age, by centile."""
    print(f"{simulations} simulations, intervals of 90 %, wanted 0.87 to 0.93; tau {TAU}")
    for task in tasks():
        if only and not any(part in task.name for part in only):
            continue
        for kind, found in shares(task, simulations).items():
            parts = [
                f"{c:g}: {mean:.3f} ({low:.3f}-{high:.3f})"
                for c, mean, low, high in zip(
                    CENTILES, found.mean(0), found.min(0), found.max(0), strict=True
                )
            ]
            bad = " *" * bool(((found.mean(0) < 0.87) | (found.mean(0) > 0.93)).any())
            print(f"{task.name}, {kind}: {', '.join(parts)}{bad}", flush=True)


if __name__ == "__main__":
    first = sys.argv[1:2]
    main(int(first[0]) if first else 500, sys.argv[2:])
