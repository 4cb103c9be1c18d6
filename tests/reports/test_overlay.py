from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cardiometa.reports.figures.overlay import (
    ENDO_COLOUR,
    EPI_COLOUR,
    RV_COLOUR,
    base_to_apex,
    crop_window,
    gallery_picture,
    outlines,
    overlay_png,
    resampled,
)
from tests.kit.data import shared_data


def disc(shape, centre, radius_mm, spacing):
    y, x = np.indices(shape)
    return np.hypot((y - centre[0]) * spacing[0], (x - centre[1]) * spacing[1]) <= radius_mm


def heart(slices=9, spacing=(1.4, 1.4), shape=(120, 110)):
    """Labels ``[2, z, y, x]`` that taper from slice 0 to the last."""
    labels = np.zeros((2, slices, *shape), dtype=np.uint8)
    middle = (shape[0] / 2, shape[1] / 2)
    for z in range(slices):
        size = 1 - 0.6 * z / slices
        for phase, squeeze in enumerate((1.0, 0.7)):
            right = disc(shape, (middle[0], middle[1] - 32 / spacing[1]), 17 * size, spacing)
            epi = disc(shape, middle, 34 * size, spacing)
            endo = disc(shape, middle, 24 * size * squeeze, spacing)
            labels[phase, z][right] = 3
            labels[phase, z][epi] = 2
            labels[phase, z][endo] = 1
    pixels = np.random.default_rng(1).normal(100, 5, labels.shape).astype(np.float32)
    pixels += labels * 50
    return pixels, labels


