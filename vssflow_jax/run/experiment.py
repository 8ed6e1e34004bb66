"""The static half of a run, and the state that a step changes."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import nnx

from vssflow_jax.audio.codec import Codec, CodecParams, make_codec
from vssflow_jax.clip import ClipSpec
from vssflow_jax.models import attention
from vssflow_jax.models.vssflow import ModelConfig, VSSFlow
from vssflow_jax.parallel.sharding import MeshRules, make_mesh_rules, param_shardings
from vssflow_jax.run.optimizer import optimizer
from vssflow_jax.utils.errors import UserError

Leaf = Any  # an array, or its shape, or its sharding

Params = Any  # nested dicts of arrays, as nnx.to_pure_dict makes them

Batch = dict[str, jax.Array]

AVERAGED, LAST = "ema", "params"

WEIGHTS_OF_A_RUN = (AVERAGED, LAST)
"""Parts of a state that hold trained weights: their running mean, and those of the last step."""

FAN_IN, REFERENCE = INITS = ("fan_in", "reference")
"""How maps around the blocks are drawn: each by its own channels and the last one zero, or as the
reference draws them (`interop.vssflow.drawn_as_reference`)."""


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


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The static half of training: everything that is not in the state.

    Attributes:
      spec: geometry of the clips.
      model: sizes of the network.
      codec: that the latents are of.
      train: the `train` section of the config.
      seed: of every draw.
      mesh_rules: of the devices, and where arrays lie on them.
    """

    spec: ClipSpec
    model: ModelConfig
    codec: Codec
    train: ml_collections.ConfigDict
    seed: int
    mesh_rules: MeshRules

    @classmethod
    def from_config(
        cls,
        config: ml_collections.ConfigDict,
        *,
        devices: Sequence[jax.Device] | None = None,
        codec: Codec | None = None,
    ) -> "Experiment":
        """As a config file describes it.

        Args:
          config: the whole of it.
          devices: to lay out; those that JAX sees, if None.
          codec: in place of the config's.

        Raises:
          UserError: sizes that do not go together or with the mesh, attention that does not run on
            the devices, or a codec whose weights are not there.
        """
        experiment = cls(
            spec=ClipSpec(**config.clip),
            model=ModelConfig.from_config(config.model),
            codec=codec or make_codec(config.codec),
            train=config.train,
            seed=config.seed,
            mesh_rules=make_mesh_rules(config.sharding, devices),
        )
        experiment._check_mesh()
        model = experiment.model
        attention.check(
            model.transformer.attention,
            experiment.mesh_rules,
            model.dtype,
            model.transformer.head_dim,
        )
        return experiment

    def of_window(self, spec: ClipSpec) -> "Experiment":
        """The same for clips cut to another window.

        Raises:
          UserError: its tokens do not divide over the mesh.
        """
        experiment = dataclasses.replace(self, spec=spec)
        experiment._check_mesh()
        return experiment

    def _check_mesh(self) -> None:
        parts, transformer = self.mesh_rules.axis_size, self.model.transformer
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
        clips = self.train.accumulation_steps * self.mesh_rules.batch_devices
        if self.train.batch_size % clips:
            raise UserError(
                f"train.batch_size is {self.train.batch_size}; it must be a multiple of {clips} "
                f"({self.train.accumulation_steps} accumulation steps x "
                f"{self.mesh_rules.batch_devices} devices)"
            )

    def abstract_model(self, *, placed: bool = True) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
        """Definition, trained weights and frozen weights of the network, shapes only.

        Unless it is `placed` the definition leaves it to the compiler where activations lie.
        """
        return _split(nnx.eval_shape(lambda: self._network(self.mesh_rules if placed else None)))

    def _network(self, mesh_rules: MeshRules | None) -> VSSFlow:
        return VSSFlow(self.model, mesh_rules, rngs=nnx.Rngs(self.seed))

    def init(self, codec_params: CodecParams) -> TrainState:
        """The state before the first step."""
        _, trained, frozen = _split(self._network(self.mesh_rules))
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
        return param_shardings(trained, self.mesh_rules)

    def abstract_state(self) -> TrainState:
        """Shapes, dtypes and shardings of the state."""
        shapes = jax.eval_shape(self.init, self.codec.abstract)
        placed = self.param_shardings()
        whole = self.mesh_rules.replicated
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
            name: jax.ShapeDtypeStruct((batch_size, *shape), dtype, sharding=self.mesh_rules.batch)
            for name, (shape, dtype) in arrays.items()
        }


def _split(network: VSSFlow) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
    parts: Any = nnx.split(network, nnx.Param, ...)
    return parts


def shardings_of(abstract: TrainState) -> TrainState:
    """The shardings of an abstract state."""
    return jax.tree.map(lambda leaf: leaf.sharding, abstract)
