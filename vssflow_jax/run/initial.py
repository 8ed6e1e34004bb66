"""The state before the first step: random weights, those of another run, or imported ones."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import traverse_util

from vssflow_jax.audio.codec import CodecParams, LatentStats
from vssflow_jax.models import convert_vssflow
from vssflow_jax.models.vssflow import ModelConfig
from vssflow_jax.run import run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import (
    AVERAGED,
    LAST,
    REFERENCE,
    Experiment,
    Params,
    TrainState,
)
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.folder import place


def initial_state(experiment: Experiment, latent_stats: LatentStats | None = None) -> TrainState:
    """The state that a run starts from.

    Args:
      experiment: experiment of the run; `train.init_from` names what to start from, or is empty.
      latent_stats: statistics of the dataset, for a codec that is fitted to its sounds.

    Raises:
      UserError: weights that are not there, or are of another model; no statistics for a codec
        that needs them.
    """
    source = Path(experiment.train.init_from)
    if not experiment.train.init_from:
        state = _init(experiment, experiment.codec.load(latent_stats))
        return _redrawn(state, experiment) if experiment.train.init == REFERENCE else state
    if _is_run(source):
        return _from_run(experiment, source)
    # Read first: nothing is to be waited for if they do not fit.
    weights = convert_vssflow.load(source, experiment.model, _all_weights(experiment))
    return _with_weights(_init(experiment, experiment.codec.load(latent_stats)), weights)


def check_source(config: ml_collections.ConfigDict) -> None:
    """Check that what `train.init_from` names is there, and of the config's model if it is a run.

    Raises:
      UserError: there is nothing of that name, or a run of another model.
    """
    source = Path(config.train.init_from)
    if not config.train.init_from:
        return
    if not _is_run(source):
        if not source.exists():
            raise UserError(
                f"train.init_from is {source}, which is not there; give a run, a step of one as "
                "RUN/checkpoints/STEP, or weights (docs/weights.md)"
            )
        return
    run, _ = run_config.run_and_step(source)
    theirs = run_config.read(run)
    if "placement" not in theirs.model:
        raise UserError(f"train.init_from is {source}, a run of another network")
    sizes = dataclasses.asdict(ModelConfig.from_config(theirs.model))
    convert_vssflow.check_sizes(source, sizes, ModelConfig.from_config(config.model))
    if theirs.codec.kind != config.codec.kind:
        raise UserError(
            f"train.init_from is {source}, whose latents are of codec.kind '{theirs.codec.kind}'; "
            f"the config says '{config.codec.kind}'"
        )


def _is_run(source: Path) -> bool:
    run, step = run_config.run_and_step(source)
    return step is not None or (run / run_config.CHECKPOINTS).is_dir()


def _from_run(experiment: Experiment, source: Path) -> TrainState:
    """The state with the weights and the codec of a run, and nothing of its optimizer."""
    run, step = run_config.run_and_step(source)
    averaged = experiment.train.init_weights == AVERAGED and run_config.read(run).train.ema_decay
    weights = AVERAGED if averaged else LAST
    abstract = experiment.abstract_state
    parts = {weights: abstract.params, "frozen": abstract.frozen, "codec": abstract.codec}
    with Checkpoints(run) as checkpoints:
        found, _ = checkpoints.restore(parts, step)
    if not experiment.codec.fitted:
        _check_same_codec(source, found["codec"], experiment.codec.load(None))
    state = _init(experiment, found["codec"])
    return dataclasses.replace(
        state,
        params=found[weights],
        ema=_copied(found[weights]) if state.ema else {},
        frozen=found["frozen"],
    )


def _check_same_codec(source: Path, theirs: CodecParams, ours: CodecParams) -> None:
    same = jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), theirs, ours)
    if not jax.tree.all(same):
        raise UserError(
            f"codec.path holds other weights than those that the run {source} learned its latents "
            "of; name the folder it was trained with"
        )


def _init(experiment: Experiment, codec: CodecParams) -> TrainState:
    return jax.jit(experiment.init, out_shardings=experiment.state_shardings)(codec)


def _all_weights(experiment: Experiment) -> Params:
    state = experiment.abstract_state
    trained, frozen = (traverse_util.flatten_dict(x) for x in (state.params, state.frozen))
    return traverse_util.unflatten_dict(trained | frozen)


def _with_weights(state: TrainState, weights: Params) -> TrainState:
    """The state, but with these weights, trained and frozen ones together."""
    loaded = traverse_util.flatten_dict(weights)
    params, frozen = (
        traverse_util.unflatten_dict({name: loaded[name] for name in traverse_util.flatten_dict(x)})
        for x in (state.params, state.frozen)
    )
    return dataclasses.replace(
        state, params=params, ema=_copied(params) if state.ema else {}, frozen=frozen
    )


def _redrawn(state: TrainState, experiment: Experiment) -> TrainState:
    """The state with the maps around the blocks drawn as the reference draws them."""
    leaves = traverse_util.flatten_dict(state.params, sep=".")
    drawn = convert_vssflow.drawn_as_reference(experiment.model, experiment.seed)
    leaves |= {name: place(value, leaves[name]) for name, value in drawn.items()}
    params = traverse_util.unflatten_dict(leaves, sep=".")
    return dataclasses.replace(state, params=params, ema=_copied(params) if state.ema else {})


def _copied(params: Params) -> Params:
    return jax.tree.map(jnp.copy, params)
