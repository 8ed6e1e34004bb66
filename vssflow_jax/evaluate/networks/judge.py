"""A network behind metrics, and what it is asked.

As with the encoders of a dataset (`vssflow_jax.features.footage.Network`), processes make examples
of files or captions, and the network, which is on all local devices, looks at many of them.

Letters: n samples.
"""

import abc
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.evaluate.networks.store import Made
from vssflow_jax.networks import published
from vssflow_jax.networks.spread import Spread
from vssflow_jax.utils.errors import UserError

Example = Any
"""What a network looks at: an array, or a tuple of some."""


@dataclasses.dataclass(frozen=True)
class Judge(abc.ABC):
    """A network that looks at files of clips, or at what is said of them.

    Attributes:
      weights: file or folder of its weights.
      kind: name under which its weights are looked for.
      shown: what of a clip it is shown: a file, or its caption.
      title: how it is called.
      source: which file its weights are, and from whom.
    """

    weights: Path
    kind: ClassVar[str]
    shown: ClassVar[Literal["sound", "video", "caption"]] = "sound"
    title: ClassVar[str]
    source: ClassVar[str]

    @property
    def lacking(self) -> str:
        """What does not lie beside the weights and must, and how to get it; "" for nothing."""
        return ""

    def check(self) -> None:
        """Checks that the weights can be read, before anything is made to be judged.

        Raises:
          UserError: they are of another network, damaged, or in a file that cannot be read.
        """
        published.config(self.kind, self.weights)

    @abc.abstractmethod
    def example(self, clip: Any, max_sec: float) -> Example:
        """What the network is to look at, of one clip.

        Args:
          clip: its file, or its caption.
          max_sec: so much of it is taken; 0 takes all.

        Raises:
          UserError: the file cannot be read, or is not fit for the network.
        """

    @abc.abstractmethod
    def features(self, examples: Sequence[Example]) -> list[Made]:
        """What the network makes of clips, by their examples.

        Raises:
          UserError: its weights cannot be had.
        """


def how_to_name(judge: type[Judge]) -> str:
    """What to do for a judge to be at hand."""
    return (
        f"get {judge.source}, and name it by --config.eval.backbones.{judge.kind} or lay it at "
        f"WEIGHTS/{judge.kind}"
    )


def at_least(samples: int, name: str, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """A waveform [n], if it is long enough for a network.

    Raises:
      UserError: it is not.
    """
    if len(waveform) < samples:
        raise UserError(f"{name}: {len(waveform)} samples, at least {samples}")
    return waveform


def row_by_row(apply: Spread, examples: Sequence[Example]) -> list[NDArray[np.float32]]:
    """What a network makes of each row of examples, for each example."""
    ends = np.cumsum([len(example) for example in examples])
    return np.split(apply(np.concatenate(examples)), ends[:-1])
