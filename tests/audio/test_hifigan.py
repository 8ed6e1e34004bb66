"""The learned vocoder: what it can be, and the sound it gives. Its arithmetic: tests/interop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.helpers import randomised
from vssflow_jax.audio import mel
from vssflow_jax.audio.hifigan import HifiGan, HifiGanConfig
from vssflow_jax.utils.errors import UserError

AUDIOLDM = {
    "architectures": ["SpeechT5HifiGan"],
    "initializer_range": 0.01,
    "leaky_relu_slope": 0.1,
    "model_in_dim": 64,
    "model_type": "speecht5_hifigan",
    "normalize_before": False,
    "resblock_dilation_sizes": [[1, 3, 5]] * 3,
    "resblock_kernel_sizes": [3, 7, 11],
    "sampling_rate": 16000,
    "torch_dtype": "float32",
    "upsample_initial_channel": 1024,
    "upsample_kernel_sizes": [16, 16, 8, 4, 4],
    "upsample_rates": [5, 4, 2, 2, 2],
}


def test_audioldm_fits_the_front_end() -> None:
    cfg = HifiGanConfig.from_hugging_face(AUDIOLDM)
    assert cfg == HifiGanConfig()
    assert (cfg.hop, cfg.model_in_dim, cfg.sampling_rate) == (mel.HOP, mel.BANDS, mel.SAMPLING_RATE)
    model = nnx.eval_shape(lambda: HifiGan(cfg, rngs=nnx.Rngs(0)))
    log_mel = jax.ShapeDtypeStruct((2, 1000, mel.BANDS), jnp.float32)
    waveform = nnx.eval_shape(lambda model, x: model(x), model, log_mel)
    assert waveform.shape == (2, 1000 * mel.HOP + 32)


def test_the_file_of_audioldm_2_is_of_the_same_network() -> None:
    older = AUDIOLDM | {"model_type": "hifigan", "transformers_version": "4.32.0.dev0"}
    assert HifiGanConfig.from_hugging_face(older) == HifiGanConfig.from_hugging_face(AUDIOLDM)
    with pytest.raises(UserError, match=r"architectures are \['HifiganModel'\]"):
        HifiGanConfig.from_hugging_face(older | {"architectures": ["HifiganModel"]})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "univnet"),
        ("upsample_rates", [5, 4, 2, 2]),
        ("resblock_dilation_sizes", [[1, 3, 5]]),
    ],
)
def test_configs_that_do_not_make_sense_are_refused(key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"^[^\n]*{key}[^\n]*$"):
        HifiGanConfig.from_hugging_face({**AUDIOLDM, key: value})


def test_a_missing_size_is_refused() -> None:
    config = {key: value for key, value in AUDIOLDM.items() if key != "upsample_rates"}
    with pytest.raises(UserError, match="'upsample_rates'"):
        HifiGanConfig.from_hugging_face(config)


def test_runs_jitted_and_stays_within_the_range_of_a_waveform() -> None:
    cfg = HifiGanConfig.from_hugging_face(
        {
            **AUDIOLDM,
            "model_in_dim": 5,
            "upsample_initial_channel": 8,
            "upsample_kernel_sizes": [4, 4],
            "upsample_rates": [2, 2],
        }
    )
    model = randomised(lambda: HifiGan(cfg, rngs=nnx.Rngs(0)))
    graph, weights = nnx.split(model)
    log_mel = 100 * jax.random.normal(jax.random.key(0), (2, 7, 5))
    waveform = jax.jit(lambda weights, x: nnx.merge(graph, weights)(x))(weights, log_mel)
    assert waveform.shape == (2, 7 * cfg.hop)
    assert 0.5 < np.max(np.abs(waveform)) <= 1
