"""Parts of the network, by how the names of their weights begin."""

from collections.abc import Mapping

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
