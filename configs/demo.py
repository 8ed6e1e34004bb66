"""The whole of VSSFlow at small scale, on a laptop, from nothing:

python run_train.py --config=configs/demo.py --workdir=runs/demo

`--config=configs/demo.py:ablation=PLACEMENT` puts the conditions elsewhere: `none`, `video_text`,
`lip_synch`, `lip_synch_text` (the default) or `lip_synch_video_text`. With `streams=paper`, which a
comma may follow it, the clips are seen and heard by the networks of the paper, whose weights are in
`--config.data.weights` (docs/weights.md); with `streams=small`, the default, by fixed arithmetic.
"""

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vssflow_jax.models.conditions import PLACEMENTS

if TYPE_CHECKING:
    import ml_collections

# By its place: a config may be read from anywhere.
COMMON = str(Path(__file__).with_name("common.py"))


# Channels of each stream, by who makes it.
STREAMS = {
    "small": {"visual": 72, "sync": 96, "lips": 80, "speaker": 128},
    "paper": {"visual": 768, "sync": 768, "lips": 1024, "speaker": 256},
}
DEFAULTS = {"ablation": "lip_synch_text", "streams": "small"}


def get_config(argument: str = "") -> "ml_collections.ConfigDict":
    """The demo: 3 s clips, a few million parameters, about 15 minutes on two cores.

    Args:
      argument: `ablation=PLACEMENT`, a key of `vssflow_jax.models.conditions.PLACEMENTS`, and
        `streams=WHOSE`, a key of `STREAMS`, with a comma between them; either may be left out.

    Raises:
      UserError: the argument is something else.
    """
    common = runpy.run_path(COMMON)
    known = {"ablation": PLACEMENTS, "streams": STREAMS}
    chosen = common["words"]("configs/demo.py", argument, known, DEFAULTS)
    config = common["get_config"]()
    config.update(changes(chosen["ablation"], chosen["streams"]))
    return config


def changes(placement: str, streams: str) -> dict[str, Any]:
    """What the demo changes of `common`, nested; both are as for `get_config`."""
    paper = streams == "paper"
    return {
        "clip": {"duration_sec": 3.0},
        "data": {
            "source": "demo",
            "path": "runs/demo-data-paper" if paper else "runs/demo-data",
            "weights": "weights" if paper else "",
            "num_train": 600,
            "num_test": 60,
            "threads": 2,
            "mixture": {
                "weights": {"v2s": 0.3, "visualtts": 0.45, "tts": 0.05, "joint": 0.2},
                "synthetic_ratio": 0.8,
                "joint_modes": ("add",),
            },
        },
        # Without weights that have to be fetched.
        "codec": {"kind": "patch_dct"},
        "vocoder": {"kind": "griffin_lim"},
        "model": {
            "placement": placement,
            "widths": {
                name: {"features": width, "projected": 64}
                for name, width in STREAMS[streams].items()
            },
            "transformer": {
                "layers": 8,
                "heads": 4,
                "kv_heads": 2,
                "head_dim": 48,
                "ffw_multiple": 2,
                "time_features": 128,
            },
            "dtype": "float32",
        },
        "train": {
            "steps": 1800,
            "batch_size": 16,
            "learning_rate": 2e-3,
            "warmup_steps": 50,
            "schedule": "linear",
            "beta2": 0.99,
            "grad_clip_norm": 1.0,
            "ema_decay": 0.99,
            "log_every": 5,
            "checkpoint_every": 300,
            "keep_checkpoints": 2,
            "sample_every": 600,
            "held_out_every": 150,
        },
        "eval": {
            "after_training": True,
            "benchmark": "demo",
            "sampler": {"guidance": 2.0},
            "batch_size": 20,
        },
    }
