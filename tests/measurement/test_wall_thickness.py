"""Wall thickness, motion and strain against phantoms in closed form, and the experts' hearts."""

from functools import cache

import numpy as np
import pytest

from cardiometa.measurement.measure import measure_scan
from cardiometa.measurement.wall_thickness import SEGMENTS, measure_wall
from cardiometa.phantom.heart import HeartMotion, HeartPhantom, HeartShape, ellipsoid_profile
from cardiometa.phantom.image import CineGrid, PhantomCine, render
from cardiometa.records import BodySize
from tests.kit.labelled import cine_of, expert_pairs, labelled

HEARTS = {
    "normal": (HeartPhantom(), {}),
    "hypertrophic, mirrored grid": (
        HeartPhantom(seed=3, lv_mass_g=200, lv_edv_ml=120, lv_ef_percent=70),
        {"flip_columns": True, "apex_first": True},
    ),
    "dilated, turned": (
        HeartPhantom(seed=5, lv_mass_g=160, lv_edv_ml=260, lv_ef_percent=30),
        {"in_plane_deg": 70.0},
    ),
}


@cache
def drawn(name: str) -> PhantomCine:
    phantom, grid = HEARTS[name]
    return render(phantom, CineGrid(frames=2, slices=11, **grid))


def wall_of(cine: PhantomCine, labels: np.ndarray | None = None):
    base = "last" if cine.grid.apex_first else "first"
    labels = cine.labels if labels is None else labels
    return measure_wall(labels, (2.0, 2.0), cine.grid.affine_ras, base)


def truth(cine: PhantomCine) -> tuple[np.ndarray, np.ndarray]:
    """Equal-area radii of cavity and wall by phase and slice from base to apex, ``[2, z]``."""
    motion = HeartMotion(cine.phantom, HeartShape(cine.phantom), 2)
    below = np.sort(cine.grid.long_axis_mm) - motion.base_mm[:, np.newaxis]
    inner = motion.endo_mm[:, np.newaxis] * ellipsoid_profile(
        below / motion.endo_length_mm[:, np.newaxis]
    )
    outer = motion.epi_mm[:, np.newaxis] * ellipsoid_profile(
        below / motion.epi_length_mm[:, np.newaxis]
    )
    return inner, outer - inner


@pytest.mark.parametrize("name", HEARTS)
def test_thickness_motion_and_strain_of_known_hearts(name):
    cine = drawn(name)
    wall, (inner, thick) = wall_of(cine), truth(cine)
    shape = HeartShape(cine.phantom)
    used = np.flatnonzero(inner[0] > 0)
    middle = used[np.arange(len(used)) * 3 // len(used) == 1]
    basal = used[np.arange(len(used)) * 3 // len(used) == 0]
    # Six walls: the septum is thicker by what the free wall is thinner.
    for place, segments in ((basal, slice(0, 6)), (middle, slice(6, 12))):
        assert wall.thickness_ed_mm[segments].mean() == pytest.approx(
            thick[0, place].mean(), abs=0.3
        )
    mean = thick[0, middle].mean()
    septal, lateral = wall.thickness_ed_mm[[7, 8]].mean(), wall.thickness_ed_mm[[10, 11]].mean()
    assert septal - lateral == pytest.approx(1.7 * shape.septal_excess * mean, abs=0.5)
    thickest = thick[0, used[:-1]].max() * (1 + abs(shape.septal_excess)) * (1 + shape.ovality)
    assert wall.thickness_max_mm == pytest.approx(thickest, abs=0.5)
    strain = 100 * (inner[1, middle].sum() / inner[0, middle].sum() - 1)
    assert wall.gcs_percent == pytest.approx(strain, abs=0.5)
    thickening = 100 * (thick[1, middle].mean() / mean - 1)
    assert wall.thickening_percent[6:12].mean() == pytest.approx(thickening, abs=3)
    assert wall.radial_motion_mm[6:12].mean() == pytest.approx(
        (inner[0] - inner[1])[middle].mean(), abs=0.3
    )


@pytest.mark.parametrize("name", HEARTS)
def test_segments_lie_where_the_heart_has_them(name):
    """A thick patch painted at a known place of the body is found in its segment."""
    cine = drawn(name)
    across, up = cine.grid.in_plane_mm()
    order = np.argsort(cine.grid.long_axis_mm)
    slices = order[[4, 5]]  # middle third
    septum = HeartShape(cine.phantom).septum_angle
    # Seen with lateral at the right and anterior above: +90 degrees from septum is inferior.
    for turn, segment in ((np.pi - 0.5, "mid inferolateral"), (-np.pi + 0.5, "mid anterolateral")):
        labels = cine.labels.copy()
        towards = np.angle(np.exp(1j * (np.arctan2(up, across) - septum - turn)))
        for z in slices:
            labels[0, z][(labels[0, z] == 1) & (abs(towards) < 0.4)] = 2
        patched = wall_of(cine, labels)
        grown = patched.thickness_ed_mm - wall_of(cine).thickness_ed_mm
        assert SEGMENTS[int(np.nanargmax(grown))] == segment


def test_an_open_ring_or_a_heart_without_rv_has_no_value():
    cine = drawn("normal")
    cut = cine.labels.copy()
    across, _ = cine.grid.in_plane_mm()
    cut[(cut == 2) & (across > -5)] = 0
    wall = wall_of(cine, cut)
    assert np.isnan(wall.thickness_ed_mm).all()
    assert wall.thickness_max_mm is None
    alone = np.where(cine.labels == 3, 0, cine.labels)
    assert wall_of(cine, alone) is None


def test_disease_of_the_experts_hearts_shows():
    """ACDC: hypertrophic walls reach 15 mm in every heart, infarcts thicken less than normal."""
    found: dict[str, list[tuple[float, float]]] = {}
    for pair in expert_pairs()[::2]:
        cine = cine_of(pair.labels, spacing_mm=pair.spacing_mm, slice_mm=pair.slice_mm, pair=True)
        measured = measure_scan(cine, labelled(pair.labels), BodySize(), "mosteller")
        largest = {m.name: m.value for m in measured.measures}["lv_wall_thickness_max_mm"]
        thickening = np.array(measured.details["segments"]["thickening_percent"], dtype=float)
        found.setdefault(pair.reference["group"], []).append((largest, np.nanmean(thickening)))
    means = {group: np.mean(values, axis=0) for group, values in found.items()}
    assert min(largest for largest, _ in found["HCM"]) >= 15
    assert max(largest for largest, _ in found["NOR"]) < 15
    assert means["MINF"][1] < 0.6 * means["NOR"][1]
