"""How often the corrected interval of ``--error-model`` holds the true effect.

    python tests/bench/error_model_coverage.py [runs] [effect]     default 1000, 3

Ten trials of 60 to 400 people, true effect 3 points, tau 1.5, residual SD 7 points, error of SD
3.5; the outcome is measured as β times the truth. An evaluation of 20, 50 or 200 hearts (reader's
SD 12 points) estimates β. One line for all trials, then lines of six of the trials (β of trials
with SD 0.06), partially pooled, the other four taking the line of a new trial. Coverage (percent)
and median width of 95 % intervals; ``truth`` is the same with β known. With an effect of 12 the
uncertainty of β is most of the interval.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from cardiometa.pooling.error_model import _slope_of, scale_corrected
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.results import Study
from cardiometa.statistics.measurement_error import (
    ErrorInput,
    MeasureError,
    line_of,
    partially_pooled,
)
from tests.kit.evaluations import evaluation_of

OPTIONS = PoolingOptions(outcome="lv_ef_percent", leave_one_out=False)
TAU, RESIDUAL, ERROR, SPREAD = 1.5, 7.0, 3.5, 12.0
TRIALS = 10


def studies(beta: np.ndarray, effect: float, draw: np.random.Generator) -> list[Study]:
    """The trials' effects as measured, each with its own slope."""
    found = []
    for number, slope in enumerate(beta):
        n = int(draw.integers(60, 401))
        sd = np.hypot(slope * RESIDUAL, ERROR)
        se = sd * np.sqrt(4 / n)
        own = effect + draw.normal(0, TAU)
        spread = sd * np.sqrt(draw.chisquare(n - 3) / (n - 3))
        found.append(
            Study(
                trial=f"T{number}",
                arm="active",
                control="control",
                estimate=float(slope * own + draw.normal(0, se)),
                se=float(spread * np.sqrt(4 / n)),
                df=n - 3,
                residual_sd=float(spread),
            )
        )
    return found


def hearts(n: int, slope: float, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    reader = draw.normal(55, SPREAD, n)
    return 3 + slope * reader + draw.normal(0, ERROR, n), reader


def error_model(
    n: int, beta: np.ndarray, draw: np.random.Generator, *, by_trial: bool
) -> MeasureError:
    """Lines of ``n`` hearts: of all, or of the first six trials and of these together."""
    sizes = [n // 6] * 6 if by_trial else [n]
    slopes = beta[:6] if by_trial else beta[:1]
    parts = [hearts(size, slope, draw) for size, slope in zip(sizes, slopes, strict=True)]
    model, reader = (np.concatenate(values) for values in zip(*parts, strict=True))
    every = line_of(model, reader, np.arange(len(model)))
    assert every is not None
    own = []
    for number, (m, r) in enumerate(parts if by_trial else []):
        line = line_of(m, r, np.arange(len(m)), group_by="trial", group=f"T{number}")
        own += [line] if line is not None else []
    pooled, between = partially_pooled(own)
    return MeasureError(
        measure="lv_ef_percent", unit="%", scope="", lines=(every, *own, *pooled),
        between_trials=between,
    )  # fmt: skip


def outcomes(
    runs: int, effect: float, mean: float, n: int, *, by_trial: bool
) -> Iterator[tuple[bool, float]]:
    draw = np.random.default_rng([int(100 * mean), n, by_trial])
    for _ in range(runs):
        beta = np.full(TRIALS, mean)
        if by_trial:
            beta = beta + draw.normal(0, 0.06, TRIALS)
        members = studies(beta, effect, draw)
        if n:
            measure = error_model(n, beta, draw, by_trial=by_trial)
            slopes = {one.trial: _slope_of(one, measure, ERROR_INPUT) for one in members}
        else:
            line = error_model(1000, beta, draw, by_trial=False).lines[0]
            known = [replace(line, slope=float(b), var_slope=0.0) for b in beta]
            slopes = {
                one.trial: _slope_of(
                    one, MeasureError(measure="", unit="", scope="", lines=(each,)), ERROR_INPUT
                )
                for one, each in zip(members, known, strict=True)
            }
        found, _ = scale_corrected(members, slopes, OPTIONS)
        if found.low is None or found.high is None:
            yield True, np.inf
        else:
            yield found.low <= effect <= found.high, found.high - found.low


ERROR_INPUT = ErrorInput(evaluated=evaluation_of())


def main(runs: int, effect: float) -> None:
    print(f"{runs} runs; Monte-Carlo SE {100 * (0.95 * 0.05 / runs) ** 0.5:.1f} points")
    for by_trial, title in ((False, "one line for all trials"), (True, "lines of six trials")):
        print(f"\n{title}\n{'beta':>5} {'hearts':>7} {'coverage':>9} {'width':>7}")
        for mean in (0.8, 1.0, 1.2):
            for n in (0, 60, 120, 300) if by_trial else (0, 20, 50, 200):
                within, widths = zip(
                    *outcomes(runs, effect, mean, n, by_trial=by_trial), strict=True
                )
                label = str(n) if n else "truth"
                cover, width = 100 * np.mean(within), float(np.median(widths))
                print(f"{mean:>5} {label:>7} {cover:>9.1f} {width:>7.2f}", flush=True)


if __name__ == "__main__":
    given = [float(one) for one in sys.argv[1:]]
    main(int(given[0]) if given else 1000, given[1] if len(given) > 1 else 3.0)
