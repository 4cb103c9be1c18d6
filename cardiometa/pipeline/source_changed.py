"""Whether the images of a finished scan are still those it was made from.

The ``run`` block of a record holds the size and time of the source's files as one digest, and one
of their bytes. On resume only files whose time changed are read again. The block is no part of
what two equal runs share, so times may stand in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..files import canonical_json, read_json, write_text
from ..imaging.source_state import content_sha256, source_state
from .result_file import RESULT_NAME, scan_folder

if TYPE_CHECKING:
    from pathlib import Path

    from .process_scan import ScanJob


def source_block(job: ScanJob) -> dict[str, str | None]:
    """State and content of a job's images, to be recorded after they were read.

    Without content where they changed since the run was planned: what was read is then unknown,
    and the next run does the scan again.
    """
    content = content_sha256(job.source)
    if source_state(job.source).stat_sha256 != job.source_stat:
        content = None
    return {"stat": job.source_stat, "content": content}


def same_images(out: Path, job: ScanJob, document: Mapping[str, Any], *, write: bool) -> bool:
    """True where size and time of every file, or else the bytes, are those of the record.

    ``document`` is the record, or the model's own that it keeps. With ``write`` new times of the
    same bytes go into the record, to be hashed only once.
    """
    known: Any = document.get("run", {}).get("source")
    if not isinstance(known, dict) or known.get("stat") == job.source_stat:
        return True
    content = content_sha256(job.source)
    if content is None or content != known.get("content"):
        return False
    if write:
        path = scan_folder(out, job.key) / RESULT_NAME
        record = read_json(path)
        record["run"]["source"] = {"stat": job.source_stat, "content": content}
        write_text(path, canonical_json(record))
    return True
