"""Weights of VSSFlow, from and to the names and layouts of the reference implementation.

Its maps side by side (latent and conditions in one matrix, a 1x1 convolution before it and another
after the last) are folded into ours, one matrix a condition (REFERENCE section 4).

Letters: c input channels of the reference (latent, then concatenated conditions), d model width.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict

from vssflow_jax.models import earlier
from vssflow_jax.models.conditions import PLACEMENTS, ConditionWidths
from vssflow_jax.models.transformer import TransformerConfig
from vssflow_jax.models.vssflow import COMPUTED_ALIKE, ModelConfig, VSSFlow
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import folder as weights
from vssflow_jax.weights import mapping
from vssflow_jax.weights.mapping import Rule, Weights
from vssflow_jax.weights.state_dict import StateDict, read_state_dict

KIND = "vssflow"  # what folders of imported weights call it
# Conditions by the names that folders of earlier versions have for them.
_EARLIER_NAMES = {"clip": "visual", "synch": "sync"}
# Sizes that those of earlier versions lack.
_ADDED = {"transformer.qk_norm": False}
# How it is computed, not what: may differ from what weights were trained or imported with.
_MAY_DIFFER = ("dtype", *COMPUTED_ALIKE)
# Frozen networks whose weights a Lightning checkpoint carries along.
CARRIED_ALONG = ("image_encoder.", "vae.", "vocoder.")
TRUNK = "vaflow."

_INPUT_CONV, _INPUT = f"{TRUNK}preprocess_conv.weight", f"{TRUNK}proj_in.weight"
_OUTPUT, _OUTPUT_CONV = f"{TRUNK}proj_out.weight", f"{TRUNK}postprocess_conv.weight"

# Two linear maps with a SiLU between them are items 0 and 2 of a list there.
_PAIRS = {
    "conditions.projectors.visual": "cond_proj",
    "conditions.projectors.lips": "lip_proj",
    "conditions.projectors.sync": "synch_proj",
    "conditions.speaker": "ref_proj",
    "conditions.speaker_to_token": f"{TRUNK}global_proj",
    "transformer.time": f"{TRUNK}timestep_proj",
}
_MODULES = {
    f"{ours}.{part}": f"{theirs}.{item}"
    for ours, theirs in _PAIRS.items()
    for part, item in (("inner", 0), ("outer", 2))
}
_BLOCKS = "transformer.blocks."
_VALUE, _GATE = "ffw.value", "ffw.gate"  # two maps here, the halves of one there
_BLOCK_MODULES = {
    "norm1": "norm1",
    "norm2": "norm2",
    "norm3": "norm3",
    _VALUE: "ff.net.0.proj",
    _GATE: "ff.net.0.proj",
    "ffw.out": "ff.net.2",
}
# Heads and their width are two axes here, one there.
_FROM_HEADS, _INTO_HEADS = "out_hkd", ("q_dhk", "k_egk", "v_egk")
_BLOCK_TENSORS = {
    f"{ours}.{weight}": f"{theirs}.to_{item}.weight"
    for ours, theirs in (("self_attention", "attn1"), ("cross_attention", "attn2"))
    for weight, item in zip((*_INTO_HEADS, _FROM_HEADS), ("q", "k", "v", "out.0"), strict=True)
}
_LEAVES = {"w_io": "weight", "b_o": "bias", "scale_d": "weight", "bias_d": "bias"}
_TENSORS = {
    "conditions.projectors.phonemes.table_vo": "phone_embedding.weight",
    "transformer.time.frequencies": f"{TRUNK}time_proj.weight",
}


def abstract_weights(cfg: ModelConfig) -> Weights:
    """Shapes of all weights of the network, trained and frozen, nested."""
    return mapping.abstract_weights(lambda: VSSFlow(cfg, rngs=nnx.Rngs(0)))


def rules(cfg: ModelConfig) -> list[Rule]:
    """One rule for each weight of a `VSSFlow`."""
    check_of_reference(cfg)
    columns, channels = _input_columns(cfg), input_channels(cfg)
    folded = {
        name: Rule(name, (_INPUT, _INPUT_CONV), _fold_input(part, channels))
        for name, part in columns.items()
    }
    fold = _fold_output(cfg.latent_channels, channels)
    folded["output.w_io"] = Rule("output.w_io", (_OUTPUT, _OUTPUT_CONV), fold)
    return [
        folded[name] if name in folded else direct_rule(name, cfg)
        for name in mapping.flatten(abstract_weights(cfg))
    ]


def direct_rule(name: str, cfg: ModelConfig) -> Rule:
    """The rule of a weight that is no fold, but in another layout."""
    sources, head_dim = _sources(name, cfg), cfg.transformer.head_dim
    if not name.startswith(_BLOCKS):
        return Rule(name, sources, _transpose if _is_matrix(name) else np.asarray)
    return Rule(name, sources, lambda *blocks: _of_blocks(name, np.stack(blocks), head_dim))


def from_reference(source: Mapping[str, np.ndarray], cfg: ModelConfig) -> mapping.Conversion:
    """Our weights from a state dict of the reference.

    Raises:
      UserError: tensors are missing, unknown or of another shape.
    """
    return mapping.convert(
        rules(cfg), source, abstract_weights(cfg), expected_left_over=CARRIED_ALONG
    )


def load(source: Path, cfg: ModelConfig, abstract: Weights) -> Weights:
    """Read weights: a folder of imported ones, or a file of the reference's.

    Args:
      source: a folder as `import_weights` makes it, or what `read_state_dict` takes.
      cfg: sizes of the network.
      abstract: as in `vssflow_jax.weights.folder.load`.

    Raises:
      UserError: as there, or weights of a network of other sizes: shapes alone do not tell heads.
    """
    folder = source.parent if source.name == weights.WEIGHTS_FILE else source
    if (folder / weights.WEIGHTS_FILE).is_file():
        check_sizes(folder, weights.read_config(folder, KIND), cfg)
        if not earlier.is_earlier(weights.names(folder)):
            return weights.load(folder, KIND, abstract)
        return earlier.upgrade(weights.load(folder, KIND, earlier.layout(abstract)), abstract)
    converted, _ = from_reference(read_state_dict(source), cfg)
    return jax.tree.map(weights.place, converted, abstract)


def saved_config(folder: Path) -> ModelConfig:
    """The sizes that were saved with a folder of imported weights.

    Raises:
      UserError: no such folder, weights of another network, or sizes of another version.
    """
    saved = weights.read_config(folder, KIND)
    try:
        widths = {
            name: ConditionWidths(**width) for name, width in _of_today(saved["widths"]).items()
        }
        transformer = TransformerConfig(**saved["transformer"])
        return ModelConfig(**{**saved, "widths": widths, "transformer": transformer})
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder}: its sizes are of another version ({error}); import the weights again"
        ) from error


def check_sizes(source: Path, saved: Mapping[str, Any], cfg: ModelConfig) -> None:
    """Check that weights are of a network of a config's sizes.

    Args:
      source: where they are.
      saved: fields of the `ModelConfig` that they are of, nested.
      cfg: the config's.

    Raises:
      UserError: names the first size that differs.
    """
    today = {**saved, "widths": _of_today(saved.get("widths", {}))}
    theirs = _ADDED | flatten_dict(today, sep=".")
    for name, size in flatten_dict(dataclasses.asdict(cfg), sep=".").items():
        if name not in _MAY_DIFFER and theirs.get(name) != size:
            raise UserError(
                f"{source} holds weights of model.{name} = {theirs.get(name)}, the config says "
                f"{size}; change the config or give other weights"
            )


def _of_today(widths: Mapping[str, Any]) -> dict[str, Any]:
    """The saved widths of conditions, by the names that these have now."""
    return {_EARLIER_NAMES.get(name, name): width for name, width in widths.items()}


def to_reference(params: Weights, frozen: Weights, cfg: ModelConfig) -> StateDict:
    """A state dict that the reference can load, and that computes the same.

    Its 1x1 convolutions are zeros, since what they add is in the maps; so are the rows of its
    output map whose channels nobody reads.

    Args:
      params: trained weights, nested.
      frozen: weights that are never trained, nested.
      cfg: sizes of the network.

    Raises:
      UserError: the reference has no such network.
    """
    check_of_reference(cfg)
    flat = mapping.flatten(params) | mapping.flatten(frozen)
    flat = {name: np.asarray(value, np.float32) for name, value in flat.items()}
    channels = input_channels(cfg)
    inputs = [flat.pop(name) for name in _input_columns(cfg)]
    output = flat.pop("output.w_io").T  # [latent channels, d]
    no_convolution = np.zeros((channels, channels, 1), np.float32)
    state_dict = {
        _INPUT_CONV: no_convolution,
        _INPUT: np.concatenate(inputs).T,
        _OUTPUT: np.pad(output, ((0, channels - len(output)), (0, 0))),
        _OUTPUT_CONV: no_convolution,
    }
    for name, value in flat.items():
        if not name.startswith(_BLOCKS):
            (source,) = _sources(name, cfg)
            state_dict[source] = _transpose(value) if _is_matrix(name) else value
        elif _GATE not in name:  # which goes where its value does
            gate = flat.get(name.replace(_VALUE, _GATE))
            blocks = _to_blocks(name, value, gate)
            state_dict |= dict(zip(_sources(name, cfg), blocks, strict=True))
    return state_dict


def check_of_reference(cfg: ModelConfig) -> None:
    """Checks that the reference has such a network, but for conditions of others (`_sources`).

    Raises:
      UserError: it has not.
    """
    if cfg.transformer.qk_norm:
        raise UserError(
            "model.transformer.qk_norm is True: the reference norms no queries and keys, and "
            "weights go neither from it to such a network nor back"
        )


def _of_blocks(name: str, stacked: np.ndarray, head_dim: int) -> np.ndarray:
    """A weight of the blocks from the reference's, stacked [l, ...]."""
    if name.endswith(_INTO_HEADS):
        matrices = _transpose(stacked)
        return matrices.reshape(*matrices.shape[:-1], -1, head_dim)
    if name.endswith(_FROM_HEADS):
        matrices = _transpose(stacked)
        return matrices.reshape(len(matrices), -1, head_dim, matrices.shape[-1])
    if _VALUE in name or _GATE in name:
        value, gate = np.split(stacked, 2, axis=1)
        stacked = value if _VALUE in name else gate
    return _transpose(stacked) if _is_matrix(name) else stacked


