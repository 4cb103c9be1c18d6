"""Checks of the numbers (tier 3): they may ask for a look and never remove a scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..records import Flag
from .phases import Extremes
from .quality import limit_of, raised


def physiology_flags(values: Mapping[str, float | None], mass_at_es_g: float) -> Iterator[Flag]:
    """EF out of 10 to 85 %, stroke volumes apart, myocardium that grows or shrinks over the beat.

    ``values`` are the measures by name (``lv_ef_percent``, ``lv_sv_ml``, ``rv_sv_ml``,
    ``lv_mass_g``).
    """
    ef = values.get("lv_ef_percent")
    if ef is not None and ef < limit_of("ef-low"):
        yield raised("ef-low", value=ef)
    if ef is not None and ef > limit_of("ef-high"):
        yield raised("ef-high", value=ef)
    lv, rv = values.get("lv_sv_ml"), values.get("rv_sv_ml")
    if lv is not None and rv is not None and max(lv, rv) > 0:
        apart = abs(lv - rv) / max(lv, rv)
        code = _worst(apart, "sv-mismatch-large", "sv-mismatch")
        if code:
            yield raised(code, value=apart, lv=lv, rv=rv)
    mass = values.get("lv_mass_g")
    if mass:
        change = abs(mass_at_es_g - mass) / mass
        code = _worst(change, "mass-change-large", "mass-change")
        if code:
            yield raised(code, value=change)


def _worst(value: float, *codes: str) -> str | None:
    """The first of the codes, severest first, whose limit the value passes."""
    return next((code for code in codes if value > limit_of(code)), None)


def curve_flags(lv: Extremes, frame_numbers: Sequence[int]) -> Iterator[Flag]:
    """A rough LV curve, and frames that were passed over; ``frame_numbers`` are the source's."""
    if lv.roughness > limit_of("curve-rough"):
        yield raised("curve-rough", value=lv.roughness)
    if lv.spikes:
        yield raised("curve-spike", where=", ".join(str(frame_numbers[i]) for i in lv.spikes))
