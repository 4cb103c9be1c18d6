"""The masks that readers mended: found below ``--corrections DIR``, checked all at once.

``DIR/<trial>/<participant>/<visit>/segmentation.nii.gz`` (or ``.nii``), the folders being those of
``OUT/scans``. A file that fits no scan is an error: a reader's work must not be lost in silence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ImageError, InputError, Problem, UsageError
from ..files import sha256_bytes, sha256_file
from ..reading.label_file import LabelFileError, ScanGrid, read_labels
from ..records import ScanKey

MASK_NAMES = ("segmentation.nii.gz", "segmentation.nii")
# What viewers save masks as. Any other file (notes, a viewer's workspace) is left alone.
_MASK_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".mgz", ".img", ".gipl", ".dcm")
_LAYOUT = "trial/participant/visit/segmentation.nii.gz, folders as below OUT/scans"


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One mended mask: whose, where, and the hash of its file."""

    key: ScanKey
    path: Path
    sha256: str


def find_corrections(
    folder: Path, out: Path, keys: Iterable[ScanKey]
) -> tuple[dict[ScanKey, Correction], list[Problem]]:
    """The mended masks below ``folder`` by scan, and everything that is wrong with the layout.

    Raises UsageError for a folder inside OUT, which this program writes to.
    """
    if folder.resolve().is_relative_to(out.resolve()):
        raise UsageError(
            "--corrections lies inside --out, whose masks are written by this program.",
            hint="Copy what a reader mended to a folder of its own.",
        )
    known = set(keys)
    found: dict[ScanKey, Correction] = {}
    problems: list[Problem] = []
    for number, (parts, names) in enumerate(_mask_folders(folder).items(), start=1):
        where = _place(number, parts, known)
        masks = [name for name in MASK_NAMES if name in names]
        if not masks:
            problems.append(_other_name(where, names))
            continue
        key = (
            ScanKey(trial=parts[0], participant=parts[1], visit=parts[2])
            if len(parts) == 3
            else None
        )
        if key is None or key not in known:
            problems.append(_no_scan(where, layout=key is None))
        elif len(masks) > 1:
            problems.append(
                Problem(
                    where=where,
                    what="there are two masks, segmentation.nii.gz and segmentation.nii",
                    why="Which one the reader meant cannot be told.",
                    fix="Leave one of them.",
                )
            )
        else:
            path = folder.joinpath(*parts, masks[0])
            found[key] = Correction(key=key, path=path, sha256=sha256_file(path))
    return found, [*problems, *_repeats(found)]


def _mask_folders(folder: Path) -> dict[tuple[str, ...], list[str]]:
    """Folders below ``folder`` that hold files of masks, hidden ones left out."""
    masks: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if not hidden and path.name.lower().endswith(_MASK_SUFFIXES) and path.is_file():
            masks[parts[:-1]].append(parts[-1])
    return masks


def _place(number: int, parts: tuple[str, ...], known: set[ScanKey]) -> str:
    """Where a mask lies, in names of the cohort alone: other folders may be named after people."""
    names = [
        {key.trial for key in known},
        {key.participant for key in known if parts[:1] == (key.trial,)},
        {key.visit for key in known if parts[:2] == (key.trial, key.participant)},
    ]
    told: list[str] = []
    for depth, part in enumerate(parts):
        if depth >= len(names) or part not in names[depth]:
            told.append("…")
            break
        told.append(part)
    return f"folder {number} of masks in the order of names ({'/'.join(told) or 'the top'})"


def _other_name(where: str, names: list[str]) -> Problem:
    files = "another file" if len(names) == 1 else f"{len(names)} other files"
    return Problem(
        where=where,
        what=f"there is no segmentation.nii.gz, but {files}",
        why="Only that name is read, so a mended mask here would be lost.",
        fix=f"Save it as NIfTI under {_LAYOUT}.",
    )


def _no_scan(where: str, *, layout: bool) -> Problem:
    if layout:
        return Problem(
            where=where,
            what="the mask lies at the wrong depth",
            why="The folders say which scan it belongs to.",
            fix=f"Use {_LAYOUT}.",
        )
    return Problem(
        where=where,
        what="the cohort has no such scan",
        why="The mended mask would be lost.",
        fix="Name the folders as below OUT/scans, or take the file away.",
    )


def _repeats(found: Mapping[ScanKey, Correction]) -> list[Problem]:
    """One file under two scans: at most one of them can be right."""
    by_hash: dict[str, list[ScanKey]] = defaultdict(list)
    for key, correction in sorted(found.items()):
        by_hash[correction.sha256].append(key)
    return [
        Problem(
            where=str(keys[0]),
            what=f"the same file is given for {', '.join(map(str, keys[1:]))} too",
            why="Two scans cannot have one mask.",
            fix="Take it away where it does not belong.",
        )
        for keys in by_hash.values()
        if len(keys) > 1
    ]


def check_corrections(
    corrections: Iterable[Correction], grid_of: Callable[[ScanKey], ScanGrid]
) -> list[Problem]:
    """Every fault of every mask; ``grid_of`` gives a scan's grid or raises ImageError."""
    problems = []
    for correction in corrections:
        where = str(correction.key)
        try:
            grid = grid_of(correction.key)
            read_labels(correction.path.read_bytes(), grid)
        except ImageError as error:
            what = f"the images of this scan cannot be read ({error.code})"
            why = "A mask without its images cannot be measured."
            fix = "Mend the images, or take the mask away."
            problems.append(Problem(where=where, what=what, why=why, fix=fix))
        except LabelFileError as error:
            problems += [
                Problem(where=where, what=fault.what, why=fault.why, fix=fault.fix)
                for fault in error.faults
            ]
        except OSError as error:
            what = f"the mask cannot be read ({type(error).__name__})"
            problems.append(Problem(where=where, what=what))
    return problems


def refuse(problems: list[Problem]) -> None:
    """Raise InputError with all problems, where there are any."""
    if problems:
        count = len(problems)
        raise InputError(
            f"The corrections have {count} problem{'s' if count > 1 else ''}; nothing was written.",
            problems=problems,
        )


def mended_labels(correction: Correction, grid: ScanGrid) -> np.ndarray:
    """The labels ``[t, z, y, x]`` of a checked correction; ImageError where it changed since."""
    try:
        data = correction.path.read_bytes()
        if sha256_bytes(data) == correction.sha256:
            return read_labels(data, grid)
    except OSError:
        pass
    except LabelFileError as error:
        raise ImageError(
            "correction-does-not-fit", f"The mended mask does not fit the scan: {error}."
        ) from None
    raise ImageError("correction-changed", "The mended mask was changed while the run went on.")
