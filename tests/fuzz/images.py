"""Readers of images: DICOM headers and pixels, whole scans, zips, NIfTI, readers' masks."""

from __future__ import annotations

import gzip
import io
import shutil
import zipfile
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import nibabel as nib
import numpy as np

from cardiometa.errors import ImageError
from cardiometa.imaging.archive import DamagedFileError, open_files
from cardiometa.imaging.discovery import find_scan_source, header_identity
from cardiometa.imaging.frames import frame_table
from cardiometa.imaging.read import ReadOptions, decode, inspect_scan, read_cine, scan_grid
from cardiometa.phantom.image import CineGrid, HeartPhantom, PhantomCine, render
from cardiometa.records import CineStack, ScanSource
from tests.fuzz import mutate
from tests.fuzz.target import Target
from tests.kit import dialects
from tests.kit.tiny_dicom import Shape, encode, image, put, tiny

OPTIONS = ReadOptions()


def check_cine(cine: CineStack) -> None:
    """What every stack that is taken must hold, or a volume could be wrong in silence."""
    phases, slices, rows, columns = cine.pixels.shape
    assert min(phases, slices, rows, columns) > 0
    assert cine.pixels.dtype == np.float32
    assert np.isfinite(cine.pixels).all(), "pixels that are no numbers"
    assert all(0.3 <= length <= 5 for length in cine.spacing_mm), "an impossible pixel spacing"
    assert np.isfinite(cine.affine).all()
    weights = cine.slice_weights_mm
    assert len(weights) == slices
    assert np.isfinite(weights).all()
    assert (weights > 0).all(), "a slice that weighs nothing"
    assert 0 < cine.slice_distance_mm < 100
    assert len(cine.frame_times_ms) == phases == len(cine.frame_numbers)


@cache
def small_cine() -> PhantomCine:
    phantom = HeartPhantom(lv_edv_ml=150, lv_ef_percent=55, rv_edv_ml=150, seed=3)
    return render(phantom, CineGrid(slices=4, frames=12, rows=32, columns=32))


# ------------------------------------------------------------------ one DICOM file


def header_seeds() -> list[bytes]:
    cine = small_cine()
    kinds = (
        *(dialects.siemens, dialects.philips, dialects.ge, dialects.no_preamble),
        *(dialects.implicit_little_endian, dialects.enhanced_per_slice),
    )
    return [encode(image(1, 2, Shape())), *(next(iter(kind(cine).values())) for kind in kinds)]


def pixel_seeds() -> list[bytes]:
    cine = small_cine()
    kinds = (
        *(dialects.rle, dialects.jpeg_lossless, dialects.jpeg_ls, dialects.jpeg_2000),
        *(dialects.big_endian, dialects.deflated, dialects.signed_twelve_in_sixteen),
        *(dialects.monochrome1, dialects.rescaled),
    )
    return [next(iter(kind(cine).values())) for kind in kinds]


def read_one_dicom(data: bytes, folder: Path) -> None:
    """Header and pixels of one file, as a run reads them."""
    path = folder / "one.dcm"
    path.write_bytes(data)
    with open_files(path) as files:
        frames = frame_table(files).frames
        by_file = [frame for frame in frames if frame.facts is frames[0].facts]
        if by_file:
            for array in decode(files.read(by_file[0].facts.file), by_file[:20]):
                assert array.dtype == np.float32
                assert array.shape == (by_file[0].facts.rows, by_file[0].facts.columns)
    header_identity(ScanSource(kind="images", paths=(path,)))


# ------------------------------------------------------------------ whole scans


def enhanced_seeds() -> list[bytes]:
    return [next(iter(dialects.enhanced(small_cine()).values()))]


def read_scan(data: bytes, folder: Path, name: str = "scan") -> None:
    """One file that is a whole scan: found, checked by its headers, read."""
    path = folder / name
    path.write_bytes(data)
    source = find_scan_source(path) or ScanSource(kind="images", paths=(path,))
    with suppress(ImageError):
        inspect_scan(source, OPTIONS)
    check_cine(read_cine(source, OPTIONS))


@cache
def tiny_files() -> tuple[bytes, ...]:
    return tuple(encode(ds) for ds in tiny(Shape(slices=4, phases=12)).values())


def read_folder(data: bytes, folder: Path) -> None:
    """A sound cine with one image of it exchanged for a changed one."""
    top = folder / "folder"
    if not top.exists():
        put(top, {f"{number:03d}": file for number, file in enumerate(tiny_files())})
    (top / "005").write_bytes(data)
    check_cine(read_cine(ScanSource(kind="images", paths=(top,)), OPTIONS))


