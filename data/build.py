"""Make a dataset (`docs/data.md`), or `ensure` from an entry point that there is one.

  python -m data.build --out=DIR                                           the demo set
  python -m data.build --out=DIR --source=manifest --manifest=train:FILE --manifest=test:FILE \
      --features-root=DIR                                                  the reference's files
  python -m data.build --out=DIR --source=videos --transcripts=TSV --weights=WEIGHTS
  python -m data.build --out=DIR --source=dataset --dataset=DIR --vae=DIR  latents for a dataset

A build that was stopped goes on when the same command is given again.
"""

import functools
import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import joblib
import ml_collections
from absl import flags

from data import beam, latent_stats, manifest, networks, shard_writer, shards, videos
from data.inspection.stored import Stored
from data.latents import Copies, with_latents
from vssflow_jax import cli
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features import encoders, frozen
from vssflow_jax.features.footage import Encoders
from vssflow_jax.features.weights_free import WEIGHTS_FREE
from vssflow_jax.input_pipeline import dataset
from vssflow_jax.parallel import distributed
from vssflow_jax.utils import plugins
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import as_path, is_url
from vssflow_jax.utils.processes import as_done

MAX_REJECTED = 0.01
_OF_DEMO = ("source", "seed", "num_train", "num_test")


# --------------------------------------------------------------------------------- the demo set
def ensure(
    config: ml_collections.ConfigDict,
    spec: ClipSpec,
    codec: ml_collections.ConfigDict | None = None,
) -> None:
    """Make the dataset that `config` (a `data` section) describes, unless it is there.

    Where `codec` (the section) has its latents offline, what it knows of them is kept too.

    Raises:
      UserError: it cannot be made, or the folder holds the demo set of other settings.
    """
    if config.source == "none":
        return
    path, settings = as_path(config.path), {name: config[name] for name in _OF_DEMO}
    weights = config.get("weights", "")
    if dataset.exists(path):
        # A set that has been made can be trained on where its networks are not.
        known = not weights or bool(frozen.streams(weights))
        encoded = {"encoders": repr(_demo_encoders(weights))} if known else {}
        _check_origin(path, settings | encoded)
        if codec and codec.kind == "patch_dct":
            latent_stats.add(path)  # The run's own set, of an earlier version.
        return
    vae = codec.path if codec and codec.latents == "offline" else ""
    chosen = _demo_encoders(weights)
    contents = with_latents(demo(path, settings, spec, joblib.cpu_count(), chosen), vae)
    shards.build(path, contents, local(contents, bool(vae)))


def demo(
    root: Path, settings: Mapping[str, Any], spec: ClipSpec, workers: int, chosen: Encoders
) -> shard_writer.Contents:
    """Draw and speak the demo clips; what a dataset of them is made of."""
    # Imported here: it needs the demo extra, which other data do not.
    from data.demo import clips

    if spec.duration_sec != clips.DURATION_SEC:
        raise UserError(
            f"clip.duration_sec is {spec.duration_sec}; demo clips last {clips.DURATION_SEC} s"
        )
    sizes = {name: value for name, value in settings.items() if name != "source"}
    rows = clips.make_demo_clips(root, workers=workers, **sizes)
    return shard_writer.Contents(
        rows=shards.scattered(map(json.loads, rows.read_text().splitlines())),
        source=videos.Videos(root, chosen, spec),
        spec=spec,
        widths=chosen.widths,
        origin={**settings, "encoders": repr(chosen)},
        networks=bool(chosen.networks.by_stream),
    )


def _demo_encoders(weights: str, dtype: str = "float32") -> Encoders:
    """The networks whose weights are in a folder; without one, encoders without weights."""
    return encoders.choose("", "", "", (), weights, dtype) if weights else WEIGHTS_FREE


def _check_origin(path: Path, settings: Mapping[str, Any]) -> None:
    """Checks that a demo set in the folder is that of the settings.

    Its latents are checked where they are used.
    """
    origin = dataset.open_metadata(path)[2].get("origin", {})
    for name, wanted in settings.items():
        if origin.get("source") == "demo" and origin.get(name) != wanted:
            raise UserError(
                f"dataset {path}: made with {name}={origin.get(name)}, the config says {wanted}; "
                "name another --config.data.path or delete the folder"
            )


