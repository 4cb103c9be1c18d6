from __future__ import annotations

import math

import pytest

from cardiometa.measurement.measures import MEASURES
from cardiometa.reports.style import measure_label, measure_name, shown, shown_count, shown_estimate


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (-3.14, 1, "−3.1"),
        (-0.04, 1, "0.0"),
        (0.04, 2, "0.04"),
        (None, 1, "–"),
        (math.nan, 1, "–"),
        (math.inf, 1, "–"),
        (1234.5, 0, "1234"),
        (99.96, 1, "100.0"),
    ],
)
def test_shown(value, decimals, text):
    assert shown(value, decimals) == text


def test_estimate_reads_as_in_a_journal():
    assert shown_estimate(-3.2, -5.11, 1.29) == "−3.2 (−5.1 to 1.3)"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1234, "1234"), (12345, "12\u202f345"), (None, "–"), (-7, "−7")]
)
def test_counts(value, text):
    assert shown_count(value) == text


def test_every_measure_of_the_table_has_a_short_name():
    names = [measure_name(measure.name) for measure in MEASURES]
    assert all("_" not in name for name in names)
    assert len(set(names)) == len(names)


def test_labels():
    assert measure_label("lv_massi_g_m2", "g/m2") == "LV mass index, g/m²"
    assert measure_label("heart_rate_bpm", "1/min") == "Heart rate, beats/min"
    assert measure_label("my_own_thing", "") == "my_own_thing"
