"""Mantel-Haenszel pooling of 2 × 2 tables: needs no correction of empty cells.

Variances: odds ratio Robins, Breslow & Greenland (1986), risk ratio Greenland & Robins (1985), risk
difference Sato, Greenland & Robins (1989). One common effect. With few events inverse-variance
weights come from the same few events as the estimates; these do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...statistics.meta import t_interval
from ..options import PoolingOptions
from ..results import EffectRow, Study
from .two_stage import interval_cells, total

MANTEL_HAENSZEL = "Mantel-Haenszel, common effect, no cell corrected"
UNADJUSTED = "covariates not used"
_RARE = 0.01


def tables_of(studies: Sequence[Study]) -> np.ndarray:
    """``[k, 4]``: events and people of the active arm, events and people of the control."""
    known = [
        (s.events_active, s.n_active, s.events_control, s.n_control)
        for s in studies
        if s.events_active is not None and s.n_active and s.n_control
    ]
    return np.array(known, dtype=float).reshape(-1, 4)


def is_sparse(studies: Sequence[Study]) -> bool:
    """True where at least half of the trials have an arm without events, or events are rare."""
    tables = tables_of(studies)
    if not len(tables):
        return False
    a, n1, c, n2 = tables.T
    empty = (a == 0) | (c == 0)
    return bool(2 * empty.sum() >= len(tables) or (a + c).sum() < _RARE * (n1 + n2).sum())


def mantel_haenszel(tables: np.ndarray, effect: str) -> tuple[float, float] | None:
    """Estimate (ratios: log) and standard error; None where no table says anything."""
    a, n1, c, n2 = tables.T
    n = n1 + n2
    if effect == "risk-difference":
        weight = (n1 * n2 / n).sum()
        estimate = float((a * n2 / n - c * n1 / n).sum() / weight)
        # Sato, Greenland & Robins 1989.
        b, d = n1 - a, n2 - c
        p = (c * (n1 / n) ** 2 - a * (n2 / n) ** 2 + (n1 / n) * (n2 / n) * (n2 - n1) / 2).sum()
        q = ((a * d + b * c) / n / 2).sum()
        variance = (estimate * p + q) / weight**2
        return (estimate, float(np.sqrt(variance))) if variance > 0 else None
    b, d = n1 - a, n2 - c
    if effect == "odds-ratio":
        r, s = a * d / n, b * c / n
        if r.sum() == 0 or s.sum() == 0:
            return None
        p, q = (a + d) / n, (b + c) / n
        variance = (
            (p * r).sum() / (2 * r.sum() ** 2)
            + (p * s + q * r).sum() / (2 * r.sum() * s.sum())
            + (q * s).sum() / (2 * s.sum() ** 2)
        )
        return float(np.log(r.sum() / s.sum())), float(np.sqrt(variance))
    r, s = a * n2 / n, c * n1 / n
    if r.sum() == 0 or s.sum() == 0:
        return None
    variance = ((n1 * n2 * (a + c) - a * c * n) / n**2).sum() / (r.sum() * s.sum())
    return float(np.log(r.sum() / s.sum())), float(np.sqrt(variance))


def mantel_haenszel_row(studies: Sequence[Study], options: PoolingOptions) -> EffectRow | None:
    """The row of the pooled 2 × 2 tables of one arm; None where there are fewer than two."""
    usable = [s for s in studies if s.events_active is not None and s.n_active and s.n_control]
    if options.effect != "risk-difference":
        usable = [s for s in usable if (s.events_active or 0) + (s.events_control or 0) > 0]
    if len(usable) < 2:
        return None
    found = mantel_haenszel(tables_of(usable), options.effect)
    if found is None:
        return None
    interval = t_interval(*found, float("inf"), options.level)
    return EffectRow(
        analysis="pooled",
        outcome=options.outcome,
        effect=options.effect,
        arm=usable[0].arm,
        control=usable[0].control,
        n_control=total([s.n_control for s in usable]),
        n_active=total([s.n_active for s in usable]),
        **interval_cells(found[0], interval, options),
        tau2=0.0,
        k=len(usable),
        tau2_method="fe",
        variant="mantel-haenszel",
        label=MANTEL_HAENSZEL,
        note="; ".join(
            [f"sensitivity: {MANTEL_HAENSZEL}", *([UNADJUSTED] if options.adjust else [])]
        ),
    )
