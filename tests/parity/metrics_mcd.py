"""Mel-cepstral distortions against `metrics_mcd.npz`."""

from collections.abc import Iterator

import numpy as np

from tests.parity.golden import EXACT, METRIC, Golden, Row
from vssflow_jax.evaluate.metrics import mcd

FULL_SCALE = 32_768


def check(golden: Golden) -> Iterator[Row]:
    """A row for each score of each pair of voices, and for each step towards it."""
    yield golden.row("fs", mcd.SAMPLING_RATE, EXACT)
    yield golden.row("log_spec_dB_const", mcd.DB, METRIC)
    for pair in golden.cases("_ref_i16"):
        yield from check_pair(golden, pair)


def check_pair(golden: Golden, pair: str) -> Iterator[Row]:
    sounds = {side: golden[f"{pair}_{side}_i16"] / FULL_SCALE for side in ("ref", "syn")}
    samples = max(map(len, sounds.values()))
    cepstra, padded = {}, {}
    for side, sound in sounds.items():
        f0, power = mcd.world_analysis(sound)
        yield golden.row(f"{pair}_{side}_f0", f0, METRIC)
        frames = f"{pair}_{side}_sp_frames"
        if frames in golden:
            yield golden.row(f"{pair}_{side}_sp", power[golden[frames]], METRIC)
        cepstra[side] = mcd.cepstrum_of_power(power)
        yield golden.row(f"{pair}_{side}_mcep", cepstra[side], METRIC)
        padded[side] = mcd.mel_cepstrum(np.pad(sound, (0, samples - len(sound))))
        if len(sound) < samples:
            yield golden.row(f"{pair}_{side}_mcep_padded", padded[side], METRIC)

    a, b = cepstra["ref"], cepstra["syn"]
    path = mcd.warping_path(a[:, 1:], b[:, 1:])
    yield golden.row(f"{pair}_path", path, EXACT)
    scores = mcd.mel_cepstral_distortion(sounds["ref"], sounds["syn"], mcd.SAMPLING_RATE)
    everywhere = np.ones((len(a), len(b)), bool)
    shortest = mcd.exact_warping_path(a[:, 1:], b[:, 1:], everywhere)
    plain = mcd.diagonal(len(padded["ref"]))
    for key, ours in (
        ("plain", scores.plain),
        ("dtw", scores.dtw),
        ("dtw_sl", scores.dtw_sl),
        ("dtw_exactpath", mcd.distortion(a, b, shortest)),
        ("dtw_without_c0", mcd.distortion(a[:, 1:], b[:, 1:], path)),
        ("plain_without_c0", mcd.distortion(padded["ref"][:, 1:], padded["syn"][:, 1:], plain)),
    ):
        yield golden.row(f"{pair}_mcd_{key}", ours, METRIC)
