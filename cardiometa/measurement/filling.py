"""Peak ejection and filling rate, time to peak filling and diastolic volume recovery.

From the LV volume of each phase of a cine. The curve smoothed by weights 1-2-1 says at which frame
to look; every value comes from a quintic fitted to the unsmoothed frames around it (14 % of the
beat to either side, three frames at least), since a smoothed curve has lower peaks. A cubic over
8.5 % has the same bias, but half as much scatter again. Frames without a volume and spikes
(`phases`) are in no fit.

- Peak ejection rate: steepest fall from ED to ES; peak filling rate: steepest rise in the first two
  thirds of diastole, so that it is the early (E) wave and not the atrial one. Both divided by EDV.
- Time to peak filling: from ES, the minimum of the fit, to the steepest rise. Where the volume
  pauses between ejection and filling, the minimum of a fit lies in the middle of the pause: frames
  20 to 45 ms apart do not show its ends.
- Diastolic volume recovery: share of diastole until 80 % of the stroke volume has come back
  (Kawaji 2009, Circ Cardiovasc Imaging 2:476; Mendoza 2010, J Cardiovasc Magn Reson 12:46).

On closed-form beats of 20 to 40 frames whose frames fall anywhere in the beat all four are within
2 % on average (times from the middle of the pause of 17 ms), with noise of 1 mL within 3 %.

The standard deviations are those of the fits: what the scatter of the frames does to each value.
The scatter is estimated from fourth differences, which are small for smooth curves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..flags import limit_of
from ..records import CineStack
from .phases import Extremes

_DEGREE = 5
_HALF_WINDOW = 0.14  # of the beat
_EARLY = 2 / 3  # of diastole
_RECOVERED = 0.8  # of the stroke volume
_FOURTH = np.array([1.0, -4.0, 6.0, -4.0, 1.0]) / np.sqrt(70)
_STEPS = np.linspace(-1, 1, 401)
_POWERS = [np.polynomial.Polynomial([0.0] * k + [1.0]) for k in range(_DEGREE + 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A time found on a fit, in ms, with the fit's value there; each with its SD."""

    ms: float
    ms_sd: float
    value: float
    value_sd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beat:
    """The frames with a trusted volume: times ``[n]`` in ms and volumes ``[n]`` in mL."""

    times_ms: np.ndarray
    volumes_ml: np.ndarray
    period_ms: float

    @property
    def step_ms(self) -> float:
        return self.period_ms / len(self.times_ms)

    @property
    def noise_ml(self) -> float:
        """SD of a frame's volume about a locally smooth curve."""
        around = np.stack([np.roll(self.volumes_ml, 2 - k) for k in range(5)], axis=1)
        return float(1.4826 * np.median(abs(around @ _FOURTH)))

    def smooth(self) -> tuple[np.ndarray, np.ndarray]:
        """The smoothed curve ``[n]`` and its slope, for choosing a frame."""
        before, after = np.roll(self.volumes_ml, 1), np.roll(self.volumes_ml, -1)
        smooth = (before + 2 * self.volumes_ml + after) / 4
        return smooth, np.roll(smooth, -1) - np.roll(smooth, 1)

    def after(self, ms: float) -> np.ndarray:
        """Time ``[n]`` of each frame after ``ms``, round the cycle."""
        return np.asarray((self.times_ms - ms) % self.period_ms)

    def find(
        self, at_ms: float, order: int, decides: int, choose: Callable[[np.ndarray], Any]
    ) -> _Place:
        """Fit a quintic around ``at_ms`` and pick a place within one frame of it.

        ``choose`` gets the fit's derivative ``order`` (0: the fit) on a fine grid and gives an
        index; what decides the place is a level of derivative ``decides``: of the fit itself for a
        crossing, of its slope for an extreme. By the delta method the time's SD is the SD of that
        derivative over the next one's size, at most a frame.
        """
        count = 2 * max(3, round(_HALF_WINDOW * len(self.times_ms))) + 1
        away = self.after(at_ms - self.period_ms / 2) - self.period_ms / 2
        near = np.argsort(abs(away), kind="stable")[:count]
        # In frames, so that the powers stay of one size.
        inverse = np.linalg.pinv((away[near, np.newaxis] / self.step_ms) ** np.arange(_DEGREE + 1))
        fit = np.polynomial.Polynomial(inverse @ self.volumes_ml[near])
        x = float(_STEPS[choose(fit.deriv(order)(_STEPS))])

        def deviation(order: int) -> float:
            weights = np.array([p.deriv(order)(x) for p in _POWERS]) @ inverse
            return self.noise_ml * float(np.linalg.norm(weights))

        bend = abs(float(fit.deriv(decides + 1)(x)))
        frames = min(1.0, deviation(decides) / bend) if bend > 0 else 1.0
        return _Place(
            ms=float(at_ms + x * self.step_ms),
            ms_sd=frames * self.step_ms,
            value=float(fit.deriv(order)(x)),
            value_sd=deviation(order),
        )


