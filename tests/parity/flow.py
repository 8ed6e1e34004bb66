"""A training step of the whole model against `vaflow_small.npz`; its parts are used for sampling.

Letters as in the package; C are all channels of the reference: latent, then conditions.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.parity import trunk
from tests.parity.golden import EXACT, FORWARD, GRADIENT, Golden, Row
from vssflow_jax.clip import ClipSpec
from vssflow_jax.flow import path
from vssflow_jax.input_pipeline.collate import to_latent_rate
from vssflow_jax.input_pipeline.example import ClipFeatures
from vssflow_jax.models import convert_vssflow
from vssflow_jax.models.conditions import PLACEMENTS, ConditionWidths, Features
from vssflow_jax.models.vssflow import ModelConfig, VSSFlow

PLACEMENT = "lip_synch_text"
INPUT, INPUT_CONV = "vaflow.proj_in.weight", "vaflow.preprocess_conv.weight"
OUTPUT, OUTPUT_CONV = "vaflow.proj_out.weight", "vaflow.postprocess_conv.weight"
# Names of the reference for a condition's features, resampled and projected.
GIVEN = {
    "visual": "video_feat",
    "sync": "synch_feat",
    "lips": "lip_feat",
    "speaker": "ref_audio_ebd",
}
RESAMPLED = {
    "visual": "video_interp",
    "sync": "synch_interp",
    "lips": "lip_padded",
    "phonemes": "phone_padded",
}
PROJECTED = {
    "visual": "video_proj",
    "sync": "synch_proj",
    "lips": "lip_proj",
    "phonemes": "phone_emb",
}


def check(golden: Golden) -> Iterator[Row]:
    """A row for each condition on its way, the path, the prediction, the loss and its gradients."""
    weights = golden.below("w/")
    cfg = config_of(golden, weights)
    model = load(cfg, weights)
    wide = trunk.load(weights, cfg.transformer, int(golden["cfg/in_channels"]))
    features = resampled(golden)
    for name, key in RESAMPLED.items():
        yield golden.row(f"out/{key}", features[name], EXACT)
    values = projected(model, features)
    for name, key in PROJECTED.items():
        yield golden.row(f"out/{key}", values[name], FORWARD)
    speaker = model.conditions.speaker(features["speaker"])
    yield golden.row("out/ref_proj", speaker[:, None], FORWARD)
    context = model.encode(features).context
    yield golden.row("out/cross_attn_cond", context, FORWARD)
    beside = condition_channels(values)
    yield golden.row("out/latent_cond", beside, FORWARD)

    # The codec's layout is [b, latent channel, t, band]; channel of the flow: band, then latent.
    latent = golden["in/vae_latent"].transpose(0, 2, 3, 1)
    latent = latent.reshape(*latent.shape[:2], -1)  # [b, t, c]
    noise, t = np.swapaxes(golden["in/x0_noise"], 1, 2), golden["in/t"]
    point = path.interpolate(noise, latent, t)
    yield golden.row("out/x_0", with_conditions(noise, beside), FORWARD)
    yield golden.row("out/x_1", with_conditions(latent, beside), FORWARD)
    yield golden.row("out/x_t", with_conditions(point, beside), FORWARD)
    yield golden.row("out/dx_t", with_conditions(latent - noise, 0 * beside), FORWARD)
    yield golden.row("out/pred", jax.jit(wide)(golden["out/x_t"], t, context), FORWARD)

    def loss(model: VSSFlow, keep: jax.Array) -> jax.Array:
        conditioning = model.encode(features, keep=keep)
        return jnp.mean(path.loss(lambda x, t: model(x, t, conditioning), noise, latent, t))

    kept, dropped = jnp.ones(len(t)), jnp.zeros(len(t))
    value, gradients = nnx.jit(nnx.value_and_grad(loss))(model, kept)
    yield golden.row("out/loss", value, FORWARD)
    for name, gradient in unfolded(gradients, weights, cfg).items():
        if f"grad/{name}" in golden:  # frozen weights have none
            yield golden.row(f"grad/{name}", gradient, GRADIENT)

    yield golden.row("drop/loss", nnx.jit(loss)(model, dropped), FORWARD)
    yield golden.row("drop/x_t", with_conditions(point, 0 * beside), FORWARD)
    free = jax.jit(wide)(golden["drop/x_t"], t, jnp.zeros_like(context))
    yield golden.row("drop/pred", free, FORWARD)


def config_of(golden: Golden, weights: Mapping[str, np.ndarray]) -> ModelConfig:
    """Sizes from `cfg/` and from the shapes of the weights."""
    modules = {
        "visual": "cond_proj",
        "sync": "synch_proj",
        "lips": "lip_proj",
        "speaker": "ref_proj",
    }
    widths = {
        name: ConditionWidths(
            weights[f"{module}.0.weight"].shape[1], len(weights[f"{module}.2.weight"])
        )
        for name, module in modules.items()
    }
    widths["phonemes"] = ConditionWidths(*weights["phone_embedding.weight"].shape)
    beside = sum(widths[name].projected for name in PLACEMENTS[PLACEMENT].concatenated)
    channels = int(golden["cfg/in_channels"]) - beside
    transformer = trunk.transformer_config(golden)
    return ModelConfig(PLACEMENT, widths, transformer, "float32", latent_channels=channels)


def load(cfg: ModelConfig, weights: Mapping[str, np.ndarray]) -> VSSFlow:
    """The model with imported weights."""
    ours, _ = convert_vssflow.from_reference(weights, cfg)
    model = nnx.eval_shape(lambda: VSSFlow(cfg, rngs=nnx.Rngs(0)))
    nnx.update(model, jax.tree.map(jnp.asarray, ours))
    return model


def resampled(golden: Golden) -> dict[str, np.ndarray]:
    """The features given, brought to the latent's frames as the input pipeline does it."""
    frames = golden["in/x0_noise"].shape[2]
    spec = ClipSpec(duration_sec=frames / ClipSpec.latent_rate)
    streams = {name: golden[f"in/{key}"] for name, key in GIVEN.items()}
    sync = streams["sync"]  # [b, windows, frames of a window, i]
    streams["sync"] = sync.reshape(len(sync), -1, sync.shape[-1])
    examples = [
        to_latent_rate(
            ClipFeatures(
                {name: value[index] for name, value in streams.items()},
                phonemes=golden["in/phone_id"][index],
                sound=np.zeros(0, np.float32),
                duration_sec=spec.duration_sec,
            ),
            spec,
        )
        for index in range(len(sync))
    ]
    return jax.tree.map(lambda *parts: np.stack(parts), *examples)


