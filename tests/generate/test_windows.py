"""Windows cover the whole, overlap by half, and blend what agrees into what it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssflow_jax.flow import solvers
from vssflow_jax.generate.windows import Windows

SIZE = 16


@pytest.mark.parametrize("size", [1, 2, 15, SIZE])
@pytest.mark.parametrize("beyond", [0, 1, 7, 8, 9, 100])
def test_windows_cover_the_whole_and_overlap_by_half(size: int, beyond: int):
    windows = Windows.over(size + beyond, size)
    assert windows.starts[0] == 0
    assert windows.num_frames == size + beyond
    steps = np.diff(windows.starts)
    assert (steps > 0).all()
    assert (steps <= max(size // 2, 1)).all()
    assert np.ptp(steps) <= 1 if len(steps) else beyond == 0


def test_there_are_no_more_windows_than_needed():
    assert len(Windows.over(SIZE, SIZE).starts) == 1
    assert len(Windows.over(SIZE + 1, SIZE).starts) == 2
    assert Windows.over(3 * SIZE, SIZE).starts == (0, 8, 16, 24, 32)


@pytest.mark.parametrize("num_frames", [SIZE, SIZE + 3, 5 * SIZE + 1])
def test_shares_of_a_frame_add_up_to_one(num_frames: int):
    windows = Windows.over(num_frames, SIZE)
    total = np.bincount(windows.frames.ravel(), windows.weights.ravel())
    np.testing.assert_allclose(total, 1, rtol=1e-6)
    assert (windows.weights > 0).all()


def test_a_window_fades_in_and_out():
    middle = Windows.over(4 * SIZE, SIZE).weights[3]
    assert middle[0] < 0.01
    assert middle[-1] < 0.01
    assert np.abs(np.diff(middle)).max() < np.pi / SIZE
    # The first has nobody to share its first half with.
    first = Windows.over(4 * SIZE, SIZE).weights[0]
    np.testing.assert_allclose(first[: SIZE // 2], 1)


@pytest.mark.parametrize("num_frames", [SIZE, SIZE + 3, 5 * SIZE + 1])
def test_what_is_cut_and_blended_is_what_it_was(num_frames: int):
    windows = Windows.over(num_frames, SIZE)
    whole = jnp.asarray(np.random.default_rng(0).normal(size=(num_frames, 3)), jnp.float32)
    parts = windows.cut(whole)
    assert parts.shape == (len(windows.starts), SIZE, 3)
    np.testing.assert_array_equal(parts[-1], whole[-SIZE:])
    np.testing.assert_allclose(windows.blend(parts), whole, atol=1e-6)


def test_one_window_is_the_whole_bit_for_bit():
    windows = Windows.over(SIZE, SIZE)
    whole = jnp.asarray(np.random.default_rng(0).normal(size=(SIZE, 3)), jnp.float32)
    np.testing.assert_array_equal(windows.blend(windows.cut(whole)), whole)


def test_finer_windows_lie_at_the_same_times():
    windows, finer = Windows.over(40, SIZE), Windows.over(40, SIZE).finer(4)
    assert finer.num_frames == 160
    np.testing.assert_array_equal(finer.frames[:, ::4], 4 * windows.frames)


def test_windows_that_go_their_own_ways_come_together_without_a_step():
    # Each takes its loudness from its own noise: left alone, they end at levels of their own.
    windows = Windows.over(8 * SIZE, SIZE)
    noise = jax.random.normal(jax.random.key(0), (1, windows.num_frames, 1))

    def own_level(x: jax.Array, t: jax.Array) -> jax.Array:
        level = jnp.sign(jnp.mean(x, axis=1, keepdims=True))
        return (level - x) / (1 - t[:, None, None])

    def blended(x: jax.Array, t: jax.Array) -> jax.Array:
        parts = windows.cut(x[0])
        return windows.blend(own_level(parts, jnp.repeat(t, len(parts))))[None]

    solve = solvers.make_solver("euler", steps=10, tolerance=0.0)
    ends = np.asarray(solve(blended, noise))[0, :, 0]
    alone = np.asarray(solve(own_level, noise.reshape(8, SIZE, 1))).ravel()
    assert np.abs(np.diff(alone)).max() > 1.9
    assert np.abs(np.diff(ends)).max() <= 2 * np.pi / SIZE  # the steepest part of the bump
