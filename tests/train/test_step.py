"""What a step computes in which precision."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from tests import tiny
from vssflow_jax.run.experiment import Experiment


@pytest.mark.parametrize(
    ("model", "reduced", "maps"),
    [
        ("bfloat16", "float32", "float32"),
        ("bfloat16", "bfloat16", "bfloat16"),
        ("float32", "bfloat16", "float32"),  # never coarser than they are computed
    ],
)
def test_gradients_of_maps_are_summed_in_what_is_asked_for(model: str, reduced: str, maps: str):
    config = tiny.config(Path("unused"), model__dtype=model, sharding__reduce_dtype=reduced)
    experiment = Experiment.from_config(config)

    def dtype_of_a_map(*, to_train: bool) -> jnp.dtype:
        network = jax.eval_shape(
            lambda *weights: experiment.merge(*weights, to_train=to_train),
            *experiment.abstract_weights,
        )
        return network.transformer.blocks.ffw.value.w_io.dtype

    assert dtype_of_a_map(to_train=True) == maps
    assert dtype_of_a_map(to_train=False) == model
