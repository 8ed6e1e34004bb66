"""The loss on clips that training does not see, with noise and flow times that stay the same.

The training loss hardly shows what is learned: its noise and times are drawn anew at each step.
This one is the same function of the weights each time, whatever the batch, the mesh and the run.
"""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from vssflow_jax.audio.codec import CodecParams
from vssflow_jax.flow import path
from vssflow_jax.generate.sampler import draw_start
from vssflow_jax.input_pipeline.collate import conditions, stacked, waveforms
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.example import Clip
from vssflow_jax.input_pipeline.prefetch import Example
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.run.experiment import Batch, Experiment, Params, TrainState
from vssflow_jax.run.workdir import HELD_OUT, MetricsLog
from vssflow_jax.train.step import latents
from vssflow_jax.utils.errors import UserError

TIMES = (np.arange(path.TIME_BINS) + 0.5) / path.TIME_BINS
"""Flow times, the middle of each bin of the training loss."""


class _Chunk(NamedTuple):
    """Some clips of one task: what the loss is computed of, for all of them at once."""

    task: str
    batch: Example
    noise: jax.Array
    latent_noise: jax.Array


class HeldOutLoss:
    """An evaluator (`vssflow_jax.train.evaluators`): losses on the first test clips of each task.

    Each is yielded for the weights of the last step and, with `_ema`, for their running mean: the
    mean over clips and `TIMES` (`loss`), at each time (`loss_t0`, ...), and of each task's clips.
    They are also rows of `held_out.jsonl` in the folder of the run. Nothing is hidden or dropped.

    Args:
      config: config of the run; every `train.held_out_every` steps, `train.held_out_clips` clips.
      experiment: experiment of the run.
      dataset: its test clips are taken; a task without any is left out.
      workdir: folder of the run.

    Raises:
      UserError: `train.keep_best` asks for the loss of clips that there are none of.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        experiment: Experiment,
        dataset: Dataset,
        workdir: Path,
    ):
        self.every_steps = config.train.held_out_every
        self._config, self._workdir = config, workdir
        self._experiment, self._dataset = experiment, dataset
        self._losses = make_losses(experiment)
        best = config.train.keep_best
        tasks = [name for name in TASKS if best.removesuffix("_ema") in (name, "loss")]
        if tasks and not any(dataset.count("test", name) for name in tasks):
            raise UserError(
                f"train.keep_best is '{best}', but {dataset.path} has no test clips to measure it "
                f"of ({', '.join(tasks)}); choose another or none"
            )

    @functools.cached_property
    def _chunks(self) -> list[_Chunk]:
        """All clips, by as many as a device batch has; read when they are first asked for."""
        train = self._config.train
        size = train.batch_size // train.accumulation_steps
        found = []
        for task in TASKS:
            count = min(train.held_out_clips, self._dataset.count("test", task))
            source = self._dataset.clips("test", task) if count else ()
            clips = [source[index] for index in range(count)]
            found += [
                self._chunk(task, clips[first : first + size]) for first in range(0, count, size)
            ]
        return found

    def _chunk(self, task: str, clips: list[Clip]) -> _Chunk:
        experiment, seed = self._experiment, self._config.seed
        features = [clip.features for clip in clips]
        if self._config.codec.latents == "offline":
            frames = experiment.spec.latent_frames
            sounds = {"posterior": stacked([clip.posterior for clip in clips], frames)}
        else:
            sounds = waveforms(features, experiment.spec)
        names = [clip.clip_id for clip in clips]
        # What clips are generated from, and of another seed, so that the two are independent.
        noise, latent_noise = (draw_start(experiment, s, names).noise for s in (seed, seed + 1))
        return _Chunk(task, conditions(features, experiment.spec) | sounds, noise, latent_noise)

    def __call__(
        self, experiment: Experiment, dataset: Dataset, state: TrainState
    ) -> Iterable[tuple[str, float]]:
        """See `vssflow_jax.train.evaluators.Evaluator`."""
        row = self._means(state, state.params)
        if state.ema:
            row |= {f"{name}_ema": value for name, value in self._means(state, state.ema).items()}
        if row:
            with MetricsLog(self._workdir, HELD_OUT) as log:
                log.write({"step": int(state.step), **row})
        return [(f"held_out/{name}", value) for name, value in row.items()]

    def _means(self, state: TrainState, params: Params) -> dict[str, float]:
        """Means of the losses by some weights; none where there are no clips."""
        by_task: dict[str, list[np.ndarray]] = {}
        for task, batch, noise, latent_noise in self._chunks:
            found = self._losses(params, state.frozen, state.codec, batch, noise, latent_noise)
            by_task.setdefault(task, []).append(jax.device_get(found))
        if not by_task:
            return {}
        tasks = {task: np.concatenate(found) for task, found in by_task.items()}  # [clips, times]
        everything = np.concatenate(list(tasks.values()))
        return {
            "loss": float(everything.mean()),
            **{f"loss_t{i}": float(mean) for i, mean in enumerate(everything.mean(axis=0))},
            **{task: float(losses.mean()) for task, losses in tasks.items()},
        }


def make_losses(experiment: Experiment) -> Callable[..., jax.Array]:
    """A jitted function from weights and clips to their losses [b, TIMES].

    Its arguments are trained and frozen weights, the codec's parameters, a batch of features and
    sounds, the noise x_0 [b, t, c], and the noise that picks latents [b, t, c].
    """
    mesh_rules = experiment.mesh_rules

    @functools.partial(jax.jit, out_shardings=mesh_rules.replicated)
    def losses(
        params: Params,
        frozen: Params,
        codec: CodecParams,
        batch: Batch,
        noise: jax.Array,
        latent_noise: jax.Array,
    ) -> jax.Array:
        clips = len(noise)
        batch, noise, latent_noise = jax.tree.map(mesh_rules.spread, (batch, noise, latent_noise))
        model = experiment.merge(params, frozen)
        latent = latents(experiment, codec, batch, latent_noise)
        conditioning = model.encode(batch)
        own_frames = batch["frames"] if experiment.train.loss_mask == "clip" else None

        def at(time: jax.Array) -> jax.Array:
            t = jnp.full(len(noise), time)
            return path.loss(
                lambda x, t: model(x, t, conditioning), noise, latent, t, own_frames
            )  # [b]

        return jax.lax.map(at, jnp.asarray(TIMES, jnp.float32)).T[:clips]

    return losses
