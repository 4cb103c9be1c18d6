"""Which key orders the phases, how slices with other phases align, what is flagged as missing."""

from __future__ import annotations

import numpy as np
import pytest

from cardiometa.errors import ImageError
from tests.kit import tiny_dicom as kit


def _only(*keep):
    """Drop every time but these."""

    def change(_z, _t, ds):
        for name in ("TriggerTime", "AcquisitionTime", "AcquisitionDate", "InstanceNumber"):
            if name not in keep:
                delattr(ds, name)

    return change


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("TriggerTime", lambda _ds, _t, _z: None),
        (
            "NominalCardiacTriggerDelayTime",
            lambda ds, t, _z: setattr(ds, "NominalCardiacTriggerDelayTime", 40.0 * t),
        ),
        ("TemporalPosition", lambda ds, t, _z: setattr(ds, "TemporalPositionIdentifier", t + 1)),
        (
            "AcquisitionTime",
            lambda ds, t, z: setattr(ds, "AcquisitionTime", f"1000{z:02d}.{40 * t:03d}"),
        ),
        ("ContentTime", lambda ds, t, z: setattr(ds, "ContentTime", f"1200{z:02d}.{10 * t:03d}")),
        ("InstanceNumber", lambda ds, t, z: setattr(ds, "InstanceNumber", 500 + z + 6 * t)),
    ],
)
def test_each_key_orders_the_phases_alone(tmp_path, key, change):
    rng = np.random.default_rng(2)

    def prepare(z, t, ds):
        keep = key if key in ("TriggerTime", "InstanceNumber", "AcquisitionTime") else ""
        _only(keep)(z, t, ds)
        change(ds, t, z)
        ds.SOPInstanceUID = f"2.25.{rng.integers(10**9)}"

    images = kit.each(kit.tiny(), prepare)
    contents = kit.files(images)
    names = rng.permutation(len(contents))
    kit.put(tmp_path, {f"{n}": d for n, d in zip(names, contents.values(), strict=True)})
    cine = kit.read(tmp_path)
    assert cine.source.time_key == key
    assert kit.which(cine) == kit.EVERYTHING
    cardiac = key in ("TriggerTime", "NominalCardiacTriggerDelayTime")
    assert np.isfinite(cine.frame_times_ms).all() == cardiac
    timed = cardiac or key == "AcquisitionTime"
    assert cine.source.frame_ms == (pytest.approx(40.0) if timed else None)
    assert set(kit.codes(cine)) == (set() if cardiac else {"time-from-order"})


def test_no_time_at_all_is_refused(tmp_path):
    with pytest.raises(ImageError) as caught:
        kit.read_images(tmp_path, kit.each(kit.tiny(), _only()))
    assert caught.value.code == "ambiguous-phases"


@pytest.mark.parametrize(
    "trigger",
    [
        lambda _z, _t: 0.0,
        lambda z, t: 9000.0 * z + 40.0 * t,
        lambda z, t: float(np.random.default_rng(z * 20 + t).uniform(0, 800)),
    ],
    ids=["constant", "runs on from slice to slice", "random"],
)
def test_trigger_times_that_are_none_give_way(tmp_path, trigger):
    def change(z, t, ds):
        ds.TriggerTime = f"{trigger(z, t):.3f}"
        ds.TemporalPositionIdentifier = t + 1

    cine = kit.read_images(tmp_path, kit.each(kit.tiny(), change))
    assert cine.source.time_key == "TemporalPosition"
    assert kit.which(cine) == kit.EVERYTHING


def test_running_trigger_times_still_tell_the_frame_length(tmp_path):
    def change(z, t, ds):
        ds.TriggerTime = f"{9000.0 * z + 40.0 * t:.3f}"
        ds.TemporalPositionIdentifier = t + 1

    assert kit.read_images(tmp_path, kit.each(kit.tiny(), change)).source.frame_ms == pytest.approx(
        40.0
    )


def test_shuffled_instance_numbers_do_not_disturb_trigger_times(tmp_path):
    order = np.random.default_rng(4).permutation(120)

    def change(z, t, ds):
        ds.InstanceNumber = int(order[20 * z + t])

    cine = kit.read_images(tmp_path, kit.each(kit.tiny(), change))
    assert cine.source.time_key == "TriggerTime"
    assert kit.which(cine) == kit.EVERYTHING


def test_malformed_times_are_as_absent(tmp_path):
    def change(_z, _t, ds):
        ds.add_new(0x00181060, "LO", "1,25 s")
        ds.AcquisitionTime = ""

    cine = kit.read_images(tmp_path, kit.each(kit.tiny(), change))
    assert cine.source.time_key == "InstanceNumber"


# ------------------------------------------------------------------ heart rate


@pytest.mark.parametrize(
    ("interval", "rate", "rr_ms"),
    [(750, 90, 750.0), (None, 75, 800.0), (0, 75, 800.0), (0, 0, None), (99999, None, None)],
)
def test_heart_rate_from_nominal_interval_then_heart_rate(tmp_path, interval, rate, rr_ms):
    def change(_z, _t, ds):
        del ds.NominalInterval
        if interval is not None:
            ds.NominalInterval = interval
        if rate is not None:
            ds.HeartRate = rate

    source = kit.read_images(tmp_path, kit.each(kit.tiny(), change)).source
    assert source.rr_ms == rr_ms
    assert source.heart_rate_bpm == (None if rr_ms is None else pytest.approx(60000 / rr_ms))


def test_prospective_is_flagged_below_ninety_percent(tmp_path):
    for share, expected in ((0.85, {"prospective"}), (0.95, set())):

        def change(_z, t, ds, share=share):
            ds.TriggerTime = f"{share * 40.0 * t:.3f}"

        cine = kit.read_images(tmp_path / str(share), kit.each(kit.tiny(), change))
        assert set(kit.codes(cine)) == expected


