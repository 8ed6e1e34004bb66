"""A trained model to use: a run's checkpoint, or imported weights."""

import hashlib
from collections.abc import Collection
from pathlib import Path

import ml_collections

from vssflow_jax.audio.codec import LatentStats
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import AVERAGED, LAST, Experiment, InferenceState
from vssflow_jax.run.initial import check_source, initial_inference_state
from vssflow_jax.run.run_config import CHECKPOINTS, for_use, run_and_step
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path

_READ_BYTES = 1 << 24


def find(
    checkpoint: str, given: ml_collections.ConfigDict | None, overrides: Collection[str] = ()
) -> tuple[ml_collections.ConfigDict, Path | None, int | None]:
    """The config of a trained model, its run, and the step of it that is named.

    Args:
      checkpoint: RUN or RUN/checkpoints/STEP; "" for the weights that `given` names.
      given, overrides: a config with changes, as in `run_config.for_use`.

    Returns:
      the config, not yet checked; the folder of the run, None for imported weights; the step,
      None for the newest.

    Raises:
      UserError: no model, or another one than `given` is of.
    """
    run, step = run_and_step(as_path(checkpoint)) if checkpoint else (None, None)
    if run:
        config = for_use(run, given, overrides)
    elif given is not None and given.train.init_from:
        config = given
        check_source(config)
    else:
        raise UserError(
            "no model: name a run by --checkpoint, or a config by --config and imported weights by "
            "--config.train.init_from"
        )
    return config, run, step


def restore(
    experiment: Experiment,
    run: Path | None,
    step: int | None = None,
    latent_stats: LatentStats | None = None,
) -> InferenceState:
    """What is used of a run, or of the weights which `train.init_from` names; no more is read.

    Args:
      experiment: experiment of the model.
      run: its folder; None for imported weights.
      step: step of the checkpoint; the newest, if None.
      latent_stats: statistics of a dataset, for imported weights and a codec that is fitted to
        its sounds.

    Raises:
      UserError: no such checkpoint or weights, or they are of another model.
    """
    if run is None:
        return initial_inference_state(experiment, latent_stats)
    abstract = experiment.abstract_state
    which, used = AVERAGED if abstract.ema else LAST, abstract.averaged
    parts = {"step": used.step, which: used.params, "frozen": used.frozen, "codec": used.codec}
    with Checkpoints(run) as checkpoints:
        found, _ = checkpoints.restore(parts, step)
    return InferenceState(found["step"], found[which], found["frozen"], found["codec"])


def digest(config: ml_collections.ConfigDict, run: Path | None, step: int) -> str:
    """SHA-256 over the names and bytes of a checkpoint's files, or of the imported weights'."""
    source = run / CHECKPOINTS / str(step) if run else _imported(as_path(config.train.init_from))
    files = [source] if source.is_file() else source.rglob("*")
    total = hashlib.sha256()
    for path in sorted(path for path in files if path.is_file()):
        total.update(str(path.relative_to(source)).encode())
        with path.open("rb") as file:
            while part := file.read(_READ_BYTES):
                total.update(part)
    return total.hexdigest()


def _imported(source: Path) -> Path:
    """What `train.init_from` takes weights from: of a run, the folder of its newest step."""
    run, step = run_and_step(source)
    steps = [int(path.name) for path in run.glob(f"{CHECKPOINTS}/*") if path.name.isdigit()]
    return run / CHECKPOINTS / str(max(steps)) if step is None and steps else source
