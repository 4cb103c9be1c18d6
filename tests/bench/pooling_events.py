"""One-stage models of events: time against lme4's glmer and coxme's estimator, in the same run.

`nice -n 10 python -m tests.bench.pooling_events` (needs Rscript with lme4 and survival; without it
our times alone are printed). coxme itself could not be had: its estimator is the R function of
`tests/golden/pooling/events_one_stage.R`, whose steps are `coxph` in C.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from cardiometa.statistics.event_mixed import EventTrial, fit_cox_mixed, fit_logistic_mixed
from cardiometa.statistics.event_models import risk_sets

_R = """
suppressMessages(library(lme4)); d <- read.csv("FILE"); d$trial <- factor(d$trial)
d$tc <- d$t - ave(d$t, d$trial)
s <- system.time(m <- glmer(y ~ 0 + trial + trial:age + tc + (0 + tc | trial), data = d,
  family = binomial, nAGQ = 15, control = glmerControl(optimizer = "bobyqa",
  optCtrl = list(maxfun = 1e5), calc.derivs = FALSE)))
cat(s[["user.self"]] + s[["sys.self"]], fixef(m)[["tc"]], VarCorr(m)[[1]][1])
"""


def simulated(trials: int, people: int, seed: int = 1) -> list[dict[str, np.ndarray]]:
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(trials):
        t, age = (draw.random(people) < 0.5).astype(float), draw.normal(0, 1, people)
        eta = -1 + 0.3 * draw.normal() + (-0.4 + draw.normal(0, 0.4)) * t + 0.4 * age
        latent, ends = draw.exponential(np.exp(-eta)), draw.uniform(0.2, 3, people)
        y = (draw.random(people) < 1 / (1 + np.exp(-eta))).astype(float)
        event = latent <= ends
        found.append({"t": t, "age": age, "y": y, "time": np.minimum(latent, ends), "event": event})
    return found


def blocks(trials: list[dict[str, np.ndarray]]) -> tuple[list[EventTrial], list[EventTrial]]:
    logistic, cox = [], []
    for one in trials:
        own = np.column_stack([np.ones(len(one["t"])), one["age"]])
        treat = (one["t"] - one["t"].mean())[:, None]
        logistic.append(EventTrial.logistic(own, treat, one["y"]))
        sets = risk_sets(one["time"], one["event"], np.column_stack([one["age"], one["t"]]))
        cox.append(EventTrial.cox(1, sets))
    return logistic, cox


def timed(fit, trials):
    begun = time.process_time()
    found = fit(trials)
    return time.process_time() - begun, found


def main() -> None:
    has_r = shutil.which("Rscript") is not None
    print("trials  people  ours logistic (s)  glmer (s)   ratio   ours Cox (s)  same estimate")
    for trials, people, with_r in ((8, 120, True), (12, 600, True), (50, 600, False)):
        made = simulated(trials, people)
        logistic, cox = blocks(made)
        own, fit = timed(fit_logistic_mixed, logistic)
        hazard, _ = timed(fit_cox_mixed, cox)
        theirs, same = float("nan"), ""
        if with_r and has_r:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "d.csv"
                rows = [
                    np.column_stack([np.full(people, i), one["t"], one["age"], one["y"]])
                    for i, one in enumerate(made)
                ]
                np.savetxt(
                    path, np.vstack(rows), delimiter=",", header="trial,t,age,y", comments=""
                )
                done = subprocess.run(
                    ["Rscript", "-e", _R.replace("FILE", str(path))],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
            theirs, estimate, tau2 = map(float, done.stdout.split())
            same = f"{fit.shared[0] - estimate:+.1e}, tau2 {fit.tau2 - tau2:+.1e}"
        print(
            f"{trials:6d} {people:7d} {own:18.3f} {theirs:10.2f} {theirs / own:7.0f} "
            f"{hazard:14.3f}  {same}"
        )


if __name__ == "__main__":
    main()