def picture(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def near(image, colour):
    """Pixels of nearly that colour above the legend."""
    return (np.abs(image[:-26] - np.array(colour)).sum(axis=2)) < 60


def test_png_is_the_same_twice_and_holds_no_text_or_time():
    pixels, labels = heart()
    png = overlay_png(pixels, labels, 0, 1, (1.4, 1.4))
    assert png == overlay_png(pixels, labels, 0, 1, (1.4, 1.4))
    for chunk in (b"tEXt", b"iTXt", b"tIME"):
        assert chunk not in png


def test_workers_that_draw_overlays_load_no_matplotlib_pandas_or_torch():
    code = (
        "import sys, cardiometa.reports.figures.overlay\n"
        "print(sorted({'matplotlib', 'pandas', 'torch', 'scipy', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_each_structure_has_its_colour_and_only_where_it_is_labelled():
    pixels, labels = heart()
    whole = picture(overlay_png(pixels, labels, 0, 1, (1.4, 1.4)))
    for colour in (ENDO_COLOUR, EPI_COLOUR, RV_COLOUR):
        assert near(whole, colour).sum() > 500
    no_right = np.where(labels == 3, 0, labels)
    image = picture(overlay_png(pixels, no_right, 0, 1, (1.4, 1.4)))
    assert near(image, RV_COLOUR).sum() == 0
    assert near(image, EPI_COLOUR).sum() > 500


def test_unequal_spacing_leaves_circles_round():
    spacing = (2.4, 1.2)
    labels = np.zeros((2, 1, 80, 160), dtype=np.uint8)
    labels[:, 0] = disc((80, 160), (40, 80), 40, spacing)
    image = picture(overlay_png(np.zeros(labels.shape), labels, 0, 1, spacing))
    ed = near(image, ENDO_COLOUR)[:230, 34:]
    rows, columns = np.nonzero(ed)
    assert abs(np.ptp(rows) / np.ptp(columns) - 1) < 0.04
    window = crop_window(labels, spacing)
    assert window.size_mm[0] == pytest.approx(window.size_mm[1], rel=0.05)


def test_contour_lies_on_the_edge_of_the_mask():
    mask = np.zeros((1, 30, 30), dtype=bool)
    mask[0, :, 12:] = True
    opacity = outlines(mask, 300, 300)[0]
    line = opacity[150]
    centre = (line * np.arange(300)).sum() / line.sum()
    assert centre == pytest.approx(120 - 0.5, abs=0.6)
    assert 1.0 <= line.sum() <= 2.5


def test_area_inside_a_contour_is_that_of_the_mask():
    mask = disc((60, 60), (30, 28), 20, (1, 1))[None]
    line = outlines(mask, 600, 600)[0]
    rows, columns = np.nonzero(line > 0.5)
    radius = np.hypot(rows - 304.5, columns - 284.5)
    # Half a pixel of the source is 5 here: the disc's staircase is smoothed, not moved.
    assert radius.mean() == pytest.approx(10 * np.sqrt(mask.sum() / np.pi), abs=2)
    assert radius.std() < 4


def test_a_single_voxel_is_outlined_and_an_empty_mask_is_not():
    mask = np.zeros((2, 20, 20), dtype=bool)
    mask[0, 10, 10] = True
    opacity = outlines(mask, 200, 200)
    assert opacity[0].max() == 1
    assert opacity[1].max() == 0


def test_resampling_keeps_a_constant_and_a_ramp():
    ramp = np.tile(np.arange(40, dtype=float), (1, 30, 1))
    large = resampled(ramp, 90, 120)[0]
    assert resampled(np.full((1, 7, 9), 3.5), 20, 31) == pytest.approx(3.5)
    assert large[45, 30:90] == pytest.approx((np.arange(120)[30:90] + 0.5) / 3 - 0.5, abs=1e-3)


def test_no_segmentation_is_said_and_shown_without_contours():
    pixels, labels = heart()
    empty = picture(overlay_png(pixels, labels * 0, 0, 1, (1.4, 1.4)))
    for colour in (ENDO_COLOUR, EPI_COLOUR, RV_COLOUR):
        assert near(empty, colour).sum() == 0
    assert (empty[-24:, :200] > 200).any()


def test_many_slices_are_wrapped_and_none_is_lost():
    pixels, labels = heart(slices=25)
    tall = picture(overlay_png(pixels, labels, 0, 1, (1.4, 1.4)))
    flat = picture(overlay_png(*(a[:, :7] for a in (pixels, labels)), 0, 1, (1.4, 1.4)))
    assert tall.shape[1] <= 1700
    assert tall.shape[0] > 2 * flat.shape[0]
    side = np.array(tall.shape[:2])
    # 50 tiles of the heart's own grey against a black ground.
    assert (tall.sum(axis=2) > 0).sum() > 0.8 * 50 * ((side[0] - 24) / 6) * ((side[1] - 34) / 9)


def test_base_stands_first_whichever_way_the_stack_runs():
    pixels, labels = heart()
    assert base_to_apex(labels[0])[0] == 0
    assert base_to_apex(labels[0][::-1])[0] == len(labels[0]) - 1
    assert base_to_apex(labels[0] * 0).tolist() == list(range(9))
    ahead = picture(overlay_png(pixels, labels, 0, 1, (1.4, 1.4)))
    back = picture(overlay_png(pixels[:, ::-1], labels[:, ::-1], 0, 1, (1.4, 1.4)))
    # The same picture but for the slices' numbers.
    assert (np.abs(ahead - back).sum(axis=2) > 30).mean() < 0.01


@pytest.mark.parametrize("fill", [0.0, np.nan, np.inf])
def test_odd_pixels_and_tiny_stacks_do_not_fail(fill):
    pixels = np.full((1, 1, 4, 4), fill, dtype=np.float32)
    labels = np.zeros((1, 1, 4, 4), dtype=np.uint8)
    labels[0, 0, 1, 2] = 3
    assert picture(overlay_png(pixels, labels, 0, 0, (1.0, 8.0))).ndim == 3


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match="must be one"):
        overlay_png(np.zeros((1, 2, 4, 4)), np.zeros((1, 3, 4, 4)), 0, 0, (1, 1))


def test_thumbnail_is_small_even_of_noise():
    noise = np.random.default_rng(3).integers(0, 255, (900, 1600, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="PNG")
    small = gallery_picture(buffer.getvalue())
    assert len(small.jpeg) <= 150_000
    assert small.contours is None  # an overlay of an earlier version
    assert small == gallery_picture(buffer.getvalue())
    pixels, labels = heart()
    whole = overlay_png(pixels, labels, 0, 1, (1.4, 1.4))
    clear = gallery_picture(whole)
    width = min(1300, picture(whole).shape[1])
    assert Image.open(io.BytesIO(clear.jpeg)).width == width
    assert len(clear.contours) < 60_000


def test_contours_of_the_gallery_can_be_taken_off():
    """Without them the picture is that of the same heart without labels; with them the overlay."""
    pixels, labels = heart()
    png = overlay_png(pixels, labels, 0, 1, (1.4, 1.4))
    found = gallery_picture(png, width=5000, most_bytes=10_000_000)
    plain = picture(found.jpeg)
    for colour in (ENDO_COLOUR, EPI_COLOUR, RV_COLOUR):
        assert near(plain, colour).sum() == 0
    layer = Image.open(io.BytesIO(found.contours)).convert("RGBA")
    both = Image.alpha_composite(Image.fromarray(plain.astype(np.uint8)).convert("RGBA"), layer)
    difference = abs(np.asarray(both.convert("RGB")).astype(int) - picture(png))
    assert np.percentile(difference, 99) < 40  # JPEG, and 24 colours
    bare = picture(overlay_png(pixels, np.where(labels > 0, 2, 0), 0, 1, (1.4, 1.4)))
    same = near(bare, EPI_COLOUR)[:, :]
    assert np.percentile(abs(plain - bare)[:-26][~same], 99) < 40


@pytest.mark.data
@pytest.mark.parametrize("patient", ["patient001", "patient005", "patient007", "patient047"])
def test_base_stands_first_in_real_hearts(patient):
    import nibabel as nib

    folder = shared_data() / "acdc" / patient
    image = nib.load(folder / f"{patient}_ED_gt.nii.gz")
    labels = np.array([0, 3, 2, 1], dtype=np.uint8)[
        np.asarray(image.dataobj).astype(int).transpose(2, 1, 0)
    ]
    order = base_to_apex(labels)
    right = (labels == 3).sum(axis=(1, 2))[order]
    apex = (labels > 0).sum(axis=(1, 2))[order]
    filled = np.flatnonzero(apex)
    assert apex[filled[0]] > apex[filled[-1]]
    assert right[: len(right) // 2].sum() > right[len(right) // 2 :].sum()
