"""Measures of masks that both drew: formulas by hand, phases, contoured slices, label orders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiometa.evaluation.overlap import (
    CONTOURED,
    STRUCTURES,
    ManualPhase,
    ManualScan,
    ModelScan,
    likely_order,
    masks_of,
    overlaps,
    pairs,
    surface,
)

SHAPE = (6, 20, 20)
VOXEL_ML = 1.5 * 2.0 * 8.0 / 1000


def heart(lv: int, wall: int = 3, rv: int = 4, slices: range = range(1, 5)) -> np.ndarray:
    """Labels ``[z, y, x]`` of a square LV inside a square wall, with an RV next to it."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for z in slices:
        labels[z, 2 : 2 + lv + 2 * wall, 2 : 2 + lv + 2 * wall] = 2
        labels[z, 2 + wall : 2 + wall + lv, 2 + wall : 2 + wall + lv] = 1
        labels[z, 4:12, 2 + lv + 2 * wall : 2 + lv + 2 * wall + rv] = 3
    return labels


def model(**changes: object) -> ModelScan:
    labels = np.stack([heart(6), heart(4), heart(5)])
    values = {
        "labels": labels,
        "spacing_mm": (1.5, 2.0),
        "slice_distance_mm": 8.0,
        "ed_frame": 0,
        "es_frame": 1,
        "measures": {
            "lv_edv_ml": 40.0, "lv_esv_ml": 15.0, "lv_sv_ml": 25.0, "lv_ef_percent": 62.5,
            "lv_mass_g": None, "rv_edv_ml": 70.0, "rv_esv_ml": 30.0, "rv_sv_ml": 40.0,
        },
        "rv_at_lv_phases": {},
        **changes,
    }  # fmt: skip
    return ModelScan(**values)


def drawn(phase: str, labels: np.ndarray, frame: int | None = None, **more: object) -> ManualPhase:
    return ManualPhase(phase=phase, frame=frame, masks=masks_of(labels, "cardiometa"), **more)


def by_measure(scan: ModelScan, manual: ManualScan) -> dict[str, tuple[float, float]]:
    return {p.measure: (p.model, p.reference) for p in pairs(scan, manual)}


def test_a_reader_s_measures_are_counted_voxels() -> None:
    ed, es = heart(7), heart(4)
    found = by_measure(model(), ManualScan(phases=(drawn("ED", ed), drawn("ES", es))))
    edv, esv = (float((labels == 1).sum()) * VOXEL_ML for labels in (ed, es))
    assert found["lv_edv_ml"] == (40.0, pytest.approx(edv))
    assert found["lv_esv_ml"] == (15.0, pytest.approx(esv))
    assert found["lv_sv_ml"] == (25.0, pytest.approx(edv - esv))
    assert found["lv_ef_percent"] == (62.5, pytest.approx(100 * (edv - esv) / edv))
    # The model has no mass and no RV ejection fraction here.
    assert set(found) == {
        *("lv_edv_ml", "lv_esv_ml", "lv_sv_ml", "lv_ef_percent"),
        *("rv_edv_ml", "rv_esv_ml", "rv_sv_ml"),
    }


def test_the_mass_is_the_wall_times_its_density() -> None:
    ed = heart(7)
    scan = model(measures={"lv_mass_g": 100.0})
    found = by_measure(scan, ManualScan(phases=(drawn("ED", ed),)))
    wall = float((ed == 2).sum()) * VOXEL_ML
    assert found == {"lv_mass_g": (100.0, pytest.approx(1.05 * wall))}


def test_one_phase_alone_has_no_stroke_volume() -> None:
    found = by_measure(model(), ManualScan(phases=(drawn("ES", heart(4)),)))
    assert set(found) == {"lv_esv_ml", "rv_esv_ml"}


