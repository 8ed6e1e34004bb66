"""The autoencoder against its live peer in diffusers, both with the same random weights."""

import json

import jax
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from flax import nnx

from tests.parity.golden import FORWARD, compare
from tests.parity.vae import as_image, load
from vssflow_jax.audio.autoencoder import Autoencoder, AutoencoderConfig
from vssflow_jax.audio.convert_autoencoder import rules

FRAMES, BANDS = 24, 16
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
SIZES = {
    "three levels": {
        "block_out_channels": (8, 16, 16),
        "layers_per_block": 1,
        "latent_channels": 8,
        "norm_num_groups": 4,
    },
    "two layers": {
        "block_out_channels": (6, 12),
        "layers_per_block": 2,
        "latent_channels": 4,
        "norm_num_groups": 3,
    },
}


@pytest.fixture(scope="module", params=SIZES)
def theirs(request: pytest.FixtureRequest) -> AutoencoderKL:
    sizes = SIZES[request.param]
    levels = len(sizes["block_out_channels"])
    model = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        **sizes,
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # also those that start as 0 or 1
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def config_of(theirs: AutoencoderKL) -> AutoencoderConfig:
    return AutoencoderConfig.from_hugging_face(json.loads(theirs.to_json_string()))


def weights_of(theirs: AutoencoderKL) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}


def test_encodes_and_decodes_as_diffusers_does(theirs: AutoencoderKL) -> None:
    cfg = config_of(theirs)
    ours = load(cfg, weights_of(theirs))
    log_mel = np.random.default_rng(0).normal(size=(2, FRAMES, BANDS)).astype(np.float32)
    with torch.no_grad():
        wanted = theirs.encode(torch.from_numpy(log_mel[:, None])).latent_dist
        wanted_mel = theirs.decode(wanted.mean).sample[:, 0]

    posterior = nnx.jit(Autoencoder.encode)(ours, log_mel)
    decoded = nnx.jit(Autoencoder.decode)(ours, posterior.mean)

    for row in (
        compare("mean", as_image(posterior.mean, cfg), wanted.mean.numpy(), FORWARD),
        compare("log-variance", as_image(posterior.log_variance, cfg), wanted.logvar, FORWARD),
        compare("deviation", as_image(posterior.deviation, cfg), wanted.std, FORWARD),
        compare("log-mel", decoded, wanted_mel.numpy(), FORWARD),
    ):
        assert row.ok, row


@pytest.mark.parametrize("theirs", ["two layers"], indirect=True)
@pytest.mark.parametrize("as_convolutions", [False, True])
def test_older_names_of_the_attention_mean_the_same(
    theirs: AutoencoderKL, as_convolutions: bool
) -> None:
    cfg, weights = config_of(theirs), weights_of(theirs)
    old_weights = {}
    for name, value in weights.items():
        for new, old in OLD_NAMES.items():
            if f".{new}." in name:
                name = name.replace(new, old)
                value = value[..., None, None] if as_convolutions and value.ndim == 2 else value
        old_weights[name] = value
    assert old_weights.keys() != weights.keys()

    by_old_names = nnx.to_pure_dict(nnx.state(load(cfg, old_weights)))

    by_names = nnx.to_pure_dict(nnx.state(load(cfg, weights)))
    jax.tree.map(np.testing.assert_array_equal, by_old_names, by_names)


def test_each_tensor_of_the_source_is_used_once(theirs: AutoencoderKL) -> None:
    weights = weights_of(theirs)
    sources = [
        source for rule in rules(config_of(theirs), weights.keys()) for source in rule.sources
    ]
    assert sorted(sources) == sorted(weights)