# ------------------------------------------------------------------ missing and other phases


def test_a_missing_frame_is_flagged_and_shown_by_its_neighbour(tmp_path):
    images = kit.tiny()
    del images[3, 7]
    cine = kit.read_images(tmp_path, images)
    assert kit.codes(cine) == {"missing-frames": "review"}
    assert "1 frames are missing" in cine.source.flags[0].sentence
    got = kit.which(cine)
    assert got[7][3] in ((3, 6), (3, 8))
    others = [(z, t) for z in range(6) for t in range(20) if (z, t) != (3, 7)]
    assert all(got[t][z] == (z, t) for z, t in others)


@pytest.mark.parametrize("gone", [0, 19])
def test_a_frame_missing_at_either_end_is_flagged(tmp_path, gone):
    images = kit.tiny()
    del images[3, gone]
    cine = kit.read_images(tmp_path, images)
    assert kit.codes(cine) == {"missing-frames": "review"}
    assert kit.which(cine)[gone][3][0] == 3
    assert kit.which(cine)[10] == [(z, 10) for z in range(6)]


def test_a_phase_missing_in_all_slices_is_flagged(tmp_path):
    images = {key: ds for key, ds in kit.tiny(kit.Shape(phases=25)).items() if key[1] != 11}
    cine = kit.read_images(tmp_path, images)
    assert len(cine.pixels) == 24
    assert kit.codes(cine) == {"missing-frames": "review"}


@pytest.mark.parametrize("name", ["InstanceNumber", "TriggerTime"])
def test_missing_frames_are_seen_whatever_the_key(tmp_path, name):
    images = kit.each(kit.tiny(), _only(name))
    del images[2, 5]
    assert kit.codes(kit.read_images(tmp_path, images))["missing-frames"] == "review"


def test_slices_with_other_phases_align_by_fraction_of_rr(tmp_path):
    images = {key: ds for key, ds in kit.tiny().items() if key[0] != 2}
    other = {k: ds for k, ds in kit.tiny(kit.Shape(phases=30, rr_ms=900)).items() if k[0] == 2}
    cine = kit.read_images(tmp_path, [*images.values(), *other.values()])
    assert cine.pixels.shape[:2] == (20, 6)
    assert kit.codes(cine) == {"phase-mismatch": "info"}
    for t, phase in enumerate(kit.which(cine)):
        z, own = phase[2]
        assert z == 2
        assert abs(own / 30 - t / 20) <= 0.5 / 30 + 1e-9


def test_equal_counts_at_other_heart_rates_are_no_mismatch(tmp_path):
    images = {key: ds for key, ds in kit.tiny().items() if key[0] != 2}
    other = {k: ds for k, ds in kit.tiny(kit.Shape(rr_ms=1000)).items() if k[0] == 2}
    cine = kit.read_images(tmp_path, [*images.values(), *other.values()])
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.codes(cine) == {"heart-rate-varies": "review"}


def test_a_slice_without_an_interval_keeps_its_phases(tmp_path):
    """800 of 1200 ms are imaged: a slice scaled by its own span would be stretched by a half."""

    def change(z, _t, ds):
        ds.NominalInterval = 1200
        if z == 2:
            del ds.NominalInterval

    cine = kit.read_images(tmp_path, kit.each(kit.tiny(), change))
    assert kit.which(cine) == kit.EVERYTHING
    assert kit.codes(cine) == {"prospective": "info"}


def test_declared_number_of_phases_is_only_compared(tmp_path):
    cine = kit.read_images(
        tmp_path, kit.each(kit.tiny(), lambda _z, _t, ds: setattr(ds, "CardiacNumberOfImages", 30))
    )
    assert kit.codes(cine) == {"phase-count": "info"}
    assert len(cine.pixels) == 20


def test_undecodable_frames_are_missing_frames(tmp_path, images):
    contents = kit.files(images)
    # Compressed by name, but the pixels are not: the header is sound, the decoder fails.
    contents["00047"] = contents["00047"].replace(
        b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"
    )
    kit.put(tmp_path, contents)
    cine = kit.read(tmp_path)
    assert kit.left(cine) == {"undecodable": 1}
    assert kit.codes(cine) == {"missing-frames": "review", "lost-images": "review"}
    assert cine.source.files == 119


def test_rounded_trigger_times_give_way_to_another_key(tmp_path):
    def change(_z, t, ds):
        # Two phases share a rounded time: the key is not unique, and nothing is a repeat.
        ds.TriggerTime = str(max(0, t - 1) * 40)

    cine = kit.read_images(tmp_path, kit.each(kit.tiny(), change))
    assert cine.source.time_key == "InstanceNumber"
    assert kit.which(cine) == kit.EVERYTHING


def test_a_slice_triggered_later_aligns_by_fraction(tmp_path):
    def change(z, t, ds):
        if z == 2:
            ds.TriggerTime = f"{40.0 * t + 160.0:.3f}"

    cine = kit.read_images(tmp_path, kit.each(kit.tiny(), change))
    got = kit.which(cine)
    assert cine.source.time_key == "TriggerTime"
    assert [got[t][2][1] for t in range(4, 20)] == list(range(16))
    assert kit.codes(cine) == {"phase-mismatch": "info"}


def test_fewer_phases_without_trigger_times_are_reviewed(tmp_path):
    images = kit.each(kit.tiny(), _only("InstanceNumber"))
    del images[2, 19]
    assert kit.codes(kit.read_images(tmp_path, images))["phase-mismatch"] == "review"
