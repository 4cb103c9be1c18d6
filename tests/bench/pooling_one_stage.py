"""One-stage REML with Kenward-Roger, REML of trials, a large file: against the peers, in one run.

    python tests/bench/pooling_one_stage.py [trials] [people] [rows of a file]   default 20 400 0

By CPU time of one thread. Peers are asked for what they have: lme4 has one residual variance and no
Kenward-Roger at this size, so ours with it stands against lme4 without; nlme's varIdent has a
variance of each trial (asked up to 10,000 people); statsmodels' MixedLM has one residual variance
and no small-sample test (up to 10,000 people), its combine_effects the Paule-Mandel tau². Our times
have the sums of the rows in them. Without Rscript or statsmodels their lines are missing.
"""

from __future__ import annotations

import csv
import importlib.util
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from cardiometa.pooling.first_stage.arm_sums import ArmSums, model_block
from cardiometa.statistics.meta import pool_estimates
from cardiometa.statistics.mixed.one_stage import contrast_interval, fit_one_stage
from cardiometa.statistics.mixed.sufficient_statistics import ModelColumns, summarise_rows

PROGRAM = (sys.executable, "-m", "cardiometa", "pool-trials")
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
    """The sums of each trial and arm; rows stand trial by trial."""
    found = []
    starts = np.flatnonzero(np.diff(rows[:, 0], prepend=-1.0))
    for part in np.split(rows, starts[1:]):
        trial = str(part[0, 0])
        arms = {
            name: summarise_rows(trial, ("baseline", "outcome"), part[part[:, 1] == code][:, 2:])
            for name, code in (("control", 0), ("active", 1))
        }
        found.append(ArmSums(trial=trial, control="control", nuisance=("baseline",), arms=arms))
    return found


def ours(sums: list[ArmSums], residual: str) -> tuple[float, float]:
    columns = ModelColumns(
        nuisance=("", "baseline"), fixed=("arm:active",), random=("arm:active",), outcome="outcome"
    )
    blocks = [model_block(one, columns, residual=residual) for one in sums]
    fit = fit_one_stage(blocks, np.ones((1, 1, 1)), residual=residual)
    return float(fit.beta[0]), contrast_interval(fit, np.ones(1), "kenward-roger").df


def cpu(work):
    start = time.process_time()
    value = work()
    return time.process_time() - start, value


def against(name: str, seconds: float, value: float, mine: float) -> None:
    print(f"{name}: {seconds:.4g} s, effect {value:.6f}; ours {seconds / mine:,.0f} x faster")


def one_stage(trials: int, people: int) -> dict[str, float]:
    rows = simulate(trials, people)
    seconds_of_sums, sums = cpu(lambda: sums_of(rows))
    print(f"{trials} trials x {people} people; sums {seconds_of_sums:.3f} s")
    own = {}
    for residual in ("common", "by-trial", "by-trial-and-arm"):
        seconds, (estimate, df) = cpu(lambda r=residual: ours(sums, r))
        own[residual] = seconds + seconds_of_sums
        print(
            f"ours {residual}: {own[residual]:.3f} s with sums, effect {estimate:.6f}, df {df:.2f}"
        )
    many = sums_of(simulate(10_000, 20))
    seconds, (_, df) = cpu(lambda: ours(many, "by-trial"))
    print(f"ours by-trial, 10,000 trials x 20 people: {seconds:.2f} s without sums, df {df:.0f}")
    with_r(rows, trials, people, own)
    if len(rows) <= 10_000 and importlib.util.find_spec("statsmodels"):
        against("statsmodels MixedLM", *mixed_lm(rows, trials), own["common"])
    return own


