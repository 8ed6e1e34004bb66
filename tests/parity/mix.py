"""Joint clips made of a sound and a speech clip, against `mix.npz`."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.parity.golden import EXACT, Golden, Row
from vssflow_jax.clip import ClipSpec, stretch_phonemes
from vssflow_jax.input_pipeline import joint
from vssflow_jax.input_pipeline.example import ClipFeatures


class Drawn:
    """In place of a generator: its uniform draw is known."""

    def __init__(self, value: float):
        self._value = value

    def uniform(self, low: float, high: float) -> float:
        return self._value


def check(golden: Golden) -> Iterator[Row]:
    """A row for each stream of each case, all exact."""
    sizes = {name: value.item() for name, value in golden.below("cfg/").items()}
    spec = ClipSpec(
        duration_sec=sizes["duration_sec"],
        sampling_rate=sizes["sample_rate"],
        visual_rate=sizes["video_fps"],
        sync_rate=sizes["synch_fps"],
        video_rate=sizes["lip_fps"],
        latent_rate=sizes["phone_fps"],
    )
    cases = itertools.takewhile(lambda i: f"{i}/in/mode_is_add" in golden, itertools.count())
    for case in cases:
        yield from check_case(golden, case, spec)


def check_case(golden: Golden, case: int, spec: ClipSpec) -> Iterator[Row]:
    def given(name: str) -> Any:
        return golden[f"{case}/in/{name}"]

    windows = given("synch_audio").shape[:2]
    width = given("synch_audio").shape[-1]
    duration_sec = {kind: float(given(f"{kind}_duration")) for kind in ("audio", "speech")}
    ids = stretch_phonemes(given("phone_speech_raw"), spec.phoneme_frames(duration_sec["speech"]))
    nothing = np.zeros(0)
    sound = ClipFeatures(
        {
            "visual": given("video_audio"),
            "sync": given("synch_audio").reshape(-1, width),
            "lips": nothing,
            "speaker": nothing,
        },
        phonemes=nothing,
        sound=given("wave_audio")[0],
        duration_sec=duration_sec["audio"],
    )
    speech = ClipFeatures(
        {
            "visual": given("video_speech"),
            "sync": given("synch_speech").reshape(-1, width),
            "lips": given("lip_speech"),
            "speaker": given("ref_speech"),
        },
        phonemes=ids,
        sound=given("wave_speech")[0],
        duration_sec=duration_sec["speech"],
    )
    start_sec = joint.draw_start(sound, speech, Drawn(float(given("rand_start_draw"))))
    made = joint.combine(
        sound,
        speech,
        mode="add" if given("mode_is_add") else "insert",
        start_sec=start_sec,
        gain=float(given("gain_draw")),
        spec=spec,
    )
    for name, ours in (
        ("rand_start_sec", start_sec),
        ("audio_duration", made.duration_sec),
        ("video_feat", made.streams["visual"]),
        ("synch_feat", made.streams["sync"].reshape(*windows, width)),
        ("lip_feat", made.streams["lips"]),
        ("phone_id", made.phonemes),
        ("ref_audio_ebd", made.streams["speaker"]),
        ("waveform", made.waveform[None]),
    ):
        yield golden.row(f"{case}/out/{name}", ours, EXACT)
