"""Weights by their names: which part of the network they are in, and which of them are maps."""

from collections.abc import Mapping

BLOCKS = "transformer.blocks."
"""How weights of blocks begin; they have the layers in front."""
MAPS = {"w_io": 1, "q_dhk": 1, "k_egk": 1, "v_egk": 1, "out_hkd": 2}
"""Weights that are maps, by the last part of their names, and how many of their axes come in."""
LORA_A, LORA_B = "lora_a", "lora_b"
"""Adapters of a map, by the last part of their names, after that of the map (`models.lora`)."""

GROUPS = {
    "conditions.": "inputs",
    "input.": "inputs",
    "transformer.time.": "inputs",
    "transformer.blocks.self_attention.": "self_attention",
    "transformer.blocks.cross_attention.": "cross_attention",
    "transformer.blocks.ffw.": "feed_forward",
    "transformer.blocks.norm": "norms",
    "output.": "output",
}
"""Start of a dotted name -> the group of weights whose gradients are measured together."""


def part_of(name: str, parts: Mapping[str, str]) -> str:
    """The part that a weight is in.

    Args:
      name: dotted name of the weight.
      parts: starts of names -> parts; the longest start that fits counts.
    """
    return parts[max((start for start in parts if name.startswith(start)), key=len)]


def is_map(name: str) -> bool:
    """Whether a weight of a dotted name is a map, and no adapter of one."""
    return name.rpartition(".")[2] in MAPS


def map_axes(name: str, dims: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Axes of a map that come in, and those that go out; None for a weight that is none.

    Args:
      name: dotted name of the weight, which may be an adapter.
      dims: how many axes it has; the layers are neither.
    """
    whole, _, last = name.rpartition(".")
    if last == LORA_A:
        inputs = MAPS[whole.rpartition(".")[2]]
    elif last == LORA_B:
        inputs = 1
    elif last in MAPS:
        inputs = MAPS[last]
    else:
        return None
    first = int(name.startswith(BLOCKS))
    return tuple(range(first, first + inputs)), tuple(range(first + inputs, dims))
