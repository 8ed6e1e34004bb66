"""Weights from and to the reference's state dict, for every placement of the conditions."""

import dataclasses

import jax
import numpy as np
import pytest

import configs.vssflow
from tests.helpers import WIDTHS, tiny_model_config
from vssflow_jax.models.conditions import PLACEMENTS, ConditionWidths, Placement
from vssflow_jax.models.convert_vssflow import drawn_as_reference, from_reference, to_reference
from vssflow_jax.models.vssflow import ModelConfig
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import mapping
from vssflow_jax.weights.mapping import PartialLoadError

LATENT = 16
FOLDED = {
    f"vaflow.{name}.weight"
    for name in ("preprocess_conv", "proj_in", "proj_out", "postprocess_conv")
}


def config(placement: str) -> ModelConfig:
    return dataclasses.replace(tiny_model_config(placement, "float32"), latent_channels=LATENT)


def channels(cfg: ModelConfig) -> int:
    """Channels of the reference's latent and concatenated conditions together."""
    concatenated = PLACEMENTS[cfg.placement].concatenated
    return LATENT + sum(WIDTHS[name].projected for name in concatenated)


def reference_shapes(cfg: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the reference's state dict, as its modules make them."""
    sizes, width, both = cfg.transformer, cfg.transformer.width, channels(cfg)
    kv_width, context = sizes.kv_heads * sizes.head_dim, sizes.context_width or width
    shapes: dict[str, tuple[int, ...]] = {
        "phone_embedding.weight": (200, WIDTHS["phonemes"].projected)
    }
    projectors = {"cond": "visual", "lip": "lips", "synch": "sync", "ref": "speaker"}
    for theirs, ours in projectors.items():
        features, projected = WIDTHS[ours].features, WIDTHS[ours].projected
        shapes[f"{theirs}_proj.0.weight"] = (2 * projected, features)
        shapes[f"{theirs}_proj.2.weight"] = (projected, 2 * projected)
    trunk: dict[str, tuple[int, ...]] = {
        "time_proj.weight": (sizes.time_features // 2,),
        "timestep_proj.0.weight": (width, sizes.time_features),
        "timestep_proj.0.bias": (width,),
        "timestep_proj.2.weight": (width, width),
        "timestep_proj.2.bias": (width,),
        "preprocess_conv.weight": (both, both, 1),
        "proj_in.weight": (width, both),
        "proj_out.weight": (both, width),
        "postprocess_conv.weight": (both, both, 1),
    }
    if cfg.placement == "lip_synch_video_text":
        trunk["global_proj.0.weight"] = (width, WIDTHS["speaker"].projected)
        trunk["global_proj.2.weight"] = (width, width)
    block: dict[str, tuple[int, ...]] = {
        f"norm{i}.{kind}": (width,) for i in (1, 2, 3) for kind in ("weight", "bias")
    }
    for name, source, inner in (("attn1", width, width), ("attn2", context, kv_width)):
        block[f"{name}.to_q.weight"] = (width, width)
        block[f"{name}.to_k.weight"] = block[f"{name}.to_v.weight"] = (inner, source)
        block[f"{name}.to_out.0.weight"] = (width, width)
    inner = sizes.ffw_width
    block |= {"ff.net.0.proj.weight": (2 * inner, width), "ff.net.0.proj.bias": (2 * inner,)}
    block |= {"ff.net.2.weight": (width, inner), "ff.net.2.bias": (width,)}
    for i in range(sizes.layers):
        trunk |= {f"transformer_blocks.{i}.{name}": shape for name, shape in block.items()}
    return shapes | {f"vaflow.{name}": shape for name, shape in trunk.items()}


def reference_weights(cfg: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in reference_shapes(cfg).items()
    }


@pytest.fixture(params=PLACEMENTS)
def cfg(request: pytest.FixtureRequest) -> ModelConfig:
    return config(request.param)


def test_uses_every_tensor_of_the_reference(cfg: ModelConfig) -> None:
    source = reference_weights(cfg)
    weights, report = from_reference(source, cfg)
    assert set(report.names("mapped") + report.names("folded")) == source.keys()
    assert set(report.names("folded")) == FOLDED
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(weights))
    block = {
        "cross_attention.q_dhk": "attn2.to_q.weight",
        "self_attention.out_hkd": "attn1.to_out.0.weight",
        "ffw.out.b_o": "ff.net.2.bias",
        "norm2.scale_d": "norm2.weight",
    }
    flat = mapping.flatten(weights)
    for ours, theirs in block.items():
        tensor = source[f"vaflow.transformer_blocks.1.{theirs}"].T
        found = flat[f"transformer.blocks.{ours}"][1]
        np.testing.assert_array_equal(found.reshape(tensor.shape), tensor)  # [d, h, k], [d, h k]
    halves = [flat[f"transformer.blocks.ffw.{half}.w_io"][1] for half in ("value", "gate")]
    both = source["vaflow.transformer_blocks.1.ff.net.0.proj.weight"].T
    np.testing.assert_array_equal(np.concatenate(halves, axis=1), both)
    np.testing.assert_array_equal(
        flat["conditions.speaker.outer.w_io"], source["ref_proj.2.weight"].T
    )
    np.testing.assert_array_equal(
        flat["transformer.time.frequencies"], source["vaflow.time_proj.weight"]
    )


def test_folds_the_linear_maps_exactly(cfg: ModelConfig) -> None:
    """As the reference computes them: x + conv(x), then a matrix; a matrix, then h + conv(h)."""
    source = {name: value.astype(np.float64) for name, value in reference_weights(cfg).items()}
    weights, _ = from_reference(reference_weights(cfg), cfg)
    flat = mapping.flatten(weights)
    rng = np.random.default_rng(1)
    names = PLACEMENTS[cfg.placement].concatenated
    parts = {"input.w_io": rng.normal(size=LATENT)} | {
        f"conditions.inputs.{name}.w_io": rng.normal(size=WIDTHS[name].projected) for name in names
    }
    x = np.concatenate(list(parts.values()))
    hidden = source["vaflow.proj_in.weight"] @ (
        x + source["vaflow.preprocess_conv.weight"][..., 0] @ x
    )
    ours = sum(part @ flat[name] for name, part in parts.items())
    np.testing.assert_allclose(ours, hidden, rtol=0, atol=1e-6 * np.abs(hidden).max())

    out = source["vaflow.proj_out.weight"] @ hidden
    out = out + source["vaflow.postprocess_conv.weight"][..., 0] @ out
    ours = hidden @ flat["output.w_io"]
    np.testing.assert_allclose(ours, out[:LATENT], rtol=0, atol=1e-6 * np.abs(out).max())


def test_what_was_exported_is_imported_bit_for_bit(cfg: ModelConfig) -> None:
    weights, _ = from_reference(reference_weights(cfg), cfg)
    exported = to_reference(weights, {}, cfg)
    assert {name: value.shape for name, value in exported.items()} == reference_shapes(cfg)
    again, _ = from_reference(exported, cfg)
    jax.tree.map(np.testing.assert_array_equal, again, weights)


def test_what_was_imported_is_exported_exactly_but_for_the_folds(cfg: ModelConfig) -> None:
    source = reference_weights(cfg)
    weights, _ = from_reference(source, cfg)
    frozen = {"transformer": {"time": {"frequencies": source["vaflow.time_proj.weight"]}}}
    del weights["transformer"]["time"]["frequencies"]
    exported = to_reference(weights, frozen, cfg)
    for name in source.keys() - FOLDED:
        np.testing.assert_array_equal(exported[name], source[name])


def test_networks_carried_along_are_left_over() -> None:
    cfg = config("lip_synch_text")
    carried = {
        "vae.encoder.conv_in.weight": np.zeros((4, 3)),
        "vocoder.mean": np.zeros(2),
        "image_encoder.attn_mask": np.full((2, 2), -np.inf),
    }
    _, report = from_reference(reference_weights(cfg) | carried, cfg)
    assert set(report.names("left over")) == carried.keys()
    assert "vae.*" in report.table()


def test_another_number_of_layers_is_refused() -> None:
    cfg = config("lip_synch_text")
    sizes = cfg.transformer
    fewer = dataclasses.replace(cfg, transformer=dataclasses.replace(sizes, layers=2))
    with pytest.raises(PartialLoadError, match=r"18 unknown \(vaflow\.transformer_blocks\.2\."):
        from_reference(reference_weights(cfg), fewer)
    with pytest.raises(PartialLoadError, match=r"18 missing \(vaflow\.transformer_blocks\.2\."):
        from_reference(reference_weights(fewer), cfg)


def test_another_placement_is_refused() -> None:
    with pytest.raises(UserError, match=r"'vaflow\.proj_in\.weight' .*38 channels there, 34 here"):
        from_reference(reference_weights(config("lip_synch_text")), config("lip_synch"))


@pytest.mark.parametrize(
    "name",
    [
        "vaflow.preprocess_conv.weight",
        "vaflow.proj_out.weight",
        "phone_embedding.weight",
        "vaflow.transformer_blocks.1.attn2.to_k.weight",
    ],
)
def test_a_tensor_of_another_shape_is_named(name: str) -> None:
    cfg = config("lip_synch_text")
    source = reference_weights(cfg)
    source[name] = source[name][:-1]
    with pytest.raises(UserError, match=f"'{name}'"):
        from_reference(source, cfg)


def test_a_condition_that_the_reference_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLACEMENTS, "with_pose", Placement(("pose",), ("visual", "phonemes")))
    widths = {**WIDTHS, "pose": ConditionWidths(features=3, projected=4)}
    cfg = dataclasses.replace(config("lip_synch_text"), placement="with_pose", widths=widths)
    with pytest.raises(UserError, match=r"'with_pose' has a condition .* no .*projectors\.pose"):
        from_reference({}, cfg)


def test_the_reference_s_first_residual_stream() -> None:
    """NETWORKS section 7: of unit normal features it has a standard deviation of 0.22."""
    cfg = ModelConfig.from_config(configs.vssflow.get_config("small").model)
    drawn = drawn_as_reference(cfg, 0)
    rng = np.random.default_rng(1)

    def silu(x: np.ndarray) -> np.ndarray:
        return x / (1 + np.exp(-x))

    rows = 64
    stream = rng.normal(size=(rows, cfg.latent_channels)) @ drawn["input.w_io"]
    for name in ("lips", "sync"):
        part = f"conditions.projectors.{name}"
        features = rng.normal(size=(rows, cfg.widths[name].features))
        projected = silu(features @ drawn[f"{part}.inner.w_io"]) @ drawn[f"{part}.outer.w_io"]
        stream += projected @ drawn[f"conditions.inputs.{name}.w_io"]
    phonemes = rng.normal(size=(rows, cfg.widths["phonemes"].projected))
    stream += phonemes @ drawn["conditions.inputs.phonemes.w_io"]
    assert stream.std() == pytest.approx(0.22, abs=0.01)
