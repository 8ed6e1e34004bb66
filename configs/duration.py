"""The duration predictor, from alignments; on the demo data or, `:published`, in its full size:

python run_duration.py --config=configs/duration.py --workdir=runs/duration
python run_duration.py --config=configs/duration.py --workdir=runs/duration --predict=FILE
"""

import dataclasses

import ml_collections

from vssflow_jax.duration.model import DurationConfig
from vssflow_jax.utils.errors import UserError

SIZES = {
    "demo": DurationConfig(
        phoneme_features=32,
        lip_features=80,
        phoneme_width=64,
        phoneme_heads=4,
        lip_width=64,
        lip_heads=4,
        encoder_layers=2,
        encoded=64,
        decoder_width=64,
        decoder_layers=2,
        decoded=32,
        ffw_width=128,
    ),
    "published": DurationConfig(),
}


def get_config(size: str = "demo") -> ml_collections.ConfigDict:
    """The predictor in one of `SIZES`; the demo's takes a few minutes on two cores.

    Raises:
      UserError: the argument is something else.
    """
    if size not in SIZES:
        raise UserError(f"configs/duration.py:{size}: choose one of: {', '.join(SIZES)}")
    demo = size == "demo"
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            "clip": {"duration_sec": 3.0 if demo else 10.0},
            "data": {
                "source": "demo" if demo else "none",
                "path": "runs/demo-data" if demo else "data",
                "cache_dir": "",  # of copies of shards in buckets; "": in the user's folder
                "cache_gb": 64.0,  # that they may take
                "seed": 0,
                "num_train": 600,
                "num_test": 60,
            },
            "model": dataclasses.asdict(SIZES[size]),
            "train": {
                "init_from": "",  # a folder of imported weights to start from
                "steps": 300,
                "batch_size": 32,
                "learning_rate": 1e-3,
                "warmup_steps": 50,
                "weight_decay": 0.01,
                "log_every": 10,
                "checkpoint_every": 100,
                "keep_checkpoints": 2,
            },
            "sharding": {
                "strategy": "dp",
                "mesh": {"data": -1, "fsdp": 1, "tensor": 1, "sequence": 1, "slices": 0},
                "weights_across_slices": False,
                "reduce_dtype": "float32",
                "strategies": {},
            },
        }
    )
