"""The paper's model and training recipe, and its fine-tuning recipes:

python run_train.py --config=configs/vssflow.py:base --workdir=runs/base --config.data.path=DATA
python run_train.py --config=configs/vssflow.py:base,recipe=tts --workdir=runs/tts \\
    --config.data.path=DATA --config.train.init_from=WEIGHTS

The argument is a list of words: a size, `placement=NAME`, `recipe=NAME` and `init=NAME`, in any
order. Widths, rates and the optimizer are the paper's. It starts from the first blocks of Stable
Audio Open: import them (docs/weights.md) and name their folder by --config.train.init_from.
"""

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vssflow_jax.models.conditions import PLACEMENTS
from vssflow_jax.run.experiment import INITS

if TYPE_CHECKING:
    import ml_collections

# Blocks, query heads and key/value heads. The first three are the paper's, xl has all the blocks
# of Stable Audio Open; 3b is ours, to compare strategies on.
SIZES = {
    "small": (5, 24, 12),
    "base": (10, 24, 12),
    "large": (15, 24, 12),
    "xl": (24, 24, 12),
    "3b": (18, 48, 24),
}
RATE_PER_CLIP = 4e-7  # of the peak learning rate, for each clip of the batch

# By its place: a config may be read from anywhere.
COMMON = str(Path(__file__).with_name("common.py"))


def _weights(**given: float) -> dict[str, float]:
    """Weights of the tasks of a mixture; 0 for those that are not given."""
    return {"v2s": 0.0, "visualtts": 0.0, "tts": 0.0, "joint": 0.0} | given


# Fine-tuning starts from pre-trained weights. How long it lasts is our choice, where the reference
# does not say.
FINE_TUNE = {"train.fine_tune": True, "train.steps": 50_000}
# Of which the reference's fine-tuning takes its speech.
SOURCES = {"data.mixture.speech_sources": ("LRS2", "LibriTTS")}
# Joint clips alone, of which the ratio is made of a sound and a speech clip each. It starts from
# weights that know speech without a picture (recipe=tts).
JOINT = {"data.mixture.weights": _weights(joint=1.0), **FINE_TUNE, **SOURCES}

# What a recipe changes of pre-training.
RECIPES: dict[str, dict[str, Any]] = {
    "pretrain": {},
    # Lips and motion hidden from frame to frame: sound from what can be seen of them.
    "masked": {"train.mask_ratios": tuple(tenths / 10 for tenths in range(1, 11)), **FINE_TUNE},
    "joint_native": {"data.mixture.synthetic_ratio": 0.0, **JOINT},
    # With as many steps as the checkpoint behind the published inference has.
    "joint": {"data.mixture.synthetic_ratio": 0.5, **JOINT, "train.steps": 6000},
    "joint_synthetic": {"data.mixture.synthetic_ratio": 1.0, **JOINT, "train.steps": 10_500},
    "joint_add": {
        "data.mixture.synthetic_ratio": 1.0,
        "data.mixture.joint_modes": ("add",),
        **JOINT,
        "train.steps": 12_000,
    },
    # Speech with a picture and without, lips and motion hidden from half of the clips.
    "ttsvtts": {
        "data.mixture.weights": _weights(visualtts=0.5, tts=0.5),
        "train.mask_ratios": (0.0, 1.0),
        **FINE_TUNE,
        **SOURCES,
    },
    # Speech without a picture joins the mixture, in its share of the rows of the paper.
    "tts": {"data.mixture.weights": _weights(v2s=0.36, visualtts=0.32, tts=0.32)},
}

DEFAULTS = {
    "size": "base",
    "placement": "lip_synch_text",
    "recipe": "pretrain",
    "init": "fan_in",
}


def blocks(size: str) -> dict[str, int]:
    """What one of `SIZES` changes of the transformer."""
    return dict(zip(("layers", "heads", "kv_heads"), SIZES[size], strict=True))


def get_config(argument: str = "base") -> "ml_collections.ConfigDict":
    """The model and recipe that `argument` names.

    Raises:
      UserError: a word of the argument is unknown.
    """
    common = runpy.run_path(COMMON)
    known = {"size": SIZES, "placement": PLACEMENTS, "recipe": RECIPES, "init": INITS}
    chosen = common["words"]("configs/vssflow.py", argument, known, DEFAULTS)
    config = common["get_config"]()
    config.model.placement = chosen["placement"]
    config.model.transformer.update(blocks(chosen["size"]))
    # As in the paper; setting the rate by hand is fine too.
    config.train.learning_rate = (
        config.train.get_oneway_ref("batch_size").to_float() * RATE_PER_CLIP
    )
    config.train.init = chosen["init"]
    config.update_from_flattened_dict(RECIPES[chosen["recipe"]])
    return config
