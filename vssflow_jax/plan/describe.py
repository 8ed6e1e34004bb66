"""What a config's network is made of, without making it:

python -m vssflow_jax.describe --config=configs/vssflow.py:base

Parameters are counted part by part, here and in the reference, whose input and output maps have
1x1 convolutions beside them and compute the channels of the conditions too (REFERENCE section 4).
"""

import dataclasses
from collections import Counter

from absl import flags
from ml_collections import config_flags

from vssflow_jax.config import clear_misfits
from vssflow_jax.input_pipeline.streams import STREAMS
from vssflow_jax.models.conditions import PLACEMENTS
from vssflow_jax.models.convert_vssflow import abstract_weights, input_channels
from vssflow_jax.models.parts import part_of
from vssflow_jax.models.vssflow import ModelConfig
from vssflow_jax.utils import plugins
from vssflow_jax.weights.mapping import flatten

INPUT_MAPS, OUTPUT_MAP = "input maps", "output map"


def parts() -> dict[str, str]:
    """The parts of a network, by the start of a weight's name."""
    projectors = {
        f"conditions.projectors.{name}": f"projector: {stream.title}"
        for name, stream in STREAMS.items()
    }
    return {
        "conditions.inputs": INPUT_MAPS,
        "input": INPUT_MAPS,
        **projectors,
        "conditions.projectors.phonemes": "phoneme embedding",
        "conditions.speaker": "projector: speaker",
        "transformer.time": "time embedding",
        "transformer.blocks.self_attention": "blocks: self-attention",
        "transformer.blocks.cross_attention": "blocks: cross-attention",
        "transformer.blocks.ffw": "blocks: feed-forward",
        "transformer.blocks.norm": "blocks: norms",
        "output": OUTPUT_MAP,
    }


def count_parameters(cfg: ModelConfig) -> dict[str, int]:
    """Numbers in each part of the network, trained or frozen."""
    counts: Counter[str] = Counter()
    known = parts()
    for name, weight in flatten(abstract_weights(cfg)).items():
        counts[part_of(name, known)] += weight.size
    return {part: counts[part] for part in dict.fromkeys(known.values()) if counts[part]}


def count_unfolded(cfg: ModelConfig) -> dict[str, int]:
    """The same for the reference's layout: all channels in and out, a 1x1 convolution at each.

    Norms of queries and keys, which the reference has not, are not counted.
    """
    transformer = dataclasses.replace(cfg.transformer, qk_norm=False)
    cfg = dataclasses.replace(cfg, transformer=transformer)
    channels = input_channels(cfg)
    whole = channels * cfg.transformer.width + channels**2
    return count_parameters(cfg) | {INPUT_MAPS: whole, OUTPUT_MAP: whole}


def table(cfg: ModelConfig) -> str:
    """Sizes of the network, and its parameters part by part."""
    here, reference = (
        counts | {"total": sum(counts.values())}
        for counts in (count_parameters(cfg), count_unfolded(cfg))
    )
    transformer, placement = cfg.transformer, PLACEMENTS[cfg.placement]
    normed = ", queries and keys normed" if transformer.qk_norm else ""
    attended = " + ".join(placement.attended) or "nothing"
    beside = " + ".join(placement.concatenated) or "nothing"
    lines = [
        f"placement {cfg.placement}: {beside} beside the latent, {attended} attended to",
        f"{transformer.layers} blocks, width {transformer.width} = {transformer.heads} heads of "
        f"{transformer.head_dim}, {transformer.kv_heads} key/value heads, context width "
        f"{transformer.context_width}{normed}",
        "",
        f"{'part':28}{'parameters':>16}{'reference':>16}",
    ]
    lines += [f"{part:28}{count:16,}{reference[part]:16,}" for part, count in here.items()]
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    del argv
    config = flags.FLAGS.config
    with clear_misfits(config):
        plugins.load(config.plugins)
        cfg = ModelConfig.from_config(config.model)
    print(table(cfg))


def define_flags() -> None:
    """Define the flags of the command."""
    config_flags.DEFINE_config_file("config", None, "experiment", lock_config=True)
    flags.mark_flag_as_required("config")
