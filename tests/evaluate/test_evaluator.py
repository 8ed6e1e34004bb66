"""The evaluation of a benchmark: what it writes, that it goes on, that it tells good from bad."""

import csv
import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
from array_record.python.array_record_module import ArrayRecordReader

from tests import tiny
from tests.jobs import launch
from tests.networks import files as network_files
from tests.test_bad_input import rewrite_shard, shard
from vssflow_jax import media
from vssflow_jax.audio.griffin_lim import griffin_lim
from vssflow_jax.clip import ClipSpec, to_int16
from vssflow_jax.evaluate import benchmark as definition
from vssflow_jax.evaluate import evaluator as benchmark
from vssflow_jax.evaluate import rows
from vssflow_jax.evaluate.benchmark import Benchmark
from vssflow_jax.evaluate.judged import Judged
from vssflow_jax.evaluate.metrics.of_clips import Reference
from vssflow_jax.evaluate.metrics.registry import METRICS, score_clip
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.evaluate.scores import clip_scores
from vssflow_jax.evaluate.versions import of_samples
from vssflow_jax.input_pipeline.dataset import Dataset
from vssflow_jax.input_pipeline.example import Clip
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.tables import read_table

SPEC = ClipSpec(duration_sec=3.0)
BENCHMARKS = tiny.ROOT / "configs" / "benchmarks"
DEMO = definition.load("demo", BENCHMARKS)


