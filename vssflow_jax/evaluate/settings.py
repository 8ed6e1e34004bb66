"""What the figures of an evaluation depend on, kept beside them: `evaluation.json`."""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections

from vssflow_jax.evaluate import rows
from vssflow_jax.evaluate.benchmark import Benchmark
from vssflow_jax.evaluate.networks.judges import digest
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.run.experiment import InferenceState
from vssflow_jax.run.run_config import of_today, resolved_values
from vssflow_jax.utils import sources
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path, discard, write_atomically

SETTINGS = "evaluation.json"
FILES = ("generated", "reference", "videos", "clips")
"""Where the sounds of another system are, and what is known of them."""
_NOTHING = object()
PACKAGES = ("jax", "flax", "numpy", "scipy", "librosa", "vssflow-jax")


def describe(
    config: ml_collections.ConfigDict,
    benchmark: Benchmark,
    dataset: Dataset,
    state: InferenceState,
    checkpoint: str,
    sha256: str,
) -> dict[str, Any]:
    """All that the figures depend on, and what they were computed by."""
    named = [f"-{benchmark.part}_{task}." for task in benchmark.tasks]
    shards = sorted((x, y) for x, y in dataset.sha256.items() if any(name in x for name in named))
    return {
        **_definition(benchmark),
        "checkpoint": checkpoint,
        "checkpoint_sha256": sha256,
        "files": {
            "dataset": hashlib.sha256(repr(shards).encode()).hexdigest(),
            "codec's weights": _digest_of(config.codec.path),
            "vocoder's weights": _digest_of(config.vocoder.path),
        },
        "step": int(state.step),
        "seed": config.eval.seed,
        "sampler": resolved_values(config.eval.sampler),
        "placement": config.model.placement,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves((state.params, state.frozen))),
        "config": resolved_values(config),
    }


def _digest_of(path: str) -> str:
    """Tells weights from others, read once by a process; "" where none are named or there."""
    return digest(as_path(path)) if path and as_path(path).exists() else ""


def describe_files(benchmark: Benchmark, contents: str, **files: str) -> dict[str, Any]:
    """The same of sounds that another system has made.

    Args:
      benchmark: says what is measured.
      contents: tells the clips and their files from others.
      **files: where they are, by `FILES`.
    """
    return {**_definition(benchmark), **files, "contents": contents}


def _definition(benchmark: Benchmark) -> dict[str, Any]:
    return {
        "benchmark": benchmark.name,
        "definition": json.loads(json.dumps(dataclasses.asdict(benchmark))),
        "measures": list(benchmark.of_clips),
        "versions": sources.versions(PACKAGES),
        "sources": [sources.digest()],
    }


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the figures depend on; the order of metrics changes none."""
    definition = settings["definition"]
    common = {
        "definition": definition | {"metrics": sorted(definition["metrics"])},
        "measures": sorted(settings["measures"]),
    }
    if "config" not in settings:  # The sounds are of another system.
        return common | {name: settings[name] for name in (*FILES, "contents")}
    config = settings["config"]
    names = ("path", "durations", "durations_path")
    # Seeds that are evaluated together may become more or fewer: each has a folder of its own.
    seed = "several" if isinstance(settings["seed"], list) else settings["seed"]
    return {
        **common,
        **{name: settings[name] for name in ("checkpoint_sha256", "step")},
        **settings.get("files", {}),
        "seed": seed,
        "sampler": settings["sampler"],
        **{f"data.{name}": config["data"][name] for name in names},
        **{name: config[name] for name in ("model", "codec", "vocoder")},
    }


def claim(out: Path, settings: Mapping[str, Any], replace: bool) -> None:
    """Checks that the folder is new or holds this evaluation, and writes the settings there.

    One that other sources began is gone on with, and that is said: a change of the code seldom
    changes what a clip sounds like or scores, but can.

    Raises:
      UserError: it holds another one, and is not to be replaced.
    """
    path = out / SETTINGS
    settings = dict(settings)
    if path.exists() or (out / rows.FOLDER).exists():
        wanted = identity(settings)
        try:
            found = json.loads(path.read_text())
            today = {"config": of_today(found["config"])} if "config" in found else {}
            there = identity(found | today)
            if "files" not in found:  # Earlier versions did not tell them.
                wanted = identity({name: settings[name] for name in settings if name != "files"})
            made_by = {*found.get("sources", ["unknown"]), *settings["sources"]}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            there = {}
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); try again") from error
        differing = [name for name in wanted if there.get(name, _NOTHING) != wanted[name]]
        if differing and not replace:
            raise UserError(
                f"{out} holds an evaluation of another {differing[0]}; choose another --out, or "
                "delete it"
            )
        if differing:
            # What a kill leaves of it must not be taken for this evaluation's.
            discard(out)
        elif made_by != {*settings["sources"]}:
            settings["sources"] = sorted(made_by)
            print(
                f"note: what {out} holds was made by other sources of vssflow_jax, at least in "
                "part, and is kept; delete it to have all of it made by these",
                file=sys.stderr,
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(settings, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{out}: cannot be written to ({error.strerror})") from error
