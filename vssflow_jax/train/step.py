"""One step of training as a pure function of (state, batch), and the state that it carries.

The loop jits it to run; a plan compiles the very same function to count.
Letters: b clips, t latent frames, c latent channels.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import nnx

from vssflow_jax.audio import mel
from vssflow_jax.audio.autoencoder import Posterior
from vssflow_jax.audio.codec import Codec, CodecParams, make_codec
from vssflow_jax.clip import ClipSpec
from vssflow_jax.flow import path
from vssflow_jax.models import attention
from vssflow_jax.models.conditions import MASKABLE
from vssflow_jax.models.vssflow import ModelConfig, VSSFlow
from vssflow_jax.parallel.sharding import Layout, make_layout, param_shardings
from vssflow_jax.utils.errors import UserError

Leaf = Any  # an array, or its shape, or its sharding
Params = Any  # nested dicts of arrays, as nnx.to_pure_dict makes them
Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]

AVERAGED, LAST = "ema", "params"
WEIGHTS_OF_A_RUN = (AVERAGED, LAST)
"""Parts of a state that hold trained weights: their running mean, and those of the last step."""
FAN_IN, REFERENCE = INITS = ("fan_in", "reference")
"""How maps around the blocks are drawn: each by its own channels and the last one zero, or as the
reference draws them (`interop.vssflow.drawn_as_reference`)."""

_LATENT_NOISE = 1  # folded into a step's key, which is split for the other draws


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a step changes, and what goes with the weights wherever they go.

    Attributes:
      step: steps done, int32.
      params: trained weights.
      frozen: weights that are never trained.
      ema: running mean of `params`; empty where none is kept.
      opt_state: of the optimizer.
      codec: parameters of the audio codec.
    """

    step: Leaf
    params: Params
    frozen: Params
    ema: Params
    opt_state: optax.OptState
    codec: CodecParams

    @property
    def averaged(self) -> Params:
        """The weights to generate with: the mean, if one is kept."""
        return self.ema or self.params


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Draws:
    """The random numbers of one step, drawn for the whole batch at once.

    Attributes:
      noise: x_0 [b, t, c].
      latent_noise: that picks the latents x_1 of what the codec knows of them [b, t, c].
      t: flow time [b], uniform.
      keep: 1 where a clip keeps its conditions, else 0; [b].
      frame_masks: for each of `MASKABLE`, 1 where a frame is seen, else 0; [b, t].
    """

    noise: jax.Array
    latent_noise: jax.Array
    t: jax.Array
    keep: jax.Array
    frame_masks: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The static half of training: everything that is not in the state.

    Attributes:
      spec: geometry of the clips.
      model: sizes of the network.
      codec: that the latents are of.
      train: the `train` section of the config.
      seed: of every draw.
      layout: of the devices, and where arrays lie on them.
    """

    spec: ClipSpec
    model: ModelConfig
    codec: Codec
    train: ml_collections.ConfigDict
    seed: int
    layout: Layout

    @classmethod
    def from_config(
        cls,
        config: ml_collections.ConfigDict,
        *,
        devices: Sequence[jax.Device] | None = None,
        codec: Codec | None = None,
    ) -> "Recipe":
        """As a config file describes it.

        Args:
          config: the whole of it.
          devices: to lay out; those that JAX sees, if None.
          codec: in place of the config's.

        Raises:
          UserError: sizes that do not go together or with the mesh, attention that does not run on
            the devices, or a codec whose weights are not there.
        """
        recipe = cls(
            spec=ClipSpec(**config.clip),
            model=ModelConfig.from_config(config.model),
            codec=codec or make_codec(config.codec),
            train=config.train,
            seed=config.seed,
            layout=make_layout(config.sharding, devices),
        )
        recipe._check_mesh()
        model = recipe.model
        attention.check(
            model.transformer.attention, recipe.layout, model.dtype, model.transformer.head_dim
        )
        return recipe

    def of_window(self, spec: ClipSpec) -> "Recipe":
        """The same for clips cut to another window.

        Raises:
          UserError: its tokens do not divide over the mesh.
        """
        recipe = dataclasses.replace(self, spec=spec)
        recipe._check_mesh()
        return recipe

    def _check_mesh(self) -> None:
        parts, transformer = self.layout.parts, self.model.transformer
        for axis, size in (("heads", transformer.heads), ("kv_heads", transformer.kv_heads)):
            if size % parts(axis):
                raise UserError(
                    f"model.transformer.{axis} is {size}, which does not divide over "
                    f"{parts(axis)} devices; sharding.mesh.tensor may be a divisor of "
                    f"{math.gcd(transformer.heads, transformer.kv_heads)}"
                )
        tokens = transformer.tokens(self.spec.latent_frames)
        if tokens % parts("tokens"):
            raise UserError(
                f"{tokens} tokens do not divide over {parts('tokens')} devices of mesh axis "
                f"'sequence'; set --config.model.transformer.token_multiple={parts('tokens')}"
            )

    def check_batch(self) -> None:
        """See that the batch divides over the devices.

        Raises:
          UserError: it does not.
        """
        clips = self.train.accumulation_steps * self.layout.batch_devices
        if self.train.batch_size % clips:
            raise UserError(
                f"train.batch_size is {self.train.batch_size}; it must be a multiple of {clips} "
                f"({self.train.accumulation_steps} accumulation steps x "
                f"{self.layout.batch_devices} devices)"
            )

    def abstract_model(self, *, placed: bool = True) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
        """Definition, trained weights and frozen weights of the network, shapes only.

        Unless it is `placed` the definition leaves it to the compiler where activations lie.
        """
        return _split(nnx.eval_shape(lambda: self._network(self.layout if placed else None)))

    def _network(self, layout: Layout | None) -> VSSFlow:
        return VSSFlow(self.model, layout, rngs=nnx.Rngs(self.seed))

    def init(self, codec_params: CodecParams) -> TrainState:
        """The state before the first step."""
        _, trained, frozen = _split(self._network(self.layout))
        params = nnx.to_pure_dict(trained)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen=nnx.to_pure_dict(frozen),
            ema=jax.tree.map(jnp.copy, params) if self.train.ema_decay else {},
            opt_state=optimizer(self.train).init(params),
            codec=codec_params,
        )

    def param_shardings(self) -> Params:
        """Shardings of the trained weights."""
        _, trained, _ = self.abstract_model()
        return param_shardings(trained, self.layout)

    def abstract_state(self) -> TrainState:
        """Shapes, dtypes and shardings of the state."""
        shapes = jax.eval_shape(self.init, self.codec.abstract)
        placed = self.param_shardings()
        whole = self.layout.replicated
        shardings = TrainState(
            step=whole,
            params=placed,
            frozen=jax.tree.map(lambda _: whole, shapes.frozen),
            ema=placed if self.train.ema_decay else {},
            opt_state=optax.tree_utils.tree_map_params(
                optimizer(self.train),
                lambda _, sharding: sharding,
                shapes.opt_state,
                placed,
                transform_non_params=lambda _: whole,
            ),
            codec=jax.tree.map(lambda _: whole, shapes.codec),
        )
        return jax.tree.map(
            lambda s, sharding: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding),
            shapes,
            shardings,
        )

    def abstract_batch(self, batch_size: int, latents: str = "online") -> dict[str, Leaf]:
        """Shapes, dtypes and shardings of a batch with sounds, or, "offline", posteriors."""
        frames, widths = self.spec.latent_frames, self.model.feature_widths
        arrays: dict[str, tuple[tuple[int, ...], Any]] = {
            **{name: ((frames, width), jnp.float16) for name, width in widths.items()},
            "speaker": ((widths["speaker"],), jnp.float32),
            "phonemes": ((frames,), jnp.int32),
            "frames": ((), jnp.int32),
        }
        if latents == "online":
            arrays["waveform"] = ((self.spec.num_samples,), jnp.float32)
        else:
            arrays["posterior"] = ((frames, 2 * self.model.latent_channels), jnp.float32)
        return {
            name: jax.ShapeDtypeStruct((batch_size, *shape), dtype, sharding=self.layout.batch)
            for name, (shape, dtype) in arrays.items()
        }


def schedule(train: ml_collections.ConfigDict) -> optax.Schedule:
    """Learning rate by steps done: linear warm-up, then constant or linear decay to zero."""
    peak, warmup = train.learning_rate, train.warmup_steps
    end = train.decay_steps or train.steps
    after = {
        "constant": optax.constant_schedule(peak),
        "linear": optax.linear_schedule(peak, 0.0, max(1, end - warmup)),
    }
    rise = optax.linear_schedule(0.0, peak, warmup)
    return optax.join_schedules([rise, after[train.schedule]], [warmup])


def optimizer(train: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """AdamW, after clipping by global norm where that is asked for (0 means never)."""
    adamw = optax.adamw(
        schedule(train),
        b1=train.beta1,
        b2=train.beta2,
        eps=1e-8,
        weight_decay=train.weight_decay,
    )
    limit = train.grad_clip_norm
    return optax.chain(optax.clip_by_global_norm(limit), adamw) if limit else adamw


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
    tosses = batch_size if recipe.train.condition_dropout_per == "example" else 1
    keep = jax.random.bernoulli(keep_key, 1 - recipe.train.condition_dropout, (tosses,))
    latents = (batch_size, frames, recipe.model.latent_channels)
    draws = Draws(
        noise=jax.random.normal(noise_key, latents),
        latent_noise=jax.random.normal(jax.random.fold_in(key, _LATENT_NOISE), latents),
        t=jax.random.uniform(time_key, (batch_size,)),
        keep=jnp.broadcast_to(keep, (batch_size,)),
        frame_masks={
            name: jax.random.bernoulli(mask_key, 1 - ratio, (batch_size, frames))
            for name, mask_key in zip(MASKABLE, mask_keys, strict=True)
        },
    )
    return jax.tree.map(lambda x: recipe.layout.place(x, "batch"), draws)


def latents(recipe: Recipe, params: CodecParams, batch: Batch, noise: jax.Array) -> jax.Array:
    """What the flow learns to end at: latents of the clips' sounds, [b, t, c].

    A batch has the sounds, or what the codec knows of their latents: `posterior` [b, t, 2 c], means
    and log-variances. The noise [b, t, c] picks one of them.
    """
    if "posterior" in batch:
        known = Posterior(*jnp.split(batch["posterior"], 2, axis=-1))
    else:
        log_mel = mel.log_mel(batch["waveform"], recipe.spec.mel_frames)
        known = recipe.codec.encode(params, log_mel)
    return known.sample(noise)


def make_train_step(recipe: Recipe) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The step as a pure function; see `jit_train_step`."""
    definition, _, _ = recipe.abstract_model()
    placed = recipe.param_shardings()
    accumulate = recipe.train.accumulation_steps

    def loss_sum(
        params: Params, frozen: Params, latent: jax.Array, batch: Batch, draws: Draws
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        model = nnx.merge(definition, params, frozen)
        conditioning = model.encode(batch, frame_masks=draws.frame_masks, keep=draws.keep)
        own_frames = batch["frames"] if recipe.train.loss_mask == "clip" else None
        losses = path.loss(
            lambda x, t: model(x, t, conditioning), draws.noise, latent, draws.t, own_frames
        )  # [b]
        return jnp.sum(losses), path.loss_by_time(losses, draws.t)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        clips = batch["speaker"].shape[0]
        draws = draw(recipe, state.step, clips)

        def gradients(part: tuple[Batch, Draws]) -> Any:
            batch, draws = part
            latent = latents(recipe, state.codec, batch, draws.latent_noise)
            gradient = jax.value_and_grad(loss_sum, has_aux=True)
            sums, grads = gradient(state.params, state.frozen, latent, batch, draws)
            return sums, recipe.layout.constrain(grads, placed)

        def add(total: Any, part: tuple[Batch, Draws]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, gradients(part)), None

        # Clips i, i + k, i + 2 k, ... make up part i: each part stays spread over the devices.
        parts = jax.tree.map(
            lambda x: x.reshape(clips // accumulate, accumulate, *x.shape[1:]).swapaxes(0, 1),
            (batch, draws),
        )
        first = jax.tree.map(lambda x: x[0], parts)
        rest = jax.tree.map(lambda x: x[1:], parts)
        ((total, (time_sum, time_count)), grads), _ = jax.lax.scan(add, gradients(first), rest)
        grads = jax.tree.map(lambda g: g / clips, grads)

        updates, opt_state = optimizer(recipe.train).update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema:
            # A young average must not remember the random start.
            decay = jnp.minimum(recipe.train.ema_decay, (1 + state.step) / (10 + state.step))
            ema = optax.incremental_update(params, ema, 1 - decay)
        metrics = {
            "loss": total / clips,
            "grad_norm": optax.global_norm(grads),
            "learning_rate": schedule(recipe.train)(state.step),
        } | {f"loss_t{i}": time_sum[i] / time_count[i] for i in range(path.TIME_BINS)}
        return (
            dataclasses.replace(
                state, step=state.step + 1, params=params, ema=ema, opt_state=opt_state
            ),
            metrics,
        )

    return step


def jit_train_step(recipe: Recipe) -> Any:
    """The step jitted with its shardings: (state, batch) to (state, metrics), the state donated."""
    state, whole = shardings_of(recipe.abstract_state()), recipe.layout.replicated
    return jax.jit(
        make_train_step(recipe),
        in_shardings=(state, recipe.layout.batch),
        out_shardings=(state, whole),
        donate_argnums=0,
    )
