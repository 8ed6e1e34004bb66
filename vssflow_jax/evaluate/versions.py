"""Clips to sounds, batch by batch: every version of them, generated on all devices together."""

import functools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import joblib
import ml_collections
import numpy as np

from vssflow_jax.audio import mel
from vssflow_jax.audio.codec import CodecParams
from vssflow_jax.audio.vocoder import make_vocoder
from vssflow_jax.clip import ClipSpec, fit_length, to_float, to_int16
from vssflow_jax.evaluate.metrics.of_clips import Prediction
from vssflow_jax.flow.sampler import Sampler
from vssflow_jax.generate.sampler import draw_start, make_generate
from vssflow_jax.input_pipeline.collate import to_latent_rate
from vssflow_jax.input_pipeline.example import Clip
from vssflow_jax.run.experiment import Experiment, InferenceState


class Renderer:
    """Makes the sounds of batches of one size.

    Args:
      config: config of the run; `eval.sampler`, `eval.batch_size` and the vocoder matter.
      experiment: experiment of the model.
      versions: versions to make (`metrics.labels.VERSIONS`).
    """

    def __init__(
        self, config: ml_collections.ConfigDict, experiment: Experiment, versions: Sequence[str]
    ):
        self._config, self._experiment = config, experiment
        self._versions = versions
        self._generate = make_generate(experiment, Sampler.from_config(config.eval.sampler))
        self._vocoder = make_vocoder(config.vocoder)
        self._through_codec = jax.jit(functools.partial(through_codec, experiment))
        self.generate_sec: float | None = None
        """Seconds a clip that the last batch took; None for the first, which compiles."""
        self._warm = False

    def log_mels(
        self, state: InferenceState, seed: int, clips: Sequence[Clip], others: Sequence[Clip]
    ) -> dict[str, np.ndarray]:
        """Log-mels [b, n, m] of the versions that a model makes.

        Every process calls this with the same clips.

        Args:
          state: state of the model.
          seed: seed of the noise.
          clips: b of them.
          others: clips whose conditions the "shuffled" sounds are generated from.
        """
        config, spec = self._config, self._experiment.spec
        names = [clip.clip_id for clip in clips]
        start = draw_start(self._experiment, seed, names, config.eval.sampler.mask_ratio)
        made = {}
        started = time.monotonic()
        for version, seen in (("generated", clips), ("shuffled", others)):
            if version in self._versions:
                features = [to_latent_rate(clip.features, spec) for clip in seen]
                for feature in features:
                    del feature["waveform"], feature["frames"]
                batch = jax.tree.map(lambda *rows: np.stack(rows), *features)
                made[version] = jax.device_get(self._generate(state, batch, start))
            if version == "generated":
                took_sec = time.monotonic() - started
                self.generate_sec = took_sec / len(clips) if self._warm else None
                self._warm = True
        if "codec" in self._versions:
            waveforms = np.stack([to_latent_rate(c.features, spec)["waveform"] for c in clips])
            made["codec"] = jax.device_get(self._through_codec(state.codec, waveforms))
        return made

    def sounds(
        self, clips: Sequence[Clip], log_mels: dict[str, np.ndarray], clip_sec: float
    ) -> list[dict[str, Prediction]]:
        """All versions of each clip, by name, the true sound too.

        Args:
          clips: clips of this process.
          log_mels: log-mels of the other versions of these clips [b, n, m].
          clip_sec: sounds are cut to it; 0 leaves them as long as the true one.
        """
        spec = self._experiment.spec
        samples = {"ground_truth": [clip.features.sound for clip in clips]}
        with ThreadPoolExecutor(joblib.cpu_count()) as pool:
            for version, mels in log_mels.items():
                samples[version] = [to_int16(sound) for sound in pool.map(self._vocoder, mels)]
        return [
            {
                version: of_samples(samples[version][index][: _length(clip, clip_sec)], spec)
                for version in self._versions
            }
            for index, clip in enumerate(clips)
        ]


def of_samples(samples: np.ndarray, spec: ClipSpec) -> Prediction:
    """A sound of int16 samples [n], at most as long as the window."""
    # Of the whole window, so that all have one shape; then the sound's own frames.
    padded = to_float(fit_length(samples, spec.num_samples))
    log_mel = np.asarray(_log_mel(padded[None], spec.mel_frames))[0]
    return Prediction(samples, log_mel[: -(-len(samples) // mel.HOP)])


def through_codec(experiment: Experiment, params: CodecParams, waveforms: jax.Array) -> jax.Array:
    """Log-mels [b, n, m] of sounds [b, samples], encoded and decoded."""
    log_mel = mel.log_mel(waveforms, experiment.spec.mel_frames)
    return experiment.codec.decode(params, experiment.codec.encode(params, log_mel).mean)


_log_mel = jax.jit(mel.log_mel, static_argnums=1)


def _length(clip: Clip, clip_sec: float) -> int:
    whole = len(clip.features.sound)
    return min(whole, round(clip_sec * mel.SAMPLING_RATE)) if clip_sec else whole