def projected(model: VSSFlow, features: Features) -> dict[str, jax.Array]:
    """Each condition as the network sees it, [b, t, o]."""
    projectors = model.conditions.projectors
    return {name: projectors[name](features[name]) for name in PROJECTED}


def condition_channels(values: Mapping[str, jax.Array]) -> jax.Array:
    """The conditions that the reference lays beside the latent, [b, C - c, t]."""
    names = PLACEMENTS[PLACEMENT].concatenated
    return jnp.concatenate([values[name] for name in names], axis=-1).swapaxes(1, 2)


def with_conditions(latent: Any, beside: jax.Array) -> jax.Array:
    """[b, t, c] and [b, C - c, t] -> [b, C, t]."""
    return jnp.concatenate([jnp.swapaxes(jnp.asarray(latent), 1, 2), beside], axis=1)


def unfolded(
    gradients: nnx.State, weights: Mapping[str, np.ndarray], cfg: ModelConfig
) -> dict[str, np.ndarray]:
    """Gradients of the reference's weights, by the chain rule through the folds.

    Of N = W (I + P) on the way in and N = (I + Q) W on the way out.
    """
    placed = convert_vssflow.to_reference(nnx.to_pure_dict(gradients), frozen_zeros(cfg), cfg)
    of_input, of_output = placed[INPUT], placed[OUTPUT]  # [d, C], [C, d]
    convolve_in, convolve_out = weights[INPUT_CONV][..., 0], weights[OUTPUT_CONV][..., 0]
    one = np.eye(len(convolve_in))
    return placed | {
        INPUT: of_input @ (one + convolve_in).T,
        INPUT_CONV: (weights[INPUT].T @ of_input)[..., None],
        OUTPUT: (one + convolve_out).T @ of_output,
        OUTPUT_CONV: (of_output @ weights[OUTPUT].T)[..., None],
    }


def frozen_zeros(cfg: ModelConfig) -> dict[str, Any]:
    """In place of the gradients of what is not trained."""
    frequencies = np.zeros(cfg.transformer.time_features // 2)
    return {"transformer": {"time": {"frequencies": frequencies}}}