# ------------------------------------------------------------------------- the command's sources
def _demo_contents(values: flags.FlagValues) -> shard_writer.Contents:
    # Imported here: it needs the demo extra, which other sources do not.
    from data.demo import clips

    settings = {name: values[name].value for name in _OF_DEMO}
    spec = ClipSpec(duration_sec=clips.DURATION_SEC)
    workers = values.workers or joblib.cpu_count()
    if not distributed.is_main():
        distributed.wait_for_all("clips")  # which the main process makes
    contents = demo(
        as_path(values.out),
        settings,
        spec,
        workers,
        _demo_encoders(values.weights, values.encoder_dtype),
    )
    if distributed.is_main():
        distributed.wait_for_all("clips")
    return contents


def _manifest_contents(values: flags.FlagValues) -> shard_writer.Contents:
    spec = ClipSpec(duration_sec=values.duration_sec)
    parts = [manifest.Part.parse(text) for text in values.manifest]
    rows, rejected = manifest.read_rows(parts, values.strip_prefix, values.placeholders)
    root = as_path(values.features_root)
    return shard_writer.Contents(
        rows=shards.scattered(rows),
        source=manifest.Manifest(root, spec, values.tolerance_sec),
        spec=spec,
        widths=manifest.WIDTHS,
        origin={
            "source": "manifest",
            "manifests": [[part.path.name, _checksum(part.path)] for part in parts],
            "features_root": str(root.absolute()),
            "strip_prefix": values.strip_prefix,
            "placeholders": values.placeholders,
            "tolerance_sec": values.tolerance_sec,
        },
        rejected=rejected,
    )


def _videos_contents(values: flags.FlagValues) -> shard_writer.Contents:
    spec = ClipSpec(duration_sec=values.duration_sec)
    if values.segment_sec > spec.duration_sec:
        raise UserError(
            f"--segment_sec is {values.segment_sec:g}, but a clip keeps no more than "
            f"--duration_sec, {spec.duration_sec:g}; what is behind it would be lost"
        )
    table = as_path(values.transcripts)
    rows, rejected = videos.read_rows(
        as_path(values.videos or table.parent), table, values.segment_sec, values.cut_at_silence
    )
    for remark in videos.remarks(rows):
        print(f"transcript of {remark}")
    if shared := videos.shared_files(rows):
        print(
            f"warning: {len(shared)} files are in train and in test, such as {shared[0]}: what is "
            "measured of them is not of what training has not seen"
        )
    chosen = encoders.choose(**encoders.asked(values))
    find_mouths = values.find_mouths and chosen.lip_reader is not None
    if chosen.lip_reader and find_mouths:
        try:
            chosen.lip_reader.check_installed()
        except UserError as reason:
            raise UserError(
                f"to find mouths, {reason}; or leave rows without a mouth_box without lips by "
                "--nofind_mouths"
            ) from reason
    return shard_writer.Contents(
        rows=shards.scattered(rows),
        source=videos.Videos(Path(), chosen, spec, find_mouths),
        spec=spec,
        widths=chosen.widths,
        origin={
            "source": "videos",
            "transcripts": [table.name, _checksum(table)],
            "videos": str(as_path(values.videos or table.parent).absolute()),
            "segment_sec": values.segment_sec,
            "cut_at_silence": values.cut_at_silence,
            "encoders": repr(chosen),
            "find_mouths": find_mouths,
        },
        rejected=rejected,
        networks=bool(chosen.networks.by_stream),
    )


def _dataset_contents(values: flags.FlagValues) -> shard_writer.Contents:
    stored = Stored.open(as_path(values.dataset))
    rows = [
        {
            "clip_id": f"{shard.path.name}[{index}]",
            "split": shard.part,
            "task": shard.task,
            "shard": shard.path.name,
            "index": index,
        }
        for shard in stored.shards
        for index in range(shard.num_records)
    ]
    near = not (is_url(values.dataset) or is_url(values.out))
    videos_root = (
        os.path.relpath(values.dataset, values.out)
        if near
        else str(as_path(values.dataset).absolute())
    )
    return shard_writer.Contents(
        rows=rows,  # In the order there, so that batches are of the same clips.
        source=Copies(stored.directory, stored.widths, videos_root),
        spec=stored.spec,
        widths=stored.widths,
        origin=stored.origin,
    )


SOURCES: dict[str, Callable[[flags.FlagValues], shard_writer.Contents]] = {
    "demo": _demo_contents,
    "manifest": _manifest_contents,
    "videos": _videos_contents,
    "dataset": _dataset_contents,
}
NEEDS = {"manifest": ("manifest",), "videos": ("transcripts",), "dataset": ("dataset", "vae")}


