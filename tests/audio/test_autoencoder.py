"""The learned codec: what it can be, and the latents it gives. Its arithmetic: tests/interop."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from flax import nnx

from tests.helpers import randomised
from vssflow_jax.audio.autoencoder import Autoencoder, AutoencoderConfig, Posterior
from vssflow_jax.audio.codec import make_codec
from vssflow_jax.clip import LATENT_CHANNELS, ClipSpec
from vssflow_jax.utils.errors import UserError

TINY = AutoencoderConfig(
    block_out_channels=(4, 8), layers_per_block=1, latent_channels=3, norm_num_groups=2
)
encode = nnx.jit(Autoencoder.encode)
AUDIOLDM = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.15.0",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "in_channels": 1,
    "latent_channels": 8,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 1,
    "sample_size": 512,
    "scaling_factor": 0.9227914214134216,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
}


@pytest.fixture(scope="module")
def tiny() -> Autoencoder:
    return randomised(lambda: Autoencoder(TINY, rngs=nnx.Rngs(0)))


@pytest.fixture
def log_mel() -> jax.Array:
    return jax.random.normal(jax.random.key(0), (2, 12, 8))


@pytest.mark.parametrize(
    ("scale", "says"), [(0.9227914214134216, "AudioLDM 2"), (0.4110932946205139, ""), (None, "")]
)
def test_latents_that_the_reference_does_not_have_are_told_of(
    scale: float | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {name: value for name, value in AUDIOLDM.items() if name != "scaling_factor"}
    options |= {} if scale is None else {"scaling_factor": scale}
    (tmp_path / "config.json").write_text(json.dumps(options))
    for _ in range(2):
        make_codec(ml_collections.ConfigDict({"kind": "audioldm_vae", "path": str(tmp_path)}))
    said = capsys.readouterr().err
    assert said.count("warning: ") == bool(says)
    assert says in said


def test_audioldm_fits_the_flow() -> None:
    cfg = AutoencoderConfig.from_hugging_face(AUDIOLDM)
    clip = ClipSpec()
    assert cfg == AutoencoderConfig()
    assert cfg.flow_channels == LATENT_CHANNELS
    assert cfg.downsampling * clip.latent_rate == clip.mel_rate
    model = nnx.eval_shape(lambda: Autoencoder(cfg, rngs=nnx.Rngs(0)))
    log_mel = jax.ShapeDtypeStruct((2, clip.mel_frames, 64), jnp.float32)
    posterior = nnx.eval_shape(lambda model, x: model.encode(x), model, log_mel)
    assert posterior.mean.shape == (2, clip.latent_frames, LATENT_CHANNELS)
    decoded = nnx.eval_shape(lambda model, x: model.decode(x), model, posterior.mean)
    assert decoded.shape == log_mel.shape


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_class_name", "AutoencoderOobleck"),
        ("act_fn", "gelu"),
        (
            "down_block_types",
            ["DownEncoderBlock2D", "AttnDownEncoderBlock2D", "DownEncoderBlock2D"],
        ),
        ("in_channels", 2),
        ("latents_mean", [0.5] * 8),
        ("mid_block_add_attention", False),
        ("up_block_types", ["UpDecoderBlock2D"] * 2),
        ("use_quant_conv", False),
        ("spectral_norm", True),
    ],
)
def test_options_that_are_not_computed_are_refused(key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"^[^\n]*{key}[^\n]*$"):
        AutoencoderConfig.from_hugging_face({**AUDIOLDM, key: value})


def test_a_missing_size_is_refused() -> None:
    config = {key: value for key, value in AUDIOLDM.items() if key != "latent_channels"}
    with pytest.raises(UserError, match="'latent_channels'"):
        AutoencoderConfig.from_hugging_face(config)


def test_options_may_be_given_at_the_value_that_a_missing_one_has() -> None:
    config = {**AUDIOLDM, "use_quant_conv": True, "shift_factor": None, "force_upcast": False}
    assert AutoencoderConfig.from_hugging_face(config) == AutoencoderConfig()


def test_log_variance_is_clamped(tiny: Autoencoder, log_mel: jax.Array) -> None:
    biases = jnp.array([0, 0, 0, -1000, 1000, 0], jnp.float32)  # mean, then log-variance
    model = nnx.clone(tiny)
    model.quant_conv.bias[...] = biases
    log_variance = encode(model, log_mel).log_variance.reshape(2, 6, -1, 3)
    np.testing.assert_array_equal(log_variance[..., 0], -30)
    np.testing.assert_array_equal(log_variance[..., 1], 20)
    assert np.ptp(log_variance[..., 2]) > 0


def test_a_latent_channel_is_found_at_each_band(tiny: Autoencoder, log_mel: jax.Array) -> None:
    shift = jnp.array([0, 7, 0, 0, 0, 0], jnp.float32)
    model = nnx.clone(tiny)
    model.quant_conv.bias[...] += shift
    moved = encode(model, log_mel).mean - encode(tiny, log_mel).mean
    np.testing.assert_allclose(
        moved, jnp.broadcast_to(jnp.tile(shift[:3], 4), moved.shape), atol=1e-5
    )


def test_noise_picks_a_latent_by_mean_and_deviation() -> None:
    posterior = Posterior(jnp.full((1, 2, 3), 3.0), jnp.full((1, 2, 3), 2 * jnp.log(0.5)))
    noise = jnp.arange(6.0).reshape(1, 2, 3)
    np.testing.assert_allclose(posterior.sample(noise), 3 + 0.5 * noise, rtol=1e-6)


def test_runs_inside_a_jitted_step(tiny: Autoencoder, log_mel: jax.Array) -> None:
    graph, weights = nnx.split(tiny)

    @jax.jit
    def step(weights: nnx.State, log_mel: jax.Array) -> tuple[jax.Array, jax.Array]:
        model = nnx.merge(graph, weights)
        posterior = model.encode(log_mel)
        latent = posterior.sample(jnp.ones_like(posterior.mean))
        return latent, model.decode(latent)

    latent, decoded = step(weights, log_mel)
    assert decoded.shape == log_mel.shape
    known = encode(tiny, log_mel)
    np.testing.assert_allclose(latent, known.mean + known.deviation, rtol=1e-4, atol=1e-4)
