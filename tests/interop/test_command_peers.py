"""The command that imports weights, on folders of live peers: the networks compute the same.

Each peer has random weights, is saved by its own `save_pretrained` and imported by the command, and
what that wrote is loaded as training and generation load it.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from diffusers import AutoencoderKL, StableAudioDiTModel
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from flax import nnx
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from configs import demo
from tests import tiny
from tests.parity.golden import compare
from vssflow_jax.audio import mel
from vssflow_jax.audio.autoencoder import Autoencoder
from vssflow_jax.audio.hifigan import HifiGan
from vssflow_jax.audio.pretrained import AUTOENCODER, HIFIGAN, Pretrained
from vssflow_jax.models.convert_vssflow import abstract_weights
from vssflow_jax.models.vssflow import ModelConfig, VSSFlow
from vssflow_jax.weights import folder as weights

PEER = 1e-4
CLIPS, MEL_FRAMES, FRAMES = 2, 12, 6
TRANSFORMER = {
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 8,
    "ffw_multiple": 4,
    "time_features": 16,
}


def import_by_command(peer: Any, kind: str, folder: Path, *arguments: str) -> Path:
    """The folder that the command makes of the peer, once that has random weights."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in peer.parameters():  # also those that start as 0 or 1
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    source, out = folder / "source", folder / "imported"
    peer.save_pretrained(source)
    command = [sys.executable, "-m", "vssflow_jax.interop.import_weights"]
    flags = [f"--kind={kind}", f"--source={source}", f"--out={out}"]
    done = tiny.run([*command, *flags, *arguments])
    assert done.returncode == 0, done.stderr
    return out


def load(network: Pretrained, folder: Path) -> Any:
    module: Any = nnx.eval_shape(lambda: network.make(network.read_config(folder)))
    nnx.update(module, network.load(folder))
    return module


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def assert_same(name: str, ours: Any, theirs: torch.Tensor) -> None:
    row = compare(name, ours, theirs.numpy(), PEER)
    assert row.ok, row


def test_an_autoencoder(tmp_path: Path) -> None:
    theirs = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=4,
    )
    ours = load(AUTOENCODER, import_by_command(theirs, "audioldm_vae", tmp_path))
    log_mel = random(CLIPS, MEL_FRAMES, mel.BANDS)
    with torch.no_grad():
        wanted = theirs.encode(torch.from_numpy(log_mel[:, None])).latent_dist
        decoded = theirs.decode(wanted.mean).sample[:, 0]

    def to_flow(maps: torch.Tensor) -> torch.Tensor:
        """[b, latent channel, t, band] -> [b, t, c], where bands have their channels together."""
        return maps.permute(0, 2, 3, 1).flatten(2)

    posterior = nnx.jit(Autoencoder.encode)(ours, log_mel)
    assert_same("mean", posterior.mean, to_flow(wanted.mean))
    assert_same("log-variance", posterior.log_variance, to_flow(wanted.logvar))
    assert_same("log-mel", nnx.jit(Autoencoder.decode)(ours, posterior.mean), decoded)


def test_a_vocoder(tmp_path: Path) -> None:
    config = SpeechT5HifiGanConfig(
        model_in_dim=mel.BANDS,
        upsample_initial_channel=16,
        upsample_rates=[8, 5, 4],
        upsample_kernel_sizes=[16, 11, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3, 5]],
        normalize_before=False,
    )
    theirs = SpeechT5HifiGan(config).eval()
    ours = load(HIFIGAN, import_by_command(theirs, "hifigan", tmp_path))
    log_mel = random(CLIPS, MEL_FRAMES, mel.BANDS)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(log_mel))
    assert 0.03 < wanted.std() < 0.9  # more than a constant, less than a tanh at its ends
    assert_same("waveform", nnx.jit(HifiGan.__call__)(ours, log_mel), wanted)


def test_a_transformer(tmp_path: Path) -> None:
    """The same but for the cross-attention's queries, which VSSFlow rotates and diffusers does not.

    So the peer's second attention is handed the rotary tables too.
    """
    config = demo.get_config()
    config.model.transformer.update(TRANSFORMER)
    cfg = ModelConfig.from_config(config.model)
    sizes = cfg.transformer
    theirs = StableAudioDiTModel(
        num_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_attention_heads=sizes.kv_heads,
        attention_head_dim=sizes.head_dim,
        cross_attention_dim=sizes.context_width,
        time_proj_dim=sizes.time_features,
        in_channels=6,
        out_channels=6,
        cross_attention_input_dim=10,
        global_states_input_dim=20,
    ).eval()
    out = import_by_command(
        theirs,
        "stable_audio",
        tmp_path,
        f"--config={tiny.ROOT / 'configs' / 'demo.py'}",
        *(f"--config.model.transformer.{name}={value}" for name, value in TRANSFORMER.items()),
    )
    ours = nnx.eval_shape(lambda: VSSFlow(cfg, rngs=nnx.Rngs(0)))
    nnx.update(ours, weights.load(out, "vssflow", abstract_weights(cfg)))

    frames = random(CLIPS, FRAMES, sizes.width)
    context = random(CLIPS, FRAMES + 1, sizes.context_width)
    t = np.array([0.3, 0.9], np.float32)
    rotary = get_1d_rotary_pos_embed(
        sizes.head_dim // 2, FRAMES + 1, use_real=True, repeat_interleave_real=False
    )

    def rotate_queries(module: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return args, kwargs | {"rotary_emb": rotary}

    with torch.no_grad():
        token = theirs.timestep_proj(theirs.time_proj(torch.from_numpy(t)))
        x = torch.cat([token[:, None], torch.from_numpy(frames)], dim=1)
        for block in theirs.transformer_blocks:
            block.attn2.register_forward_pre_hook(rotate_queries, with_kwargs=True)
            x = block(x, encoder_hidden_states=torch.from_numpy(context), rotary_embedding=rotary)
    found = jax.jit(lambda *inputs: ours.transformer(*inputs))(
        jnp.asarray(frames), jnp.asarray(t), jnp.asarray(context)
    )
    assert_same("frames", found, x[:, 1:])
