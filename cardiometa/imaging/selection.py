"""ED and ES alone of a cine."""

from __future__ import annotations

from dataclasses import replace

from ..records import CineStack


def ed_es_alone(cine: CineStack, ed: int, es: int) -> CineStack:
    """The cine with the phases ``ed`` and ``es`` (indices) alone, in that order.

    They keep the source's numbers and times. A cine that is such a pair already stays as it is.
    """
    if cine.is_ed_es_pair:
        return cine
    two = [ed, es]
    origin = cine.origin
    if origin is not None:
        origin = replace(origin, images=tuple(origin.images[t] for t in two))
    return replace(
        cine,
        pixels=cine.pixels[two],
        frame_times_ms=cine.frame_times_ms[two],
        frame_numbers=cine.frame_numbers[two],
        origin=origin,
        phases_of_source=cine.pixels.shape[0],
    )
