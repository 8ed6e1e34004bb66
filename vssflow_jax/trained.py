"""A trained model to generate with: a run's checkpoint, or imported weights."""

import hashlib
from pathlib import Path
from typing import NoReturn

import ml_collections

from vssflow_jax.checkpoint import Checkpoints
from vssflow_jax.errors import UserError
from vssflow_jax.start import Batches, initial_state
from vssflow_jax.train_step import Recipe, TrainState

_CHECKPOINTS = "checkpoints"
_READ_BYTES = 1 << 24


def run_and_step(checkpoint: Path) -> tuple[Path, int | None]:
    """The run, and the step if one is named, of RUN or RUN/checkpoints/STEP."""
    path = checkpoint.absolute()
    if path.parent.name == _CHECKPOINTS and path.name.isdigit():
        return path.parent.parent, int(path.name)
    return path, None


def _no_batches() -> NoReturn:
    raise UserError(
        "codec 'patch_dct' is fitted to the sounds of a run: imported weights need "
        "--config.codec.kind=audioldm_vae"
    )


def restore(
    recipe: Recipe, run: Path | None, step: int | None = None, batches: Batches = _no_batches
) -> TrainState:
    """The state of a run, or that of the weights which `train.init_from` names.

    Args:
      recipe: of the model.
      run: its folder; None for imported weights.
      step: of the checkpoint; the newest, if None.
      batches: of training, for a codec that is fitted to them; a run's checkpoint has it.

    Raises:
      UserError: no such checkpoint or weights, or they are of another model.
    """
    abstract = recipe.abstract_state()
    if run is None:
        return initial_state(recipe, abstract, batches)
    with Checkpoints(run) as checkpoints:
        state, _ = checkpoints.restore(abstract, step)
    return state


def digest(config: ml_collections.ConfigDict, run: Path | None, step: int) -> str:
    """SHA-256 over the names and bytes of a checkpoint's files, or of the imported weights'."""
    folder = run / _CHECKPOINTS / str(step) if run else Path(config.train.init_from)
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            while part := file.read(_READ_BYTES):
                total.update(part)
    return total.hexdigest()
