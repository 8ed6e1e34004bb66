"""The path from noise to latent, and the loss along it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vssflow_jax.flow import path

CLIPS, FRAMES, CHANNELS = 4, 5, 3


@pytest.fixture
def ends() -> tuple[jax.Array, jax.Array]:
    """Noise and latent."""
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=(2, CLIPS, FRAMES, CHANNELS)), jnp.float32))


def test_the_path_goes_from_noise_to_latent_in_a_straight_line(ends):
    noise, latent = ends
    times = jnp.array([0.0, 0.25, 0.5, 1.0])
    points = path.interpolate(noise, latent, times)
    np.testing.assert_array_equal(points[0], noise[0])
    np.testing.assert_allclose(points[1], 0.75 * noise[1] + 0.25 * latent[1], atol=1e-6)
    np.testing.assert_allclose(points[2], (noise[2] + latent[2]) / 2, atol=1e-6)
    np.testing.assert_array_equal(points[3], latent[3])


def test_the_target_is_the_time_derivative_of_the_path(ends):
    noise, latent = ends
    times = jnp.linspace(0.1, 0.9, CLIPS)
    _, derivative = jax.jvp(
        lambda t: path.interpolate(noise, latent, t), (times,), (jnp.ones(CLIPS),)
    )
    losses = path.loss(lambda x, t: derivative, noise, latent, times)
    np.testing.assert_allclose(losses, 0, atol=1e-10)


def test_the_loss_is_the_mean_square_of_what_is_missing_for_each_clip(ends):
    noise, latent = ends
    missing = jnp.array([0.0, 1.0, -2.0, 3.0])[:, None, None]
    losses = path.loss(lambda x, t: latent - noise + missing, noise, latent, jnp.zeros(CLIPS))
    np.testing.assert_allclose(losses, [0, 1, 4, 9], atol=1e-5)


def test_the_velocity_is_asked_for_at_the_point_and_time_of_each_clip(ends):
    noise, latent = ends
    times = jnp.array([0.0, 0.3, 0.7, 1.0])
    asked = []

    def velocity(x: jax.Array, t: jax.Array) -> jax.Array:
        asked.append((x, t))
        return x

    path.loss(velocity, noise, latent, times)
    ((points, at),) = asked
    np.testing.assert_array_equal(points, path.interpolate(noise, latent, times))
    np.testing.assert_array_equal(at, times)


def test_losses_fall_into_equal_bins_of_time():
    times = jnp.array([0.0, 0.19, 0.2, 0.5, 0.79, 0.81, 1.0])
    losses = jnp.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    sums, counts = path.loss_by_time(losses, times)
    # Bins of a fifth; t = 1 belongs to the last one.
    np.testing.assert_allclose(sums, [3, 4, 8, 16, 96])
    np.testing.assert_array_equal(counts, [2, 1, 1, 1, 2])


def test_frames_that_are_not_the_clips_own_count_for_nothing(ends):
    noise, latent = ends
    frames = jnp.array([1, 2, 4, FRAMES])
    outside = (jnp.arange(FRAMES) >= frames[:, None])[..., None]
    times = jnp.full(CLIPS, 0.5)

    def masked(error: jax.Array) -> jax.Array:
        return path.loss(lambda x, t: latent - noise + error, noise, latent, times, frames)

    error = jax.random.normal(jax.random.key(0), noise.shape)
    losses, gradient = masked(error), jax.grad(lambda e: masked(e).sum())(error)
    np.testing.assert_array_equal(masked(jnp.where(outside, 100.0, error)), losses)
    np.testing.assert_array_equal(jnp.where(outside, gradient, 0), 0)
    assert jnp.all(jnp.where(outside, 1, gradient) != 0)
    for clip, count in enumerate(frames):
        alone = jnp.mean(error[clip, :count] ** 2)
        np.testing.assert_allclose(losses[clip], alone, rtol=1e-5)
