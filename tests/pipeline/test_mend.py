"""What a reader's mask does to flags and measures, on hearts of discs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cardiometa.flags import raised, status_of
from cardiometa.measurement.measure import measure_scan
from cardiometa.pipeline.corrections import (
    ACCEPTED,
    CORRECTED,
    FAR,
    PHASE_KEPT,
    UNCHANGED,
    apply_correction,
)
from cardiometa.pipeline.result_file import finished_document
from cardiometa.records import BodySize, Flag, ScanKey
from tests.kit.labelled import cine_of, disc_heart, labelled

KEY = ScanKey(trial="A", participant="1", visit="v")
GEOMETRY = Flag(code="irregular-gaps", level="review", sentence="Gaps.")


def model_of(cine, labels, *flags: Flag) -> tuple[np.ndarray, dict]:
    stack = labelled(labels, flags)
    stack = replace(stack, confidence=np.full(labels.shape[:2], 0.9, dtype=np.float32))
    measured = measure_scan(cine, stack, BodySize(), "mosteller")
    document = finished_document(
        key=KEY,
        status=status_of(measured.flags),
        options={},
        cine=cine,
        labels=stack,
        measured=measured,
    )
    return labels, document


def mended_by(change, *flags: Flag, labels: np.ndarray | None = None):
    own = disc_heart() if labels is None else labels
    cine = cine_of(own, flags=(GEOMETRY,))
    drawn = own.copy()
    change(drawn)
    return apply_correction(cine, drawn, model_of(cine, own, *flags), BodySize(), "mosteller")


def codes(mended) -> set[str]:
    return {flag.code for flag in mended.flags}


def values(mended) -> dict:
    return {m.name: m.value for m in mended.measured.measures}


def without_rv(labels: np.ndarray) -> None:
    labels[labels == 3] = 0


def one_pixel(labels: np.ndarray) -> None:
    labels[0, 4, 48, 56] = 2


MUCH = Flag(code="labels-cleaned-much", level="review", sentence="Much was removed.")
LOST = Flag(code="heart-not-found", level="review", sentence="Not found.")


def test_flags_of_the_models_labels_go_and_those_of_the_images_stay() -> None:
    found = codes(mended_by(one_pixel, MUCH, LOST))
    assert {CORRECTED, GEOMETRY.code} <= found
    assert not found & {MUCH.code, LOST.code}


def test_a_mask_of_another_heart_is_to_be_looked_at() -> None:
    def elsewhere(labels: np.ndarray) -> None:
        labels[:] = np.roll(labels, 40, axis=2)

    assert FAR in codes(mended_by(elsewhere))
    assert FAR not in codes(mended_by(without_rv))


def basal(labels: np.ndarray, frames: list[int]) -> None:
    """One more slice at the base, as large as the one below it."""
    for frame in frames:
        labels[frame, 0] = labels[frame, 1]


def test_es_stays_at_the_frame_that_was_mended() -> None:
    """Two frames of twenty get a basal slice: the least volume is then in one beside them."""
    own = disc_heart()
    mended = mended_by(lambda labels: basal(labels, [0, 8]))
    told = [flag for flag in mended.flags if flag.code == PHASE_KEPT]
    assert [flag.level for flag in told] == ["info"]
    assert "LV end-systole at frame 8 (the curve's extreme is frame" in told[0].sentence
    found = values(mended)
    assert (found["ed_frame"], found["es_frame"]) == (0, 8)
    assert mended.measured.es_frame == 8
    assert mended.correction["phases_kept"]["es_frame"] == 8
    per_voxel = 1.5 * 1.5 * 10 / 1000
    for name, frame in (("lv_edv_ml", 0), ("lv_esv_ml", 8)):
        drawn = (own[frame] == 1).sum() + (own[frame, 1] == 1).sum()
        assert found[name] == pytest.approx(drawn * per_voxel)
    assert (found["rv_ed_frame"], found["rv_es_frame"]) == (0, 8)


def test_a_mended_frame_that_looks_like_a_spike_is_kept_all_the_same() -> None:
    """A leak into the atrium is taken off at ED alone: its neighbours still leak."""

    def leaking(labels: np.ndarray) -> None:
        for frame in range(20):
            labels[frame, 0] = np.where(labels[0, 1] == 1, 1, labels[frame, 0])

    leak = disc_heart()
    leaking(leak)

    def mend_ed(labels: np.ndarray) -> None:
        labels[0, 0] = 0

    mended = mended_by(mend_ed, labels=leak)
    assert values(mended)["ed_frame"] == 0
    assert values(mended)["lv_slices_ed"] == 7
    spike = [flag for flag in mended.flags if flag.code == "curve-spike"]
    assert not any("(0)" in flag.sentence for flag in spike)


def test_nothing_is_told_when_every_frame_is_mended() -> None:
    mended = mended_by(lambda labels: basal(labels, list(range(20))))
    assert PHASE_KEPT not in codes(mended)
    assert (values(mended)["ed_frame"], values(mended)["es_frame"]) == (0, 8)


def test_a_phase_that_moves_onto_a_mended_frame_is_the_readers_wish() -> None:
    def smaller(labels: np.ndarray) -> None:
        labels[9][labels[9] == 1] = 0
        labels[9, 3:6, 46:50, 54:58] = 1

    assert PHASE_KEPT not in codes(mended_by(smaller))


def test_predicted_dice_and_its_flags_are_the_models_alone() -> None:
    mended = mended_by(one_pixel, raised("low-quality", value=0.8))
    assert values(mended)["quality"] is None
    assert mended.labels.quality is None
    assert "low-quality" not in codes(mended)


@pytest.mark.parametrize("rejected", [True, False])
def test_an_empty_mask_is_a_failed_scan_and_the_same_mask_no_correction(rejected: bool) -> None:
    if rejected:
        mended = mended_by(lambda labels: labels.fill(0))
        assert status_of(mended.flags) == "failed"
        assert {CORRECTED, "lv-missing"} <= codes(mended)
    else:
        mended = mended_by(lambda _: None)
        assert {ACCEPTED} <= codes(mended)
        assert UNCHANGED not in codes(mended)
        assert (mended.measured, mended.document["status"]) == (None, "ok")
