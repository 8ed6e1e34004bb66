"""Codecs and vocoders by name: what they are given, what they give, and where weights come from."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from vssflow_jax.audio.codec import Codec, make_codec
from vssflow_jax.audio.mel import ABSENT_FRAME, BANDS, HOP
from vssflow_jax.audio.vocoder import make_vocoder
from vssflow_jax.clip import LATENT_CHANNELS
from vssflow_jax.interop.import_weights import import_weights
from vssflow_jax.utils.errors import UserError

FRAMES = 20
STATS = {"mean": [0.0] * LATENT_CHANNELS, "scale": [2.0] * LATENT_CHANNELS}


def section(kind: str, path: Path | str = "") -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict({"kind": kind, "path": str(path)})


def log_mels(clips: int = 3) -> jax.Array:
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(-4, 2, size=(clips, FRAMES, BANDS)), jnp.float32)


@pytest.fixture(scope="module", params=["patch_dct", "audioldm_vae"])
def codec(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Codec:
    return make_codec(section(request.param, folders.get(request.param, "")))


def test_a_codec_goes_both_ways(codec: Codec):
    params = codec.load(STATS)
    shapes = jax.eval_shape(lambda: params)
    assert jax.tree.structure(shapes) == jax.tree.structure(codec.abstract)
    assert jax.tree.leaves(shapes) == jax.tree.leaves(codec.abstract)
    known = jax.jit(codec.encode)(params, log_mels())
    assert known.mean.shape == (3, FRAMES // 4, LATENT_CHANNELS)
    assert jax.jit(codec.decode)(params, known.mean).shape == (3, FRAMES, BANDS)


def test_what_the_autoencoder_gives_is_around_what_it_knows(folders: dict[str, Path]):
    codec = make_codec(section("audioldm_vae", folders["audioldm_vae"]))
    known = codec.encode(codec.load(STATS), log_mels())
    assert known.log_variance is not None
    np.testing.assert_array_equal(known.sample(jnp.zeros_like(known.mean)), known.mean)
    noise = jax.random.normal(jax.random.key(0), known.mean.shape)
    picked = (known.sample(noise) - known.mean) / jnp.exp(known.log_variance / 2)
    np.testing.assert_allclose(picked, noise, atol=1e-4)


def test_the_patch_codec_draws_nothing():
    codec = make_codec(section("patch_dct"))
    known = codec.encode(codec.load(STATS), log_mels())
    np.testing.assert_array_equal(known.sample(jnp.ones_like(known.mean)), known.mean)


def test_the_patch_codec_needs_the_statistics_of_a_dataset():
    with pytest.raises(UserError, match="no dataset with their statistics"):
        make_codec(section("patch_dct")).load(None)


@pytest.mark.parametrize("kind", ["griffin_lim", "hifigan"])
def test_a_vocoder_is_as_long_as_the_log_mel(kind: str, folders: dict[str, Path]):
    vocode = make_vocoder(section(kind, folders.get(kind, "")))
    waveform = vocode(np.asarray(log_mels()[0]))
    assert waveform.shape == (FRAMES * HOP,)
    assert waveform.dtype == np.float32
    assert 0 < np.abs(waveform).max() <= 1


def test_imported_folders_give_the_same_as_those_of_hugging_face(
    folders: dict[str, Path], tmp_path: Path
):
    for kind, folder in folders.items():
        import_weights(kind, folder, tmp_path / kind)
    straight, imported = (
        make_codec(section("audioldm_vae", folder))
        for folder in (folders["audioldm_vae"], tmp_path / "audioldm_vae")
    )
    jax.tree.map(np.testing.assert_array_equal, straight.load(None), imported.load(None))
    silence = np.full((FRAMES, BANDS), ABSENT_FRAME, np.float32)
    waveforms = [
        make_vocoder(section("hifigan", folder))(silence)
        for folder in (folders["hifigan"], tmp_path / "hifigan")
    ]
    np.testing.assert_array_equal(*waveforms)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("audioldm_vae", {"latent_channels": 4}, "latent_channels is 4 .* the flow models 128"),
        (
            "audioldm_vae",
            {"latent_channels": 4, "block_out_channels": [8, 8]},
            "a latent frame is 2 mel frames; the flow's is 4",
        ),
        ("hifigan", {"model_in_dim": 80}, "model_in_dim is 80; the log-mels here have 64"),
        ("hifigan", {"upsample_rates": [4, 4, 2, 2, 2]}, "upsample_rates is 128; .* have 160"),
    ],
)
def test_weights_of_another_geometry(
    kind: str, changes: dict, message: str, folders: dict[str, Path], tmp_path: Path
):
    options = json.loads((folders[kind] / "config.json").read_text()) | changes
    for name in ("down_block_types", "up_block_types"):
        if name in options:
            options[name] = options[name][: len(options["block_out_channels"])]
    (tmp_path / "config.json").write_text(json.dumps(options))
    make = make_codec if kind == "audioldm_vae" else make_vocoder
    with pytest.raises(UserError, match=message):
        make(section(kind, tmp_path))


def test_a_folder_without_weights_is_one_clear_line(tmp_path: Path):
    for make, kind in ((make_codec, "audioldm_vae"), (make_vocoder, "hifigan")):
        with pytest.raises(UserError, match=r"config\.json is missing"):
            make(section(kind, tmp_path))
        with pytest.raises(UserError, match=r"name their folder by --config\.\w+\.path"):
            make(section(kind))
