"""One step of training as a pure function of (state, batch), and the state that it carries.

The loop jits it to run; a plan compiles the very same function to count.
Letters: b clips, t latent frames, c latent channels.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from vssflow_jax.audio import mel
from vssflow_jax.audio.autoencoder import Posterior
from vssflow_jax.audio.codec import CodecParams
from vssflow_jax.clip import windows
from vssflow_jax.flow import path
from vssflow_jax.input_pipeline.streams import maskable
from vssflow_jax.models.flops import step_flops
from vssflow_jax.models.parts import GROUPS, part_of
from vssflow_jax.run.experiment import Batch, Experiment, Params, TrainState
from vssflow_jax.run.optimizer import AVERAGING, make_schedule, own_mean
from vssflow_jax.train import bad_steps

Metrics = dict[str, jax.Array]
"""Numbers by name; of a clip each, `clip_losses` [b]; and whether the step was `kept`, bool."""

_LATENT_NOISE = 1  # folded into a step's key, which is split for the other draws


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Draws:
    """The random numbers of one step, drawn for the whole batch at once.

    Attributes:
      noise: x_0 [b, t, c].
      latent_noise: picks the latents x_1 among those that the codec holds likely [b, t, c].
      t: flow time [b], uniform.
      keep: 1 where a clip keeps its conditions, else 0; [b].
      frame_masks: for each maskable condition, 1 where a frame is seen, else 0; [b, t].
    """

    noise: jax.Array
    latent_noise: jax.Array
    t: jax.Array
    keep: jax.Array
    frame_masks: dict[str, jax.Array]


def draw(experiment: Experiment, step: jax.Array, batch_size: int) -> Draws:
    """The random numbers of step `step` (from 0): the same on any mesh."""
    key = jax.random.fold_in(jax.random.key(experiment.seed), step)
    masked = maskable(experiment.model.widths)
    noise_key, time_key, keep_key, ratio_key, *mask_keys = jax.random.split(key, 4 + len(masked))
    frames = experiment.spec.latent_frames
    ratios = jnp.array(experiment.train.mask_ratios or (0.0,))
    ratio = jax.random.choice(ratio_key, ratios)  # one for the whole batch
    tosses = batch_size if experiment.train.condition_dropout_per == "example" else 1
    keep = jax.random.bernoulli(keep_key, 1 - experiment.train.condition_dropout, (tosses,))
    latents = (batch_size, frames, experiment.model.latent_channels)
    draws = Draws(
        noise=jax.random.normal(noise_key, latents),
        latent_noise=jax.random.normal(jax.random.fold_in(key, _LATENT_NOISE), latents),
        t=jax.random.uniform(time_key, (batch_size,)),
        keep=jnp.broadcast_to(keep, (batch_size,)),
        frame_masks={
            name: jax.random.bernoulli(mask_key, 1 - ratio, (batch_size, frames))
            for name, mask_key in zip(masked, mask_keys, strict=True)
        },
    )
    return jax.tree.map(lambda x: experiment.mesh_rules.constrain(x, "batch"), draws)


def latents(
    experiment: Experiment, params: CodecParams, batch: Batch, noise: jax.Array
) -> jax.Array:
    """What the flow learns to end at: latents of the clips' sounds, [b, t, c].

    A batch has the sounds, or what the codec knows of their latents: `posterior` [b, t, 2 c], means
    and log-variances. The noise [b, t, c] picks one of them.
    """
    if "posterior" in batch:
        known = Posterior(*jnp.split(batch["posterior"], 2, axis=-1))
    else:
        log_mel = mel.log_mel(batch["waveform"], experiment.spec.mel_frames)
        known = experiment.codec.encode(params, log_mel)
    return known.sample(noise)


def make_train_step(
    experiment: Experiment,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The step as a pure function; see `jit_train_step`."""
    train = experiment.train

    def loss_sum(
        params: Params, frozen: Params, latent: jax.Array, batch: Batch, draws: Draws
    ) -> tuple[jax.Array, jax.Array]:
        model = experiment.merge(params, frozen, to_train=True)
        conditioning = model.encode(batch, frame_masks=draws.frame_masks, keep=draws.keep)
        own_frames = batch["frames"] if train.loss_mask == "clip" else None
        losses = path.loss(
            lambda x, t: model(x, t, conditioning), draws.noise, latent, draws.t, own_frames
        )  # [b]
        return jnp.sum(losses), losses

    def gradients(state: TrainState, batch: Batch, draws: Draws) -> tuple[Params, jax.Array]:
        """The gradient of the sum of the clips' losses, and these [b]."""
        with jax.named_scope("latents"):
            latent = latents(experiment, state.codec, batch, draws.latent_noise)
        gradient = jax.grad(loss_sum, has_aux=True)
        grads, losses = gradient(state.params, state.frozen, latent, batch, draws)
        return experiment.mesh_rules.constrain_tree(grads, experiment.param_shardings), losses

    def accumulated(state: TrainState, batch: Batch, draws: Draws) -> tuple[Params, jax.Array]:
        clips, parts = batch["speaker"].shape[0], train.accumulation_steps
        # Clips i, i + k, i + 2 k, ... make up part i: each part stays spread over the devices.
        cut = jax.tree.map(
            lambda x: x.reshape(clips // parts, parts, *x.shape[1:]).swapaxes(0, 1), (batch, draws)
        )
        none = experiment.mesh_rules.constrain_tree(
            jax.tree.map(jnp.zeros_like, state.params), experiment.param_shardings
        )

        def add(total: Params, part: tuple[Batch, Draws]) -> tuple[Params, jax.Array]:
            grads, losses = gradients(state, *part)
            return jax.tree.map(jnp.add, total, grads), losses

        # Two are laid out without a loop, whose body a plan would count once (`plan.counting`).
        grads, losses = jax.lax.scan(add, none, cut, unroll=2 if parts == 2 else 1)
        return grads, losses.T.reshape(clips)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        clips = batch["speaker"].shape[0]
        draws = draw(experiment, state.step, clips)
        # Each traces the network once.
        sum_up = gradients if train.accumulation_steps == 1 else accumulated
        grads, losses = sum_up(state, batch, draws)
        grads = jax.tree.map(lambda g: g / clips, grads)
        time_sum, time_count = path.loss_by_time(losses, draws.t)
        watched = {"loss": jnp.sum(losses) / clips, "grad_norm": optax.global_norm(grads)}

        with jax.named_scope("optimizer"):
            updates, opt_state = experiment.optimizer.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if train.optimizer in AVERAGING:
            ema = own_mean(opt_state, params)
        elif ema:
            # A young average must not remember the random start.
            decay = jnp.minimum(train.ema_decay, (1 + state.step) / (10 + state.step))
            ema = optax.incremental_update(params, ema, 1 - decay)
        new = dataclasses.replace(
            state,
            step=state.step + 1,
            params=params,
            ema=ema,
            opt_state=opt_state,
            recent=bad_steps.with_newest(state.recent, state.step, watched),
        )
        kept = bad_steps.is_good(watched, state.recent, train.bad_step_deviations)
        metrics = {
            **watched,
            **{f"grad_norm_{group}": norm for group, norm in group_norms(grads).items()},
            "learning_rate": make_schedule(train)(state.step),
            **{f"loss_t{i}": time_sum[i] / time_count[i] for i in range(path.TIME_BINS)},
            "clip_losses": losses,
            "kept": kept,
        }
        return bad_steps.chosen(kept, new, state), metrics

    return step


def group_norms(grads: Params) -> dict[str, jax.Array]:
    """Norm of the gradients of each group of weights (`models.parts.GROUPS`) that is trained."""
    leaves = traverse_util.flatten_dict(grads, sep=".")
    groups: dict[str, list[jax.Array]] = {}
    for name, leaf in leaves.items():
        groups.setdefault(part_of(name, GROUPS), []).append(leaf)
    return {group: optax.global_norm(of_group) for group, of_group in groups.items()}


def jit_train_step(experiment: Experiment) -> Any:
    """The step jitted with its shardings: (state, batch) to (state, metrics), the state donated."""
    state, whole = experiment.state_shardings, experiment.mesh_rules.replicated
    return jax.jit(
        make_train_step(experiment),
        in_shardings=(state, experiment.mesh_rules.batch),
        out_shardings=(state, whole),
        donate_argnums=0,
    )


def of_windows(experiment: Experiment, bucket_sec: Sequence[float]) -> dict[int, Experiment]:
    """Latent frames of each window of batches -> the experiment for it (`data.bucket_sec`)."""
    specs = windows(experiment.spec, bucket_sec)
    return {spec.latent_frames: experiment.of_window(spec) for spec in specs}


def inputs(experiment: Experiment, latents: str) -> tuple[TrainState, Batch]:
    """Shapes, dtypes and shardings of what the step takes."""
    batch = experiment.abstract_batch(experiment.train.batch_size, latents)
    return experiment.abstract_state, batch


def compiled_step(experiment: Experiment, latents: str) -> jax.stages.Compiled:
    """The step for batches of the window of the experiment."""
    return jit_train_step(experiment).lower(*inputs(experiment, latents)).compile()


def model_flops(experiment: Experiment) -> int:
    """FLOPs of the network in a step for such batches."""
    frames, clips = experiment.spec.latent_frames, experiment.train.batch_size
    return step_flops(experiment.model, frames, clips)
