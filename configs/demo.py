"""The whole of VSSFlow at small scale, on a laptop, from nothing:

python run_train.py --config=configs/demo.py --workdir=runs/demo

`--config=configs/demo.py:ablation=PLACEMENT` puts the conditions elsewhere: `none`, `video_text`,
`lip_synch`, `lip_synch_text` (the default) or `lip_synch_video_text`.
"""

import ml_collections

from vssflow_jax.models.conditions import PLACEMENTS
from vssflow_jax.utils.errors import UserError


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
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            "profile": (),  # (first, last) step of an XProf trace
            "clip": {"duration_sec": 3.0},
            "data": {
                "source": "demo",  # made when the folder has none; "none" takes what is there
                "path": "runs/demo-data",
                "seed": 0,
                "num_train": 600,
                "num_test": 60,
                "durations": "uniform",  # of phonemes; "aligned", or "predicted" by the file
                "durations_path": "",
                "bucket_sec": (),  # shorter windows, ascending, for batches of shorter clips
                "workers": 0,  # processes that read; 0: threads of this one
                "threads": 2,  # of each process that reads
                "batches_ahead": 4,  # made by each process before they are asked for
                "max_bad_records": 10,  # that cannot be used and are passed over
                "mixture": {
                    "weights": {"v2s": 0.3, "visualtts": 0.45, "tts": 0.05, "joint": 0.2},
                    "synthetic_ratio": 0.8,
                    "joint_modes": ("add",),
                    "speech_sources": (),  # corpora of speech alone, such as "LRS2"; (): all
                },
            },
            "codec": {"kind": "patch_dct", "path": "", "latents": "online"},
            "vocoder": {"kind": "griffin_lim", "path": ""},
            "model": {
                "placement": placement,
                "widths": {
                    "clip": {"features": 72, "projected": 64},
                    "synch": {"features": 96, "projected": 64},
                    "lips": {"features": 80, "projected": 64},
                    "phonemes": {"features": 200, "projected": 32},
                    "speaker": {"features": 128, "projected": 64},
                },
                "latent_channels": 128,
                "transformer": {
                    "layers": 8,
                    "heads": 4,
                    "kv_heads": 2,
                    "head_dim": 48,
                    "ffw_multiple": 2,
                    "time_features": 128,
                    "unroll": 8,
                    "remat": "none",
                    "attention": "xla",
                    "token_multiple": 1,
                    "residual_dtype": "float32",
                },
                "dtype": "float32",
            },
            "train": {
                "fine_tune": False,  # True insists on weights to start from
                "init_from": "",  # a run, a step of one, or imported weights to start from
                "init_weights": "ema",  # of a run: averaged; "params": those of its last step
                "init": "fan_in",  # "reference": maps around the blocks as PyTorch draws them
                "steps": 1800,
                "batch_size": 16,
                "accumulation_steps": 1,
                "optimizer": "adamw",
                "learning_rate": 2e-3,
                "warmup_steps": 50,
                "schedule": "linear",
                "decay_steps": 0,  # where a linear schedule ends; 0: where the run was first to end
                "beta1": 0.9,
                "beta2": 0.99,
                "weight_decay": 0.01,
                "grad_clip_norm": 1.0,
                "ema_decay": 0.99,
                "loss_mask": "window",  # "clip": the loss is of a clip's own frames alone
                "condition_dropout": 0.1,
                "condition_dropout_per": "example",  # "batch": one draw for all of a batch
                "mask_ratios": (),
                "log_every": 5,
                "checkpoint_every": 300,
                "keep_checkpoints": 2,
                "sample_every": 600,
            },
            "eval": {
                "after_training": True,
                "seed": 0,  # of the noise of clips
                "benchmark": "demo",  # a file in configs/benchmarks, or the path of one
                "sampler": {
                    "method": "euler",
                    "steps": 25,
                    "tolerance": 1e-5,
                    "guidance": 2.0,
                    "guidance_interval": (0.0, 1.0),
                    "mask_ratio": 0.0,  # of lip and motion frames, hidden
                },
                "batch_size": 20,
                "report_clips": 24,
                # Of samplers: every combination of the values that are given is evaluated.
                "sweep": {"method": (), "steps": (), "guidance": ()},
                # Folders of features as av-benchmark writes them; networks to make them with.
                "features": {"generated": "", "reference": ""},
                "backbones": {"panns": "", "vggish": "", "synchformer": ""},
                "every_steps": 0,  # in training: evaluate after so many steps; 0: never
                "every_clips": 4,  # of each task, then
            },
            "sharding": {
                "strategy": "fsdp",
                # Devices along each axis; -1: all that are left, 0: as suits the strategy.
                "mesh": {"data": 0, "fsdp": 0, "tensor": 0, "sequence": 0},
                "strategies": {},  # your own: name -> {"rules": {...}, "mesh": {...}}
            },
        }
    )
