"""Every field of an experiment, with the paper's values where it says them.

A config file takes this and says what it changes.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from vssflow_jax.utils.errors import UserError

if TYPE_CHECKING:
    import ml_collections


def get_config() -> "ml_collections.ConfigDict":
    """The base model, before a size is chosen."""
    # Imported here: the values can be had where the package is not.
    import ml_collections

    return ml_collections.ConfigDict(values())


def values() -> dict[str, Any]:
    """The same, nested."""
    return {
        "seed": 0,
        "plugins": "",  # modules of your own to import first, with commas (docs/extending.md)
        "profile": (),  # (first, last) step of an XProf trace
        "clip": {"duration_sec": 10.0},
        "data": data(),
        "codec": {"kind": "audioldm_vae", "path": "", "latents": "online"},
        "vocoder": {"kind": "hifigan", "path": ""},
        "model": model(),
        "train": train(),
        "eval": evaluation(),
        "sharding": {
            "strategy": "fsdp",
            # Devices along each axis; -1: all that are left, 0: as suits the strategy.
            # Slices that the devices are of; 0: as many as they say.
            "mesh": {"data": 0, "fsdp": 0, "tensor": 0, "sequence": 0, "slices": 0},
            "weights_across_slices": False,  # True lets more than gradients go between them
            "reduce_dtype": "float32",  # of gradients while they are summed over devices
            "strategies": {},  # your own: name -> {"rules": {...}, "mesh": {...}}
        },
    }


def data() -> dict[str, Any]:
    """What is read, and how."""
    return {
        "source": "none",  # takes what is there; "demo" is made when the folder has none
        "path": "",
        "seed": 0,  # of the demo's clips, and how many there are
        "num_train": 1,
        "num_test": 1,
        "weights": "",  # of the networks that see the demo's clips; "": fixed arithmetic does
        "durations": "uniform",  # of phonemes; "aligned", or "predicted" by the file
        "durations_path": "",
        "bucket_sec": (),  # shorter windows, ascending, for batches of shorter clips
        "workers": 0,  # processes that read; 0: threads of this one
        "threads": 4,  # of each process that reads
        "batches_ahead": 4,  # made by each process before they are asked for
        "max_bad_records": 10,  # that cannot be used and are passed over
        "cache_dir": "",  # of copies of shards in buckets; "": only of those that need it, in ~
        "cache_gb": 64.0,  # that they may take
        "mixture": {
            # Shares of the tasks; about the rows that the paper has.
            "weights": {"v2s": 0.53, "visualtts": 0.47, "tts": 0.0, "joint": 0.0},
            "synthetic_ratio": 1.0,  # of joint clips that are made of two
            "joint_modes": ("add", "insert"),
            "speech_sources": (),  # corpora of speech alone, such as "LRS2"; (): all
        },
    }


def model() -> dict[str, Any]:
    """Sizes of the network, where the conditions go, and how it is computed."""
    return {
        "placement": "lip_synch_text",
        "widths": {
            "visual": {"features": 768, "projected": 768},
            "sync": {"features": 768, "projected": 768},
            "lips": {"features": 1024, "projected": 1024},
            "phonemes": {"features": 200, "projected": 32},
            "speaker": {"features": 256, "projected": 768},
        },
        "latent_channels": 128,
        "transformer": {
            "layers": 24,
            "heads": 16,
            "kv_heads": 8,
            "head_dim": 64,
            "ffw_multiple": 4,
            "time_features": 256,
            "unroll": 0,  # by the devices: blocks laid out in each turn of the loop over them
            "remat": "auto",  # by the devices: what the backward pass computes again
            "attention": "auto",  # by the devices
            "token_multiple": 0,  # by the devices
            "residual_dtype": "float32",  # or "bfloat16", as the reference's
            "qk_norm": False,  # True norms queries and keys, which the reference does not
        },
        "dtype": "bfloat16",
    }


def train() -> dict[str, Any]:
    """How it is trained."""
    return {
        "fine_tune": False,  # True insists on weights to start from
        "init_from": "",  # a run, a step of one, or imported weights to start from
        "init_weights": "ema",  # of a run: averaged; "params": those of its last step
        "init": "fan_in",  # "reference": maps around the blocks as PyTorch draws them
        # Adapters of rank `rank` learn in place of the weights that `targets` are parts of the
        # names of; 0: none do. `path` is a file of them to start from.
        "lora": {
            "rank": 0,
            "alpha": 16.0,
            "targets": ("self_attention", "cross_attention", "ffw"),
            "path": "",
        },
        "steps": 251_000,
        "batch_size": 288,
        "accumulation_steps": 1,
        "optimizer": "adamw",
        "learning_rate": 1e-4,
        "warmup_steps": 2000,
        "schedule": "constant",
        "decay_steps": 0,  # where a schedule that decays ends; 0: where the run was first to end
        "cooldown": 0.1,  # share of the steps in which "wsd" decays
        "beta1": 0.9,
        "beta2": 0.999,
        "weight_decay": 0.01,
        "grad_clip_norm": 0.0,  # of all gradients together; 0: not clipped
        # A step whose loss or gradient is not finite is dropped; then "stop" ends the run, "skip"
        # goes on, "rewind" goes back to the last checkpoint and passes over the batch.
        "bad_step": "stop",
        "bad_step_deviations": 0.0,  # above the usual that are bad too; 0: none are
        "max_bad_steps": 10,  # in a row, before the run ends all the same
        "ema_decay": 0.0,  # of the running mean of the weights; 0: none is kept
        "loss_mask": "window",  # "clip": the loss is of a clip's own frames alone
        "condition_dropout": 0.1,
        "condition_dropout_per": "example",  # "batch": one draw for all of a batch
        "mask_ratios": (),  # of lip and motion frames hidden, one drawn for each batch
        "log_every": 100,
        "checkpoint_every": 5000,
        "keep_checkpoints": 3,  # of the newest; and with them
        "keep_every": 0,  # those of every so many steps; 0: none
        "keep_best": "",  # that of the least held-out loss, such as "loss_ema"; "": none
        "local_checkpoints": "",  # a folder of each machine's own disk for others; "": none
        "local_checkpoint_every": 0,  # steps between these; 0: none
        "sample_every": 5000,
        "held_out_every": 5000,  # steps between losses on test clips; 0: never
        "held_out_clips": 16,  # of each task
        "writers": ("tensorboard",),  # of curves and sounds; "wandb", those of plugins; (): none
        "watchdog_minutes": 30.0,  # without a step, before all stacks are shown; 0: never
        "compiled_step": "",  # file of `python -m vssflow_jax.plan --save_step`; "": compile here
    }


def evaluation() -> dict[str, Any]:
    """What is generated and measured, and with which sampler."""
    return {
        "after_training": False,
        "seed": 0,  # of the noise of clips
        "seeds": (),  # in its place: each is evaluated, and all of them together
        "benchmark": "vggsound",  # a file in configs/benchmarks, or the path of one
        "sampler": {
            "method": "euler",
            "steps": 25,
            "tolerance": 1e-5,  # of steps that adapt
            "guidance": 3.0,
            "guidance_interval": (0.0, 1.0),
            "mask_ratio": 0.0,  # of lip and motion frames, hidden
        },
        "batch_size": 32,
        "report_clips": 24,
        "lists": "kaldi",  # of the sounds, or "espnet_speechlm" (docs/evaluation.md)
        # Of samplers: every combination of the values that are given is evaluated.
        "sweep": {"method": (), "steps": (), "guidance": ()},
        # Folders of features as av-benchmark writes them; what they have is not made here.
        "features": {"generated": "", "reference": ""},
        # Files or folders of their weights, one by one, or as a folder of folders of these names.
        "backbones": {
            "panns": "",
            "vggish": "",
            "synchformer": "",
            "imagebind": "",
            "passt": "",
            "clap": "",
            "syncnet": "",
            "rawnet3": "",
            "utmos": "",
            "audiobox": "",
            "nisqa": "",
            "whisper": "",
        },
        "weights": "",
        "every_steps": 0,  # in training: evaluate after so many steps; 0: never
        "every_clips": 4,  # of each task, then
    }


def words(
    file: str, argument: str, known: Mapping[str, Iterable[str]], defaults: Mapping[str, str]
) -> dict[str, str]:
    """What the argument of a config file says: words `NAME=VALUE` with commas between them.

    Args:
      file: name of the file, for messages.
      argument: the argument.
      known: the values that each name may have; a word without a name is a value of the first.
      defaults: the values of names that the argument leaves out.

    Raises:
      UserError: a name or a value is unknown, or there are two of one name.
    """
    chosen: dict[str, str] = {}
    for word in filter(None, argument.split(",")):
        name, value = word.split("=", 1) if "=" in word else (next(iter(known)), word)
        if name not in known:
            raise UserError(f"{file}:{argument}: no '{name}'; it has {', '.join(known)}")
        if value not in known[name]:
            choices = ", ".join(known[name])
            raise UserError(f"{file}:{argument}: no {name} '{value}'; choose one of: {choices}")
        if name in chosen:
            raise UserError(f"{file}:{argument}: two of '{name}'; give one")
        chosen[name] = value
    return {**defaults, **chosen}
