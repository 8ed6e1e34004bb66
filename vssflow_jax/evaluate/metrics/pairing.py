"""Which generated clip belongs to which reference, by name, as in av-benchmark."""

from collections.abc import Collection

from vssflow_jax.utils.errors import UserError

_CLIP_NAME_LENGTH = len("zxpo56cpUBU_000007")  # VGGSound: a video's id and a time in seconds
_CLIP_NAME_START = {
    len("000000014_zxpo56cpUBU_000007-0"): len("000000014_"),
    len("zxpo56cpUBU_000007-0"): 0,
    len("Yzxpo56cpUBU_000007_0"): len("Y"),
}


def pair_by_name(
    references: Collection[str], generated: Collection[str], clean: bool = False
) -> dict[str, str]:
    """Name of a generated clip -> that of its reference; those without one are left out.

    Args:
      references: names of the references.
      generated: names of the generated clips; several may be of one reference if they are cleaned.
      clean: read the generated names by `clean_sample_name`.

    Raises:
      UserError: no clip finds its reference.
    """
    sought = {name: clean_sample_name(name) if clean else name for name in generated}
    there = set(references)
    pairs = {name: reference for name, reference in sought.items() if reference in there}
    if not pairs:
        raise UserError(
            f"pairs by name: none of {len(generated)} generated clips is called like one of "
            f"{len(references)} references"
        )
    return pairs


def clean_sample_name(name: str) -> str:
    """The VGGSound clip in the name of a generated sample; names of other lengths stay."""
    start = _CLIP_NAME_START.get(len(name))
    return name if start is None else name[start : start + _CLIP_NAME_LENGTH]
