"""Power and width of `plan` by formula against pooled analyses simulated through the engine.

`nice -n 10 python -m tests.bench.plan_power [SIMULATIONS]` (1,500 by default, about three minutes
of one core). Eight settings: few and many trials, equal and unequal, tau 0 to 2, modifiers as
numbers and as yes and no, with and without an interaction between trials.
"""

from __future__ import annotations

import sys

import numpy as np

from cardiometa.pooling.options import PlanOptions
from cardiometa.pooling.plan import PlannedTrial, plan_rows

# Participants an arm of each trial, tau, difference, interaction and its tau, effect, share.
SETTINGS = (
    ((60, 60, 60), 0.0, 3.0, 2.5, 0.0, "mean-difference", False),
    ((40, 80, 120), 1.0, 4.5, 2.5, 0.0, "mean-difference", False),
    ((50, 50, 50, 50), 1.0, 3.0, 2.0, 0.5, "follow-up", False),
    ((30, 60, 90, 150), 0.0, 2.0, 3.0, 0.0, "mean-difference", True),
    ((40, 60, 80, 100, 120), 1.0, 2.0, 1.2, 0.0, "change", False),
    ((60, 60, 60, 60, 60), 2.0, 3.0, 1.5, 0.0, "mean-difference", False),
    ((35, 45, 60, 80, 100, 120), 1.0, 1.5, 1.0, 0.5, "mean-difference", False),
    ((30, 40, 40, 50, 60, 60, 80, 100), 0.5, 1.2, 2.0, 0.0, "mean-difference", True),
)


def main(simulations: int) -> None:
    print(f"{simulations} simulated analyses a setting; power in percent, formula - simulated")
    print("k   tau  term         interval         formula  simulated  difference  width  simulated")
    worst = []
    for number, (sizes, tau, difference, interaction, spread, effect, share) in enumerate(SETTINGS):
        options = PlanOptions(
            difference=difference,
            interaction=interaction,
            tau_interaction=spread,
            effect=effect,
            simulate=simulations,
            seed=number,
        )
        trials = [
            PlannedTrial(
                trial=f"T{place}",
                n_control=n,
                n_active=n,
                sd=8.0,
                correlation=0.7,
                modifier_variance=0.24 if share else 1.0,
                is_share=share,
            )
            for place, n in enumerate(sizes)
        ]
        for row in plan_rows(trials, tau, options):
            apart = row.power_percent - row.simulated_power_percent
            worst.append(apart)
            print(
                f"{row.k:<3d} {row.tau:<4g} {row.term[-11:]:12s} {row.ci_method:16s} "
                f"{row.power_percent:7.1f} {row.simulated_power_percent:10.1f} {apart:+11.1f} "
                f"{row.width:6.2f} {row.simulated_width:10.2f}",
                flush=True,
            )
    apart = np.abs(worst)
    print(f"largest difference {apart.max():.1f}, within 2 points {np.mean(apart <= 2):.0%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1500)
