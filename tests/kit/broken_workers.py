"""Faults inside worker processes: code that runs as Python starts there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

# Reading a scan whose path holds a word does something else.
_READ = """
import os, signal, sys, time
def fault(path):
    {fault}
if os.environ.get("WHO") or any("cardiometa.pipeline." in part for part in sys.orig_argv):
    import cardiometa.imaging.read as module
    whole = module.read_cine
    def read_cine(source, *rest):
        for path in source.paths:
            fault(str(path))
        return whole(source, *rest)
    module.read_cine = read_cine
"""


def at_reading(**faults: str) -> str:
    """Code for `broken_workers`: where a scan's path holds the word, the statement runs.

    ``at_reading(P002="time.sleep(1000)", P003="os.kill(os.getpid(), signal.SIGSEGV)")``
    """
    lines = [f"if {word!r} in path: {statement}" for word, statement in faults.items()]
    return _READ.format(fault="\n    ".join(lines))


def site(folder: Path, code: str) -> dict[str, str]:
    """The environment in which every Python that starts runs ``code`` first."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


@contextmanager
def broken_workers(folder: Path, code: str) -> Iterator[None]:
    """Processes that start meanwhile run ``code`` first; the fork server of before is ended."""
    with mock.patch.dict(os.environ, site(folder, code)):
        forkserver._forkserver._stop()
        try:
            yield
        finally:
            forkserver._forkserver._stop()
