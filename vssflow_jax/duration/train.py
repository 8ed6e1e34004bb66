"""The duration predictor's training, top to bottom, and what it is for: durations of a dataset.

Letters: b clips, t latent frames, p phonemes, i lip features, l decoder layers. Phonemes are padded
to p = t, lip frames to t; neither padding is attended to, so that a clip's result is its own.
"""

import dataclasses
import operator
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import tqdm
from flax import nnx

from vssflow_jax.clip import ClipSpec, fit_length
from vssflow_jax.config import clear_misfits
from vssflow_jax.duration.model import DurationConfig, DurationPredictor
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.example import Clip
from vssflow_jax.input_pipeline.prefetch import ReadOptions
from vssflow_jax.input_pipeline.shards import CacheOptions
from vssflow_jax.parallel import sharding
from vssflow_jax.parallel.sharding import MeshRules
from vssflow_jax.parallel.stopping import stop_requested
from vssflow_jax.run import run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Batch, Params, TrainState
from vssflow_jax.run.workdir import MetricsLog
from vssflow_jax.utils.checks import check_choice, check_within
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path
from vssflow_jax.weights import folder

AT_LEAST = {
    0: "train.steps train.learning_rate train.warmup_steps train.weight_decay",
    1: "data.num_train data.num_test model.encoder_layers model.decoder_layers train.batch_size "
    "train.log_every train.checkpoint_every train.keep_checkpoints",
}
SOURCES = ("demo", "none")

_TINY = 1e-8  # keeps the logarithm of a share finite

Example = dict[str, np.ndarray]
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class DurationExperiment:
    """The static half of training: everything that is not in the state.

    Attributes:
      spec: geometry of the clips.
      model: sizes of the network.
      train: the `train` section of the config.
      seed: seed of the first weights and of the order of clips.
    """

    spec: ClipSpec
    model: DurationConfig
    train: ml_collections.ConfigDict
    seed: int

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict) -> "DurationExperiment":
        """As a config file describes it.

        Raises:
          UserError: a value that cannot be, or a config of something else.
        """
        with clear_misfits(config):
            for least, names in AT_LEAST.items():
                for name in names.split():
                    check_within(name, operator.attrgetter(name)(config), least)
            check_choice("data.source", config.data.source, SOURCES)
            spec, model = ClipSpec(**config.clip), DurationConfig.from_config(config.model)
            return cls(spec, model, config.train, config.seed)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """AdamW with a linear warm-up, as the reference's."""
        peak, warmup = self.train.learning_rate, self.train.warmup_steps
        # Joined, since a rise of no steps would stay at its start.
        rise = optax.linear_schedule(0.0, peak, warmup)
        rate = optax.join_schedules([rise, optax.constant_schedule(peak)], [warmup])
        return optax.adamw(rate, weight_decay=self.train.weight_decay)

    @property
    def definition(self) -> nnx.GraphDef:
        """Of the network."""
        return nnx.graphdef(nnx.eval_shape(self._network))

    def init(self) -> TrainState:
        """The state before the first step."""
        params = nnx.to_pure_dict(nnx.state(self._network()))
        opt_state, step = self.optimizer.init(params), jnp.zeros((), jnp.int32)
        return TrainState(step, params, frozen={}, ema={}, opt_state=opt_state, codec={})

    def abstract_state(self, mesh_rules: MeshRules) -> TrainState:
        """Shapes, dtypes and shardings of the state, which is whole on every device."""
        whole = mesh_rules.replicated
        return jax.eval_shape(jax.jit(self.init, out_shardings=whole))

    def _network(self) -> DurationPredictor:
        return DurationPredictor(self.model, rngs=nnx.Rngs(self.seed))