def _to_blocks(name: str, weight: np.ndarray, gate: np.ndarray | None) -> np.ndarray:
    """The reference's weights of all blocks, stacked [l, ...], from ours: back from `_of_blocks`.

    Args:
      name: our name.
      weight: ours.
      gate: if ours is the value's in a feed-forward, the gate's.
    """
    if name.endswith(_INTO_HEADS):
        return _transpose(weight.reshape(*weight.shape[:-2], -1))
    if name.endswith(_FROM_HEADS):
        return _transpose(weight.reshape(len(weight), -1, weight.shape[-1]))
    both = np.concatenate([weight, gate], axis=-1) if _VALUE in name else weight
    return _transpose(both) if _is_matrix(name) else both


def _sources(name: str, cfg: ModelConfig) -> tuple[str, ...]:
    """Names in the reference of what a weight that is no fold is made of: one, or one a block."""
    if name in _TENSORS:
        return (_TENSORS[name],)
    module, _, leaf = name.rpartition(".")
    if not name.startswith(_BLOCKS):
        if module not in _MODULES:
            raise UserError(
                f"placement '{cfg.placement}' has a condition that the reference has not: it knows "
                f"no {module}"
            )
        return (f"{_MODULES[module]}.{_LEAVES[leaf]}",)
    tensor = _BLOCK_TENSORS.get(name.removeprefix(_BLOCKS))
    tensor = tensor or f"{_BLOCK_MODULES[module.removeprefix(_BLOCKS)]}.{_LEAVES[leaf]}"
    return tuple(
        f"{TRUNK}transformer_blocks.{block}.{tensor}" for block in range(cfg.transformer.layers)
    )