def zip_seeds() -> list[bytes]:
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for number, file in enumerate(tiny_files()):
                archive.writestr(f"series/{number:03d}.dcm", file)
        found.append(stream.getvalue())
    return found


def of_zip(rng, data: bytes) -> bytes:
    """Mostly the directory at the end, where sizes, names and places stand."""
    start = data.rfind(b"PK\x01\x02", 0, rng.choice((-2, -2000, -4000)))
    if rng.random() < 0.4 or start < 0:
        return mutate.of_bytes(rng, data)
    return data[:start] + mutate.of_bytes(rng, data[start:], 4)


# ------------------------------------------------------------------ NIfTI


def _nifti(shape: tuple[int, ...], kind: type = nib.Nifti1Image) -> bytes:
    values = (np.arange(np.prod(shape)) % 997).reshape(shape).astype(np.int16)
    made = kind(values, np.diag([1.5, 1.5, 10.0, 1.0]))
    made.header.set_xyzt_units("mm", "msec")
    if len(shape) > 3:
        made.header["pixdim"][4] = 40.0
    return made.to_bytes()


def nifti_seeds() -> list[bytes]:
    cine = _nifti((12, 10, 6, 12))
    return [cine, gzip.compress(cine, 1, mtime=0), _nifti((12, 10, 6, 12), nib.Nifti2Image)]


def read_nifti_scan(data: bytes, folder: Path) -> None:
    read_scan(data, folder, "cine.nii.gz")


def pair_seeds() -> list[bytes]:
    return [_nifti((12, 10, 6)), gzip.compress(_nifti((12, 10, 6)), 1, mtime=0)]


def read_pair(data: bytes, folder: Path) -> None:
    top = folder / "pair"
    top.mkdir(exist_ok=True)
    paths = (top / "x_ED.nii.gz", top / "x_ES.nii.gz")
    paths[0].write_bytes(_nifti((12, 10, 6)))
    paths[1].write_bytes(data)
    source = ScanSource(kind="ed-es", paths=paths)
    scan_grid(source, OPTIONS)
    check_cine(read_cine(source, OPTIONS))


# ------------------------------------------------------------------ masks mended by a reader


def mask_seeds() -> list[bytes]:
    labels = (np.arange(12 * 10 * 6 * 2).reshape(12, 10, 6, 2) % 4).astype(np.uint8)
    made = nib.Nifti1Image(labels, np.diag([1.5, 1.5, 10.0, 1.0])).to_bytes()
    return [made, gzip.compress(made, 1, mtime=0)]


def read_mask(data: bytes, folder: Path) -> None:
    from cardiometa.reading.label_file import ScanGrid, grid_of_mask, read_labels

    del folder
    grid = ScanGrid(shape=(2, 6, 10, 12), affine=np.diag([1.5, 1.5, 10.0, 1.0]))
    labels = read_labels(data, grid)
    assert labels.shape == grid.shape
    assert set(np.unique(labels)) <= {0, 1, 2, 3}
    grid_of_mask(data)


def _mask_errors() -> tuple[type[Exception], ...]:
    from cardiometa.reading.label_file import LabelFileError

    return (LabelFileError,)


def clean(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


of_any_dicom = mutate.one_of(mutate.of_dicom, mutate.of_dicom, mutate.of_bytes)

TARGETS = (
    Target(
        name="dicom-header",
        decodes=True,
        seeds=header_seeds,
        mutate=of_any_dicom,
        read=read_one_dicom,
        also=(DamagedFileError,),
    ),
    Target(
        name="dicom-pixels",
        decodes=True,
        seeds=pixel_seeds,
        mutate=mutate.of_pixels,
        read=read_one_dicom,
        also=(DamagedFileError,),
    ),
    Target(
        name="dicom-scan",
        decodes=True,
        seeds=enhanced_seeds,
        mutate=of_any_dicom,
        read=read_scan,
        slow=True,
    ),
    Target(
        name="dicom-folder",
        decodes=True,
        seeds=lambda: tiny_files()[5:7],
        mutate=of_any_dicom,
        read=read_folder,
        slow=True,
    ),
    Target(
        name="zip",
        decodes=True,
        seeds=zip_seeds,
        mutate=of_zip,
        read=partial(read_scan, name="a.zip"),
        slow=True,
    ),
    Target(name="nifti", seeds=nifti_seeds, mutate=mutate.of_nifti, read=read_nifti_scan),
    Target(name="nifti-pair", seeds=pair_seeds, mutate=mutate.of_nifti, read=read_pair),
    Target(
        name="mask",
        seeds=mask_seeds,
        mutate=mutate.of_nifti,
        read=read_mask,
        also=_mask_errors(),
    ),
)