def train(config: ml_collections.ConfigDict, workdir: Path) -> bool:
    """Train until `config.train.steps`, from the newest checkpoint of `workdir` if there is one.

    Args:
      config: a resolved config, as of `configs/duration.py`.
      workdir: gets `config.json`, `metrics.jsonl`, `checkpoints/`.

    Returns:
      whether the last step was reached: False after Ctrl-C or SIGTERM, with all saved.

    Raises:
      UserError: bad config, data without alignments, or workdir; a loss that is no number.
    """
    # ------------------------------------------------------------------------------------ mesh
    mesh_rules = sharding.make_mesh_rules(config.sharding)
    experiment = DurationExperiment.from_config(config)
    _check_batch(experiment, mesh_rules)
    run_config.check_resumable(workdir, config)

    # ------------------------------------------------------------------------------------ data
    dataset = open_dataset(config, experiment)
    iterator = iter(train_batches(dataset, experiment))

    # ----------------------------------------------------------------------------------- model
    abstract = experiment.abstract_state(mesh_rules)
    train_step = jax.jit(
        make_train_step(experiment),
        in_shardings=(mesh_rules.replicated, mesh_rules.batch),
        out_shardings=mesh_rules.replicated,
        donate_argnums=0,
    )

    resolved = run_config.write(workdir, config)
    with ExitStack() as closing:
        # ----------------------------------------------------------------------------- restore
        checkpoints = closing.enter_context(Checkpoints(workdir, config.train.keep_checkpoints))
        if checkpoints.latest is None:
            state = jax.jit(experiment.init, out_shardings=mesh_rules.replicated)()
            if config.train.init_from:
                imported = folder.load(as_path(config.train.init_from), "duration", abstract.params)
                state = dataclasses.replace(state, params=imported)
        else:
            state, progress = checkpoints.resume(abstract)
            dataset.check_counts(progress["clips"])
            iterator.set_state(progress["data"])
        done, steps = int(state.step), config.train.steps

        # -------------------------------------------------------------------------------- loop
        log = closing.enter_context(MetricsLog(workdir))
        bar = closing.enter_context(
            tqdm.tqdm(total=steps, initial=min(done, steps), desc="durations", unit="step")
        )
        stop_after = closing.enter_context(stop_requested())

        def save() -> None:
            progress = {"data": iterator.get_state(), "clips": dataset.counts}
            checkpoints.save(done, state, progress, resolved)

        while done < steps and not stop_after(done):
            checkpoints.check()
            batch = sharding.put_batch(next(iterator), mesh_rules)
            with jax.transfer_guard("disallow"):
                state, metrics = train_step(state, batch)
            done += 1
            bar.update()
            if done % config.train.log_every == 0:
                row = {name: float(value) for name, value in jax.device_get(metrics).items()}
                if not np.isfinite(row["loss"]):
                    raise UserError(
                        f"step {done}: the loss is {row['loss']}; lower train.learning_rate; the "
                        f"last checkpoint is of step {checkpoints.latest}"
                    )
                bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
                log.write({"step": done, **row})
            if done % config.train.checkpoint_every == 0:
                save()
        save()
    return done >= steps