def _is_matrix(name: str) -> bool:
    """Whether a weight is [in, out] here and [out, in] there."""
    return name.endswith(".w_io")


def _transpose(matrices: np.ndarray) -> np.ndarray:
    return matrices.swapaxes(-1, -2)


def drawn_as_reference(cfg: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    """Maps between conditions, latent and blocks by dotted name, drawn as the reference draws them.

    PyTorch's habit: uniform within 1 / sqrt(channels that come in), convolutions too. Latent and
    conditions come in by one map, so that their channels count together; ours, a map each, are the
    rows of it. Weights of blocks and of the time are not among them.
    """
    rng = np.random.default_rng(seed)

    def uniform(outputs: int, inputs: int) -> np.ndarray:
        bound = inputs**-0.5
        return rng.uniform(-bound, bound, (outputs, inputs))

    channels, width = input_channels(cfg), cfg.transformer.width
    proj_in, conv_in = uniform(width, channels), uniform(channels, channels)[..., None]
    proj_out, conv_out = uniform(channels, width), uniform(channels, channels)[..., None]
    drawn = {
        name: _fold_input(part, channels)(proj_in, conv_in)
        for name, part in _input_columns(cfg).items()
    }
    drawn["output.w_io"] = _fold_output(cfg.latent_channels, channels)(proj_out, conv_out)
    for name, leaf in mapping.flatten(abstract_weights(cfg)).items():
        if name.startswith("conditions.") and name.endswith(".w_io") and name not in drawn:
            drawn[name] = uniform(*reversed(leaf.shape)).T
    return {name: value.astype(np.float32) for name, value in drawn.items()}


def _input_columns(cfg: ModelConfig) -> dict[str, slice]:
    """Our input matrices, and which of the reference's input channels each of them takes."""
    widths = {"input.w_io": cfg.latent_channels} | {
        f"conditions.inputs.{name}.w_io": cfg.widths[name].projected
        for name in PLACEMENTS[cfg.placement].concatenated
    }
    ends = np.cumsum(list(widths.values())).tolist()
    return {
        name: slice(end - width, end)
        for (name, width), end in zip(widths.items(), ends, strict=True)
    }


def input_channels(cfg: ModelConfig) -> int:
    """Channels that go into the reference's network, and come out of it, `c`."""
    return max(part.stop for part in _input_columns(cfg).values())


def _fold_input(columns: slice, channels: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """From proj_in [d, c] and preprocess_conv [c, c, 1] to our rows of W_in (I + P), [in, d]."""

    def fold(proj_in: np.ndarray, preprocess_conv: np.ndarray) -> np.ndarray:
        _check_channels(proj_in.shape[1], channels)
        matrix, conv = proj_in.astype(np.float64), preprocess_conv[..., 0].astype(np.float64)
        return (matrix[:, columns] + matrix @ conv[:, columns]).T

    return fold


def _fold_output(used: int, channels: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """From proj_out [c, d] and postprocess_conv [c, c, 1] to (I + Q) W_out, [d, used channels]."""

    def fold(proj_out: np.ndarray, postprocess_conv: np.ndarray) -> np.ndarray:
        _check_channels(len(proj_out), channels)
        matrix, conv = proj_out.astype(np.float64), postprocess_conv[..., 0].astype(np.float64)
        return (matrix[:used] + conv[:used] @ matrix).T

    return fold


def _check_channels(found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"latent and conditions are {found} channels there, {expected} here")
