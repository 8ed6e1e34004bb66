"""A tiny model with random weights, and a plain NumPy account of what it should compute.

The NumPy side follows REFERENCE section 4 word by word, a clip and a head at a time, in float64.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vssflow_jax.models.conditions import PLACEMENTS, ConditionWidths, Features, context_width
from vssflow_jax.models.transformer import TransformerConfig
from vssflow_jax.models.vssflow import ModelConfig, VSSFlow

FRAMES = 6
WIDTHS = {
    "visual": ConditionWidths(features=5, projected=12),
    "sync": ConditionWidths(features=7, projected=8),
    "lips": ConditionWidths(features=6, projected=10),
    "phonemes": ConditionWidths(features=200, projected=4),
    "speaker": ConditionWidths(features=9, projected=8),
}
SIZES = {"layers": 3, "heads": 4, "kv_heads": 2, "head_dim": 8, "time_features": 16}

Weights = dict[str, Any]
Module = TypeVar("Module", bound=nnx.Module)


def tiny_transformer_config(**sizes: Any) -> TransformerConfig:
    return TransformerConfig(**{"context_width": 12, **SIZES, **sizes})


def tiny_model_config(placement: str, dtype: str) -> ModelConfig:
    context = context_width(PLACEMENTS[placement], WIDTHS)
    transformer = tiny_transformer_config(context_width=context)
    return ModelConfig(placement, WIDTHS, transformer, dtype)


def tiny_model(placement: str = "lip_synch_text", dtype: str = "float32") -> VSSFlow:
    config = tiny_model_config(placement, dtype)
    return randomised(lambda: VSSFlow(config, rngs=nnx.Rngs(0)))


def randomised(make: Callable[[], Module], seed: int = 0) -> Module:
    """The module that `make` returns, every weight random: also those that start as 0 or 1."""
    rng = np.random.default_rng(seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        fan_in = max(leaf.shape[:-1], default=4)
        return jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(fan_in), leaf.dtype)

    # Never initialised, which would take longer than most tests.
    module = nnx.eval_shape(make)
    nnx.update(module, jax.tree.map(draw, nnx.state(module)))
    return module


@nnx.jit
def velocity(
    model: VSSFlow,
    x: jax.Array,
    t: jax.Array,
    features: Features,
    keep: jax.Array | None = None,
) -> jax.Array:
    """Conditions encoded and used at once."""
    return model(x, t, model.encode(features, keep=keep))


def random_features(batch: int, seed: int = 0) -> dict[str, jax.Array]:
    """Features of `batch` clips at the latent rate, in the widths of `WIDTHS`."""
    rng = np.random.default_rng(seed)
    shapes = {name: (batch, FRAMES, WIDTHS[name].features) for name in ("visual", "sync", "lips")}
    features = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    features["speaker"] = rng.normal(size=(batch, WIDTHS["speaker"].features))
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in features.items()}
    return arrays | {"phonemes": jnp.asarray(rng.integers(0, 71, (batch, FRAMES)), jnp.int32)}


def weights_of(module: Any) -> Weights:
    """All weights of a module, as nested dicts of float64 arrays."""
    state = nnx.to_pure_dict(nnx.state(module))
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state)


# --------------------------------------------------------------------- the network, in plain NumPy
def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def linear(w: Weights, x: np.ndarray) -> np.ndarray:
    return x @ w["w_io"] + (w["b_o"] if w.get("b_o") is not None else 0)


def project(w: Weights, x: np.ndarray) -> np.ndarray:
    return linear(w["outer"], silu(linear(w["inner"], x)))


def layer_norm(w: Weights, x: np.ndarray) -> np.ndarray:
    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return normed * w["scale_d"] + w["bias_d"]


def head_norm(w: Weights, x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * w["scale_k"]


def turn(x: np.ndarray) -> np.ndarray:
    """Rotary positions on one head [n, k]: channels j and j + k/4 are a complex number."""
    n, k = x.shape
    quarter = k // 4
    frequency = 10_000.0 ** (-np.arange(quarter) / quarter)
    phase = np.exp(1j * np.outer(np.arange(n), frequency))
    turned = (x[:, :quarter] + 1j * x[:, quarter : 2 * quarter]) * phase
    return np.concatenate([turned.real, turned.imag, x[:, 2 * quarter :]], axis=1)


def attend(
    w: Weights, x: np.ndarray, source: np.ndarray, heads: int, kv_heads: int, *, rotate_keys: bool
) -> np.ndarray:
    """One clip: x [n, d], source [s, e]; consecutive query heads share a key/value head."""
    mixed = 0
    for head in range(heads):
        shared = head // (heads // kv_heads)
        q, k = x @ w["q_dhk"][:, head], source @ w["k_egk"][:, shared]
        if w.get("q_norm") is not None:
            q, k = head_norm(w["q_norm"], q), head_norm(w["k_norm"], k)
        scores = turn(q) @ (turn(k) if rotate_keys else k).T / np.sqrt(q.shape[1])
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = shares / shares.sum(axis=1, keepdims=True)
        mixed = mixed + shares @ source @ w["v_egk"][:, shared] @ w["out_hkd"][head]
    return mixed


def feed_forward(w: Weights, x: np.ndarray) -> np.ndarray:
    return linear(w["out"], linear(w["value"], x) * silu(linear(w["gate"], x)))


def block(
    w: Weights, x: np.ndarray, context: np.ndarray | None, heads: int, kv_heads: int
) -> np.ndarray:
    """One clip: x [n, d], context [s, e] or None for a second self-attention."""
    normed = layer_norm(w["norm1"], x)
    x = x + attend(w["self_attention"], normed, normed, heads, heads, rotate_keys=True)
    normed = layer_norm(w["norm2"], x)
    alone = context is None
    source = normed if alone else context
    x = x + attend(w["cross_attention"], normed, source, heads, kv_heads, rotate_keys=alone)
    return x + feed_forward(w["ffw"], layer_norm(w["norm3"], x))


def embed_time(w: Weights, t: float) -> np.ndarray:
    angle = 2 * np.pi * t * w["frequencies"]
    return project(w, np.concatenate([np.cos(angle), np.sin(angle)]))


def transform(
    w: Weights,
    frames: np.ndarray,
    t: float,
    context: np.ndarray | None,
    heads: int,
    kv_heads: int,
    token: np.ndarray | float = 0.0,
) -> np.ndarray:
    """One clip through all blocks: frames [t, d], context [s, e], token [d] -> [t, d]."""
    x = np.concatenate([(embed_time(w["time"], t) + token)[None], frames])
    layers = len(jax.tree.leaves(w["blocks"])[0])
    for index in range(layers):
        one = jax.tree.map(lambda stacked, index=index: stacked[index], w["blocks"])
        x = block(one, x, context, heads, kv_heads)
    return x[1:]
