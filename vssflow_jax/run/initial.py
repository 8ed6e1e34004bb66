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
    InferenceState,
    Params,
    TrainState,
    joined,
)
from vssflow_jax.run.optimizer import keeps_mean
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path
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
    if not experiment.train.init_from:
        state = _init(experiment, experiment.codec.load(latent_stats))
        return _redrawn(state, experiment) if experiment.train.init == REFERENCE else state
    weights = _read(experiment, latent_stats)
    # Weights become the state's own: there is never room for them twice.
    make = jax.jit(
        experiment.state, out_shardings=experiment.state_shardings, donate_argnums=(0, 1)
    )
    return make(*weights, _adapters(experiment))


def initial_inference_state(
    experiment: Experiment, latent_stats: LatentStats | None = None
) -> InferenceState:
    """What is used of the weights that `train.init_from` names, and nothing for an optimizer.

    Args and errors: as for `initial_state`.
    """

    def used(*weights: Params) -> InferenceState:
        return experiment.state(*weights).averaged

    weights = _read(experiment, latent_stats)
    make = jax.jit(used, out_shardings=experiment.state_shardings.averaged, donate_argnums=(0, 1))
    return make(*weights, _adapters(experiment))


def _read(
    experiment: Experiment, latent_stats: LatentStats | None
) -> tuple[Params, Params, CodecParams]:
    """The weights that `train.init_from` names: those that can be trained, the others, the codec's.

    Raises:
      UserError: as for `initial_state`.
    """
    source = as_path(experiment.train.init_from)
    if _is_run(source):
        return _of_run(experiment, source)
    # Read first: nothing is to be waited for if they do not fit.
    weights = convert_vssflow.load(source, experiment.model, joined(*experiment.abstract_weights))
    return *_split(experiment, weights), experiment.codec.load(latent_stats)


def check_source(config: ml_collections.ConfigDict) -> None:
    """Check that what `train.init_from` names is there, and of the config's model if it is a run.

    Raises:
      UserError: there is nothing of that name, or a run of another model.
    """
    source = as_path(config.train.init_from)
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


def _of_run(experiment: Experiment, source: Path) -> tuple[Params, Params, CodecParams]:
    """The weights of a run, those that can be trained apart from the others, and its codec."""
    run, step = run_config.run_and_step(source)
    train = run_config.read(run).train
    weights = AVERAGED if experiment.train.init_weights == AVERAGED and keeps_mean(train) else LAST
    theirs = experiment.trained_by(train)
    abstract = theirs.abstract_state
    parts = {weights: abstract.params, "frozen": abstract.frozen, "codec": abstract.codec}
    with Checkpoints(run) as checkpoints:
        found, _ = checkpoints.restore(parts, step)
    if not experiment.codec.fitted:
        _check_same_codec(source, found["codec"], experiment.codec.load(None))
    return *_split(experiment, theirs.weights(found[weights], found["frozen"])), found["codec"]


def _check_same_codec(source: Path, theirs: CodecParams, ours: CodecParams) -> None:
    same = jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), theirs, ours)
    if not jax.tree.all(same):
        raise UserError(
            f"codec.path holds other weights than those that the run {source} learned its latents "
            "of; name the folder it was trained with"
        )


def _init(experiment: Experiment, codec: CodecParams) -> TrainState:
    return jax.jit(experiment.init, out_shardings=experiment.state_shardings)(codec)


def _split(experiment: Experiment, weights: Params) -> tuple[Params, Params]:
    """All weights, nested, as those that can be trained and the others."""
    found = traverse_util.flatten_dict(weights)
    names = [list(traverse_util.flatten_dict(part)) for part in experiment.abstract_weights]
    trained, frozen = ({name: found[name] for name in part} for part in names)
    return traverse_util.unflatten_dict(trained), traverse_util.unflatten_dict(frozen)


def _adapters(experiment: Experiment) -> Params | None:
    """The adapters that `train.lora.path` names."""
    if not (experiment.lora and experiment.train.lora.path):
        return None
    file = as_path(experiment.train.lora.path)
    return experiment.lora.read(file, experiment.abstract_state.params)


def _redrawn(state: TrainState, experiment: Experiment) -> TrainState:
    """The state with the maps around the blocks drawn as the reference draws them."""
    leaves = traverse_util.flatten_dict(state.params, sep=".")
    drawn = convert_vssflow.drawn_as_reference(experiment.model, experiment.seed)
    leaves |= {name: place(value, leaves[name]) for name, value in drawn.items()}
    params = traverse_util.unflatten_dict(leaves, sep=".")
    return dataclasses.replace(state, params=params, ema=_copied(params) if state.ema else {})


def _copied(params: Params) -> Params:
    return jax.tree.map(jnp.copy, params)
