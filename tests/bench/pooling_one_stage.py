"""One-stage REML with Kenward-Roger against lme4 (and nlme, metafor), in one run, by CPU time.

    python tests/bench/pooling_one_stage.py [trials] [people]     default 20 x 400

Peers are asked for what they have: lme4 has one residual variance and no Kenward-Roger at this
size; nlme's varIdent has a variance of each trial. Without Rscript only our times are printed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cardiometa.estimation.blocks import ModelColumns
from cardiometa.estimation.kenward_roger import contrast_interval
from cardiometa.estimation.one_stage import fit_one_stage
from cardiometa.estimation.random_effects import pool_estimates
from cardiometa.estimation.sums import summarise_rows
from cardiometa.pooling.arm_sums import ArmSums, model_block

PEER = """
suppressMessages({library(lme4); library(nlme); library(metafor)})
a <- commandArgs(TRUE); k <- as.integer(a[2]); n <- as.integer(a[3])
x <- matrix(readBin(a[1], "double", 4 * k * n), ncol = 4)
d <- data.frame(trial = factor(x[, 1]), treat = x[, 2], b = x[, 3], y = x[, 4])
cpu <- function(e) { t <- proc.time(); v <- force(e); c(sum((proc.time() - t)[1:2]), v) }
f <- y ~ 0 + trial + trial:b + treat
r <- cpu(fixef(lmer(update(f, . ~ . + (0 + treat | trial)), d, control =
  lmerControl(calc.derivs = FALSE)))[["treat"]])
cat("lme4", r, "\\n")
if (k * n <= 10000) {
  r <- cpu(fixef(lme(f, random = ~ 0 + treat | trial, weights = varIdent(form = ~ 1 | trial),
    data = d, control = lmeControl(maxIter = 500, msMaxIter = 500, returnObject = TRUE)
    ))[["treat"]])
  cat("nlme", r, "\\n")
}
set.seed(1); v <- runif(1000, .2, 2); y <- rnorm(1000, 1, sqrt(v + .5))
r <- cpu(as.numeric(rma(y, v)$beta)); cat("rma1000", r, "\\n")
y <- y[1:100]; v <- v[1:100]
r <- cpu(leave1out(rma(y, v))$estimate[1]); cat("leave1out100", r, "\\n")
"""


def simulate(trials: int, people: int) -> np.ndarray:
    """Rows ``trial, treat, baseline, outcome``."""
    draw = np.random.default_rng(1)
    trial = np.repeat(np.arange(trials), people)
    treat = draw.integers(0, 2, len(trial)).astype(float)
    base = draw.normal(50, 8, len(trial))
    gain = draw.normal(3, 1, trials)[trial]
    noise = draw.normal(0, 4 + trial % 4)
    return np.column_stack([trial, treat, base, 10 + 0.7 * base + gain * treat + noise])


def sums_of(rows: np.ndarray) -> list[ArmSums]:
    found = []
    columns = ("baseline", "outcome")
    for trial in np.unique(rows[:, 0]):
        part = rows[rows[:, 0] == trial]
        arms = {
            name: summarise_rows(str(trial), columns, part[part[:, 1] == code][:, 2:])
            for name, code in (("control", 0), ("active", 1))
        }
        found.append(
            ArmSums(trial=str(trial), control="control", nuisance=("baseline",), arms=arms)
        )
    return found


def ours(sums: list[ArmSums], residual: str) -> tuple[float, float]:
    columns = ModelColumns(
        nuisance=("", "baseline"), fixed=("arm:active",), random=("arm:active",), outcome="outcome"
    )
    blocks = [model_block(one, columns, residual=residual) for one in sums]
    fit = fit_one_stage(blocks, np.ones((1, 1, 1)), residual=residual)
    return float(fit.beta[0]), contrast_interval(fit, np.ones(1), "kenward-roger").df


def cpu(work) -> tuple[float, object]:
    start = time.process_time()
    value = work()
    return time.process_time() - start, value


def main() -> None:
    trials, people = (int(x) for x in (*sys.argv[1:3], *("20", "400")[len(sys.argv) - 1 :]))
    rows = simulate(trials, people)
    seconds_of_sums, sums = cpu(lambda: sums_of(rows))
    print(f"{trials} trials x {people} people; sums {seconds_of_sums:.3f} s CPU")
    own = {}
    for residual in ("common", "by-trial"):
        seconds, (estimate, df) = cpu(lambda r=residual: ours(sums, r))
        own[residual] = seconds + seconds_of_sums
        print(
            f"ours {residual}: {own[residual]:.3f} s with sums, effect {estimate:.6f}, df {df:.2f}"
        )
    draw = np.random.default_rng(1)
    v = draw.uniform(0.2, 2, 1000)
    y = draw.normal(1, np.sqrt(v + 0.5))
    second, _ = cpu(lambda: pool_estimates(y, v, "reml"))
    loo, _ = cpu(
        lambda: [
            pool_estimates(np.delete(y[:100], i), np.delete(v[:100], i), "reml") for i in range(100)
        ]
    )
    many = np.tile(y, 10), np.tile(v, 10)
    large, _ = cpu(lambda: pool_estimates(*many, "reml"))
    print(
        f"ours REML k=1000 {second:.4f} s, k=10000 {large:.4f} s, leave-one-out k=100 {loo:.3f} s"
    )
    if shutil.which("Rscript") is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        data, script = Path(folder) / "rows.bin", Path(folder) / "peer.R"
        rows.T.astype("<f8").tofile(data)
        script.write_text(PEER)
        done = subprocess.run(
            ["Rscript", str(script), str(data), str(trials), str(people)],
            capture_output=True,
            text=True,
            check=False,
        )
    against = {
        "lme4": own["common"],
        "nlme": own["by-trial"],
        "rma1000": second,
        "leave1out100": loo,
    }
    for line in done.stdout.splitlines():
        name, seconds, value = line.split()[:3]
        ratio = float(seconds) / against[name]
        print(
            f"{name}: {float(seconds):.2f} s, effect {float(value):.6f}; ours {ratio:.0f} x faster"
        )
    if done.returncode:
        print(done.stderr[-500:])


if __name__ == "__main__":
    main()
