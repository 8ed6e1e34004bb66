"""Weights of UTMOS's strong learner, from the names of its published file."""

from collections.abc import Mapping

import numpy as np

from vssflow_jax.networks import convert, convert_wav2vec
from vssflow_jax.networks.convert import Names, Tensor
from vssflow_jax.networks.convert_wav2vec import Source
from vssflow_jax.networks.utmos import UTMOSConfig
from vssflow_jax.weights.mapping import Rule

PUBLISHED = "UTMOS, strong learner (utmos22_strong_step7459_v1.pt)"
_WAV2VEC = "wav2vec2."
UNUSED = (f"{_WAV2VEC}{convert_wav2vec.MASK}",)


def config(tensors: Mapping[str, np.ndarray]) -> UTMOSConfig:
    """The sizes of the network in a file.

    Raises:
      UserError: the file is of another network.
    """

    def shape(name: str, axes: int) -> tuple[int, ...]:
        return convert.shape_of(tensors, name, axes, PUBLISHED)

    hidden, _ = shape("projection.0.weight", 2)
    source = Source(tensors, _WAV2VEC, PUBLISHED)
    return UTMOSConfig(
        **convert_wav2vec.trunk_sizes(source),
        channels=convert_wav2vec.channels(source),
        embedding=shape("domain_emb", 2)[1],
        memory=shape("blstm.weight_hh_l0", 2)[1],
        hidden=hidden,
    )


def _memory(module: str, suffix: str) -> tuple[Rule, ...]:
    """Rules of one direction of the memory, whose two biases are summed."""
    return (
        Rule(f"{module}.read.w_io", (f"blstm.weight_ih_l0{suffix}",), np.transpose),
        Rule(f"{module}.recall.w_io", (f"blstm.weight_hh_l0{suffix}",), np.transpose),
        Rule(
            f"{module}.read.b_o",
            (f"blstm.bias_ih_l0{suffix}", f"blstm.bias_hh_l0{suffix}"),
            np.add,
        ),
    )


NAMES = convert_wav2vec.wav2vec(_WAV2VEC).joined(
    Names(
        modules={"inner": "projection.0.", "outer": "projection.2."},
        tensors={"domain_d": Tensor("domain_emb", (0,)), "judge_d": Tensor("judge_emb", (0,))},
        rules=(*_memory("forward", ""), *_memory("backward", "_reverse")),
    )
)
