"""Small files of a run beside its checkpoints: the config, and rows of what was measured.

Of many processes only the main one writes them.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections

from vssflow_jax import hosts
from vssflow_jax.errors import UserError

# What a resumed run may change: how long it goes on, what it reports, where it runs and reads,
# and how it computes the same.
RESUMABLE = (
    "profile",
    "train.steps",
    "train.log_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.sample_every",
    "data.path",
    "data.durations_path",
    "data.workers",
    "data.threads",
    "data.batches_ahead",
    "data.max_bad_records",
    "codec.path",
    "train.init_from",
    "model.transformer.unroll",
    "model.transformer.remat",
    "model.transformer.attention",
    "model.transformer.token_multiple",
)
RESUMABLE_SECTIONS = ("eval.", "sharding.", "vocoder.")


def claim(workdir: Path, config: ml_collections.ConfigDict) -> dict[str, Any]:
    """See that the workdir is new or holds a run of this config, and write the config there.

    Returns:
      the config as JSON values.

    Raises:
      UserError: the workdir holds another config's run.
    """
    check(workdir, config)
    workdir.mkdir(parents=True, exist_ok=True)
    resolved = resolved_values(config)
    if hosts.is_main():
        write_atomically(workdir / "config.json", json.dumps(resolved, indent=2) + "\n")
    return resolved


def check(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """See that a run in the workdir, if there is one, is of this config.

    Raises:
      UserError: it is of another; `RESUMABLE` fields may differ.
    """
    resolved = resolved_values(config)
    path = workdir / "config.json"
    if path.exists():
        earlier = json.loads(path.read_text())
        for name in _differences(earlier, resolved):
            if name not in RESUMABLE and not name.startswith(RESUMABLE_SECTIONS):
                raise UserError(
                    f"workdir {workdir} holds a run of another config: {name} is "
                    f"{_get(earlier, name)} there and {_get(resolved, name)} here; choose another "
                    "--workdir or the earlier value"
                )


class JsonLines(contextlib.AbstractContextManager["JsonLines"]):
    """Appends rows to a file; a row that a kill cut short is dropped on opening."""

    def __init__(self, path: Path):
        if path.is_file():
            os.truncate(path, len(_whole_lines(path)))
        self._file = path.open("a")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row and hand it to the system at once."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def __exit__(self, *error: object) -> None:
        self._file.close()


class MetricsLog(JsonLines):
    """Appends rows to `metrics.jsonl`, or to another such file of the workdir."""

    def __init__(self, workdir: Path, name: str = "metrics.jsonl"):
        super().__init__(workdir / name if hosts.is_main() else Path(os.devnull))


def read_metrics(workdir: Path) -> list[dict[str, float]]:
    """Rows of `metrics.jsonl` by step; where a step was run twice the last row counts."""
    path = workdir / "metrics.jsonl"
    lines = _whole_lines(path).splitlines() if path.exists() else []
    rows = {row["step"]: row for row in map(json.loads, lines)}
    return [rows[step] for step in sorted(rows)]


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def resolved_values(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The config as JSON values, references resolved."""
    return json.loads(config.copy_and_resolve_references().to_json_best_effort())


def _whole_lines(path: Path) -> bytes:
    """The file but for a last line that a kill cut short."""
    text = path.read_bytes()
    return text[: text.rfind(b"\n") + 1]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= (
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else {prefix + name: value}
        )
    return leaves


def _differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    before, after = _flat(earlier), _flat(now)
    return [name for name in sorted(before | after) if before.get(name) != after.get(name)]


def _get(tree: Mapping[str, Any], name: str) -> Any:
    return _flat(tree).get(name, "absent")