@pytest.fixture(scope="module")
def run(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps, evaluated by the command itself."""
    workdir = tmp_path_factory.mktemp("run")
    command = tiny.command(
        "run_train.py", demo_data, workdir, train__steps=3, eval__after_training=True
    )
    done = tiny.run(command)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    return workdir


@pytest.fixture(scope="module")
def clips(demo_data: Path) -> list[Clip]:
    dataset = Dataset(demo_data, SPEC)
    return [dataset.clips("test", place.task)[place.index] for place in DEMO.places(dataset)]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark without the metrics that take long; beside it the weights of a small judge."""
    path = tmp_path_factory.mktemp("benchmark") / "quick.py"
    judge = network_files.utmos(small=True)
    (path.parent / "utmos").mkdir()
    judge.write(judge.tensors(), path.parent / "utmos" / judge.file)
    metrics = ("wer", "onset_f1", "utmos", "mel_distance_db_v2s", "fd_mel_statistics")
    write_benchmark(path, {"metrics": metrics, "versions": ("shuffled",), "mp4": True})
    return path


def write_benchmark(path: Path, fields: object) -> None:
    path.write_text(
        "import ml_collections\n\n\ndef get_config():\n"
        f"    return ml_collections.ConfigDict({fields})\n"
    )


def evaluation(run: Path, data: Path, out: Path, benchmark: Path | str, **flags: str) -> list[str]:
    """The command that evaluates the run, two clips at a time."""
    command = tiny.command("run_eval.py", data, run, train__steps=3, eval__batch_size=2)
    given = {"out": out, "benchmark": benchmark} | flags
    if isinstance(benchmark, Path):
        given["config.eval.weights"] = benchmark.parent
    return [*command, *(f"--{name}={value}" for name, value in given.items())]


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def figures(out: Path) -> dict[str, Any]:
    """What `metrics.json` holds, but for the time it took."""
    found = read(out / "metrics.json")
    del found["generate_sec_per_clip"]
    return found


def test_what_it_leaves(run: Path, clips: list[Clip]) -> None:
    out = run / "eval"
    found = read(out / "metrics.json")
    assert found["step"] == 3
    assert found["clips"] == len(clips) == tiny.NUM_TEST
    assert not found["failed"]
    for name in ("wer", "wer_joint", "onset_f1", "mel_distance_db_v2s", "fd_mel_statistics"):
        versions = found["metrics"][name]
        assert list(versions) == ["generated", "ground_truth", "codec", "shuffled"]
        assert all(np.isfinite(score["value"]) for score in versions.values()), name
    score = found["metrics"]["wer"]["generated"]
    assert score["low"] <= score["value"] <= score["high"]
    assert (out / "report.html").stat().st_size > 10_000
    for clip in clips:
        waveform, rate = soundfile.read(out / "wav" / f"{clip.clip_id}.wav")
        assert (len(waveform), rate) == (48_000, 16_000)
        frames, _ = media.read_video(out / "mp4" / f"{clip.clip_id}.mp4")
        assert len(frames) == 75
    with (out / "per_clip.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["clip_id"] for line in lines] == [clip.clip_id for clip in clips]
    settings = read(out / "evaluation.json")
    assert settings["definition"]["name"] == "demo"
    assert len(settings["checkpoint_sha256"]) == 64
    listed = (out / "wav" / "wav.scp") if (out / "wav" / "wav.scp").exists() else out / "wav.scp"
    assert len(listed.read_text().splitlines()) == len(clips)


def test_run_eval_gives_the_same_again_and_other_lists_of_it(run: Path, demo_data: Path) -> None:
    def rows_of(out: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((out / "rows").iterdir())}

    before, made = figures(run / "eval"), rows_of(run / "eval")
    assert (run / "eval" / "wav" / "spk2utt").exists()
    again = tiny.run(
        tiny.command("run_eval.py", demo_data, run, train__steps=3, eval__lists="espnet_speechlm")
    )
    assert again.returncode == 0, again.stderr
    assert figures(run / "eval") == before
    assert rows_of(run / "eval") == made  # Nothing was generated anew.
    assert not (run / "eval" / "wav" / "spk2utt").exists()
    assert (run / "eval" / "wav" / "key_file").exists()


def test_a_finished_run_is_not_evaluated_again(run: Path, demo_data: Path) -> None:
    before = (run / "eval" / "metrics.json").stat().st_mtime_ns
    command = tiny.command(
        "run_train.py", demo_data, run, train__steps=3, eval__after_training=True
    )
    assert tiny.run(command).returncode == 0
    assert (run / "eval" / "metrics.json").stat().st_mtime_ns == before


@pytest.fixture(scope="module")
def whole(
    run: Path, demo_data: Path, quick: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An evaluation that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    done = tiny.run(evaluation(run, demo_data, out, quick))
    assert done.returncode == 0, done.stderr
    return out


def sounds(out: Path) -> dict[str, np.ndarray]:
    return {path.name: soundfile.read(path)[0] for path in sorted((out / "wav").glob("*.wav"))}


def test_killed_three_times_it_ends_the_same(
    run: Path, demo_data: Path, quick: Path, whole: Path, tmp_path: Path
) -> None:
    command = evaluation(run, demo_data, tmp_path / "out", quick)
    for done in (0, 2, 4):
        with subprocess.Popen(
            command, cwd=tiny.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            limit = time.monotonic() + 300
            while len(list(rows.read(tmp_path / "out"))) <= done:
                assert process.poll() is None
                assert time.monotonic() < limit
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
    last = tiny.run(command)
    assert last.returncode == 0, last.stderr
    assert figures(tmp_path / "out") == figures(whole)
    found, expected = sounds(tmp_path / "out"), sounds(whole)
    assert found.keys() == expected.keys()
    for name, sound in found.items():
        np.testing.assert_array_equal(sound, expected[name])


def test_eight_devices_give_the_same(
    run: Path, demo_data: Path, quick: Path, whole: Path, tmp_path: Path
) -> None:
    done = tiny.run(evaluation(run, demo_data, tmp_path / "out", quick), env=tiny.EIGHT_DEVICES)
    assert done.returncode == 0, done.stderr
    assert_alike(tmp_path / "out", whole)


def test_two_processes_give_the_same(
    run: Path, demo_data: Path, quick: Path, whole: Path, tmp_path: Path
) -> None:
    job = launch(evaluation(run, demo_data, tmp_path / "out", quick), tmp_path / "out")
    assert job.wait() == [0, 0], job.printed
    assert len(list((tmp_path / "out" / "rows").iterdir())) == 2
    assert_alike(tmp_path / "out", whole)


def assert_alike(out: Path, expected: Path) -> None:
    """The same sounds within 1e-4 of full scale, and the same figures to four digits."""
    found, wanted = sounds(out), sounds(expected)
    assert found.keys() == wanted.keys()
    for name, sound in found.items():
        np.testing.assert_allclose(sound, wanted[name], atol=1e-4)
    scores, others = figures(out)["metrics"], figures(expected)["metrics"]
    assert scores.keys() == others.keys()
    for name, versions in scores.items():
        for version, score in versions.items():
            np.testing.assert_allclose(
                score["value"], others[name][version]["value"], rtol=1e-4, atol=1e-6
            )


def scoring(generated: Path, reference: Path, out: Path, *flags: str) -> list[str]:
    folders = {"generated": generated, "reference": reference, "out": out}
    given = [f"--{name}={path}" for name, path in folders.items()]
    return [sys.executable, "-m", "vssflow_jax.evaluate.score", *given, *flags]


def test_scoring_the_sounds_gives_the_same_to_the_last_digit(
    whole: Path, quick: Path, tmp_path: Path
) -> None:
    flags = (f"--clips={whole}/clips.tsv", f"--benchmark={quick}", f"--weights={quick.parent}")
    shutil.copytree(whole / "wav", tmp_path / "copy")
    command = scoring(tmp_path / "copy", whole / "reference", tmp_path / "out", *flags)
    done = tiny.run([*command, "--lists=espnet_speechlm"])
    assert done.returncode == 0, done.stderr
    listed = (tmp_path / "out" / "wav" / "utt2spk").read_text().splitlines()
    assert listed
    assert all(Path(line.split(maxsplit=1)[1]).is_file() for line in listed)
    found, wanted = read(tmp_path / "out" / "metrics.json"), read(whole / "metrics.json")
    assert set(found["metrics"]) == set(wanted["metrics"]) > {"wer", "utmos"}
    for name, versions in found["metrics"].items():
        for version in ("generated", "ground_truth"):
            assert versions[version] == wanted["metrics"][name][version], name
    assert found["networks"] == wanted["networks"]
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    before = (tmp_path / "out" / "metrics.json").read_bytes()
    assert tiny.run(command).returncode == 0  # There is nothing left to do.
    assert (tmp_path / "out" / "metrics.json").read_bytes() == before
    first = next((tmp_path / "copy").glob("*.wav"))
    soundfile.write(first, 0.5 * soundfile.read(first)[0], 16_000)
    refused = tiny.run(command)
    assert refused.returncode == 2
    assert "holds an evaluation of another contents" in refused.stderr
    compared = tiny.run(
        [sys.executable, "-m", "vssflow_jax.evaluate.compare", str(whole), str(tmp_path / "out")]
        + [f"--out={tmp_path}/compare.html"]
    )
    assert compared.returncode == 0, compared.stderr


def test_sounds_of_other_rates_score_nearly_the_same(
    whole: Path, quick: Path, tmp_path: Path
) -> None:
    (tmp_path / "wav").mkdir()
    for path in (whole / "wav").glob("*.wav"):
        samples, rate = soundfile.read(path)
        resampled = librosa.resample(samples, orig_sr=rate, target_sr=44_100)
        soundfile.write(
            tmp_path / "wav" / f"{path.stem}.flac", np.stack([resampled] * 2, axis=1), 44_100
        )
    flags = (f"--clips={whole}/clips.tsv", f"--benchmark={quick}", f"--weights={quick.parent}")
    done = tiny.run(scoring(tmp_path / "wav", whole / "reference", tmp_path / "out", *flags))
    assert done.returncode == 0, done.stderr
    found, wanted = (read(out / "metrics.json")["metrics"] for out in (tmp_path / "out", whole))
    for name, tolerance in (("mel_distance_db_v2s", 0.2), ("onset_f1", 0.1), ("utmos", 0.05)):
        values = [of[name]["generated"]["value"] for of in (found, wanted)]
        assert abs(values[0] - values[1]) < tolerance, name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--generated": "/nowhere"}, "/nowhere: there is no such folder"),
        ({"--benchmark": "nothing"}, "benchmark 'nothing': no file"),
        ({"--clips": ""}, "a table --clips says for each"),
        ({"--weights": "/nowhere"}, "/nowhere is no folder"),
        ({"--out": "{whole}"}, "its wav/ is in"),
    ],
)
def test_scoring_what_is_not_there_is_one_line(
    whole: Path, quick: Path, tmp_path: Path, change: dict[str, str], says: str
) -> None:
    flags = {
        "--clips": f"{whole}/clips.tsv",
        "--benchmark": str(quick),
        "--generated": str(whole / "wav"),
    } | change
    command = scoring(whole / "wav", whole / "reference", tmp_path / "out")
    given = (f"{name}={value.format(whole=whole)}" for name, value in flags.items())
    before = sounds(whole)
    refused = tiny.run([*command, *given])
    assert refused.returncode == 2, refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert says in refused.stderr
    assert not (tmp_path / "out").exists()
    for name, sound in sounds(whole).items():
        np.testing.assert_array_equal(sound, before[name])


def test_another_evaluation_is_not_overwritten(
    run: Path, demo_data: Path, quick: Path, whole: Path
) -> None:
    before = figures(whole)
    command = [*evaluation(run, demo_data, whole, quick), "--config.eval.sampler.steps=3"]
    refused = tiny.run(command)
    assert refused.returncode == 2
    assert "holds an evaluation of another sampler; choose another --out" in refused.stderr
    assert figures(whole) == before


def test_a_damaged_record_costs_one_clip(
    run: Path, own_data: Path, quick: Path, tmp_path: Path
) -> None:
    (shard,) = own_data.glob("vssflow/*/*test_visualtts*")
    count = ArrayRecordReader(str(shard)).num_records()
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    done = tiny.run(evaluation(run, own_data, tmp_path / "out", quick))
    assert done.returncode == 0, done.stderr
    found = figures(tmp_path / "out")
    assert count > 1
    assert found["clips"] == tiny.NUM_TEST - 1
    ((place, reason),) = found["failed"].items()
    assert place.startswith("visualtts ")
    assert "damaged" in reason
    assert "1 clips failed" in done.stdout
    assert reason[-20:] in (tmp_path / "out" / "report.html").read_text()


def test_a_video_that_is_gone_costs_its_mp4_alone(
    run: Path, own_data: Path, quick: Path, tmp_path: Path
) -> None:
    dataset = Dataset(own_data, SPEC)
    clip = dataset.clips("test", "v2s")[0]
    (own_data / clip.video).unlink()
    done = tiny.run(evaluation(run, own_data, tmp_path / "out", quick))
    assert done.returncode == 0, done.stderr
    found = figures(tmp_path / "out")
    assert found["clips"] == tiny.NUM_TEST
    assert list(found["problems"]) == [clip.clip_id]
    assert "mp4" in found["problems"][clip.clip_id]
    assert (tmp_path / "out" / "wav" / f"{clip.clip_id}.wav").exists()


def test_rows_of_nobody_knows_what_are_not_adopted(
    run: Path, demo_data: Path, quick: Path, whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "out")
    (tmp_path / "out" / "evaluation.json").unlink()
    refused = tiny.run(evaluation(run, demo_data, tmp_path / "out", quick))
    assert refused.returncode == 2
    assert "holds an evaluation of another" in refused.stderr


def test_failed_clips_are_tried_again(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "out")
    good = {(row.task, row.index): row for row in rows.read(tmp_path / "out")}
    first = next(iter(good))
    with rows.log(tmp_path / "out", process=0) as log:
        log.write(dataclasses.asdict(Row(*first, failed="damaged")))
    assert not any(row.failed for row in rows.read(tmp_path / "out"))
    path = tmp_path / "out" / "rows" / "00000.jsonl"
    failed = dataclasses.asdict(Row(*first, failed="damaged"))
    path.write_text(json.dumps(failed) + "\n" + path.read_text())
    assert not any(row.failed for row in rows.read(tmp_path / "out"))
    assert len(rows.read(tmp_path / "out")) == len(good)


@pytest.mark.parametrize("sweep", ["steps=(5.5,)", "method=('foo',)", "guidance=('x',)"])
def test_a_sweep_that_cannot_be_ends_before_it_begins(
    run: Path, demo_data: Path, quick: Path, tmp_path: Path, sweep: str
) -> None:
    command = evaluation(run, demo_data, tmp_path / "out", quick)
    refused = tiny.run([*command, f"--config.eval.sweep.{sweep}"])
    assert refused.returncode == 2, refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_sound_that_cannot_be_written_is_one_line(
    run: Path, demo_data: Path, quick: Path, clips: list[Clip], tmp_path: Path
) -> None:
    (tmp_path / "out" / "wav" / f"{clips[0].clip_id}.wav").mkdir(parents=True)
    refused = tiny.run(evaluation(run, demo_data, tmp_path / "out", quick))
    assert refused.returncode == 2
    assert "cannot be written" in refused.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"benchmark": "grit"}, "benchmark 'grit': no file .*choose one of chem, demo, grid"),
        ({"checkpoint": "{run}/checkpoints/7"}, "no checkpoint of step 7"),
        ({"checkpoint": "{run}/nowhere"}, "no run in .*/nowhere"),
        ({"config.model.transformer.heads": "1"}, "heads=1: the run in .* was trained with 2"),
        ({"config.eval.backbones.panns": "/nowhere"}, "eval.backbones.panns is /nowhere; there"),
        ({"config.eval.backbones.utmos": "README.md"}, "README.md"),
        ({"config.eval.lists": "scp"}, "eval.lists is 'scp'; choose one of: kaldi, espnet_sp"),
    ],
)
def test_bad_input_is_one_line(
    run: Path, demo_data: Path, quick: Path, tmp_path: Path, flags: dict[str, str], says: str
) -> None:
    given = {name: value.format(run=run) for name, value in flags.items()}
    refused = tiny.run(
        evaluation(run, demo_data, tmp_path / "out", given.pop("benchmark", quick), **given)
    )
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1
    assert re.search(says, refused.stderr), refused.stderr


