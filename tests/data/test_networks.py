"""Datasets whose features the paper's networks make, in small: read ahead, in groups, anywhere."""

import functools
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from configs import demo
from data import beam, build, networks, shards
from data.shard_writer import Contents, Job, Report
from data.videos import Videos, read_rows
from tests import jobs, tiny
from tests.data.test_shards import all_bytes
from tests.features.test_frozen import write_weights
from tests.media import clips
from vssflow_jax import media
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.encoders import choose
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.interop.import_weights import import_weights
from vssflow_jax.utils.errors import UserError

SPEC = ClipSpec(duration_sec=1.0)
FPS = 10
WIDTHS = {"visual": 128, "sync": 128, "lips": 128, "speaker": 12}
BOX = "8 8 56 40"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of CLIP imported, of the others as published."""
    folder = tmp_path_factory.mktemp("weights")
    write_weights(folder / "published", "clip")
    import_weights("clip", folder / "published" / "clip", folder / "clip")
    return write_weights(folder, "synchformer", "av_hubert", "rawnet3")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven videos of different lengths, of which one is silent, and their table."""
    folder = tmp_path_factory.mktemp("videos")
    lines = ["video\ttranscript\tvoice_sample\tmouth_box"]
    for number in range(11):
        rng = np.random.default_rng(number)
        frames = rng.integers(0, 256, (6 + number % 5, 6, 8, 3), np.uint8)
        frames = frames.repeat(8, axis=1).repeat(8, axis=2)
        sound = clips.click(len(frames) / FPS, 0.3) * (number != 4)
        media.write_video(folder / f"{number}.mp4", frames, FPS, sound, clips.SAMPLING_RATE)
        spoken = f"\ttwo\t{number}.mp4\t{BOX}" if number % 2 else ""
        lines.append(f"{number}.mp4{spoken}")
    (folder / "rows.tsv").write_text("\n".join(lines) + "\n")
    return folder / "rows.tsv"


def contents(table: Path, weights: Path) -> Contents:
    rows, rejected = read_rows(table.parent, table)
    assert not rejected
    chosen = choose("", "", "", [], str(weights))
    source = Videos(Path(), chosen, SPEC)
    return Contents(rows, source, SPEC, chosen.widths, {"source": "videos"}, networks=True)


def here(all_jobs: Sequence[Job]) -> Iterator[Report]:
    return networks.write_shards(all_jobs, workers=2)


def make(root: Path, of: Contents, run: shards.Run = here) -> Path:
    shards.build(root, of, run, max_rejected=0.2, clips_per_shard=3)
    return root


@pytest.fixture(scope="module")
def made(table: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("data"), contents(table, weights))


def features(root: Path, duration_sec: float = SPEC.duration_sec) -> dict[str, np.ndarray]:
    """Every stream of every clip that is no mix, by their names."""
    opened = Dataset(root, ClipSpec(duration_sec=duration_sec))
    found = {}
    for task in ("v2s", "visualtts"):
        clips_of_task = opened.clips("train", task)
        for clip in (clips_of_task[index] for index in range(len(clips_of_task))):
            found |= {f"{clip.clip_id}/{x}": y for x, y in clip.features.streams.items()}
    return found


def assert_alike(one: Path, other: Path) -> None:
    expected, found = features(one), features(other)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # Kept in 16 bits, of which the last may differ; a voice, of logarithms, in 32.
        largest = np.abs(value.astype(np.float32)).max(initial=1e-9)
        step = 2.0**-10 if value.dtype == np.float16 else 5e-5
        np.testing.assert_allclose(found[name], value, atol=step * largest, err_msg=name)


def test_records_are_those_of_each_row_alone(table: Path, weights: Path, made: Path) -> None:
    found = features(made)
    of = contents(table, weights)
    assert {name.partition("/")[0] for name in found} == {str(n) for n in range(11) if n != 4}
    for row in of.rows[:4]:
        for name, value in of.source.record(row).items():
            if name in of.widths:
                kept = found[f"{row['clip_id']}/{name}"]
                assert kept.shape == (value.shape if len(value) else kept.shape)
                if len(value):
                    largest = np.abs(value).max()
                    np.testing.assert_allclose(kept, value, atol=2.0**-10 * largest)
    assert len(found["1/lips"]) == 18
    assert not len(found["0/lips"])
    assert found["1/speaker"].std() > 0


