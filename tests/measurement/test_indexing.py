"""Body surface area against the check values of the design and against its own formulas."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.errors import InputError, UsageError
from cardiometa.measurement.indexing import FORMULAS, body_surface_area_m2, indexed

# reference-ranges.md 2.1, at 176.5 cm and 77.3 kg.
CHECK_VALUES = {
    "mosteller": 1.9468,
    "dubois": 1.9397,
    "haycock": 1.9546,
    "gehan-george": 1.9580,
    "boyd": 1.9586,
}


@pytest.mark.parametrize("formula", CHECK_VALUES)
def test_check_values(formula):
    assert round(body_surface_area_m2(176.5, 77.3, formula), 4) == CHECK_VALUES[formula]


def test_every_formula_has_a_check_value():
    assert set(FORMULAS) == set(CHECK_VALUES)


def test_obese_short_body_spreads_as_published():
    # DuBois -5.7 %, Boyd +4.5 % against Mosteller at 160 cm and 120 kg (reference-ranges.md 2.1).
    mosteller, dubois, boyd = (
        body_surface_area_m2(160, 120, formula) for formula in ("mosteller", "dubois", "boyd")
    )
    assert round(100 * (dubois / mosteller - 1), 1) == -5.7
    assert round(100 * (boyd / mosteller - 1), 1) == 4.5


def test_default_is_mosteller():
    assert body_surface_area_m2(180, 80) == 2.0


@pytest.mark.parametrize(("height", "weight"), [(None, 80), (180, None), (math.nan, 80)])
def test_unknown_size_gives_no_area(height, weight):
    assert body_surface_area_m2(height, weight) is None


@pytest.mark.parametrize(
    ("height", "weight", "told"),
    [
        (1.76, 77.3, "height: 1.76 cm"),
        (1765, 77.3, "height: 1765 cm"),
        (176.5, 77300, "weight: 77300 kg"),
        (176.5, 0, "weight: 0 kg"),
        (math.inf, 77.3, "height: inf cm"),
    ],
)
def test_wrong_units_are_refused(height, weight, told):
    with pytest.raises(InputError, match=told):
        body_surface_area_m2(height, weight)


def test_all_problems_at_once():
    with pytest.raises(InputError) as caught:
        body_surface_area_m2(1.76, 900)
    assert len(caught.value.problems) == 2


def test_unknown_formula_lists_the_choices_even_without_a_size():
    with pytest.raises(UsageError, match="gehan-george"):
        body_surface_area_m2(None, None, "schlich")


@settings(max_examples=50, deadline=None)
@given(
    formula=st.sampled_from(sorted(FORMULAS)),
    height=st.floats(120, 220),
    weight=st.floats(35, 200),
)
def test_area_grows_with_height_and_weight(formula, height, weight):
    area = body_surface_area_m2(height, weight, formula)
    assert body_surface_area_m2(height + 1, weight, formula) > area
    assert body_surface_area_m2(height, weight + 1, formula) > area
    # A person's surface lies between half and twice the adult mean of 1.9 m².
    assert 0.9 < area < 4


def test_indexed():
    assert indexed(150.0, 2.0) == 75.0
    assert indexed(None, 2.0) is None
    assert indexed(150.0, None) is None