def test_the_rv_is_that_of_the_lv_s_phases_unless_it_was_rejected() -> None:
    at_lv = {"rv_edv_ml": 66.0, "rv_esv_ml": 33.0}
    manual = ManualScan(phases=(drawn("ED", heart(7)), drawn("ES", heart(4))))
    found = by_measure(model(rv_at_lv_phases=at_lv), manual)
    assert [found[n][0] for n in ("rv_edv_ml", "rv_esv_ml", "rv_sv_ml")] == [66.0, 33.0, 33.0]
    rejected = model(
        rv_at_lv_phases=at_lv, measures={"rv_edv_ml": None, "rv_esv_ml": 30.0, "rv_sv_ml": None}
    )
    assert set(by_measure(rejected, manual)) == {"rv_esv_ml"}


def test_volumes_of_irregular_gaps_are_not_compared_but_their_masks_are() -> None:
    scan = model(even_slices=False)
    manual = ManualScan(phases=(drawn("ED", heart(6)), drawn("ES", heart(4))))
    assert pairs(scan, manual) == []
    assert {found.dice for found in overlaps(scan, manual)} == {1.0}


def test_contours_are_compared_on_their_slices_and_frames() -> None:
    slices = {"lv_cavity": np.array([2, 3])}
    phases = tuple(
        ManualPhase(
            phase=phase,
            frame=frame,
            masks={"lv_cavity": heart(7) == 1},
            slices=slices,
            volumes_ml={"lv_cavity": volume},
        )
        for phase, frame, volume in (("ED", 2, 9.0), ("ES", 1, 4.5))
    )
    manual = ManualScan(phases=phases, scope=CONTOURED)
    found = by_measure(model(), manual)
    assert found["lv_edv_ml"] == (pytest.approx(2 * 5**2 * VOXEL_ML), 9.0)
    assert found["lv_esv_ml"] == (pytest.approx(2 * 4**2 * VOXEL_ML), 4.5)
    assert found["lv_ef_percent"] == (pytest.approx(100 * (1 - 16 / 25)), 50.0)
    rows = list(overlaps(model(), manual))
    assert [(r.frame, r.frame_source, r.slices) for r in rows] == [
        (2, "reference", 2), (1, "reference", 2),
    ]  # fmt: skip
    assert [r.dice for r in rows] == [
        pytest.approx(2 * side**2 / (side**2 + 49)) for side in (5, 4)
    ]


def test_labels_without_a_frame_are_compared_at_the_model_s_phases() -> None:
    manual = ManualScan(phases=(drawn("ED", heart(6)), drawn("ES", heart(4))))
    rows = list(overlaps(model(), manual))
    assert {(r.phase, r.frame, r.frame_source) for r in rows} == {
        ("ED", 0, "model"), ("ES", 1, "model"),
    }  # fmt: skip
    assert [r.structure for r in rows[:3]] == list(STRUCTURES)


@pytest.mark.parametrize("order", ["cardiometa", "acdc"])
def test_the_order_of_labels_is_seen_from_the_cavity_inside_the_wall(order: str) -> None:
    ours = heart(6)
    numbered = ours if order == "cardiometa" else np.array([0, 3, 2, 1], dtype=np.uint8)[ours]
    assert likely_order(numbered) == order
    masks = masks_of(numbered, order)
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {
        name: int((ours == label).sum()) for name, label in STRUCTURES.items()
    }


def test_the_order_is_not_guessed_where_a_cavity_is_missing_or_both_are_alike() -> None:
    assert likely_order(np.where(heart(6) == 3, 0, heart(6))) is None
    alike = np.zeros(SHAPE, dtype=np.uint8)
    alike[2, 3:6, 3:6], alike[2, 3:6, 10:13] = 1, 3
    assert likely_order(alike) is None


@given(st.integers(0, 2**32 - 1), st.floats(0.2, 0.95))
@settings(max_examples=40, deadline=None)
def test_a_surface_voxel_has_a_face_on_the_outside(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((3, 5, 4)) < share
    found = surface(mask)
    padded = np.pad(mask, 1)
    for z, y, x in np.ndindex(mask.shape):
        faces = [
            padded[z + 1 + dz, y + 1 + dy, x + 1 + dx]
            for dz, dy, dx in (
                (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1),
            )
        ]  # fmt: skip
        assert found[z, y, x] == (mask[z, y, x] and not all(faces))
