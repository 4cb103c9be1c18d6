"""How often pooled intervals hold the truth: the table of ``pooling.md`` 2.2 by our own trials.

    python tests/bench/pooling_coverage.py FOLDER [runs] [seconds]     default 2000, 420

Effect 2, residual SD 5 to 9, trials of 60 to 400 people allocated 1:1 or 1:2, a baseline with its
own slope in each trial; every run simulates people, sums them and fits both stages as pool-trials
does. Parts of 100 runs are kept in FOLDER; a call stops after ``seconds`` and the next one goes on.
The table shows coverage (percent) and median width of 95 % intervals for what is finished.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from cardiometa.pooling.first_stage.arm_sums import (
    ArmSums,
    arm_column,
    effects_of_trial,
    model_block,
)
from cardiometa.statistics.meta import pool_estimates, pooled_interval, prediction_interval
from cardiometa.statistics.mixed.one_stage import METHODS, contrast_interval, fit_one_stage
from cardiometa.statistics.mixed.sufficient_statistics import ModelColumns, summarise_rows

EFFECT = 2.0
DESIGNS = [(k, tau) for k in (3, 5, 10, 20) for tau in (0.0, 1.0, 2.0)]
PART = 100
TREAT = arm_column("active")
COLUMNS = ModelColumns(
    nuisance=("", "baseline"), fixed=(TREAT,), random=(TREAT,), outcome="outcome"
)
SHOWN = (
    "dl-wald",
    "reml-wald",
    "hksj",
    "hksj-truncated",
    "one-stage wald",
    "one-stage satterthwaite",
    "one-stage kenward-roger",
    "pi k-2",
    "pi k-1",
)


def simulated_trial(trial: int, tau: float, draw: np.random.Generator) -> ArmSums:
    """One trial's sums by arm."""
    n = int(draw.integers(60, 401))
    control = n // 2 if draw.random() < 0.5 else n // 3
    sd, effect = draw.uniform(5, 9), EFFECT + draw.normal(0, tau)
    base = draw.normal(draw.normal(50, 5), 8, n)
    treat = np.arange(n) >= control
    y = 10 + draw.uniform(0.4, 0.9) * base + effect * treat + draw.normal(0, sd, n)
    arms = {
        name: summarise_rows(
            str(trial), ("baseline", "outcome"), np.column_stack([base[where], y[where]])
        )
        for name, where in (("control", ~treat), ("active", treat))
    }
    return ArmSums(trial=str(trial), control="control", nuisance=("baseline",), arms=arms)


def one_run(k: int, tau: float, draw: np.random.Generator) -> dict[str, tuple[bool, float]]:
    """Whether each interval holds its truth, and how wide it is."""
    sums = [simulated_trial(i, tau, draw) for i in range(k)]
    new = EFFECT + draw.normal(0, tau)
    studies = [effects_of_trial(one)[0] for one in sums]
    y = np.array([study.estimate for study in studies])
    v = np.array([study.se for study in studies]) ** 2
    reml = pool_estimates(y, v, "reml")
    intervals = {
        "dl-wald": pooled_interval(pool_estimates(y, v, "dl"), "wald"),
        "reml-wald": pooled_interval(reml, "wald"),
        "hksj": pooled_interval(reml, "hksj"),
        "hksj-truncated": pooled_interval(reml, "hksj-truncated"),
    }
    fit = fit_one_stage(
        [model_block(one, COLUMNS, residual="by-trial") for one in sums], np.ones((1, 1, 1))
    )
    for method in METHODS:
        intervals[f"one-stage {method}"] = contrast_interval(fit, np.ones(1), method)
    found = {name: (i.low <= EFFECT <= i.high, i.high - i.low) for name, i in intervals.items()}
    for df in ("k-1", "k-2"):
        limits = prediction_interval(reml, intervals["hksj-truncated"].se, df)
        found[f"pi {df}"] = (limits[0] <= new <= limits[1], limits[1] - limits[0])
    found["tau2 is 0"] = (fit.theta[0] == 0, float(fit.theta[0]))
    found["converged"] = (fit.checks.converged, 0.0)
    return found


def one_part(k: int, tau: float, part: int) -> dict[str, list[list[float]]]:
    draw = np.random.default_rng([20261, k, int(10 * tau), part])
    runs = [one_run(k, tau, draw) for _ in range(PART)]
    return {
        name: [[float(run[name][0]) for run in runs], [run[name][1] for run in runs]]
        for name in runs[0]
    }


def show(folder: Path) -> None:
    print("coverage % / median width; Monte-Carlo SE of 95 % at 2,000 runs is 0.5")
    print("k, tau | runs | " + " | ".join(SHOWN) + " | tau2 = 0 | not converged")
    for k, tau in DESIGNS:
        files = sorted(folder.glob(f"k{k}-tau{tau:g}-*.json"))
        if not files:
            continue
        parts = [json.loads(path.read_text()) for path in files]
        held = {n: np.concatenate([part[n][0] for part in parts]) for n in parts[0]}
        width = {n: np.concatenate([part[n][1] for part in parts]) for n in parts[0]}
        cells = [f"{100 * held[n].mean():.1f}/{np.median(width[n]):.3g}" for n in SHOWN]
        print(
            f"{k}, {tau:g} | {len(held['hksj'])} | "
            + " | ".join(cells)
            + f" | {100 * held['tau2 is 0'].mean():.0f} %"
            + f" | {int((1 - held['converged']).sum())}"
        )


def main() -> None:
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    runs, seconds = (int(x) for x in (*sys.argv[2:4], *("2000", "420")[len(sys.argv) - 2 :]))
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    for part in range(runs // PART):
        for k, tau in DESIGNS:
            path = folder / f"k{k}-tau{tau:g}-{part:03d}.json"
            if path.exists():
                continue
            if time.monotonic() > end:
                show(folder)
                raise SystemExit("more is to be done: call again")
            found = one_part(k, tau, part)
            half = path.with_suffix(".half")
            half.write_text(json.dumps(found))
            half.replace(path)
    show(folder)


if __name__ == "__main__":
    main()
