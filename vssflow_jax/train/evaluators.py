"""What is tried on a run's weights now and then while it is trained."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import jax
import ml_collections
import numpy as np

from vssflow_jax.audio import mel
from vssflow_jax.audio.vocoder import make_vocoder
from vssflow_jax.flow.sampler import Sampler
from vssflow_jax.generate.sampler import draw_start, make_generate
from vssflow_jax.input_pipeline.collate import to_latent_rate
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.parallel import distributed
from vssflow_jax.run.experiment import Experiment, TrainState
from vssflow_jax.train.held_out import HeldOutLoss
from vssflow_jax.train.writers import Writers


class Evaluator(Protocol):
    """Looks at a run every so many steps."""

    @property
    def every_steps(self) -> int:
        """Steps between calls; 0: none is made."""

    def __call__(
        self, experiment: Experiment, dataset: Dataset, state: TrainState
    ) -> Iterable[tuple[str, float]]:
        """Names and values of what was measured, on the main process."""


def built_in(
    config: ml_collections.ConfigDict,
    experiment: Experiment,
    dataset: Dataset,
    workdir: Path,
    writers: Writers,
) -> list[Evaluator]:
    """Those that every training has: sounds, and the loss of test clips."""
    return [
        Samples(config, experiment, dataset, writers),
        HeldOutLoss(config, experiment, dataset, workdir),
    ]


class Samples:
    """Shows sounds generated from a few test clips; measures nothing.

    Args:
      config: config of the run; every `train.sample_every` steps by `eval.sampler`.
      experiment: experiment of the run.
      dataset: its first test clip of each task is taken.
      writers: show them.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        experiment: Experiment,
        dataset: Dataset,
        writers: Writers,
    ):
        self.every_steps = config.train.sample_every
        self._writers = writers
        sources = [dataset.clips("test", task) for task in TASKS if dataset.count("test", task)]
        clips = [source[0] for source in sources]
        self._names = [clip.clip_id for clip in clips]
        examples = [to_latent_rate(clip.features, experiment.spec) for clip in clips]
        self._features = jax.tree.map(lambda *x: np.stack(x), *examples) if examples else {}
        self._start = draw_start(experiment, config.seed, self._names)
        self._generate = make_generate(experiment, Sampler.from_config(config.eval.sampler))
        self._vocoder = make_vocoder(config.vocoder)

    def __call__(
        self, experiment: Experiment, dataset: Dataset, state: TrainState
    ) -> Iterable[tuple[str, float]]:
        """See `Evaluator`."""
        if not self._names:
            return ()
        log_mels = jax.device_get(self._generate(state.averaged, self._features, self._start))
        if distributed.is_main():
            for name, log_mel in zip(self._names, log_mels, strict=True):
                sound = self._vocoder(log_mel)
                self._writers.audio(int(state.step), f"sample/{name}", sound, mel.SAMPLING_RATE)
        return ()