@pytest.mark.parametrize("written", [1, 3])
def test_a_build_that_was_stopped_goes_on_to_the_same_bytes(
    written: int, table: Path, weights: Path, made: Path, tmp_path: Path
) -> None:
    def stopped(all_jobs: Sequence[Job]) -> Iterator[Report]:
        yield from itertools.islice(here(all_jobs), written)
        raise KeyboardInterrupt

    of = contents(table, weights)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, of, stopped)
    assert len([*tmp_path.rglob("*.array_record*-of-*")]) >= written
    assert all_bytes(make(tmp_path, of)) == all_bytes(made)


def test_what_the_networks_wait_for_is_said(
    table: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, contents(table, weights))
    assert "% of them waiting for clips to be read" in capsys.readouterr().out


def test_workers_of_beam_make_the_same_features(
    table: Path, weights: Path, made: Path, tmp_path: Path
) -> None:
    pytest.importorskip("apache_beam")
    options = "--runner=DirectRunner --direct_num_workers=1"
    run = functools.partial(beam.run, options=options)
    assert_alike(make(tmp_path, contents(table, weights), run), made)


def command(table: Path, weights: Path, out: Path) -> list[str]:
    flags = [f"--transcripts={table}", f"--weights={weights}", f"--out={out}", "--duration_sec=1"]
    flags += ["--max_rejected=0.2", "--clips_per_shard=3", "--workers=1"]
    return [sys.executable, "-m", "data.build", "--source=videos", "--nofind_mouths", *flags]


def test_eight_devices_make_the_same_features(
    table: Path, weights: Path, made: Path, tmp_path: Path
) -> None:
    done = tiny.run(command(table, weights, tmp_path), env=tiny.EIGHT_DEVICES)
    assert done.returncode == 0, done.stderr
    assert "11 clips = 10 written + 1 rejected (1 no sound)" in done.stdout
    assert_alike(tmp_path, made)


def test_two_hosts_share_the_shards_of_one_dataset(
    table: Path, weights: Path, made: Path, tmp_path: Path
) -> None:
    job = jobs.launch(command(table, weights, tmp_path / "data"), tmp_path / "job")
    assert job.wait() == [0, 0], job.printed
    said = [text.count("11 clips = 10 written + 1 rejected") for text in job.printed]
    assert sorted(said) == [0, 1]
    assert all("waiting for clips" in text for text in job.printed)
    assert_alike(tmp_path / "data", made)


def test_features_that_are_there_need_no_weights(weights: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "data.build", "--source=dataset", f"--dataset={tmp_path}"]
    done = tiny.run([*command, "--vae=x", f"--weights={weights}", f"--out={tmp_path}/out"])
    assert done.returncode == 2
    assert "--source=dataset has its features already; leave out --weights" in done.stderr


def test_weights_that_are_none_are_one_line(table: Path, tmp_path: Path) -> None:
    done = tiny.run(command(table, tmp_path / "gone", tmp_path / "data"))
    assert done.returncode == 2
    assert "gone: holds none of the folders clip" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_is_trained_on_streams_of_networks(weights: Path, tmp_path: Path) -> None:
    config = demo.get_config("streams=paper")
    assert {name: config.model.widths[name].features for name in WIDTHS} == {
        **{"visual": 768, "sync": 768, "lips": 1024, "speaker": 256}
    }
    widths = {f"model.widths.{name}.features": width for name, width in WIDTHS.items()}
    own = {"data.num_train": 8, "data.num_test": 3, "data.weights": str(weights)}
    own |= {"data.path": str(tmp_path / "data"), "train.steps": 2}
    own |= {"data.mixture.weights.joint": 0.0}
    config.update_from_flattened_dict({**tiny.OVERRIDES, **widths, **own})
    build.ensure(config.data, ClipSpec(**config.clip), config.codec)
    streams = {name.partition("/")[2] for name in features(tmp_path / "data", 3.0)}
    assert streams == set(WIDTHS)
    assert tiny.train(config, tmp_path / "run")

    config.data.weights = str(tmp_path / "gone")  # needed no more
    build.ensure(config.data, ClipSpec(**config.clip), config.codec)
    config.data.weights = ""
    with pytest.raises(UserError, match="made with encoders="):
        build.ensure(config.data, ClipSpec(**config.clip), config.codec)
