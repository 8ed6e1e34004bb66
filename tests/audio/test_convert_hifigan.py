"""The vocoder against its live peer in transformers, both with the same random weights."""

import numpy as np
import pytest
import torch
from flax import nnx
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from tests.parity.golden import FORWARD, compare
from tests.parity.vocoder import load
from vssflow_jax.audio.convert_hifigan import rules, unused
from vssflow_jax.audio.hifigan import HifiGanConfig, transposed_conv

FRAMES, BANDS = 11, 6
SIZES = {
    "as AudioLDM": {
        "upsample_rates": [5, 4, 2],
        "upsample_kernel_sizes": [16, 16, 8],
        "resblock_kernel_sizes": [3, 7],
        "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5]],
        "normalize_before": False,
    },
    "normalised": {
        "upsample_rates": [4, 3],
        "upsample_kernel_sizes": [8, 5],
        "resblock_kernel_sizes": [3, 5, 7],
        "resblock_dilation_sizes": [[1, 2], [1, 3], [1, 3, 5]],
        "leaky_relu_slope": 0.2,
        "normalize_before": True,
    },
}
WEIGHT_NORMS = {
    "none": lambda layer: layer,
    "weight_g and weight_v": torch.nn.utils.weight_norm,
    "parametrization": torch.nn.utils.parametrizations.weight_norm,
}


@pytest.fixture(params=SIZES)
def theirs(request: pytest.FixtureRequest) -> SpeechT5HifiGan:
    config = SpeechT5HifiGanConfig(
        model_in_dim=BANDS, upsample_initial_channel=16, **SIZES[request.param]
    )
    model = SpeechT5HifiGan(config).eval()
    randomise(model)
    model.mean += torch.linspace(-1, 1, BANDS)
    model.scale += torch.linspace(0.1, 1, BANDS)
    return model


def randomise(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.1 if parameter.ndim == 1 else 0.7 / np.sqrt(parameter[0].numel())
            parameter += scale * torch.randn(parameter.shape, generator=generator)


def config_of(theirs: SpeechT5HifiGan) -> HifiGanConfig:
    return HifiGanConfig.from_hugging_face(theirs.config.to_dict())


def weights_of(theirs: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("weight_norm", WEIGHT_NORMS)
def test_makes_the_waveform_that_transformers_makes(
    theirs: SpeechT5HifiGan, weight_norm: str
) -> None:
    for layer in [*theirs.modules()]:
        if isinstance(layer, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
            WEIGHT_NORMS[weight_norm](layer)
    randomise(theirs)  # lengths that are not those of the directions
    ours = load(config_of(theirs), weights_of(theirs))
    log_mel = np.random.default_rng(0).normal(size=(2, FRAMES, BANDS)).astype(np.float32)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(log_mel)).numpy()

    row = compare("waveform", ours(log_mel), wanted, FORWARD)

    assert row.ok, row
    assert np.std(wanted) > 0.03  # more than a constant, or a tanh at its end


def test_each_tensor_of_the_source_is_used_once_or_named_as_unused(theirs: SpeechT5HifiGan) -> None:
    cfg, weights = config_of(theirs), weights_of(theirs)
    sources = [source for rule in rules(cfg, weights.keys()) for source in rule.sources]
    assert sorted([*sources, *unused(cfg)]) == sorted(weights)


@pytest.mark.parametrize(
    ("kernel_size", "rate"), [(16, 5), (16, 4), (8, 2), (4, 2), (7, 3), (5, 5), (3, 1)]
)
def test_transposed_convolution_is_that_of_pytorch(kernel_size: int, rate: int) -> None:
    theirs = torch.nn.ConvTranspose1d(
        3, 2, kernel_size, stride=rate, padding=(kernel_size - rate) // 2
    )
    weight, bias = (parameter.detach().numpy() for parameter in theirs.parameters())
    ours = transposed_conv(3, 2, kernel_size, rate, rngs=nnx.Rngs(0))
    nnx.update(ours, {"kernel": weight.transpose(2, 0, 1)[::-1], "bias": bias})
    x = np.random.default_rng(0).normal(size=(2, FRAMES, 3)).astype(np.float32)
    wanted = theirs(torch.from_numpy(x).swapaxes(1, 2)).swapaxes(1, 2).detach()
    row = compare("upsampled", ours(x), wanted.numpy(), FORWARD)
    assert row.ok, row
