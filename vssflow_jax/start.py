"""The state before the first step: random weights, or imported ones."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vssflow_jax.audio import mel
from vssflow_jax.clip import ClipSpec
from vssflow_jax.interop import vssflow
from vssflow_jax.model import ModelConfig
from vssflow_jax.train_step import Recipe, TrainState, shardings_of

Batches = Callable[[], Iterable[dict[str, np.ndarray]]]

SAMPLE_BATCHES = 8  # that a codec may be fitted to


def initial_state(recipe: Recipe, abstract: TrainState, batches: Batches) -> TrainState:
    """The state that a run starts from.

    Args:
      recipe: of the run; `train.init_from` names a folder of imported weights, or is empty.
      abstract: shapes and shardings of the state.
      batches: makes those of the training part; called only where a codec is fitted to them.

    Raises:
      UserError: weights that are not there, or are of another model.
    """
    codec_params = recipe.codec.prepare(lambda: sample_log_mels(batches(), recipe.spec))
    state = jax.jit(recipe.init, out_shardings=shardings_of(abstract))(codec_params)
    folder = recipe.train.init_from
    return with_weights(Path(folder), recipe.model, state, abstract) if folder else state


def sample_log_mels(batches: Iterable[dict[str, np.ndarray]], spec: ClipSpec) -> jax.Array:
    """Log-mels [b, n, m] of the first `SAMPLE_BATCHES` training batches."""
    first = itertools.islice(batches, SAMPLE_BATCHES)
    waveforms = np.concatenate([batch["waveform"] for batch in first])
    return mel.log_mel(jnp.asarray(waveforms), spec.mel_frames)


def with_weights(
    folder: Path, model: ModelConfig, state: TrainState, abstract: TrainState
) -> TrainState:
    """The state, but with the weights of a folder of imported ones.

    Raises:
      UserError: no such folder, or weights of another model.
    """
    trained, frozen = (traverse_util.flatten_dict(x) for x in (abstract.params, abstract.frozen))
    loaded = traverse_util.flatten_dict(
        vssflow.load(folder, model, traverse_util.unflatten_dict(trained | frozen))
    )
    params, kept = (
        traverse_util.unflatten_dict({name: loaded[name] for name in names})
        for names in (trained, frozen)
    )
    return dataclasses.replace(
        state,
        params=params,
        ema=jax.tree.map(jnp.copy, params) if state.ema else {},
        frozen=kept,
    )
