"""One clip with sound and speech, made at feature level from one of each (REFERENCE section 6).

All arrays are NumPy and at the rates of their extractors; nothing here knows of batches.
"""

from typing import Literal

import numpy as np

from vssflow_jax.clip import ClipSpec, fit_length
from vssflow_jax.input_pipeline.example import ClipFeatures
from vssflow_jax.input_pipeline.streams import STREAMS

Mode = Literal["add", "insert"]
MODES: tuple[Mode, ...] = ("add", "insert")
GAIN_RANGE = (0.3, 0.7)


def draw_start(sound: ClipFeatures, speech: ClipFeatures, rng: np.random.Generator) -> float:
    """Second at which the speech starts: uniform over the places where it fits, else 0."""
    room = sound.duration_sec - speech.duration_sec
    return rng.uniform(0.0, room) if room > 0 else 0.0


def draw_gain(rng: np.random.Generator) -> float:
    """Factor of the sound under the speech, in `add` mode."""
    return rng.uniform(*GAIN_RANGE)


def combine(
    sound: ClipFeatures,
    speech: ClipFeatures,
    *,
    mode: Mode,
    start_sec: float,
    gain: float,
    spec: ClipSpec,
) -> ClipFeatures:
    """Put `speech` into `sound`, padded to the window, from `start_sec` on.

    `add` sums the mixed streams and the waveforms, the sound scaled by `gain` under the speech;
    `insert` replaces, from the start of a speech that has no picture on by zeros. The waveform of
    the speech ends with its duration; its features do not (the reference lets their padding through
    too). Delayed streams and phonemes get leading zeros (`Stream.joint`).
    """

    def place(
        base: np.ndarray, over: np.ndarray, rate: float, frames: int, base_gain: float
    ) -> np.ndarray:
        mixed = fit_length(base, frames)
        start = int(start_sec * rate)
        length = min(len(over), frames - start)
        inside = mixed[start : start + length]
        if mode == "insert":
            inside[:] = over[:length]
            if not len(over):
                mixed[start:] = 0
            return mixed
        if base_gain != 1:
            inside *= base_gain
        inside += over[:length]  # NumPy adds float16 in float32 and rounds once
        return mixed

    def delay(frames: np.ndarray, rate: float) -> np.ndarray:
        lead = int(start_sec * rate)
        return np.pad(frames, [(lead, 0)] + [(0, 0)] * (frames.ndim - 1))

    def join(name: str) -> np.ndarray:
        stream, of_speech = STREAMS[name], speech.streams[name]
        if stream.rate is None or stream.joint == "speech":
            return of_speech
        if stream.joint == "delayed":
            return delay(of_speech, stream.rate(spec))
        return place(sound.streams[name], of_speech, stream.rate(spec), stream.frames(spec), 1.0)

    spoken = speech.waveform[: int(speech.duration_sec * spec.sampling_rate)]
    return ClipFeatures(
        streams={name: join(name) for name in speech.streams},
        phonemes=delay(speech.phonemes, spec.latent_rate),
        sound=place(sound.waveform, spoken, spec.sampling_rate, spec.num_samples, gain),
        duration_sec=max(sound.duration_sec, speech.duration_sec),
    )
