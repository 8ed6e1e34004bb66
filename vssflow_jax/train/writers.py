"""Where curves and sounds of a run are shown: TensorBoard, Weights & Biases, a place of one's own.

Of many processes the main one alone has writers.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import ml_collections
import numpy as np

from vssflow_jax.parallel import distributed
from vssflow_jax.run import run_config
from vssflow_jax.run.workdir import run_id
from vssflow_jax.utils import optional
from vssflow_jax.utils.checks import check_choice
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.logs import Folder

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter


class Writer(contextlib.AbstractContextManager, Protocol):
    """Shows what a run reports; closed by leaving it as a context."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Values of a step, by names such as "train/loss"; steps may come again."""

    def audio(self, step: int, name: str, waveform: np.ndarray, sampling_rate: int) -> None:
        """A sound [n], from -1 to 1."""

    def put(self) -> None:
        """Return when all that came is where a kill leaves it."""


@dataclasses.dataclass(frozen=True)
class WriterKind:
    """A kind of writer.

    Attributes:
      open: makes one, of the folder of the run, its config and the number of steps that are done.
      package: a package that it needs and that the base install lacks; "": none.
      extra: the extra that installs it.
    """

    open: Callable[[Path, ml_collections.ConfigDict, int], Writer]
    package: str = ""
    extra: str = ""


class TensorBoard(contextlib.ExitStack):
    """Event files in `tensorboard/` of a run's folder; see `WriterKind.open`."""

    def __init__(self, workdir: Path, config: ml_collections.ConfigDict, done: int):
        super().__init__()
        self._folder = self.enter_context(Folder(workdir / "tensorboard"))
        self._done = done

    @functools.cached_property
    def _board(self) -> "SummaryWriter":
        # Imported here: it imports PyTorch where that is installed, and the first step waits.
        from tensorboardX import SummaryWriter

        return self.enter_context(SummaryWriter(str(self._folder.local), purge_step=self._done))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `Writer`."""
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def audio(self, step: int, name: str, waveform: np.ndarray, sampling_rate: int) -> None:
        """See `Writer`."""
        self._board.add_audio(name, waveform, step, sampling_rate)

    def put(self) -> None:
        """See `Writer`; the last ten values may still be on their way through its thread."""
        if "_board" in self.__dict__:
            self._board.flush()
        self._folder.put()


class WeightsAndBiases(contextlib.ExitStack):
    """A run of Weights & Biases, the same one at each start; see `WriterKind.open`.

    Its id is kept in the folder of the run. Where it is, whose, and under which name, the variables
    of wandb say: `WANDB_MODE=offline` writes to `wandb/` of the folder, for `wandb sync`.

    Raises:
      UserError: it cannot be reached, or nobody is logged in.
    """

    def __init__(self, workdir: Path, config: ml_collections.ConfigDict, done: int):
        super().__init__()
        import wandb

        self._wandb = wandb
        self._folder = self.enter_context(Folder(workdir))
        try:
            self._run = wandb.init(
                id=os.environ.get("WANDB_RUN_ID") or run_id(workdir),
                resume="allow",
                project=os.environ.get("WANDB_PROJECT", "vssflow"),
                name=os.environ.get("WANDB_NAME", workdir.name),
                config=run_config.resolved_values(config),
                dir=str(self._folder.local),
                settings=wandb.Settings(console="off", silent=True),
            )
        except wandb.Error as error:
            raise UserError(
                f"Weights & Biases: {error}; log in by `wandb login`, set WANDB_MODE=offline, or "
                "leave wandb out of train.writers"
            ) from error
        self.push(lambda kind, *_: self._run.finish(exit_code=int(kind is not None)))
        # Its own count of steps only grows; a run that goes back writes some again.
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `Writer`."""
        self._run.log({"step": step, **values})

    def audio(self, step: int, name: str, waveform: np.ndarray, sampling_rate: int) -> None:
        """See `Writer`."""
        sound = self._wandb.Audio(waveform, sample_rate=sampling_rate)
        self._run.log({"step": step, name: sound})

    def put(self) -> None:
        """See `Writer`."""
        self._folder.put()


WRITERS: dict[str, WriterKind] = {
    "tensorboard": WriterKind(TensorBoard),
    "wandb": WriterKind(WeightsAndBiases, package="wandb", extra="wandb"),
}


def check(names: Collection[str]) -> None:
    """Check that writers are known and what they need is installed.

    Raises:
      UserError: one is not, or lacks a package.
    """
    for name in names:
        check_choice("train.writers", name, WRITERS)
        if package := WRITERS[name].package:
            optional.check(package, WRITERS[name].extra)


class Writers(contextlib.ExitStack):
    """All writers of a run, which are told the same.

    Args:
      workdir: folder of the run.
      config: its config; `train.writers` names them.
      done: steps of the run that are done.

    Raises:
      UserError: one cannot be opened.
    """

    def __init__(self, workdir: Path, config: ml_collections.ConfigDict, done: int):
        super().__init__()
        names = config.train.writers if distributed.is_main() else ()
        self._writers = [
            self.enter_context(WRITERS[name].open(workdir, config, done)) for name in names
        ]

    def scalars(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Values of a step, by their names in a group."""
        named = {f"{group}/{name}": value for name, value in values.items()}
        for writer in self._writers if named else ():
            writer.scalars(step, named)

    def audio(self, step: int, name: str, waveform: np.ndarray, sampling_rate: int) -> None:
        """A sound [n], from -1 to 1."""
        for writer in self._writers:
            writer.audio(step, name, waveform, sampling_rate)

    def put(self) -> None:
        """Return when all that came is where a kill leaves it.

        Raises:
          UserError: the bucket that it is for does not take it.
        """
        for writer in self._writers:
            writer.put()
