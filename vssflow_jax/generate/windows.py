"""A long latent as overlapping windows, each as long as the clips that a model was trained on.

Windows are cut out, something is computed of each, and the results are blended into one again.
Letters: w windows, t frames of a window, n frames of the whole.
"""

import dataclasses
import math
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Array = TypeVar("Array", np.ndarray, jax.Array)


@dataclasses.dataclass(frozen=True)
class Windows:
    """Where the windows lie.

    Attributes:
      starts: first frame of each, in order; the first is 0.
      size: frames of each, `t`.
    """

    starts: tuple[int, ...]
    size: int

    @classmethod
    def over(cls, num_frames: int, size: int, grid: int = 1) -> "Windows":
        """As few as overlap by half of their frames or more, at even distances.

        Args:
          num_frames: number of frames of the whole, `size` or more.
          size: size of a window.
          grid: starts are multiples of it, for which the last window may end behind the whole.
        """
        beyond = math.ceil((num_frames - size) / grid)
        assert beyond >= 0, f"{num_frames} frames do not fill a window of {size}"
        steps = math.ceil(beyond / max(size // 2 // grid, 1))
        starts = (round(i * beyond / max(steps, 1)) for i in range(steps + 1))
        return cls(tuple(grid * start for start in starts), size)

    @property
    def num_frames(self) -> int:
        """Frames up to the end of the last window, `n`."""
        return self.starts[-1] + self.size

    @property
    def frames(self) -> np.ndarray:
        """The frames of each window, int64 [w, t]."""
        return np.array(self.starts)[:, None] + np.arange(self.size)

    @property
    def weights(self) -> np.ndarray:
        """Share of each window in its frames, float32 [w, t]: a squared sine across the window.

        The shares of a frame add up to 1; where windows overlap by half, they do so by themselves.
        """
        bump = np.sin(np.pi * (np.arange(self.size) + 0.5) / self.size) ** 2
        total = np.bincount(self.frames.ravel(), np.tile(bump, len(self.starts)))
        return (bump / total[self.frames]).astype(np.float32)

    def finer(self, factor: int) -> "Windows":
        """The same windows over frames that are `factor` times as many."""
        return Windows(tuple(factor * start for start in self.starts), factor * self.size)

    def cut(self, whole: Array) -> Array:
        """The windows of an array. [n, ...] -> [w, t, ...]."""
        return whole[self.frames]

    def blend(self, parts: jax.Array) -> jax.Array:
        """The weighted mean, at each frame, of the windows that it is in. [w, t, c] -> [n, c]."""
        whole = jnp.zeros((self.num_frames, parts.shape[-1]), parts.dtype)
        return whole.at[self.frames].add(self.weights[..., None] * parts)
