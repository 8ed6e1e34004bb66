"""The head of Synchformer (Iashin et al. 2024, arXiv 2401.16423): by how much is a sound late?

Source: av-benchmark (`av_bench/synchformer`). The features of video and sound are extracted there;
what is left is a small transformer over both, which sorts a window of them into one of 21 offsets.
For DeSync it is asked twice for each clip, about its first and about its last 14 segments.

Letters: b clips, s segments, v and a tokens of a segment, d width.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from numpy.typing import NDArray

from vssflow_jax.evaluate.networks.files import Cache
from vssflow_jax.evaluate.networks.layers import Shapes, Weights, layer_norm, linear, read_weights

PUBLISHED = "Synchformer (synchformer_state_dict.pth)"
SEGMENTS = 14  # of the 4.8 s that are looked at at once
VIDEO_TOKENS, AUDIO_TOKENS = 8, 6  # of a segment
WIDTH = 768
BLOCKS = 3
HEADS = 8
OFFSETS_SEC = np.linspace(-2, 2, 21, dtype=np.float32)
"""Of the classes, in the precision of the original."""

VIDEO = Cache("synchformer_video", "video", (None, VIDEO_TOKENS, WIDTH), "synchformer_video.pth")
AUDIO = Cache("synchformer_sound", "sound", (None, AUDIO_TOKENS, WIDTH), "synchformer_audio.pth")

_ROOT = "transformer"
_TOKENS = 2 + SEGMENTS * (VIDEO_TOKENS + AUDIO_TOKENS)  # two of them between and before

Head = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]


def load(path: Path) -> Head:
    """The head with the weights of a file.

    Returns:
      A function of features of video [b, 14, 8, 768] and sound [b, 14, 6, 768] that gives logits
      [b, 21] of `OFFSETS_SEC`.

    Raises:
      UserError: the file is not whole, or of another network.
    """
    extractors = ("vfeat_extractor.*", "afeat_extractor.*")
    weights = read_weights(path, PUBLISHED, shapes(), ignored=extractors)
    apply = jax.jit(forward)
    return lambda video, audio: jax.device_get(apply(weights, video, audio))


def shapes(d: int = WIDTH) -> Shapes:
    """Of the tensors of the head in a file."""
    tokens = {f"{_ROOT}.{name}": (1, 1, d) for name in ("OFF_tok", "MOD_tok")}
    norms = [f"{_ROOT}.{name}" for name in ("vis_in_lnorm", "aud_in_lnorm", "ln_f")]
    maps = {"vproj": (d, d), "aproj": (d, d), f"{_ROOT}.off_head": (len(OFFSETS_SEC), d)}
    for block in (f"{_ROOT}.blocks.{number}" for number in range(BLOCKS)):
        norms += [f"{block}.ln1", f"{block}.ln2"]
        maps |= {f"{block}.attn.{name}": (d, d) for name in ("query", "key", "value", "proj")}
        maps |= {f"{block}.mlp.0": (4 * d, d), f"{block}.mlp.2": (d, 4 * d)}
    return {
        **tokens,
        f"{_ROOT}.pos_emb_cfg.pos_emb": (1, _TOKENS, d),
        **{f"{name}.{part}": (d,) for name in norms for part in ("weight", "bias")},
        **{f"{name}.weight": shape for name, shape in maps.items()},
        **{f"{name}.bias": shape[:1] for name, shape in maps.items()},
    }


def forward(weights: Weights, video: jax.Array, audio: jax.Array) -> jax.Array:
    """Logits [b, 21] of features [b, s, v, d] and [b, s, a, d]."""
    b, *_, d = video.shape
    seen = linear(weights, "vproj", video.reshape(b, -1, d))
    heard = linear(weights, "aproj", audio.reshape(b, -1, d))
    parts = (
        weights[f"{_ROOT}.OFF_tok"].repeat(b, axis=0),
        layer_norm(weights, f"{_ROOT}.vis_in_lnorm", seen),
        weights[f"{_ROOT}.MOD_tok"].repeat(b, axis=0),
        layer_norm(weights, f"{_ROOT}.aud_in_lnorm", heard),
    )
    x = jnp.concatenate(parts, axis=1) + weights[f"{_ROOT}.pos_emb_cfg.pos_emb"]
    for block in (f"{_ROOT}.blocks.{number}" for number in range(BLOCKS)):
        x += _attention(weights, f"{block}.attn", layer_norm(weights, f"{block}.ln1", x))
        inner = linear(weights, f"{block}.mlp.0", layer_norm(weights, f"{block}.ln2", x))
        x += linear(weights, f"{block}.mlp.2", jax.nn.gelu(inner, approximate=False))
    return linear(weights, f"{_ROOT}.off_head", layer_norm(weights, f"{_ROOT}.ln_f", x[:, 0]))


def _attention(weights: Weights, name: str, x: jax.Array) -> jax.Array:
    """Of all tokens to all, [b, t, d] -> [b, t, d]."""
    b, t, d = x.shape
    query, key, value = (
        linear(weights, f"{name}.{part}", x).reshape(b, t, HEADS, d // HEADS)
        for part in ("query", "key", "value")
    )
    scores = jnp.einsum("bqhk,bthk->bhqt", query, key, precision=Precision.HIGHEST)
    share = jax.nn.softmax(scores / np.sqrt(d // HEADS), axis=-1)
    read = jnp.einsum("bhqt,bthk->bqhk", share, value, precision=Precision.HIGHEST)
    return linear(weights, f"{name}.proj", read.reshape(b, t, d))


def desync(
    first_logits: NDArray[np.floating], last_logits: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Mean absolute offset of the two windows of each clip.

    Args:
      first_logits: logits of the first window of each clip, [n, 21].
      last_logits: logits of the last window, [n, 21].

    Returns:
      Seconds [n], 0 to 2; their mean is the published DeSync.
    """
    return (absolute_offset(first_logits) + absolute_offset(last_logits)) / 2


def absolute_offset(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Absolute offset in seconds [n] of the likeliest class, the first of equals, in [n, 21]."""
    return np.abs(OFFSETS_SEC[np.argmax(logits, axis=1)]).astype(np.float64)
