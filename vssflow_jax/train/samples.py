"""Sounds of a few test clips while training goes on."""

import jax
import ml_collections
import numpy as np
import tensorboardX

from vssflow_jax.audio import mel
from vssflow_jax.audio.vocoder import Vocoder
from vssflow_jax.generate.sampler import draw_start, make_generate
from vssflow_jax.input_pipeline.collate import to_latent_rate
from vssflow_jax.input_pipeline.dataset import TASKS, Dataset
from vssflow_jax.parallel import distributed
from vssflow_jax.run.experiment import Experiment, TrainState


class Sampler:
    """Writes sound generated from a few test clips to TensorBoard while training goes on."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        experiment: Experiment,
        dataset: Dataset,
        vocoder: Vocoder,
        board: tensorboardX.SummaryWriter,
    ):
        self._board = board
        sources = [dataset.clips("test", task) for task in TASKS if dataset.count("test", task)]
        clips = [source[0] for source in sources]
        self._names = [clip.clip_id for clip in clips]
        examples = [to_latent_rate(clip.features, experiment.spec) for clip in clips]
        self._features = jax.tree.map(lambda *x: np.stack(x), *examples) if examples else {}
        self._start = draw_start(experiment, config.seed, self._names)
        self._generate = make_generate(experiment, config.eval.sampler)
        self._vocode = vocoder

    def write(self, state: TrainState, step: int) -> None:
        """Generate and write, if there are test clips."""
        if not self._names:
            return
        log_mels = jax.device_get(self._generate(state, self._features, self._start))
        if not distributed.is_main():
            return
        for name, log_mel in zip(self._names, log_mels, strict=True):
            waveform = self._vocode(log_mel)
            self._board.add_audio(f"sample/{name}", waveform, step, mel.SAMPLING_RATE)
