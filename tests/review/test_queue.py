"""The order of the queue and the stopping rule, against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cardiometa.review.queue import influence, queue_of


def row(trial: str, person: str, arm: str, sd: str = "", quality: str = "0.9") -> dict[str, str]:
    return {
        "trial": trial,
        "participant_id": person,
        "arm": arm,
        "quality": quality,
        "lv_ef_percent_sd": sd,
    }


ROWS = [
    *(row("A", f"a{n}", "active" if n < 2 else "control", sd="2") for n in range(6)),
    *(row("B", f"b{n}", "active" if n < 3 else "control", sd="4") for n in range(6)),
    row("C", "c1", "active", sd="9"),
]


def test_influence_is_the_derivative_of_the_pooled_difference() -> None:
    """Against the pooled mean difference itself, each outcome moved by one."""

    def pooled(values: np.ndarray) -> float:
        effects, weights = [], []
        for trial in ("A", "B"):
            arms = {
                arm: values[[r["trial"] == trial and r["arm"] == arm for r in ROWS]]
                for arm in ("active", "control")
            }
            effects.append(arms["active"].mean() - arms["control"].mean())
            weights.append(1 / sum(1 / len(v) for v in arms.values()))
        return float(np.average(effects, weights=weights))

    base = np.zeros(len(ROWS))
    moved = [abs(pooled(base + np.eye(len(ROWS))[n])) for n in range(len(ROWS))]
    np.testing.assert_allclose(influence(ROWS), moved, atol=1e-12)
    assert influence(ROWS)[-1] == 0  # a trial with one arm has no effect


def test_without_arms_every_participant_weighs_the_same() -> None:
    rows = [row("A", f"{n % 4}", "") for n in range(8)]  # two visits each
    np.testing.assert_allclose(influence(rows), 1 / 4)


def test_the_stopping_rule_is_the_sum_of_what_is_left() -> None:
    queue = queue_of(ROWS, "lv_ef_percent", "%")
    left = [0, 7]
    weights = influence(ROWS)
    worst = 2 * (2 * weights[0] + 4 * weights[7])
    likely = 1.959964 * np.hypot(2 * weights[0], 4 * weights[7])
    text = queue.stopping_rule(left)
    assert text.startswith("2 scans left: errors of 2 SD in all of them")
    assert f"the pooled effect on LV EF by {worst:.2g} percentage points" in text
    assert f"at most {likely:.2g} (95 %)" in text
    assert queue.stopping_rule([]) == "Every scan has been reviewed."


def test_without_sd_doubt_is_one_minus_quality_and_no_effect_is_claimed() -> None:
    rows = [row("A", "1", "", quality="0.9"), row("A", "2", "", quality=""), row("A", "3", "")]
    queue = queue_of(rows, "lv_ef_percent", "%")
    np.testing.assert_allclose(queue.doubt, 0.1)
    assert queue.stopping_rule([0]) == (
        "1 scan left: 33% of all doubt × influence (no SD of LV EF is known)."
    )


@pytest.mark.parametrize("missing", ["", "nan"])
def test_a_scan_without_a_number_is_in_as_much_doubt_as_the_worst(missing: str) -> None:
    queue = queue_of(
        [row("A", "1", "", sd="3"), row("A", "2", "", sd=missing)], "lv_ef_percent", ""
    )
    np.testing.assert_allclose(queue.doubt, 3)
