"""Noise by name, guidance with a model of one line, and generation from a state.

`tests/test_model.py` has guidance with the network.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vssflow_jax.audio.patch_dct import LatentStats
from vssflow_jax.clip import LATENT_CHANNELS, ClipSpec
from vssflow_jax.flow.guidance import guided
from vssflow_jax.flow.sampler import Sampler
from vssflow_jax.generate.sampler import Start, draw_start, make_generate
from vssflow_jax.models.conditions import Conditioning
from vssflow_jax.run.experiment import Experiment, TrainState

CONFIG = tiny.config(Path("unused"), clip__duration_sec=0.8, model__transformer__head_dim=8)
EXPERIMENT = Experiment.from_config(CONFIG)
FRAMES = EXPERIMENT.spec.latent_frames
LONG = dataclasses.replace(EXPERIMENT, spec=ClipSpec())
CLIP_IDS = ["test-speech-000", "test-foley-001", "test-joint-002"]


def sampler(**changes: object) -> Sampler:
    wanted = {"method": "euler", "steps": 2, "guidance": 2.0, **changes}
    return dataclasses.replace(Sampler.from_config(CONFIG.eval.sampler), **wanted)


@pytest.fixture(scope="module")
def state() -> TrainState:
    """A state whose weights are all random, since fresh ones generate nothing but their noise."""
    stats = LatentStats(jnp.full(LATENT_CHANNELS, -1.0), jnp.full(LATENT_CHANNELS, 0.5))
    shapes = jax.eval_shape(EXPERIMENT.init, stats)
    rng = np.random.default_rng(0)
    random = jax.tree.map(lambda leaf: 0.2 * rng.normal(size=leaf.shape), shapes)
    random = jax.tree.map(lambda leaf, shape: jnp.asarray(leaf, shape.dtype), random, shapes)
    return dataclasses.replace(random, codec=stats)


@pytest.fixture(scope="module")
def features() -> dict[str, jax.Array]:
    rng = np.random.default_rng(1)
    given = {
        name: rng.normal(size=(len(CLIP_IDS), FRAMES, width.features)).astype(np.float32)
        for name, width in EXPERIMENT.model.widths.items()
        if name not in ("phonemes", "speaker")
    }
    given["phonemes"] = rng.integers(0, 71, (len(CLIP_IDS), FRAMES))
    given["speaker"] = rng.normal(size=(len(CLIP_IDS), EXPERIMENT.model.widths["speaker"].features))
    return jax.tree.map(jnp.asarray, given)


def start_of(clip_ids: list[str]) -> Start:
    return draw_start(EXPERIMENT, 0, clip_ids)


def noise_of(clip_ids: list[str], seed: int = 0) -> np.ndarray:
    """Noise of clips of 10 s."""
    return np.asarray(draw_start(LONG, seed, clip_ids).noise)


def test_noise_is_standard_normal():
    noise = noise_of(CLIP_IDS)
    assert noise.shape == (3, 250, LATENT_CHANNELS)
    assert noise.dtype == np.float32
    for one in noise:
        assert abs(one.mean()) < 0.03
        assert abs(one.std() - 1) < 0.03


def test_noise_depends_on_the_name_and_not_on_the_batch():
    together, backwards = noise_of(CLIP_IDS), noise_of(CLIP_IDS[::-1])
    np.testing.assert_array_equal(together, backwards[::-1])
    for index, clip_id in enumerate(CLIP_IDS):
        np.testing.assert_array_equal(noise_of([clip_id])[0], together[index])


def test_noise_of_other_names_and_seeds_is_unrelated():
    noise = [*noise_of(CLIP_IDS), *noise_of(CLIP_IDS, seed=1)]
    correlation = np.corrcoef([np.ravel(one) for one in noise])
    np.testing.assert_allclose(correlation, np.eye(6), atol=0.03)


@pytest.mark.parametrize("method", ["euler", "heun"])
def test_generated_sound_has_the_length_of_the_clip(state, features, method: str):
    start = start_of(CLIP_IDS)
    log_mels = make_generate(EXPERIMENT, sampler(method=method))(state.averaged, features, start)
    assert log_mels.shape == (3, EXPERIMENT.spec.mel_frames, 64)
    assert np.isfinite(log_mels).all()


@pytest.mark.parametrize("method", ["euler", "dopri5"])
def test_a_clip_sounds_the_same_in_any_batch(method: str, state, features):
    generate = make_generate(EXPERIMENT, sampler(method=method, tolerance=1e-3))
    together = generate(state.averaged, features, start_of(CLIP_IDS))
    last = {name: value[2:] for name, value in features.items()}
    alone = generate(state.averaged, last, start_of(CLIP_IDS[2:]))
    np.testing.assert_allclose(alone[0], together[2], atol=1e-4)
    assert np.abs(together[0] - together[2]).max() > 0.1


def test_the_averaged_weights_are_those_that_generate(state, features):
    generate = make_generate(EXPERIMENT, sampler())
    start = start_of(CLIP_IDS)
    before = generate(state.averaged, features, start)
    zeros = jax.tree.map(jnp.zeros_like, state.params)
    np.testing.assert_array_equal(
        generate(dataclasses.replace(state, params=zeros).averaged, features, start), before
    )
    changed = generate(dataclasses.replace(state, ema=zeros).averaged, features, start)
    assert np.abs(changed - before).max() > 0.1


def test_a_velocity_of_zero_leaves_the_noise_to_the_decoder(state, features):
    # Orthonormal patches: the log-mel is as long, as a vector, as the scaled noise is.
    start = start_of(CLIP_IDS)
    zeros = dataclasses.replace(state, ema=jax.tree.map(jnp.zeros_like, state.ema))
    log_mels = make_generate(EXPERIMENT, sampler())(zeros.averaged, features, start)
    length = np.linalg.norm(0.5 * start.noise - 1)
    np.testing.assert_allclose(np.linalg.norm(log_mels), length, rtol=1e-4)


def test_hidden_frames_are_those_of_the_clip_and_as_many_as_asked_for(state, features):
    start = draw_start(LONG, 0, CLIP_IDS, mask_ratio=0.3)
    for mask in start.frame_masks.values():
        assert abs(np.mean(mask) - 0.7) < 0.05
    alone = draw_start(LONG, 0, CLIP_IDS[1:2], mask_ratio=0.3).frame_masks
    for name, mask in alone.items():
        np.testing.assert_array_equal(mask[0], start.frame_masks[name][1])
    np.testing.assert_array_equal(start.noise, draw_start(LONG, 0, CLIP_IDS).noise)
    # All hidden is as good as not there.
    generate = make_generate(EXPERIMENT, sampler())
    hidden = generate(state.averaged, features, draw_start(EXPERIMENT, 0, CLIP_IDS, mask_ratio=1.0))
    absent = features | {name: jnp.zeros_like(features[name]) for name in ("lips", "sync")}
    np.testing.assert_allclose(
        hidden, generate(state.averaged, absent, start_of(CLIP_IDS)), atol=1e-4
    )
    assert np.abs(hidden - generate(state.averaged, features, start_of(CLIP_IDS))).max() > 0.1


def test_the_adaptive_method_ends_where_many_small_steps_end(state, features):
    start = start_of(CLIP_IDS)
    adaptive = make_generate(EXPERIMENT, sampler(method="dopri5"))(state.averaged, features, start)
    fine = make_generate(EXPERIMENT, sampler(method="rk4", steps=100))(
        state.averaged, features, start
    )
    np.testing.assert_allclose(adaptive, fine, atol=1e-3)


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_guidance_goes_past_the_condition_by_its_weight(weight: float):
    rng = np.random.default_rng(0)
    start = jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32)
    frames = jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32)
    context = jnp.asarray([[[10.0]], [[20.0]]])
    times = jnp.array([0.25, 0.75])

    def model(x: jax.Array, t: jax.Array, conditioning: Conditioning) -> jax.Array:
        # Of each clip's two rows the first sees the context, as in the transformer.
        by_clip = x.reshape(2, 2, *x.shape[1:])
        seen = by_clip.at[:, 0].add(conditioning.context).reshape(x.shape)
        return seen * t[:, None, None] + conditioning.frames

    found = guided(model, Conditioning(frames, context, None), weight)(start, times)
    scale = times[:, None, None]
    free, given = start * scale, (start + context) * scale + frames
    np.testing.assert_allclose(found, free + weight * (given - free), rtol=1e-5, atol=1e-5)


def test_guidance_by_the_number_one_is_one_pass():
    def model(x: jax.Array, t: jax.Array, conditioning: Conditioning) -> jax.Array:
        assert len(x) == 2
        return x + conditioning.frames

    frames = jnp.ones((2, 3, 4))
    velocity = guided(model, Conditioning(frames, None, None), 1.0)
    np.testing.assert_array_equal(velocity(frames, jnp.zeros(2)), 2 * frames)


def test_guidance_outside_its_interval_is_the_condition_alone():
    start = jnp.ones((2, 3, 4))
    frames = jnp.full((2, 3, 4), 5.0)
    rows = []

    def model(x: jax.Array, t: jax.Array, conditioning: Conditioning) -> jax.Array:
        rows.append(len(x))
        return x * t[:, None, None] + conditioning.frames

    velocity = guided(model, Conditioning(frames, None, None), 3.0, (0.2, 0.6))
    for time, expected in ((0.1, 5.1), (0.2, 15.2), (0.6, 15.6), (0.7, 5.7)):
        found = velocity(start, jnp.full(2, time))
        np.testing.assert_allclose(found, np.full((2, 3, 4), expected), rtol=1e-5)
    assert set(rows) == {4, 2}  # two passes inside, one outside
