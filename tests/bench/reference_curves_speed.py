"""Speed and agreement of the curve engines beside quantreg, statsmodels, VGAM and mgcv, in one run.

Run: ``python tests/bench/reference_curves_speed.py [people]``. Needs Rscript with quantreg, VGAM
and mgcv (Debian: r-cran-quantreg r-cran-vgam r-cran-mgcv); statsmodels where it is installed.
Prints seconds of processor time (the least of three runs on both sides), ratios and what differs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cardiometa.statistics.basis_functions import SplineBasis, fixed_term, smooth_term
from cardiometa.statistics.location_scale import (
    LmsDistribution,
    NormalDistribution,
    fit_location_scale,
)
from cardiometa.statistics.quantile import check_loss, fit_quantile

TAUS = (0.025, 0.5, 0.975)
R = r"""
suppressMessages({library(quantreg); library(VGAM); library(splines)})
d <- read.csv("people.csv")
X <- bs(d$age, knots = c(35, 50, 65), Boundary.knots = c(20, 80), intercept = TRUE)
seconds <- function(run, times = 3) {
  min(sapply(seq_len(times), function(i) sum(system.time(run())[1:2])))
}
for (tau in c(0.025, 0.5, 0.975)) {
  fn <- seconds(function() f <<- rq.fit.fnb(X, d$y, tau))
  pfn <- seconds(function() g <<- rq.fit.pfn(X, d$y, tau))
  loss <- function(b) { r <- d$y - X %*% b; sum(r * (tau - (r < 0))) }
  best <- min(loss(f$coefficients), loss(g$coefficients))
  cat("quantile", tau, fn, pfn, sprintf("%.12g", best), "\n")
}
few <- d[seq_len(min(nrow(d), 20000)), ]
lms <- lms.bcn(zero = c("lambda", "sigma"))
v <- suppressWarnings(seconds(function() vglm(y ~ bs(age, df = 7), lms, few, trace = FALSE), 1))
two <- list(y ~ s(age, bs = "ps", k = 20), ~ s(age, bs = "ps", k = 20))
g <- seconds(function() mgcv::gam(two, family = mgcv::gaulss(), data = few), 1)
cat("lms", nrow(few), v, 0, 0, "\n")
cat("gaulss", nrow(few), g, 0, 0, "\n")
"""


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """The least of three runs, and what it gave."""
    best, result = np.inf, None
    for _ in range(3):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def statsmodels_quantile(X: np.ndarray, y: np.ndarray, tau: float) -> str:
    """The same fit by statsmodels, as words; nothing where it is not installed."""
    try:
        from statsmodels.regression.quantile_regression import QuantReg
    except ImportError:
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.process_time()
        fit = QuantReg(y, X).fit(tau)
        seconds = time.process_time() - start
    return f"; statsmodels {seconds:.2f} s, loss {check_loss(y - X @ fit.params, tau):.6f}"


def main(n: int) -> None:
    """Print a line a task."""
    rng = np.random.default_rng(1)
    age = np.round(rng.uniform(20, 80, n), 1)
    y = 150 * np.exp(-0.004 * (age - 50) + (0.15 + 0.001 * (age - 50)) * rng.standard_normal(n))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.csv"
        np.savetxt(path, np.column_stack([age, y]), delimiter=",", header="age,y", comments="")
        done = subprocess.run(
            ["Rscript", "-e", R], cwd=folder, capture_output=True, text=True, check=True
        )
    peers = [line.split() for line in done.stdout.splitlines() if line.strip()]
    X = SplineBasis(low=20.0, high=80.0, segments=4).at(age)
    for tau, peer in zip(TAUS, peers, strict=False):
        seconds, fit = timed(lambda tau=tau: fit_quantile(X, y, tau))
        fn, pfn, loss = float(peer[2]), float(peer[3]), float(peer[4])
        print(
            f"quantile {tau}: n {n}, {seconds:.3f} s; quantreg fn {fn:.3f} s ({seconds / fn:.2f}), "
            f"pfn {pfn:.3f} s ({seconds / pfn:.2f}); loss / theirs - 1 = {fit.loss / loss - 1:.1e}"
            f"{statsmodels_quantile(X, y, tau)} (ours {fit.loss:.6f})"
        )
    for name, law, values in (
        ("lms", LmsDistribution(), np.log(y)),
        ("gaulss", NormalDistribution(), y),
    ):
        peer = next(p for p in peers if p[0] == name)
        for size in (int(peer[1]), n):
            ages, cell = np.unique(age[:size], return_inverse=True)
            smooth = smooth_term("age", SplineBasis(low=20.0, high=80.0, segments=17), ages)
            shape = [[fixed_term("l", np.ones((len(ages), 1)))]] if name == "lms" else []
            terms = [[smooth], [smooth], *shape]
            part = values[:size]
            seconds, _ = timed(lambda: fit_location_scale(law, part, cell, terms))  # noqa: B023
            beside = f"; {'VGAM' if name == 'lms' else 'mgcv'} {peer[2]} s" * (size == int(peer[1]))
            print(f"{name}: n {size}, {seconds:.3f} s{beside}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
