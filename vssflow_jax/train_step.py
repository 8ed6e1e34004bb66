"""One step of training as a pure function of (state, batch), and the state that it carries.

The loop jits it to run; a plan will compile the very same function to count.
Letters: b clips, t latent frames, c latent channels.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import nnx

from vssflow_jax import flow
from vssflow_jax.audio import codec, mel
from vssflow_jax.clip import LATENT_CHANNELS, ClipSpec
from vssflow_jax.conditions import MASKABLE
from vssflow_jax.model import ModelConfig, VSSFlow
from vssflow_jax.sharding import Layout, param_shardings

Leaf = Any  # an array, or its shape, or its sharding
Params = Any  # nested dicts of arrays, as nnx.to_pure_dict makes them
Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a step changes, and what goes with the weights wherever they go.

    Attributes:
      step: steps done, int32.
      params: trained weights.
      frozen: weights that are never trained.
      ema: running mean of `params`, which generation uses.
      opt_state: of the optimizer.
      codec: parameters of the audio codec.
    """

    step: Leaf
    params: Params
    frozen: Params
    ema: Params
    opt_state: optax.OptState
    codec: codec.LatentStats


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Draws:
    """The random numbers of one step, drawn for the whole batch at once.

    Attributes:
      noise: x_0 [b, t, c].
      t: flow time [b], uniform.
      keep: 1 where a clip keeps its conditions, else 0; [b].
      frame_masks: for each of `MASKABLE`, 1 where a frame is seen, else 0; [b, t].
    """

    noise: jax.Array
    t: jax.Array
    keep: jax.Array
    frame_masks: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The static half of training: everything that is not in the state.

    Attributes:
      spec: geometry of the clips.
      model: sizes of the network.
      train: the `train` section of the config.
      seed: of every draw.
    """

    spec: ClipSpec
    model: ModelConfig
    train: ml_collections.ConfigDict
    seed: int

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict) -> "Recipe":
        """As a config file describes it."""
        spec = ClipSpec(**config.clip)
        return cls(spec, ModelConfig.from_config(config.model), config.train, config.seed)

    @property
    def schedule(self) -> optax.Schedule:
        """Learning rate by steps done: linear warm-up, then constant or linear decay to zero."""
        peak, warmup = self.train.learning_rate, self.train.warmup_steps
        after = {
            "constant": optax.constant_schedule(peak),
            "linear": optax.linear_schedule(peak, 0.0, max(1, self.train.decay_steps - warmup)),
        }
        rise = optax.linear_schedule(0.0, peak, warmup)
        return optax.join_schedules([rise, after[self.train.schedule]], [warmup])

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """AdamW, after clipping by global norm where that is asked for (0 means never)."""
        adamw = optax.adamw(
            self.schedule,
            b1=self.train.beta1,
            b2=self.train.beta2,
            eps=1e-8,
            weight_decay=self.train.weight_decay,
        )
        limit = self.train.grad_clip_norm
        return optax.chain(optax.clip_by_global_norm(limit), adamw) if limit else adamw

    def abstract_model(self) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
        """Definition, trained weights and frozen weights of the network, shapes only."""
        network = nnx.eval_shape(lambda: VSSFlow(self.model, rngs=nnx.Rngs(self.seed)))
        return _split(network)

    def init(self, codec_params: codec.LatentStats) -> TrainState:
        """The state before the first step."""
        network = VSSFlow(self.model, rngs=nnx.Rngs(self.seed))
        _, trained, frozen = _split(network)
        params = nnx.to_pure_dict(trained)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen=nnx.to_pure_dict(frozen),
            ema=jax.tree.map(jnp.copy, params),
            opt_state=self.optimizer.init(params),
            codec=codec_params,
        )

    def abstract_state(self, layout: Layout) -> TrainState:
        """Shapes, dtypes and shardings of the state."""
        stats = jax.ShapeDtypeStruct((LATENT_CHANNELS,), jnp.float32)
        shapes = jax.eval_shape(self.init, codec.LatentStats(stats, stats))
        _, trained, _ = self.abstract_model()
        placed = param_shardings(trained, layout)
        whole = layout.replicated
        shardings = TrainState(
            step=whole,
            params=placed,
            frozen=jax.tree.map(lambda _: whole, shapes.frozen),
            ema=placed,
            opt_state=optax.tree_utils.tree_map_params(
                self.optimizer,
                lambda _, sharding: sharding,
                shapes.opt_state,
                placed,
                transform_non_params=lambda _: whole,
            ),
            codec=codec.LatentStats(whole, whole),
        )
        return jax.tree.map(
            lambda s, sharding: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding),
            shapes,
            shardings,
        )


def _split(network: VSSFlow) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
    parts: Any = nnx.split(network, nnx.Param, ...)
    return parts


def shardings_of(abstract: TrainState) -> TrainState:
    """The shardings of an abstract state."""
    return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def draw(recipe: Recipe, step: jax.Array, batch_size: int) -> Draws:
    """The random numbers of step `step` (from 0): the same on any mesh."""
    key = jax.random.fold_in(jax.random.key(recipe.seed), step)
    noise_key, time_key, keep_key, ratio_key, *mask_keys = jax.random.split(key, 4 + len(MASKABLE))
    frames = recipe.spec.latent_frames
    ratios = jnp.array(recipe.train.mask_ratios or (0.0,))
    ratio = jax.random.choice(ratio_key, ratios)  # one for the whole batch
    draws = batch_size if recipe.train.condition_dropout_per == "example" else 1
    keep = jax.random.bernoulli(keep_key, 1 - recipe.train.condition_dropout, (draws,))
    return Draws(
        noise=jax.random.normal(noise_key, (batch_size, frames, recipe.model.latent_channels)),
        t=jax.random.uniform(time_key, (batch_size,)),
        keep=jnp.broadcast_to(keep, (batch_size,)),
        frame_masks={
            name: jax.random.bernoulli(mask_key, 1 - ratio, (batch_size, frames))
            for name, mask_key in zip(MASKABLE, mask_keys, strict=True)
        },
    )


def make_train_step(recipe: Recipe) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The step as a pure function, to be jitted by the caller with its shardings."""
    definition, _, _ = recipe.abstract_model()
    accumulate = recipe.train.accumulation_steps

    def loss_sum(
        params: Params, frozen: Params, latent: jax.Array, batch: Batch, draws: Draws
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        model = nnx.merge(definition, params, frozen)
        conditioning = model.encode(batch, frame_masks=draws.frame_masks, keep=draws.keep)
        losses = flow.loss(
            lambda x, t: model(x, t, conditioning), draws.noise, latent, draws.t
        )  # [b]
        return jnp.sum(losses), flow.loss_by_time(losses, draws.t)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        waveform = batch["waveform"]
        clips = waveform.shape[0]
        latent = codec.encode(state.codec, mel.log_mel(waveform, recipe.spec.mel_frames))
        draws = draw(recipe, state.step, clips)
        features = {name: value for name, value in batch.items() if name != "waveform"}

        def gradients(part: tuple[jax.Array, Batch, Draws]) -> Any:
            return jax.value_and_grad(loss_sum, has_aux=True)(state.params, state.frozen, *part)

        def add(total: Any, part: tuple[jax.Array, Batch, Draws]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, gradients(part)), None

        # Clips i, i + k, i + 2 k, ... make up part i: each part stays spread over the devices.
        parts = jax.tree.map(
            lambda x: x.reshape(clips // accumulate, accumulate, *x.shape[1:]).swapaxes(0, 1),
            (latent, features, draws),
        )
        first = jax.tree.map(lambda x: x[0], parts)
        rest = jax.tree.map(lambda x: x[1:], parts)
        ((total, (time_sum, time_count)), grads), _ = jax.lax.scan(add, gradients(first), rest)
        grads = jax.tree.map(lambda g: g / clips, grads)

        updates, opt_state = recipe.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        # A young average must not remember the random start.
        decay = jnp.minimum(recipe.train.ema_decay, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(params, state.ema, 1 - decay)
        metrics = {
            "loss": total / clips,
            "grad_norm": optax.global_norm(grads),
            "learning_rate": recipe.schedule(state.step),
        } | {f"loss_t{i}": time_sum[i] / time_count[i] for i in range(flow.TIME_BINS)}
        return (
            dataclasses.replace(
                state, step=state.step + 1, params=params, ema=ema, opt_state=opt_state
            ),
            metrics,
        )

    return step
