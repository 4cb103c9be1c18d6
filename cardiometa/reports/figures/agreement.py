"""Agreement of the harmonised values with those the trials reported (Bland & Altman 1999)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ...measurement.measures import MEASURES, MeasureDefinition
from ...records import Figure, Table
from ..style import (
    DASH,
    PALETTE,
    SOFT,
    figure_style,
    figure_svg,
    measure_label,
    measure_name,
    new_figure,
    shown,
    shown_interval,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


MOST_PANELS: Final = 6
LEAST_PAIRS: Final = 3
# More marks than this are drawn as one picture: 100,000 single ones make a page no browser opens.
_MOST_MARKS: Final = 3000
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Harmonised minus reported: bias with its t interval, and the limits of agreement.

    ``None`` where there are fewer than `LEAST_PAIRS` pairs.
    """

    n: int
    bias: float | None
    sd: float | None
    bias_low: float | None
    bias_high: float | None
    lower: float | None
    upper: float | None


def agreement(harmonised: np.ndarray, reported: np.ndarray) -> Agreement:
    """Bias, its 95% interval and bias ± 1.96 SD of pairs ``[n]``; NaN pairs are left out."""
    from scipy import stats

    difference = harmonised - reported
    difference = difference[np.isfinite(difference)]
    n = len(difference)
    if n < LEAST_PAIRS:
        return Agreement(
            n=n, bias=None, sd=None, bias_low=None, bias_high=None, lower=None, upper=None
        )
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    half = float(stats.t.ppf(0.975, n - 1)) * sd / math.sqrt(n)
    return Agreement(
        n=n,
        bias=bias,
        sd=sd,
        bias_low=bias - half,
        bias_high=bias + half,
        lower=bias - 1.96 * sd,
        upper=bias + 1.96 * sd,
    )


def compared_measures(measurements: pd.DataFrame) -> tuple[MeasureDefinition, ...]:
    """Measures that at least one scan has both harmonised and reported."""
    found = []
    for measure in MEASURES:
        reported = f"reported_{measure.name}"
        if {measure.name, reported} <= set(measurements.columns):
            pair = _pairs(measurements, measure.name)
            if len(pair):
                found.append(measure)
    return tuple(found)


def _pairs(measurements: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows that have both values, as numbers in columns ``harmonised`` and ``reported``."""
    import pandas as pd

    rows = measurements[measurements["status"] != "failed"]
    pair = pd.DataFrame(
        {
            "trial": rows["trial"].astype(str),
            "harmonised": pd.to_numeric(rows[name], errors="coerce").astype(float),
            "reported": pd.to_numeric(rows[f"reported_{name}"], errors="coerce").astype(float),
        }
    )
    return pair.dropna()


def agreement_table(measurements: pd.DataFrame, measures: Sequence[MeasureDefinition]) -> Table:
    """Bias and limits of agreement by measure and trial."""
    rows = []
    for measure in measures:
        pair = _pairs(measurements, measure.name)
        groups = [(trial, group) for trial, group in pair.groupby("trial", sort=True)]
        if len(groups) > 1:
            groups.append(("all trials", pair))
        for trial, group in groups:
            found = agreement(group["harmonised"].to_numpy(), group["reported"].to_numpy())
            rows.append(
                (
                    measure_label(measure.name, measure.unit),
                    str(trial),
                    str(found.n),
                    _signed(found.bias),
                    _interval(found.bias_low, found.bias_high),
                    shown(found.sd),
                    _interval(found.lower, found.upper),
                )
            )
    return Table(
        title="Harmonised minus reported values.",
        columns=(
            "Measure",
            "Trial",
            "Scans",
            "Bias",
            "95% CI of bias",
            "SD",
            "Limits of agreement",
        ),
        rows=tuple(rows),
        caption=(
            "Limits of agreement are bias ± 1.96 SD (Bland & Altman 1999). Scans of one person at "
            "several visits count as separate. Trials' own values may follow other conventions "
            "(papillary muscles, basal slices): a difference is not in itself an error of either."
        ),
    )


def _signed(value: float | None) -> str:
    text = shown(value)
    return f"+{text}" if value is not None and value > 0 and float(f"{value:.1f}") else text


def _interval(low: float | None, high: float | None) -> str:
    return DASH if low is None else shown_interval(low, high)


def agreement_figure(measurements: pd.DataFrame, measures: Sequence[MeasureDefinition]) -> Figure:
    """Bland-Altman plots, one panel a measure, one mark a scan: it shows individuals."""
    chosen = list(measures)[:MOST_PANELS]
    trials = sorted(measurements["trial"].astype(str).unique())
    columns = min(len(chosen), 3)
    lines = math.ceil(len(chosen) / columns)
    legend_mm = 5.0 * math.ceil(len(trials) / 5) + 4
    height = 58.0 * lines + legend_mm
    with figure_style():
        figure = new_figure(60.0 * columns if columns > 1 else 90.0, height)
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for at, panel in enumerate(axes):
            if at < len(chosen):
                _panel(panel, chosen[at], _pairs(measurements, chosen[at].name), trials)
            else:
                panel.axis("off")
        figure.tight_layout(rect=(0, legend_mm / height, 1, 1), w_pad=1.2, h_pad=1.4)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=min(len(trials), 5))
        title = "Agreement with the values that the trials reported"
        svg = figure_svg(figure, title=title, description=_words(measurements, chosen))
    hidden = len(measures) - len(chosen)
    more = f" {hidden} more measures are in the table." if hidden else ""
    return Figure(
        title=f"{title}.",
        caption=(
            "Difference (harmonised − reported) against the mean of both; one mark a scan. Solid "
            f"line: bias over all trials; dashed: limits of agreement.{more}"
        ),
        svg=svg,
    )


def _panel(
    panel: Axes, measure: MeasureDefinition, pair: pd.DataFrame, trials: Sequence[str]
) -> None:
    many = len(pair) > _MOST_MARKS
    # Six colours and seven marks part 42 trials.
    for index, trial in enumerate(trials):
        rows = pair[pair["trial"] == trial]
        panel.plot(
            (rows["harmonised"] + rows["reported"]) / 2,
            rows["harmonised"] - rows["reported"],
            linestyle="none",
            marker=_MARKERS[index % len(_MARKERS)],
            color=PALETTE[index % (len(PALETTE) - 1)],
            markersize=3.6,
            markeredgewidth=0,
            alpha=0.75,
            label=trial,
            rasterized=many,
        )
    found = agreement(pair["harmonised"].to_numpy(), pair["reported"].to_numpy())
    panel.axhline(0, color=SOFT, linewidth=0.5)
    if found.bias is not None and found.lower is not None and found.upper is not None:
        panel.axhline(found.bias, color="black", linewidth=0.9)
        for limit in (found.lower, found.upper):
            panel.axhline(limit, color="black", linewidth=0.8, dashes=(4, 2.5))
    panel.set_title(measure_label(measure.name, measure.unit), loc="left")
    panel.set_xlabel("Mean of both")
    panel.set_ylabel("Difference")


def _words(measurements: pd.DataFrame, measures: Sequence[MeasureDefinition]) -> str:
    sentences = []
    for measure in measures:
        pair = _pairs(measurements, measure.name)
        found = agreement(pair["harmonised"].to_numpy(), pair["reported"].to_numpy())
        sentences.append(
            f"{measure_name(measure.name)}: {found.n} scans, bias {_signed(found.bias)} "
            f"{measure.unit}, limits of agreement {_interval(found.lower, found.upper)}."
        )
    return " ".join(sentences)
