"""The options of ``segment``: declared, grouped and checked once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from ..errors import UsageError
from ..files import sha256_bytes
from ..options import Conflict, Needs, Option, Options, is_given, is_in
from ..records import ScanKey

_PART = "Part of the cohort"
_SPEED, _DICOM = "Speed and cluster (never change results)", "DICOM output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Shard ``number`` (from 1) of ``of``: ``Shard(number=3, of=16)`` is ``--shard 3/16``.

    A scan's shard follows from its own ids and N alone: scans that are added or removed move no
    other scan, and neither do order, folders or tables. Shards are of nearly equal size.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``"3/16"``; raises UsageError."""
        found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
        number, of = (int(part) for part in found.groups()) if found else (0, 0)
        if not 1 <= number <= of:
            raise UsageError(
                f"--shard {text} is not a shard.",
                hint="Use --shard I/N with I from 1 to N, as in --shard 3/16.",
            )
        return cls(number=number, of=of)

    def has(self, key: ScanKey) -> bool:
        """True for a scan of this shard."""
        return shard_number(key, self.of) == self.number

    def __str__(self) -> str:
        """``3/16``."""
        return f"{self.number}/{self.of}"


def shard_number(key: ScanKey, of: int) -> int:
    """The shard from 1 to ``of`` that a scan belongs to: the SHA-256 of its ids, modulo ``of``."""
    digest = sha256_bytes(str(key).encode())
    return int(digest[:16], 16) % of + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentOptions(Options):
    """Options of a run; those up to ``dicom_seg`` matter to the result.

    ``dicom_seg``: None, or whose identity the objects carry, ``scrub`` or ``keep``.
    """

    bsa_formula: Annotated[
        Literal["mosteller", "dubois"], Option(flag="--bsa", help="Body surface area formula.")
    ] = "mosteller"
    frames: Annotated[
        Literal["all", "ed-es"],
        Option(help="Segment all phases, or only ED and ES (found by a fast first pass)."),
    ] = "all"
    model: Annotated[
        Path | None,
        Option(help="Model file with its card (default: the bundled model).", metavar="FILE"),
    ] = None
    series_regex: Annotated[
        str | None, Option(help="Only series whose description matches this expression.")
    ] = None
    corrections: Annotated[
        Path | None,
        Option(
            help="Folder of masks corrected by a reader: "
            "trial/participant/visit/segmentation.nii.gz; or of decisions and masks: OUT/review.",
            exists="folder",
            metavar="FOLDER",
        ),
    ] = None
    reader: Annotated[
        str | None,
        Option(help="Whose decisions count, where readers differ.", metavar="NAME"),
    ] = None
    radiomics: Annotated[
        bool, Option(help="Also write radiomics.csv: IBSI features at ED and ES.")
    ] = False
    bids: Annotated[
        bool, Option(help="Also give the masks the names of a BIDS derivative: OUT/bids.")
    ] = False
    dicom_seg: Literal["scrub", "keep"] | None = None
    allow_mixed_models: Annotated[
        bool, Option(help="Keep scans segmented with another model in the output.")
    ] = False
    trials: Annotated[
        tuple[str, ...],
        Option(flag="--trial", help="Only this trial of the cohort.", repeat=True, group=_PART),
    ] = ()
    participants: Annotated[
        tuple[str, ...],
        Option(
            flag="--participant",
            help="Only this participant: ID, or TRIAL/ID.",
            repeat=True,
            group=_PART,
        ),
    ] = ()
    restart: Annotated[bool, Option(help="Segment every scan again.")] = False
    dry_run: Annotated[bool, Option(help="Check and count only; estimate time and disk space.")] = (
        False
    )
    log_file: Annotated[
        Path | None,
        Option(help="Add a log without ids, names and paths to this file.", metavar="FILE"),
    ] = None
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], Option(help="Device.", group=_SPEED)
    ] = "auto"
    batch: Annotated[
        int, Option(help="Slices per batch on a GPU (0: automatic).", group=_SPEED, minimum=0)
    ] = 0
    workers: Annotated[
        int, Option(help="Worker processes (0: one per core).", group=_SPEED, minimum=0)
    ] = 0
    timeout_s: Annotated[
        float,
        Option(
            flag="--timeout",
            help="Time limit per scan in seconds (0: none).",
            group=_SPEED,
            minimum=0,
        ),
    ] = 600.0
    shard_text: Annotated[
        str | None,
        Option(
            flag="--shard",
            help="Segment only shard I of N (I/N); then run `cardiometa merge`.",
            group=_SPEED,
        ),
    ] = None
    scheduler: Annotated[
        str | None,
        Option(
            help="Address of a Dask scheduler, such as tls://host:8786 (extra `dask`).",
            group=_SPEED,
        ),
    ] = None
    overwrite: bool = False

    RULES: ClassVar[tuple[Conflict | Needs, ...]] = (Needs({"reader": is_given}, ("corrections",)),)

    @property
    def shard(self) -> Shard | None:
        """The shard to do, None for all scans; raises UsageError."""
        return None if self.shard_text is None else Shard.parse(self.shard_text)

    @property
    def extra(self) -> dict[str, Any]:
        """Options of what is written besides; named only where given, so that records stay."""
        radiomics = {"radiomics": True} if self.radiomics else {}
        return radiomics | ({} if self.dicom_seg is None else {"dicom_seg": self.dicom_seg})


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomOutput(Options):
    """Whether ED and ES of DICOM sources are written as DICOM SEG, and with whose identity."""

    dicom_seg: Annotated[
        bool, Option(help="Write DICOM SEG of ED and ES and an SR of measures.", group=_DICOM)
    ] = False
    dicom_identity: Annotated[
        Literal["scrub", "keep"],
        Option(help="Identity in DICOM SEG; scrub is the cohort's own id.", group=_DICOM),
    ] = "scrub"

    RULES: ClassVar[tuple[Conflict | Needs, ...]] = (
        Needs({"dicom_identity": is_in("keep")}, ("dicom_seg",)),
    )

    @property
    def identity(self) -> Literal["scrub", "keep"] | None:
        """The value of `SegmentOptions.dicom_seg`."""
        return self.dicom_identity if self.dicom_seg else None
