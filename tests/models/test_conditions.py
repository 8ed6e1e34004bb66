"""Where conditions go, and what dropping and masking leave of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.helpers import (
    FRAMES,
    WIDTHS,
    linear,
    project,
    random_features,
    randomised,
    weights_of,
)
from vssflow_jax.models.conditions import (
    PLACEMENTS,
    ConditionEncoder,
    Conditioning,
    ConditionWidths,
    context_width,
)

CLIPS = 3
MODEL_WIDTH = 16
ALL_KEPT = jnp.ones(CLIPS)


def encoder(placement: str) -> ConditionEncoder:
    row = PLACEMENTS[placement]
    return randomised(lambda: ConditionEncoder(row, WIDTHS, MODEL_WIDTH, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def chosen() -> ConditionEncoder:
    """The encoder of the paper's choice."""
    return encoder("lip_synch_text")


@pytest.fixture(scope="module")
def features() -> dict[str, jax.Array]:
    return random_features(CLIPS)


@nnx.jit
def encode(encoder: ConditionEncoder, features, masks=None, keep=ALL_KEPT) -> Conditioning:
    return encoder(features, masks or {}, keep, jnp.dtype("float32"))


@pytest.mark.parametrize(
    ("placement", "concatenated", "attended"),
    [
        ("none", 128, 2592),
        ("video_text", 928, 1792),
        ("lip_synch", 1920, 800),
        ("lip_synch_text", 1952, 768),
        ("lip_synch_video_text", 2720, 0),
    ],
)
def test_widths_of_the_ablation_in_the_paper(placement: str, concatenated: int, attended: int):
    projected = {"visual": 768, "sync": 768, "lips": 1024, "phonemes": 32}
    widths = {name: ConditionWidths(0, width) for name, width in projected.items()}
    row = PLACEMENTS[placement]
    assert 128 + sum(projected[name] for name in row.concatenated) == concatenated
    assert context_width(row, widths) == attended
    assert sorted(row.concatenated + row.attended) == sorted(projected)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_conditions_go_where_the_table_says(placement: str, features):
    encoding = encoder(placement)
    found = encode(encoding, features)
    weights = weights_of(encoding)
    given = {name: np.asarray(value, np.float64) for name, value in features.items()}
    projected = {
        name: w["table_vo"][features["phonemes"]] if name == "phonemes" else project(w, given[name])
        for name, w in weights["projectors"].items()
    }
    row = PLACEMENTS[placement]
    frames = np.zeros((CLIPS, FRAMES, MODEL_WIDTH))
    for name in row.concatenated:
        frames = frames + linear(weights["inputs"][name], projected[name])
    np.testing.assert_allclose(found.frames, frames, rtol=1e-5, atol=1e-5)
    speaker = project(weights["speaker"], given["speaker"])
    if not row.attended:
        token = project(weights["speaker_to_token"], speaker)
        np.testing.assert_allclose(found.token, token, rtol=1e-5, atol=1e-5)
        assert found.context is None
        return
    attended = np.concatenate([projected[name] for name in row.attended], axis=-1)
    # The speaker is as wide as ever; zeros make it up to the width of the context.
    first = np.zeros((CLIPS, 1, attended.shape[-1]))
    first[:, 0, : speaker.shape[-1]] = speaker
    np.testing.assert_allclose(
        found.context, np.concatenate([first, attended], axis=1), rtol=1e-5, atol=1e-5
    )
    assert found.token is None


def test_frames_without_phonemes_carry_a_learned_vector(chosen: ConditionEncoder, features):
    silent = {name: jnp.zeros_like(value) for name, value in features.items()}
    found = encode(chosen, silent)
    weights = weights_of(chosen)
    absent = linear(weights["inputs"]["phonemes"], weights["projectors"]["phonemes"]["table_vo"][0])
    np.testing.assert_allclose(
        found.frames, np.broadcast_to(absent, found.frames.shape), rtol=1e-5, atol=1e-6
    )
    # All other conditions have no biases: what is missing adds nothing.
    assert not np.any(found.context)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_dropped_clips_are_true_zeros_and_the_others_as_before(placement: str, features):
    encoding = encoder(placement)
    kept = encode(encoding, features)
    some = encode(encoding, features, keep=jnp.array([True, False, True]))
    assert np.any(kept.frames[1]) or not PLACEMENTS[placement].concatenated
    for before, after in zip(jax.tree.leaves(kept), jax.tree.leaves(some), strict=True):
        assert not np.any(after[1])
        np.testing.assert_array_equal(after[0], before[0])
        np.testing.assert_array_equal(after[2], before[2])
    assert np.any(kept.token[1] if kept.context is None else kept.context[1])


@pytest.mark.parametrize("name", ["lips", "sync"])
def test_masked_frames_lose_one_condition_and_only_there(chosen, features, name: str):
    mask = np.ones((CLIPS, FRAMES), bool)
    mask[0, 2] = mask[2, 4:] = False
    masked = encode(chosen, features, masks={name: jnp.asarray(mask)})
    without = encode(chosen, features | {name: jnp.zeros_like(features[name])})
    whole = encode(chosen, features)
    expected = np.where(mask[..., None], whole.frames, without.frames)
    np.testing.assert_allclose(masked.frames, expected, atol=1e-5)
    np.testing.assert_array_equal(masked.context, whole.context)
    assert np.abs(whole.frames - without.frames).min(axis=-1).max() > 1e-3


def test_masks_also_reach_conditions_that_are_attended_to(features):
    encoding = encoder("none")
    mask = jnp.ones((CLIPS, FRAMES)).at[1, 3].set(0)
    whole = encode(encoding, features).context
    masked = encode(encoding, features, masks={"lips": mask}).context
    start = WIDTHS["visual"].projected + WIDTHS["phonemes"].projected
    lips = slice(start, start + WIDTHS["lips"].projected)
    hidden = 1 + 3  # The speaker is token 0.
    expected = np.array(whole)
    expected[1, hidden, lips] = 0
    np.testing.assert_array_equal(masked, expected)
    assert np.any(whole[1, hidden, lips])


def test_phoneme_ids_survive_bfloat16(chosen: ConditionEncoder, features):
    # Odd ids over 256 do not exist in bfloat16: ids must not be cast with the other features.
    ids = jnp.full_like(features["phonemes"], 199)
    table = chosen.projectors["phonemes"].table_vo[...]
    inputs = chosen.inputs["phonemes"].w_io[...]
    silent = {name: jnp.zeros_like(value) for name, value in features.items()}
    found = chosen(silent | {"phonemes": ids}, {}, ALL_KEPT, jnp.dtype("bfloat16"))
    assert found.frames.dtype == found.context.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        np.asarray(found.frames[0, 0], np.float32), table[199] @ inputs, rtol=0.05, atol=0.05
    )
