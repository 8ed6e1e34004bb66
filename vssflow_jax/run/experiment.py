"""The static half of a run, and the state that a step changes."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx, traverse_util

from vssflow_jax.audio.codec import Codec, CodecParams, make_codec
from vssflow_jax.clip import ClipSpec
from vssflow_jax.input_pipeline.streams import STREAMS
from vssflow_jax.models import attention
from vssflow_jax.models.lora import Lora
from vssflow_jax.models.transformer import OFFLOAD
from vssflow_jax.models.vssflow import ModelConfig, VSSFlow, cast_maps
from vssflow_jax.parallel.sharding import (
    MeshRules,
    like_weights,
    make_mesh_rules,
    param_shardings,
)
from vssflow_jax.run.optimizer import keeps_mean, make_optimizer
from vssflow_jax.utils.errors import UserError

if TYPE_CHECKING:
    import ml_collections

Leaf = Any  # an array, or its shape, or its sharding
Params = Any  # nested dicts of arrays, as nnx.to_pure_dict makes them
Batch = dict[str, jax.Array]
AVERAGED, LAST = "ema", "params"
WEIGHTS_OF_A_RUN = (AVERAGED, LAST)
"""Parts of a state that hold trained weights: their running mean, and those of the last step."""

WATCHED = ("loss", "grad_norm")
"""What tells a bad step (`train.bad_steps`)."""
RECENT_STEPS = 128
"""From how many steps it is known what is usual."""

STOP, SKIP, REWIND = AFTER_BAD_STEPS = ("stop", "skip", "rewind")
"""What a run does about a bad step: end, go on, or go back to its last whole checkpoint and pass
over the batch."""

FAN_IN, REFERENCE = INITS = ("fan_in", "reference")
"""How maps around the blocks are drawn: each by its own channels and the last one zero, or as the
reference draws them (`models.convert_vssflow.drawn_as_reference`)."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class InferenceState:
    """What is used of a trained model.

    Attributes:
      step: steps that it was trained for, int32.
      params: trained weights: their running mean, if one is kept.
      frozen: weights that were not trained.
      codec: parameters of the audio codec.
    """

    step: Leaf
    params: Params
    frozen: Params
    codec: CodecParams


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a step changes, and what goes with the weights wherever they go.

    Attributes:
      step: steps done, int32.
      params: trained weights: the network's, or adapters of some of them.
      frozen: weights that are not trained.
      ema: running mean of `params`, or the optimizer's own; empty where none is kept.
      opt_state: state of the optimizer.
      codec: parameters of the audio codec.
      recent: losses and norms of gradients of the newest `RECENT_STEPS` steps, that of step i at
        place i modulo their number, NaN where there is none.
    """

    step: Leaf
    params: Params
    frozen: Params
    ema: Params
    opt_state: optax.OptState
    codec: CodecParams
    recent: dict[str, Leaf] = dataclasses.field(default_factory=dict)

    @property
    def averaged(self) -> InferenceState:
        """What to generate with: the mean of the weights, if one is kept."""
        return InferenceState(self.step, self.ema or self.params, self.frozen, self.codec)


class Network(NamedTuple):
    """A network without its weights.

    Attributes:
      definition: merged with weights it is the network.
      trained: shapes of the weights that are trained.
      frozen: shapes of those that never are.
    """

    definition: nnx.GraphDef
    trained: nnx.State
    frozen: nnx.State


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The static half of a run: everything that is not in the state, each part made once.

    Attributes:
      spec: geometry of the clips.
      model: sizes of the network, fitted to the devices.
      codec: turns log-mels into the latents that are learned, and back.
      train: the `train` section of the config.
      seed: seed of every draw.
      mesh_rules: the devices, and where arrays lie on them.
    """

    spec: ClipSpec
    model: ModelConfig
    codec: Codec
    train: "ml_collections.ConfigDict"
    seed: int
    mesh_rules: MeshRules

    @classmethod
    def from_config(
        cls,
        config: "ml_collections.ConfigDict",
        *,
        devices: Sequence[jax.Device] | None = None,
        codec: Codec | None = None,
    ) -> "Experiment":
        """The experiment that a config file describes.

        Args:
          config: the whole of it, checked (`vssflow_jax.config.check`).
          devices: devices to lay out; those that JAX sees, if None.
          codec: in place of the config's.

        Raises:
          UserError: sizes that do not go together or with the mesh, attention or rematerialisation
            that does not run on the devices, or a codec whose weights are not there.
        """
        mesh_rules = make_mesh_rules(config.sharding, devices)
        experiment = cls(
            spec=ClipSpec(**config.clip),
            model=ModelConfig.from_config(config.model).fitted(mesh_rules),
            codec=codec or make_codec(config.codec),
            train=config.train,
            seed=config.seed,
            mesh_rules=mesh_rules,
        )
        experiment._check_mesh()
        transformer = experiment.model.transformer
        attention.check(
            transformer.attention,
            experiment.mesh_rules,
            experiment.model.dtype,
            transformer.head_dim,
        )
        if transformer.remat == OFFLOAD and not experiment.mesh_rules.has_host_memory:
            kind = experiment.mesh_rules.mesh.devices.flat[0].device_kind
            raise UserError(
                f"model.transformer.remat is '{OFFLOAD}', which keeps activations in the memory of "
                f"the host, but JAX {jax.__version__} does not reach it from devices of kind "
                f"'{kind}'; choose another"
            )
        return experiment

    def of_window(self, spec: ClipSpec) -> "Experiment":
        """The same for clips cut to another window.

        Raises:
          UserError: its tokens do not divide over the mesh.
        """
        experiment = self._of_same_network(spec=spec)
        experiment._check_mesh()
        return experiment

    def trained_by(self, train: "ml_collections.ConfigDict") -> "Experiment":
        """The same network by the `train` section of another config."""
        return self._of_same_network(train=train)

    def _of_same_network(self, **changes: Any) -> "Experiment":
        """With changes that no weight depends on."""
        experiment = dataclasses.replace(self, **changes)
        vars(experiment)["network"] = self.network
        return experiment

    def _check_mesh(self) -> None:
        axis_size, transformer = self.mesh_rules.axis_size, self.model.transformer
        tokens, devices = transformer.tokens(self.spec.latent_frames), axis_size("tokens")
        if tokens % devices:
            raise UserError(
                f"{tokens} tokens do not divide over {devices} devices of mesh axis 'sequence'; "
                f"set --config.model.transformer.token_multiple={devices}"
            )

    def check_batch(self) -> None:
        """Checks that the batch divides over the devices.

        Raises:
          UserError: the number of clips in a batch does not divide.
        """
        clips = self.train.accumulation_steps * self.mesh_rules.batch_devices
        if self.train.batch_size % clips:
            raise UserError(
                f"train.batch_size is {self.train.batch_size}; it must be a multiple of {clips} "
                f"({self.train.accumulation_steps} accumulation steps x "
                f"{self.mesh_rules.batch_devices} devices)"
            )

    # ----------------------------------------------------------------------------- the network
    @functools.cached_property
    def network(self) -> Network:
        """The network without its weights."""
        return _without_weights(self._make_network)

    @functools.cached_property
    def unplaced_network(self) -> Network:
        """One for clips that are each taken by themselves.

        It leaves it to the compiler where activations lie and how attention is computed.
        """
        transformer = dataclasses.replace(self.model.transformer, attention="xla")
        model = dataclasses.replace(self.model, transformer=transformer)
        return _without_weights(lambda: VSSFlow(model, rngs=nnx.Rngs(self.seed)))

    def _make_network(self) -> VSSFlow:
        return VSSFlow(self.model, self.mesh_rules, rngs=nnx.Rngs(self.seed))

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimizer of the `train` section."""
        return make_optimizer(self.train)

    # ------------------------------------------------------------------------------- the state
    def init(self, codec_params: CodecParams) -> TrainState:
        """The state before the first step, of random weights."""
        made = self._make_network()
        trained, frozen = nnx.state(made, nnx.Param), nnx.state(made, nnx.Not(nnx.Param))
        return self.state(nnx.to_pure_dict(trained), nnx.to_pure_dict(frozen), codec_params)

    def state(
        self,
        params: Params,
        frozen: Params,
        codec_params: CodecParams,
        adapters: Params | None = None,
    ) -> TrainState:
        """The state before the first step.

        Args:
          params: weights of the network that can be trained.
          frozen: its other weights.
          codec_params: parameters of the codec.
          adapters: those to start from, where adapters are trained; new ones, if None.
        """
        if self.lora:
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
            frozen = joined(params, frozen)
            new = self.lora.init(jax.random.key(self.seed), self.lora.abstract(shapes))
            params = new if adapters is None else adapters
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen=frozen,
            ema=jax.tree.map(jnp.copy, params) if keeps_mean(self.train) else {},
            opt_state=self.optimizer.init(params),
            codec=codec_params,
            recent={name: jnp.full(RECENT_STEPS, jnp.nan) for name in WATCHED},
        )

    def merge(
        self,
        params: Params,
        frozen: Params,
        network: Network | None = None,
        *,
        to_train: bool = False,
    ) -> VSSFlow:
        """The network with weights, its maps in the dtype that they are multiplied in.

        Args:
          params: those of a `TrainState` or an `InferenceState`, or `TrainState.ema`.
          frozen: `frozen` of the same.
          network: `unplaced_network`, if that is wanted.
          to_train: whether gradients are taken. They are of the dtype of the maps, so that these
            stay as fine as `sharding.reduce_dtype` asks for.
        """
        finest = self.mesh_rules.reduce_dtype if to_train else self.model.dtype
        dtype = jnp.promote_types(self.model.dtype, finest)
        weights = cast_maps(self.weights(params, frozen), dtype)
        return nnx.merge((network or self.network).definition, weights)

    def weights(self, params: Params, frozen: Params) -> Params:
        """All weights of the network, nested, adapters added to what they are for."""
        return self.lora.merged(frozen, params) if self.lora else joined(params, frozen)

    @functools.cached_property
    def lora(self) -> Lora | None:
        """The adapters that are trained in place of the network's weights, if there are any."""
        return Lora.from_config(self.train.lora)

    @functools.cached_property
    def abstract_weights(self) -> tuple[Params, Params]:
        """Shapes, dtypes and shardings of the weights that can be trained, and of the others."""
        whole = self.mesh_rules.replicated
        params, frozen = map(nnx.to_pure_dict, (self.network.trained, self.network.frozen))
        placed = param_shardings(self.network.trained, self.mesh_rules)
        return (
            jax.tree.map(_leaf, params, placed),
            jax.tree.map(lambda leaf: _leaf(leaf, whole), frozen),
        )

    @functools.cached_property
    def param_shardings(self) -> Params:
        """Shardings of the trained weights."""
        params, _ = self.abstract_weights
        trained = self.lora.abstract(params) if self.lora else params
        return jax.tree.map(lambda leaf: leaf.sharding, trained)

    @functools.cached_property
    def abstract_state(self) -> TrainState:
        """Shapes, dtypes and shardings of the state."""
        params, frozen = self.abstract_weights
        shapes = jax.eval_shape(self.state, params, frozen, self.codec.abstract)
        placed, whole = self.param_shardings, self.mesh_rules.replicated
        kept = joined(params, frozen) if self.lora else frozen
        shardings = TrainState(
            step=whole,
            params=placed,
            frozen=jax.tree.map(lambda leaf: leaf.sharding, kept),
            ema=placed if keeps_mean(self.train) else {},
            opt_state=like_weights(shapes.opt_state, jax.tree.map(_leaf, shapes.params, placed)),
            codec=jax.tree.map(lambda _: whole, shapes.codec),
            recent=jax.tree.map(lambda _: whole, shapes.recent),
        )
        return jax.tree.map(_leaf, shapes, shardings)

    @property
    def state_shardings(self) -> TrainState:
        """Shardings of the state."""
        return jax.tree.map(lambda leaf: leaf.sharding, self.abstract_state)

    def abstract_batch(self, batch_size: int, latents: str = "online") -> dict[str, Leaf]:
        """Shapes, dtypes and shardings of a batch with sounds, or, "offline", posteriors."""
        frames = self.spec.latent_frames
        arrays: dict[str, tuple[tuple[int, ...], Any]] = {
            name: ((frames, width) if STREAMS[name].rate else (width,), STREAMS[name].dtype)
            for name, width in self.model.feature_widths.items()
        }
        arrays |= {"phonemes": ((frames,), jnp.int32), "frames": ((), jnp.int32)}
        if latents == "online":
            arrays["waveform"] = ((self.spec.num_samples,), jnp.float32)
        else:
            arrays["posterior"] = ((frames, 2 * self.model.latent_channels), jnp.float32)
        return {
            name: jax.ShapeDtypeStruct((batch_size, *shape), dtype, sharding=self.mesh_rules.batch)
            for name, (shape, dtype) in arrays.items()
        }


def _leaf(leaf: Leaf, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def joined(*weights: Params) -> Params:
    """Nested weights, from several parts of the same network."""
    parts = [traverse_util.flatten_dict(part) for part in weights]
    return traverse_util.unflatten_dict({k: v for part in parts for k, v in part.items()})


def _without_weights(network: Callable[[], VSSFlow]) -> Network:
    made = nnx.eval_shape(network)
    trained, frozen = nnx.state(made, nnx.Param), nnx.state(made, nnx.Not(nnx.Param))
    return Network(nnx.graphdef(made), trained, frozen)