def test_a_benchmark_without_clips(demo_data: Path) -> None:
    with pytest.raises(UserError, match="no test split of tts, which benchmark x is of"):
        Benchmark("x", tasks=("tts",)).places(Dataset(demo_data, SPEC))


def test_benchmarks_of_the_field_are_sound() -> None:
    names = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    assert names == ["chem", "demo", "grid", "lrs2", "v2c", "vggsound"]
    for name in names:
        found = definition.load(name, BENCHMARKS)
        assert found.name == name
        assert found.metrics


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{'metrics': ('wet',)}", "metrics has 'wet'; choose from wer"),
        ("{'task': ('v2s',)}", "no field 'task'"),
        ("{'tasks': 5}", "tasks is no tuple"),
        ("{'tasks': ('v2s', 'v2s')}", "tasks is no tuple of different names"),
        ("{'max_clips': 2.5}", "max_clips is a number of clips"),
        ("{'clip_sec': 1e-5}", r"clip_sec 0 or at least 0\.1"),
        ("{'part': 'valid'}", "part has 'valid'; choose from train, test"),
        ("{}['x']", "KeyError"),
    ],
)
def test_a_benchmark_of_ones_own(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.py"
    write_benchmark(path, text)
    with pytest.raises(UserError, match=says):
        definition.load(str(path), BENCHMARKS)


def test_some_clips_of_each_task_are_spread_evenly(demo_data: Path) -> None:
    dataset = Dataset(demo_data, SPEC)
    few = dataclasses.replace(DEMO, part="train", max_clips=2).places(dataset)
    for task in TASKS:
        count = dataset.count("train", task)
        assert [place.index for place in few if place.task == task] == [0, count // 2][: count or 0]


def test_the_true_sounds_score_well_and_others_do_not(clips: list[Clip]) -> None:
    def spoken(index: int) -> np.ndarray:
        sound = of_samples(clips[index].features.sound, SPEC)
        return to_int16(griffin_lim(sound.log_mel)[: len(sound.samples)])

    measured = []
    for index, clip in enumerate(clips):
        same = [i for i, other in enumerate(clips) if other.task == clip.task]
        other = same[(same.index(index) + 1) % len(same)]
        versions = {
            "generated": spoken(index),
            "ground_truth": clip.features.sound,
            "shuffled": spoken(other),
        }
        found = {name: of_samples(samples, SPEC) for name, samples in versions.items()}
        told = Reference(clip.task, clip.transcript, clip.event_times_sec)
        names = [name for name in METRICS if name.startswith(("wer", "onset", "mel"))]
        row = Row(clip.task, index, clip.clip_id, clip.transcript)
        measured.append(score_clip(row, told, found, {name: METRICS[name] for name in names}))
        assert not measured[-1].problems
    assert not Judged({}, {}).add_words(DEMO, measured)
    names = ["wer", "onset_f1", "mel_distance_db_v2s"]
    scores = clip_scores(measured, names, ["generated", "ground_truth", "shuffled"])
    wer, onsets, distance = (
        {version: score["value"] for version, score in scores[name].items()} for name in names
    )
    assert wer["ground_truth"] <= 0.15
    assert wer["generated"] <= 0.25
    assert wer["shuffled"] > wer["generated"] + 0.25
    assert onsets["ground_truth"] > 0.9
    assert onsets["generated"] > 0.9
    assert onsets["shuffled"] < 0.6
    assert distance["ground_truth"] == 0
    assert 0 < distance["generated"] < distance["shuffled"]


def test_too_short_a_sound_is_told_and_the_rest_measured() -> None:
    samples = np.ones(100, np.int16)
    sound = of_samples(samples, SPEC)
    heard = dict.fromkeys(("generated", "ground_truth"), sound)
    metrics = {name: METRICS[name] for name in ("mcd", "mel_distance_db_tts")}
    reference = Reference("tts", "", np.zeros(0))
    result = score_clip(Row("tts", 0), reference, heard, metrics)
    assert "at least" in result.problems["mcd"]
    assert result.scores["generated"] == {"mel_distance_db_tts": (0.0, 1.0)}


def test_evaluation_while_training(own_data: Path, tmp_path: Path) -> None:
    caption = 'A door  shuts;\nthen "rain"'
    rewrite_shard(shard(own_data, "test_v2s"), lambda values: values.update(caption=caption))
    config = tiny.config(own_data, train__steps=4, eval__every_steps=2, eval__every_clips=1)
    logged = []

    class Noted(benchmark.InTraining):
        def __call__(self, *given: Any) -> list[tuple[str, float]]:
            logged.append(super().__call__(*given))
            return logged[-1]

    assert tiny.train(config, tmp_path, Noted(config, DEMO, tmp_path))
    assert [path.name for path in sorted((tmp_path / "eval-steps").iterdir())] == ["2", "4"]
    for values, step in zip(logged, (2, 4), strict=True):
        metrics = read(tmp_path / "eval-steps" / str(step) / "metrics.json")
        assert metrics["clips"] == 3
        assert dict(values)["wer"] == metrics["metrics"]["wer"]["generated"]["value"]
        table = tmp_path / "eval-steps" / str(step) / "clips.tsv"
        captions = [fields["caption"] for _, fields in read_table(table, rows.COLUMNS, "clip_id")]
        assert sorted(captions) == ["", "", 'A door shuts; then "rain"']


def test_a_sweep_of_samplers(run: Path, demo_data: Path, quick: Path, tmp_path: Path) -> None:
    command = [
        *evaluation(run, demo_data, tmp_path / "out", quick),
        "--config.eval.sweep.steps=(1,2)",
        "--config.eval.sweep.method=('euler','heun')",
    ]
    done = tiny.run(command)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "sweep.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["evaluations"] for line in lines] == ["1", "2", "2", "4"]
    assert all(float(line["mel_distance_db_v2s"]) > 0 for line in lines)
    assert (tmp_path / "out" / "sweep.png").read_bytes().startswith(b"\x89PNG")
