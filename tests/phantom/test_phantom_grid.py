import numpy as np
import pytest

from cardiometa.errors import InputError
from cardiometa.phantom.image import Bssfp, CineGrid, HeartPhantom, render
from tests.kit.orientations import ORIENTATIONS


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_axes_are_orthonormal_and_the_heart_right_handed(name):
    grid = CineGrid(**ORIENTATIONS[name])
    lateral, anterior, apex = grid.heart_axes
    assert np.cross(lateral, anterior) == pytest.approx(apex)
    matrix = np.stack(grid.directions)
    assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-12)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_positions_and_affine_agree(name):
    grid = CineGrid(slices=7, **ORIENTATIONS[name])
    along_row, along_column, _ = grid.directions
    for z in (0, 6):
        here = grid.position_lps_mm(z) + 5 * grid.column_spacing_mm * along_row
        here = here + 9 * grid.row_spacing_mm * along_column
        ras = grid.affine_ras @ [5, 9, z, 1]
        assert ras[:3] * [-1, -1, 1] == pytest.approx(here)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_heart_lies_in_the_same_place_of_the_body_however_it_is_sliced(name):
    heart = HeartPhantom(seed=6)
    common = {"row_spacing_mm": 2.5, "column_spacing_mm": 2.5, "frames": 1}
    plain = centres_ras(render(heart, CineGrid(**common), Bssfp(snr=0)))
    turned = ORIENTATIONS[name]
    here = render(heart, CineGrid(**(turned | common)), Bssfp(snr=0))
    if "apex_lps" in turned or "anterior_lps" in turned:
        distances = [np.linalg.norm(plain[1] - plain[3]), np.linalg.norm(plain[1] - plain[2])]
        own = centres_ras(here)
        found = [np.linalg.norm(own[1] - own[3]), np.linalg.norm(own[1] - own[2])]
        assert found == pytest.approx(distances, abs=0.7)
    else:
        for label, centre in centres_ras(here).items():
            assert centre == pytest.approx(plain[label], abs=0.7)


def centres_ras(cine):
    found = {}
    for label in (1, 2, 3):
        z, y, x = np.nonzero(cine.labels[0] == label)
        voxel = np.array([x.mean(), y.mean(), z.mean(), 1.0])
        found[label] = (cine.grid.affine_ras @ voxel)[:3]
    return found


def test_right_ventricle_lies_to_the_right_and_front():
    centres = centres_ras(render(HeartPhantom(seed=1), CineGrid(frames=1), Bssfp(snr=0)))
    towards = centres[3] - centres[1]  # RAS
    assert towards[0] > 10
    assert towards[1] > 10


def test_slices_run_from_base_to_apex_unless_reversed():
    assert CineGrid(slices=3).long_axis_mm == pytest.approx([-5, 5, 15])
    assert CineGrid(slices=3, apex_first=True).long_axis_mm == pytest.approx([15, 5, -5])
    offset = CineGrid(slices=2, slice_distance_mm=8, slices_above_base=0, base_offset_mm=-3)
    assert offset.long_axis_mm == pytest.approx([1, 9])


def test_impossible_grids_are_refused():
    with pytest.raises(InputError, match="above zero"):
        CineGrid(row_spacing_mm=0)
    with pytest.raises(InputError, match="parallel"):
        CineGrid(apex_lps=(0, 0, 1), anterior_lps=(0, 0, -2))
