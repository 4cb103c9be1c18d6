"""What measures can be, and tables that contradict it."""

from __future__ import annotations

import math

import pytest

from cardiometa.cohort.plausibility import LIMITS, possible_values
from cardiometa.measurement.measures import MEASURES


def test_every_measure_has_limits_in_order() -> None:
    assert {measure.name for measure in MEASURES} <= set(LIMITS)
    for name, limits in LIMITS.items():
        low, high = limits.possible
        assert low < limits.plausible[0] < limits.plausible[1] < high, name
        if limits.median is not None:
            assert limits.plausible[0] <= limits.median[0] < limits.median[1], name
            assert limits.median[1] <= limits.plausible[1], name


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_a_cause_explains_a_median_beyond_the_range(name: str) -> None:
    """A median in the wrong unit lies outside the range, so that it is noticed."""
    limits = LIMITS[name]
    if limits.median is None:
        assert not limits.causes
        return
    middle = math.sqrt(limits.median[0] * limits.median[1])
    for factor, _ in limits.causes:
        assert factor > 0
        assert factor != 1
        if not 0.1 < factor < 10:
            assert not limits.median[0] <= middle / factor <= limits.median[1]


def test_possible_values_of_derived_and_unknown_names() -> None:
    assert possible_values("lv_ef_percent") == (0.0, 100.0)
    assert possible_values("reported_lv_edv_ml") == (0.0, math.inf)
    assert possible_values("lv_mass_g_per_height_1.7") == (0.0, math.inf)
    assert possible_values("change_in_ef") == (-math.inf, math.inf)