def _checksum(path: Path) -> int:
    return zlib.crc32(path.read_bytes())


def local(contents: shard_writer.Contents, has_vae: bool, workers: int = 0) -> shards.Run:
    """Writes shards on this machine, with so many processes; 0: as many as suit it.

    An accelerator is not shared: where networks make features, this process runs them, and where it
    computes latents it writes the shards.
    """
    if contents.networks:
        return functools.partial(networks.write_shards, workers=workers or joblib.cpu_count())
    alone = has_vae and jax.default_backend() != "cpu"
    workers = workers or (1 if alone else joblib.cpu_count())
    return functools.partial(as_done, shard_writer.write_shard, workers=workers)


# ------------------------------------------------------------------------------------ the command
def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    distributed.start_by_flags(values)
    plugins.load(values.plugins)
    for name in NEEDS.get(values.source, ()):
        if not values[name].value:
            raise UserError(f"--source={values.source} needs --{name}")
    if values.weights and values.source in ("manifest", "dataset"):
        raise UserError(
            f"--source={values.source} has its features already; leave out --weights, or name "
            "--source=videos"
        )
    contents = with_latents(SOURCES[values.source](values), values.vae)
    result = shards.build(
        as_path(values.out),
        contents,
        functools.partial(beam.run, options=values.beam_options)
        if values.runner == "beam"
        else local(contents, bool(values.vae), values.workers),
        max_rejected=values.max_rejected,
        clips_per_shard=values.clips_per_shard,
        compression=values.compression,
        shared=True,
    )
    if distributed.is_main():
        print(result)


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_enum("source", "demo", list(SOURCES), "what the dataset is made of")
    flags.DEFINE_string("out", "runs/demo-data", "folder of the dataset")
    flags.DEFINE_string("vae", "", "folder of an autoencoder, to keep latents in the dataset")
    flags.DEFINE_float("duration_sec", ClipSpec.duration_sec, "window of manifest and videos")
    flags.DEFINE_string("plugins", "", "modules of your own to import first, with commas")

    flags.DEFINE_integer("seed", 0, "demo: of the clips")
    flags.DEFINE_integer("num_train", 600, "demo: training clips", lower_bound=0)
    flags.DEFINE_integer("num_test", 60, "demo: test clips", lower_bound=0)

    flags.DEFINE_multi_string(
        "manifest", [], "manifest: a metadata file, FILE, SPLIT:FILE or SPLIT_joint:FILE"
    )
    flags.DEFINE_string("strip_prefix", "", "manifest: taken away from the start of its paths")
    flags.DEFINE_list(
        "placeholders", list(manifest.PLACEHOLDERS), "manifest: files that mean nothing"
    )
    flags.DEFINE_float(
        "tolerance_sec", manifest.TOLERANCE_SEC, "manifest: between lips and sound", lower_bound=0.0
    )

    flags.DEFINE_string("transcripts", "", "videos: a table of videos, transcripts and voices")
    flags.DEFINE_string("videos", "", "videos: where they are, if not beside the table")
    flags.DEFINE_float(
        "segment_sec", 0.0, "videos: cut what is longer into clips; 0: never", lower_bound=0.0
    )
    flags.DEFINE_bool("cut_at_silence", False, "videos: cut where nobody speaks, by silero-vad")
    encoders.define_flags(flags.FLAGS)
    flags.DEFINE_bool("find_mouths", True, "videos: in rows of speech that name none")

    flags.DEFINE_string("dataset", "", "dataset: folder of the one to add latents to")

    flags.DEFINE_float(
        "max_rejected", MAX_REJECTED, "share of bad rows to go on with", lower_bound=0.0
    )
    flags.DEFINE_integer(
        "clips_per_shard", 0, "at most; 0: as many as suit their number", lower_bound=0
    )
    flags.DEFINE_enum("compression", "none", list(shard_writer.COMPRESSIONS), "of the shards")
    flags.DEFINE_integer(
        "workers",
        0,
        "processes; 0: as many as cores, or as suits an accelerator",
        lower_bound=0,
    )
    distributed.define_flags()
    flags.DEFINE_enum("runner", "local", ["local", "beam"], "who writes the shards")
    flags.DEFINE_string("beam_options", "", "beam: options of the pipeline, as on a command line")


if __name__ == "__main__":
    # Called here, so that they are no flags of the entry points that import this module.
    define_flags()
    cli.run(main)
