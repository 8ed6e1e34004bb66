"""The speaker of a voice sample, by a network that a package carries."""

import dataclasses

import numpy as np

from vssflow_jax.clip import ClipSpec
from vssflow_jax.features import voices
from vssflow_jax.features.footage import Footage, Mouth
from vssflow_jax.utils.errors import Rejected


@dataclasses.dataclass(frozen=True)
class Resemblyzer:
    """Resemblyzer's vector of the voice sample, in place of RawNet3's; as wide, but another space.

    A clip without a sample has none.
    """

    width: int = voices.WIDTH

    def look(self, spec: ClipSpec, mouth: Mouth | None) -> None:
        """It looks at nothing."""

    def __call__(self, footage: Footage) -> np.ndarray:
        if footage.voice_sample is None:
            return np.zeros(0, np.float32)
        vector = voices.embed(footage.voice_sample, footage.spec.sampling_rate)
        if not len(vector):
            raise Rejected("bad voice_sample: no voice is heard in it")
        return vector
