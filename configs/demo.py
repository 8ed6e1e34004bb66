"""The whole of VSSFlow at small scale, on a laptop, from nothing:

python run_train.py --config=configs/demo.py --workdir=runs/demo

`--config=configs/demo.py:ablation=PLACEMENT` puts the conditions elsewhere: `none`, `video_text`,
`lip_synch`, `lip_synch_text` (the default) or `lip_synch_video_text`.
"""

import runpy
from pathlib import Path

import ml_collections

from vssflow_jax.models.conditions import PLACEMENTS
from vssflow_jax.utils.errors import UserError

# By its place: a config may be read from anywhere.
COMMON = str(Path(__file__).with_name("common.py"))


def get_config(argument: str = "ablation=lip_synch_text") -> ml_collections.ConfigDict:
    """The demo: 3 s clips, a few million parameters, about 15 minutes on two cores.

    Args:
      argument: `ablation=PLACEMENT`, a key of `vssflow_jax.models.conditions.PLACEMENTS`.

    Raises:
      UserError: the argument is something else.
    """
    name, _, placement = argument.partition("=")
    if name != "ablation" or placement not in PLACEMENTS:
        known = ", ".join(f"ablation={name}" for name in PLACEMENTS)
        raise UserError(f"configs/demo.py:{argument}: choose one of: {known}")
    config = runpy.run_path(COMMON)["get_config"]()
    config.update(
        {
            "clip": {"duration_sec": 3.0},
            "data": {
                "source": "demo",
                "path": "runs/demo-data",
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
                    "visual": {"features": 72, "projected": 64},
                    "sync": {"features": 96, "projected": 64},
                    "lips": {"features": 80, "projected": 64},
                    "speaker": {"features": 128, "projected": 64},
                },
                "transformer": {
                    "layers": 8,
                    "heads": 4,
                    "kv_heads": 2,
                    "head_dim": 48,
                    "ffw_multiple": 2,
                    "time_features": 128,
                    "unroll": 8,
                    "token_multiple": 1,
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
    )
    return config