def filling_measures(
    cine: CineStack, volumes_ml: np.ndarray, lv: Extremes
) -> Mapping[str, tuple[float, float]]:
    """Value and SD of each of the four measures; empty where the cine does not allow them.

    ``volumes_ml`` ``[t]`` of the LV cavity (NaN: none) and the extremes of that curve. Needed are
    20 phases at known times over the complete beat: with prospective gating the end of filling,
    and so the length of diastole, is not in the images. The reader of the images flags all three.
    """
    beat = _beat_of(cine, volumes_ml, lv)
    if beat is None:
        return {}
    times = _times_ms(cine)
    ed = beat.find(times[lv.largest], 0, 1, np.argmax)
    es = beat.find(times[lv.smallest], 0, 1, np.argmin)
    systole_ms = (es.ms - ed.ms) % beat.period_ms
    diastole_ms = beat.period_ms - systole_ms
    stroke_ml = ed.value - es.value
    falls = beat.after(ed.ms) <= systole_ms
    since_es = beat.after(es.ms)
    early = since_es <= _EARLY * diastole_ms
    smooth, slope = beat.smooth()
    level = es.value + _RECOVERED * stroke_ml
    back = (smooth >= level) & (since_es <= diastole_ms)
    if not (stroke_ml > 0 and falls.any() and early.any() and back.any()):
        return {}
    steepest_fall = beat.times_ms[falls][np.argmin(slope[falls])]
    steepest_rise = beat.times_ms[early][np.argmax(slope[early])]
    fall = beat.find(steepest_fall, 1, 2, np.argmin)
    rise = beat.find(steepest_rise, 1, 2, np.argmax)
    recovered = beat.find(
        es.ms + since_es[back].min() - beat.step_ms / 2,
        0,
        0,
        lambda fit: np.argmax(fit >= level) if (fit >= level).any() else len(fit) - 1,
    )
    per_s = 1000.0 / beat.step_ms / float(volumes_ml[lv.largest])
    share = ((recovered.ms - es.ms) % beat.period_ms) / diastole_ms
    # The level that is crossed has an error too, and so has the length of diastole.
    level_ml = np.hypot((1 - _RECOVERED) * es.value_sd, _RECOVERED * ed.value_sd)
    crossing_ms = recovered.ms_sd * np.hypot(1, level_ml / max(recovered.value_sd, 1e-9))
    ends_ms = np.hypot((1 - share) * es.ms_sd, share * ed.ms_sd)
    share_sd = float(np.hypot(crossing_ms, ends_ms)) / diastole_ms
    time_to_rise = (rise.ms - es.ms) % beat.period_ms, float(np.hypot(rise.ms_sd, es.ms_sd))
    found = {
        "lv_per_edv_s": (-fall.value * per_s, fall.value_sd * per_s),
        "lv_pfr_edv_s": (rise.value * per_s, rise.value_sd * per_s),
        "lv_time_to_pfr_ms": time_to_rise,
        "lv_dvr80_fraction": (share, share_sd),
    }
    return found if min(found.values())[0] > 0 else {}


def _times_ms(cine: CineStack) -> np.ndarray:
    """Time of each phase ``[t]``; counted from the frame's length where the source has none."""
    if np.isfinite(cine.frame_times_ms).all():
        return cine.frame_times_ms
    return np.arange(len(cine.frame_times_ms)) * (cine.source.frame_ms or np.nan)


def _beat_of(cine: CineStack, volumes_ml: np.ndarray, lv: Extremes) -> _Beat | None:
    """The frames to measure by; None where they are too few, untimed or not of a complete beat."""
    times, source = _times_ms(cine), cine.source
    partial = any(flag.code == "prospective" for flag in source.flags)
    sound = np.setdiff1d(np.arange(len(times)), [*lv.spikes, *lv.missing])
    fewest = limit_of("few-phases")
    if partial or len(times) < fewest or len(sound) < 0.8 * fewest or np.isnan(times).any():
        return None
    period = source.rr_ms or len(times) * (source.frame_ms or float(np.median(np.diff(times))))
    order = sound[np.argsort(times[sound], kind="stable")]
    return _Beat(times_ms=times[order], volumes_ml=volumes_ml[order], period_ms=float(period))
