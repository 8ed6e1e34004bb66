"""The duration predictor: its attention, its masks, and the path that hardens a map."""

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from tests import tiny
from tests.helpers import randomised
from vssflow_jax.duration.model import (
    Attention,
    DurationConfig,
    DurationPredictor,
    best_path,
    harden,
    sinusoids,
)
from vssflow_jax.parallel import sharding
from vssflow_jax.utils.errors import UserError

CFG = DurationConfig(
    phoneme_features=5,
    lip_features=7,
    phoneme_width=8,
    phoneme_heads=2,
    lip_width=12,
    lip_heads=3,
    encoder_layers=2,
    encoded=6,
    decoder_width=8,
    decoder_heads=2,
    decoder_layers=3,
    decoded=4,
    ffw_width=10,
)
CLIPS, FRAMES, PHONEMES = 2, 9, 5


@pytest.fixture(scope="module")
def model() -> DurationPredictor:
    return randomised(lambda: DurationPredictor(CFG, rngs=nnx.Rngs(0)))


def inputs(seed: int = 0) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    phonemes = rng.integers(1, 71, (CLIPS, PHONEMES))
    lips = rng.normal(size=(CLIPS, FRAMES, CFG.lip_features))
    return jnp.asarray(phonemes, jnp.int32), jnp.asarray(lips, jnp.float32)


def test_attention_is_that_of_pytorch() -> None:
    attention = randomised(lambda: Attention(12, 3, rngs=nnx.Rngs(0)))
    peer = torch.nn.MultiheadAttention(12, 3, batch_first=True)
    maps = attention.q, attention.k, attention.v
    state = {
        "in_proj_weight": np.concatenate([np.asarray(linear.w_io[...]).T for linear in maps]),
        "in_proj_bias": np.concatenate([np.asarray(linear.b_o[...]) for linear in maps]),
        "out_proj.weight": np.asarray(attention.out.w_io[...]).T,
        "out_proj.bias": np.asarray(attention.out.b_o[...]),
    }
    peer.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    rng = np.random.default_rng(1)
    x, source = (rng.normal(size=(2, n, 12)).astype(np.float32) for n in (4, 6))
    seen = np.array([[True] * 6, [True] * 4 + [False] * 2])
    mixed, shares = attention(jnp.asarray(x), jnp.asarray(source), jnp.asarray(seen))
    keys = torch.tensor(source)
    their_mixed, their_shares = peer(torch.tensor(x), keys, keys, torch.tensor(~seen))
    np.testing.assert_allclose(mixed, their_mixed.detach(), atol=1e-5)
    np.testing.assert_allclose(shares, their_shares.detach(), atol=1e-6)


def test_sinusoids() -> None:
    table = sinusoids(50, 6)
    np.testing.assert_allclose(table[0], [0, 1] * 3)
    np.testing.assert_allclose(table[7, 2], np.sin(7 / 10_000 ** (2 / 6)), rtol=1e-6)
    np.testing.assert_allclose(table[7, 5], np.cos(7 / 10_000 ** (4 / 6)), rtol=1e-6)


def test_each_frame_shares_its_attention_out(model: DurationPredictor) -> None:
    output, maps = model(*inputs())
    assert output.shape == (CLIPS, FRAMES, CFG.outputs)
    assert maps.shape == (CFG.decoder_layers, CLIPS, FRAMES, PHONEMES)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-5)


def test_with_masks_padding_changes_nothing(model: DurationPredictor) -> None:
    phonemes, lips = inputs()
    output, maps = model(phonemes, lips)
    padded = jnp.pad(phonemes, ((0, 0), (0, 3))), jnp.pad(lips, ((0, 0), (0, 4), (0, 0)))
    own = jnp.arange(PHONEMES + 3)[None] < PHONEMES, jnp.arange(FRAMES + 4)[None] < FRAMES
    masked_output, masked_maps = model(*padded, *own)
    np.testing.assert_allclose(masked_output[:, :FRAMES], output, atol=1e-5)
    np.testing.assert_allclose(masked_maps[:, :, :FRAMES, :PHONEMES], maps, atol=1e-5)
    assert not masked_maps[..., PHONEMES:].any()
    # Without them the padding takes part, as in the reference.
    unmasked, _ = model(*padded)
    assert np.abs(unmasked[:, :FRAMES] - output).max() > 1e-3


def test_weights_have_axes_that_strategies_know() -> None:
    abstract = nnx.state(nnx.eval_shape(lambda: DurationPredictor(CFG, rngs=nnx.Rngs(0))))
    sharding.param_shardings(abstract, sharding.make_mesh_rules(tiny.sharding_config("dp")))


def test_sizes_that_do_not_go_together() -> None:
    with pytest.raises(UserError, match=r"model.lip_width is 12; .* model.lip_heads, 5"):
        DurationConfig(lip_width=12, lip_heads=5)


def all_paths(frames: int, phonemes: int) -> Iterator[list[tuple[int, int]]]:
    """Every monotonic path from the first cell to the last."""
    if (frames, phonemes) == (1, 1):
        yield [(0, 0)]
        return
    for di, dj in ((1, 0), (0, 1), (1, 1)):
        if frames > di and phonemes > dj:
            for path in all_paths(frames - di, phonemes - dj):
                yield [*path, (frames - 1, phonemes - 1)]


@pytest.mark.parametrize(("frames", "phonemes"), itertools.product((1, 2, 3, 5), (1, 2, 4)))
def test_the_path_is_the_best_of_all(frames: int, phonemes: int) -> None:
    rng = np.random.default_rng(frames * 10 + phonemes)
    for _ in range(5):
        attention = rng.dirichlet(np.ones(phonemes), frames)
        paths = list(all_paths(frames, phonemes))
        gains = [sum(attention[cell] - 1 for cell in path) for path in paths]
        assert [tuple(cell) for cell in best_path(attention)] == paths[int(np.argmax(gains))]


def test_of_equal_steps_to_the_next_frame_comes_first_then_to_the_next_phoneme() -> None:
    # Read from the end: a step within a frame before a step to both.
    assert best_path(np.zeros((2, 3))).tolist() == [[0, 0], [1, 1], [1, 2]]
    assert best_path(np.zeros((3, 2))).tolist() == [[0, 0], [1, 1], [2, 1]]


def test_a_sharp_map_is_hardened_to_itself() -> None:
    phonemes = np.array([0, 0, 1, 2, 2, 2, 3])
    np.testing.assert_array_equal(harden(np.eye(4)[phonemes]), phonemes)


def test_a_frame_with_several_phonemes_shows_the_one_most_attended_to() -> None:
    attention = np.array([[0.9, 0.05, 0.05, 0.0], [0.0, 0.2, 0.3, 0.5]])
    np.testing.assert_array_equal(harden(attention), [0, 3])


def test_hardened_maps_never_go_back() -> None:
    rng = np.random.default_rng(0)
    for phonemes in (3, 12, 40):
        path = harden(rng.dirichlet(np.full(phonemes, 0.1), 20))
        assert path.shape == (20,)
        assert (np.diff(path) >= 0).all()
