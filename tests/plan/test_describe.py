"""Counted parameters against the paper's, and against arithmetic on the sizes of a tiny network."""

import dataclasses
import sys

import pytest

from configs import vssflow
from tests import tiny
from tests.helpers import SIZES, WIDTHS, tiny_model_config
from vssflow_jax.clip import LATENT_CHANNELS
from vssflow_jax.models.conditions import PLACEMENTS
from vssflow_jax.models.vssflow import ModelConfig
from vssflow_jax.plan.describe import count_parameters, count_unfolded, table

# Channels beside the latent, and width of the context, of each placement of the tiny network.
BESIDE_AND_CONTEXT = {
    "none": (0, 12 + 4 + 10 + 8),
    "video_text": (12 + 4, 8 + 10),
    "lip_synch": (10 + 8, 12 + 4),
    "lip_synch_text": (10 + 4 + 8, 12),
    "lip_synch_video_text": (12 + 4 + 10 + 8, 0),
}


def model_of(argument: str) -> ModelConfig:
    return ModelConfig.from_config(vssflow.get_config(argument).model)


def projector(name: str) -> int:
    """Two matrices, twice as wide between them."""
    i, o = WIDTHS[name].features, WIDTHS[name].projected
    return i * 2 * o + 2 * o * o


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
def test_each_part_has_the_weights_that_its_sizes_say(placement: str):
    beside, context = BESIDE_AND_CONTEXT[placement]
    d = SIZES["heads"] * SIZES["head_dim"]
    d_kv = SIZES["kv_heads"] * SIZES["head_dim"]
    ffw, time, layers = 4 * d, SIZES["time_features"], SIZES["layers"]
    # Without a context the speaker is brought to the width of the time token.
    speaker_to_token = 0 if context else WIDTHS["speaker"].projected * d + d * d
    assert count_parameters(tiny_model_config(placement, "float32")) == {
        "input maps": (LATENT_CHANNELS + beside) * d,
        "projector: semantic video": projector("visual"),
        "projector: motion": projector("sync"),
        "projector: lips": projector("lips"),
        "phoneme embedding": 200 * 4,
        "projector: speaker": projector("speaker") + speaker_to_token,
        "time embedding": time // 2 + (time * d + d) + (d * d + d),
        "blocks: self-attention": layers * 4 * d * d,
        "blocks: cross-attention": layers * (2 * d * d + 2 * (context or d) * d_kv),
        "blocks: feed-forward": layers * ((d * 2 * ffw + 2 * ffw) + (ffw * d + d)),
        "blocks: norms": layers * 3 * 2 * d,
        "output map": d * LATENT_CHANNELS,
    }


def test_norms_of_queries_and_keys_are_counted_here_alone():
    plain = tiny_model_config("lip_synch_text", "float32")
    transformer = dataclasses.replace(plain.transformer, qk_norm=True)
    normed = dataclasses.replace(plain, transformer=transformer)
    more = 2 * SIZES["layers"] * SIZES["head_dim"]
    counts, before = count_parameters(normed), count_parameters(plain)
    for part in ("blocks: self-attention", "blocks: cross-attention"):
        assert counts[part] == before[part] + more
    assert count_unfolded(normed) == count_unfolded(plain)
    assert "queries and keys normed" in table(normed)


def test_a_config_of_another_network_is_one_clear_line():
    config = tiny.ROOT / "configs" / "duration.py"
    done = tiny.run([sys.executable, "-m", "vssflow_jax.describe", f"--config={config}"])
    assert done.returncode == 2
    assert done.stderr.startswith("error: the config is of run_duration.py")