def make_train_step(
    experiment: DurationExperiment,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The step as a pure function, to be jitted by the caller with its shardings."""
    definition = experiment.definition

    def objective(params: Params, batch: Batch) -> jax.Array:
        return alignment_loss(align(nnx.merge(definition, params), batch), batch)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        loss, grads = jax.value_and_grad(objective)(state.params, batch)
        updates, opt_state = experiment.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, "grad_norm": optax.global_norm(grads)}
        step = state.step + 1
        return dataclasses.replace(state, step=step, params=params, opt_state=opt_state), metrics

    return step


def align(model: DurationPredictor, batch: Batch) -> jax.Array:
    """The last layer's map of a batch of examples, [b, t, p]."""
    _, maps = model(batch["phonemes"], batch["lips"], batch["phonemes"] > 0, _own_frames(batch))
    return maps[-1]


def alignment_loss(attention: jax.Array, batch: Batch) -> jax.Array:
    """Mean negative log of the attention at the true phoneme, over the clips' own frames.

    The reference minimises a smoothed absolute difference between this map and the alignment, a
    mean over all its cells; both are least where each frame looks at its own phoneme alone.
    """
    shares = jnp.take_along_axis(attention, batch["targets"][..., None], axis=-1)[..., 0]  # [b, t]
    own = _own_frames(batch)
    return -jnp.sum(jnp.log(shares + _TINY), where=own) / jnp.sum(own)


def _own_frames(batch: Batch) -> jax.Array:
    """Which frames are a clip's own, not padding: bool [b, t]."""
    return jnp.arange(batch["lips"].shape[1]) < batch["num_frames"][:, None]


def train_batches(dataset: Dataset, experiment: DurationExperiment) -> grain.IterDataset:
    """Endless, shuffled batches of the training clips with speech, a function of the seed."""
    clips = dataset.clips("train", "visualtts")
    examples = grain.MapDataset.range(len(clips)).shuffle(seed=experiment.seed).repeat()
    return (
        examples.map(lambda index: example(aligned(clips[index], experiment.spec), experiment))
        .batch(experiment.train.batch_size, drop_remainder=True)
        .to_iter_dataset(
            grain.ReadOptions(
                num_threads=ReadOptions.threads, prefetch_buffer_size=ReadOptions.batches_ahead
            )
        )
    )


def aligned(clip: Clip, spec: ClipSpec) -> Clip:
    """The clip, seen to say how long its phonemes last.

    Raises:
      UserError: it does not, or of other phonemes or frames than it has.
    """
    phonemes, num_frames = len(clip.phoneme_ids), spec.phoneme_frames(clip.features.duration_sec)
    found, total = len(clip.phoneme_frames), clip.phoneme_frames.sum()
    if (found, total) != (phonemes, num_frames):
        raise UserError(
            f"clip {clip.clip_id}: its phoneme_frames are of {found} phonemes and {total} frames, "
            f"it has {phonemes} and {num_frames}; train on a dataset with alignments (docs/data.md)"
        )
    return clip


def example(clip: Clip, experiment: DurationExperiment) -> Example:
    """What the network is given of a clip with speech.

    Returns:
      phonemes int32 [p], 0 at padding; lips float32 [t, i]; num_frames int32, the clip's own
      frames; targets int32 [t], the index of each frame's phoneme, 0 where that is not known.

    Raises:
      UserError: the clip has more phonemes than there are latent frames.
    """
    t = experiment.spec.latent_frames
    num_frames = experiment.spec.phoneme_frames(clip.features.duration_sec)
    if len(clip.phoneme_ids) > t:
        raise UserError(
            f"clip {clip.clip_id}: {len(clip.phoneme_ids)} phonemes, but clip.duration_sec has {t} "
            "latent frames; shorten the transcript or leave the clip out"
        )
    # A clip without lips gets the same frame throughout, all ones, as in the reference.
    lips = clip.features.streams["lips"].astype(np.float32)
    lips = lips if len(lips) else np.ones((num_frames, experiment.model.lip_features), np.float32)
    targets = np.repeat(np.arange(len(clip.phoneme_frames)), clip.phoneme_frames)
    return {
        "phonemes": fit_length(clip.phoneme_ids, t),
        "lips": fit_length(lips, t),
        "num_frames": np.array(num_frames, np.int32),
        "targets": fit_length(targets, t).astype(np.int32),
    }


def open_dataset(config: ml_collections.ConfigDict, experiment: DurationExperiment) -> Dataset:
    """The config's dataset.

    Raises:
      UserError: it is not there or does not fit the config.
    """
    widths = {"lips": experiment.model.lip_features}
    options = CacheOptions.from_config(config.data)
    return Dataset(config.data.path, experiment.spec, widths=widths, cache_options=options)


def _check_batch(experiment: DurationExperiment, mesh_rules: MeshRules) -> None:
    if experiment.train.batch_size % mesh_rules.batch_devices:
        raise UserError(
            f"train.batch_size is {experiment.train.batch_size}; it must be a multiple of the "
            f"{mesh_rules.batch_devices} devices"
        )
