"""Counted parameters against the paper's, and against a network that is made."""

import jax
import pytest
from flax import nnx

from configs import vssflow
from tests.helpers import tiny_model_config
from vssflow_jax.conditions import PLACEMENTS
from vssflow_jax.describe import count_parameters, count_unfolded, table
from vssflow_jax.model import ModelConfig, VSSFlow


def model_of(argument: str) -> ModelConfig:
    return ModelConfig.from_config(vssflow.get_config(argument).model)


def test_the_base_model_of_the_paper():
    # REFERENCE section 4, the transformer alone and all of it.
    counts = count_unfolded(model_of("base"))
    assert sum(counts.values()) == 463_565_184
    outside = ("projector", "phoneme")
    inside = {part: count for part, count in counts.items() if not part.startswith(outside)}
    assert sum(inside.values()) == 453_073_024
    assert "463,565,184" in table(model_of("base"))


@pytest.mark.parametrize(("size", "millions"), [("small", 245), ("large", 682)])
def test_the_other_sizes(size: str, millions: int):
    assert sum(count_unfolded(model_of(size)).values()) / 1e6 == pytest.approx(millions, abs=1)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_weight_is_counted_once(placement: str):
    cfg = tiny_model_config(placement, "float32")
    made = nnx.eval_shape(lambda: VSSFlow(cfg, rngs=nnx.Rngs(0)))
    weights = jax.tree.leaves(nnx.state(made))
    assert sum(count_parameters(cfg).values()) == sum(leaf.size for leaf in weights)
