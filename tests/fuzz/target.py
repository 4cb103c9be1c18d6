"""What is fuzzed: a reader, sound files to start from, how they are changed, what must hold.

A reader either takes a file or refuses it with an error of `cardiometa.errors` that says why.
Anything else is a finding: another exception, an empty reason, much memory, much time, a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from cardiometa.errors import CardiometaError, EstimationError, InputError, UsageError
from tests.fuzz.mutate import Mutation


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One reader under test.

    ``seeds`` makes the sound files (once a process); ``read`` takes the changed bytes and a folder
    that it may write to. ``also`` are further exceptions that are a refusal in themselves, such as
    `DamagedFileError`, which the reader's only caller counts by its code. ``slow`` targets get few
    cases where time is short; ``sound`` is False where the seeds themselves are refused.
    ``decodes``: a C library for compressed pixels is called, which may crash; `segment` decodes in
    processes of their own, so that a crash costs that scan alone.
    """

    name: str
    seeds: Callable[[], Sequence[bytes]]
    mutate: Mutation
    read: Callable[[bytes, Path], object]
    also: tuple[type[Exception], ...] = ()
    slow: bool = False
    sound: bool = True
    decodes: bool = False


def case(target: Target, seeds: Sequence[bytes], seed: int, number: int) -> bytes:
    """The bytes of one case; the same for the same seed and number, whatever ran before."""
    rng = Random(f"{seed}:{target.name}:{number}")
    return target.mutate(rng, rng.choice(seeds))


def outcome(target: Target, data: bytes, folder: Path) -> str:
    """``taken`` or ``refused``; raises what must not happen."""
    try:
        target.read(data, folder)
    except target.also:
        return "refused"
    except (InputError, UsageError, EstimationError) as error:
        _check_reason(error)
        return "refused"
    return "taken"


def _check_reason(error: CardiometaError) -> None:
    """A refusal has a reason, and every problem says where and what."""
    assert error.message.strip(), "a refusal without a reason"
    str(error).encode("utf-8", errors="backslashreplace")
    for problem in getattr(error, "problems", ()):
        assert problem.where.strip(), "a problem without its place"
        assert problem.what.strip(), "a problem without a word"
