"""Look at a dataset: `python -m data.inspect DIR` writes a page of it, `--verify` reads it all."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import tqdm
from absl import flags

from data.inspection import statistics, view
from data.inspection.stored import Stored
from data.inspection.verify import verify
from vssflow_jax import cli
from vssflow_jax.input_pipeline.dataset import REBUILD
from vssflow_jax.input_pipeline.records import SCHEMA_VERSION
from vssflow_jax.utils import plugins
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path

CLIPS_PER_TASK = 3  # to look at and listen to


def inspect(path: Path, out: Path, sample: int = 0, checksums: bool = True) -> dict[str, Any]:
    """Write the page of a dataset to `out`, and its numbers beside it as JSON.

    Args:
      path: the dataset folder.
      out: the HTML file.
      sample: records to take statistics of, evenly spread; 0 for all.
      checksums: whether to read each shard for its SHA-256.

    Returns:
      the numbers: those of `statistics.gather`, and of the files.

    Raises:
      UserError: no dataset of this schema is there.
    """
    stored = Stored.open(path)
    found, examples = statistics.gather(
        stored.read(sample), stored.spec, stored.widths, CLIPS_PER_TASK
    )
    numbers = {"dataset": str(path), **_files(stored, checksums), **found}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(numbers, indent=2) + "\n")
    view.write(out, numbers, examples)
    return numbers


def _files(stored: Stored, checksums: bool) -> dict[str, Any]:
    """What is known of a dataset without a look at its records."""
    digests = dict(stored.checksums()) if checksums else {}
    counts: dict[str, dict[str, int]] = {}
    for shard in stored.shards:
        of_task = counts.setdefault(shard.task, {})
        of_task[shard.part] = of_task.get(shard.part, 0) + shard.num_records
    return {
        "schema_version": SCHEMA_VERSION,
        "clip": dataclasses.asdict(stored.spec),
        "widths": dict(stored.widths),
        "origin": dict(stored.origin),
        "records": stored.num_records,
        "counts": counts,
        "rejected": stored.rejected(),
        "shards": [
            {
                "name": shard.path.name,
                "records": shard.num_records,
                "bytes": shard.path.stat().st_size if shard.path.is_file() else 0,
                "sha256": digests.get(shard, ""),
            }
            for shard in stored.shards
        ],
    }


def summary(numbers: dict[str, Any]) -> str:
    """The numbers in a few lines."""
    size = view.size(shard["bytes"] for shard in numbers["shards"])
    lines = [
        f"{numbers['dataset']}: {numbers['records']} records of schema "
        f"{numbers['schema_version']} in {len(numbers['shards'])} shards, {size}; "
        f"{len(numbers['rejected'])} rows rejected"
    ]
    for task, parts in numbers["counts"].items():
        line = f"{task}: {', '.join(f'{count} {part}' for part, count in parts.items())}"
        if found := numbers["tasks"].get(task):
            duration, absent = found["duration_sec"], found["absent"]
            lacking = ", ".join(f"{name} {count}" for name, count in absent.items() if count)
            line += (
                f"; {duration['min']:.2f} to {duration['max']:.2f} s; of {found['clips']} looked "
                f"at, clips without: {lacking or 'none'}"
            )
        lines.append(line)
    if numbers["damaged"]:
        lines.append(f"damaged places left out: {numbers['damaged']}; --verify names them")
    return "\n".join(lines)


def check(path: Path) -> None:
    """Read every record, and print what is damaged, a line for each place.

    Raises:
      UserError: something is.
    """
    stored = Stored.open(path)
    damaged = 0
    for damage in verify(stored):
        tqdm.tqdm.write(str(damage))
        damaged += 1
    read = f"{stored.num_records} records in {len(stored.shards)} shards"
    if damaged:
        raise UserError(
            f"dataset {path}: damaged places: {damaged}, among {read}; restore the shards named "
            f"above or {REBUILD}"
        )
    print(f"{path}: {read}, whole")


def main(argv: list[str]) -> None:
    values, path = flags.FLAGS, as_path(argv[1])
    plugins.load(values.plugins)
    if values.verify:
        check(path)
        return
    out = as_path(values.out or path / "inspect.html")
    if out.suffix != ".html":
        raise UserError(f"--out={out}: the page's name ends in .html")
    print(summary(inspect(path, out, values.sample, values.checksums)))
    print(f"\nopen {out}")


if __name__ == "__main__":
    flags.DEFINE_string("out", "", "the page; inspect.html in the dataset folder by default")
    flags.DEFINE_integer("sample", 0, "records to take statistics of; 0: all", lower_bound=0)
    flags.DEFINE_boolean("checksums", True, "whether to compute the checksums of the shards")
    flags.DEFINE_string("plugins", "", "modules of your own to import first, with commas")
    flags.DEFINE_boolean("verify", False, "read all records and name what is damaged; no page")
    cli.run(main, "DIR")