def mixed_lm(rows: np.ndarray, trials: int) -> tuple[float, float]:
    from statsmodels.regression.mixed_linear_model import MixedLM

    trial = rows[:, 0].astype(int)
    dummies = np.eye(trials)[trial]
    x = np.column_stack([rows[:, 1], dummies, dummies * rows[:, 2:3]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLM(rows[:, 3], x, groups=trial, exog_re=rows[:, 1:2])
        seconds, fit = cpu(lambda: model.fit(reml=True))
    return seconds, float(fit.fe_params[0])


def with_r(rows: np.ndarray, trials: int, people: int, own: dict[str, float]) -> None:
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
    second = second_stage()
    mine = {"lme4": own["common"], "nlme": own["by-trial"], **second}
    for line in done.stdout.splitlines():
        name, seconds, value = line.split()[:3]
        against(name, float(seconds), float(value), mine[name])
    if done.returncode:
        print(done.stderr[-500:])


def second_stage() -> dict[str, float]:
    """REML of 1,000 and 10,000 trials, leave-one-out of 100; Paule-Mandel against statsmodels."""
    draw = np.random.default_rng(1)
    v = draw.uniform(0.2, 2, 10_000)
    y = draw.normal(1, np.sqrt(v + 0.5))

    def best(k: int, method: str) -> float:
        return min(cpu(lambda: pool_estimates(y[:k], v[:k], method))[0] for _ in range(5))

    loo, _ = cpu(
        lambda: [
            pool_estimates(np.delete(y[:100], i), np.delete(v[:100], i), "reml") for i in range(100)
        ]
    )
    thousand = best(1000, "reml")
    print(
        f"ours REML k=1000 {1e3 * thousand:.2f} ms, k=10000 {1e3 * best(10_000, 'reml'):.2f} ms, "
        f"leave-one-out k=100 {loo:.3f} s"
    )
    if importlib.util.find_spec("statsmodels"):
        from statsmodels.stats.meta_analysis import combine_effects

        seconds, fit = cpu(lambda: combine_effects(y[:1000], v[:1000], method_re="iterated"))
        against("statsmodels PM k=1000", seconds, float(fit.mean_effect_re), best(1000, "pm"))
    return {"rma1000": thousand, "leave1out100": loo}


def large_file(rows: int) -> None:
    """The command itself on a file of ``rows`` participants of fifty trials, CSV and Parquet."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.csv"
        write_people(path, rows)
        size = path.stat().st_size / 1e6
        command = ["--outcome", "lv_ef_percent", "--baseline", "lv_ef_baseline", "--quiet"]
        for file in [path, *parquet_of(path)]:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            start = time.monotonic()
            subprocess.run(
                [*PROGRAM, str(file), *command, "--out", str(Path(folder) / file.suffix[1:])],
                check=True,
            )
            wall = time.monotonic() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(
                f"pool-trials on {rows:,} rows, {file.suffix[1:]} ({size:.0f} MB as CSV): "
                f"{used:.1f} s CPU, {wall:.1f} s wall, peak of all {after.ru_maxrss / 1e6:.2f} GB"
            )


def write_people(path: Path, rows: int) -> None:
    draw = np.random.default_rng(1)
    gain = 3 + draw.normal(0, 1, 50)
    with path.open("w", newline="") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow(["trial", "participant_id", "arm", "lv_ef_baseline", "lv_ef_percent"])
        for start in range(0, rows, 100_000):
            n = min(100_000, rows - start)
            trial, arm = draw.integers(0, 50, n), draw.integers(0, 2, n)
            # Of ten million none may be beyond what an ejection fraction can be.
            base = draw.normal(50, 5.5, n)
            y = 14 + 0.6 * base + 0.6 * gain[trial] * arm + draw.normal(0, 2 + 0.6 * (trial % 4))
            out.writerows(
                (f"T{t + 1}", f"P{start + i}", "active" if a else "control", f"{b:.2f}", f"{o:.2f}")
                for i, (t, a, b, o) in enumerate(zip(trial, arm, base, y, strict=True))
            )


def parquet_of(path: Path) -> list[Path]:
    """The table as Parquet too, where pyarrow is there."""
    if importlib.util.find_spec("pyarrow") is None:
        return []
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    made = path.with_suffix(".parquet")
    parquet.write_table(arrow_csv.read_csv(path), made)
    return [made]


def main() -> None:
    given = [int(x) for x in sys.argv[1:4]]
    trials, people, rows = (*given, *(20, 400, 0)[len(given) :])
    if rows:
        large_file(rows)
    if trials:
        one_stage(trials, people)


if __name__ == "__main__":
    main()
