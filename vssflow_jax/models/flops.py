"""Model FLOPs: the arithmetic that a clip needs, by one formula, for the loop and for plans.

Counted are the matrix products of the network, two FLOPs for each multiply-add, over the time token
and the latent frames alone, not over what pads them. Not counted are elementwise work (norms,
softmax, activations, rotary positions), the audio codec, the optimizer, and whatever a device
computes a second time (rematerialisation). So the figure depends on the model and the clip, not on
how they are computed; it is what MFU is defined by (PaLM, arXiv 2204.02311, appendix B).

Without the codec is not without cost: where latents are computed in the step, AudioLDM's encoder
adds 329 GFLOP a clip of 10 s to the 699 of the base model.

Letters: t latent frames, n = 1 + t tokens, s context tokens, d width, e context width, c latent
channels, l layers.
"""

from vssflow_jax.models.conditions import PLACEMENTS
from vssflow_jax.models.transformer import TransformerConfig
from vssflow_jax.models.vssflow import ModelConfig

_PER_MULTIPLY_ADD = 2
PASSES = 3
"""Of training: forward; backward to the inputs of each product, and to its weights."""


def step_flops(model: ModelConfig, frames: int, clips: int) -> int:
    """Model FLOPs of one training step: three times those of the forward pass of its clips.

    Args:
      model: sizes of the network.
      frames: latent frames of a clip, `t`.
      clips: clips of the whole batch, over all devices.
    """
    return PASSES * clips * forward_flops(model, frames)


def forward_flops(model: ModelConfig, frames: int) -> int:
    """Model FLOPs of the network for one clip of `frames` latent frames at one flow time."""
    cfg = model.transformer
    latent_maps = 2 * frames * model.latent_channels * cfg.width  # input and output
    maps = _PER_MULTIPLY_ADD * (_conditions(model, frames) + latent_maps)
    return maps + transformer_flops(cfg, frames)


def transformer_flops(cfg: TransformerConfig, frames: int) -> int:
    """What `forward_flops` counts of the transformer alone, without the maps on either side."""
    time_token = cfg.time_features * cfg.width + cfg.width**2
    return _PER_MULTIPLY_ADD * (time_token + cfg.layers * _block(cfg, 1 + frames))


def _conditions(model: ModelConfig, frames: int) -> int:
    """Multiply-adds of the projectors, and of the maps of what lies beside the latent."""
    placement, width = PLACEMENTS[model.placement], model.transformer.width

    def project(name: str) -> int:
        features, projected = model.widths[name].features, model.widths[name].projected
        # Phonemes are looked up.
        return 0 if name == "phonemes" else 2 * projected * (features + projected)

    names = placement.concatenated + placement.attended
    a_frame = sum(project(name) for name in names)
    a_frame += sum(model.widths[name].projected * width for name in placement.concatenated)
    speaker = project("speaker")
    if not placement.attended:
        speaker += model.widths["speaker"].projected * width + width**2
    return frames * a_frame + speaker


def _block(cfg: TransformerConfig, tokens: int) -> int:
    """Multiply-adds of a block over n tokens, and s = n of context: the speaker and t frames."""
    ffw = 3 * tokens * cfg.width * cfg.ffw_width  # value, gate, and back
    context_width = cfg.context_width or cfg.width
    return (
        _attention(cfg, tokens, cfg.width, cfg.heads)
        + _attention(cfg, tokens, context_width, cfg.kv_heads)
        + ffw
    )


def _attention(cfg: TransformerConfig, tokens: int, source_width: int, kv_heads: int) -> int:
    """Multiply-adds of the attention of n tokens to s = n others of width e."""
    inner, inner_kv = cfg.heads * cfg.head_dim, kv_heads * cfg.head_dim
    queries_and_out = 2 * tokens * cfg.width * inner
    keys_and_values = 2 * tokens * source_width * inner_kv
    scores_and_mix = 2 * tokens * tokens * inner
    return queries_and_out + keys_and_values + scores_and_mix
