"""Which generated clip belongs to which reference, by name, as in av-benchmark."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.utils.errors import UserError

_CLIP_NAME_LENGTH = len("zxpo56cpUBU_000007")  # VGGSound: a video's id and a time in seconds
_CLIP_NAME_START = {
    len("000000014_zxpo56cpUBU_000007-0"): len("000000014_"),
    len("zxpo56cpUBU_000007-0"): 0,
    len("Yzxpo56cpUBU_000007_0"): len("Y"),
}


def pair_by_name(
    reference_names: Sequence[str], generated_names: Sequence[str], clean: bool = False
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair each generated clip with the reference of its name; those without one are left out.

    Args:
      reference_names: without repetition.
      generated_names: several may be of one reference if they are cleaned.
      clean: read the generated names by `clean_sample_name`.

    Returns:
      Indices into the references and into the generated clips, pair by pair in the order of the
      latter.

    Raises:
      UserError: a reference's name appears twice, or no clip finds its reference.
    """
    position = {name: index for index, name in enumerate(reference_names)}
    if len(position) < len(reference_names):
        raise UserError("pairs by name: a reference's name appears twice")
    sought = [clean_sample_name(name) if clean else name for name in generated_names]
    pairs = [(position[name], index) for index, name in enumerate(sought) if name in position]
    if not pairs:
        raise UserError(
            f"pairs by name: none of {len(generated_names)} generated clips is called like one of "
            f"{len(reference_names)} references"
        )
    reference, generated = np.array(pairs).T
    return reference, generated


def clean_sample_name(name: str) -> str:
    """The VGGSound clip in the name of a generated sample; names of other lengths stay."""
    start = _CLIP_NAME_START.get(len(name))
    return name if start is None else name[start : start + _CLIP_NAME_LENGTH]
