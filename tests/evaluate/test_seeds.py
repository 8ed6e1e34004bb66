"""Several seeds: each is a whole evaluation, and all together say how far a score is known."""

import csv
import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tests.jobs import launch
from tests.test_bad_input import rewrite_shard, shard
from vssflow_jax.evaluate import evaluator, rows, seeds
from vssflow_jax.evaluate.benchmark import Benchmark
from vssflow_jax.evaluate.pages import compare
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.utils.errors import UserError

METRICS = ("onset_f1", "mel_distance_db_v2s", "fd_mel_statistics")
QUICK = Benchmark("quick", metrics=METRICS, recogniser="none")
SEEDS = (0, 5)


@pytest.fixture(scope="module")
def run(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    assert tiny.train(tiny.config(demo_data, train__steps=1), workdir)
    return workdir


def evaluate(run: Path, data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    config = tiny.config(data, train__steps=1, eval__batch_size=2, **changes)
    return seeds.evaluate(config, QUICK, out, run)


@pytest.fixture(scope="module")
def together(run: Path, demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("together") / "out"
    evaluate(run, demo_data, out, eval__seeds=SEEDS)
    return out


@pytest.fixture(scope="module")
def command(run: Path, demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command without a folder for results, and without seeds."""
    path = tmp_path_factory.mktemp("benchmark") / "quick.py"
    fields = {"metrics": METRICS, "recogniser": "none"}
    path.write_text(
        "import ml_collections\n\n\ndef get_config():\n"
        f"    return ml_collections.ConfigDict({fields})\n"
    )
    shape = tiny.command("run_eval.py", demo_data, run, train__steps=1, eval__batch_size=2)
    return [*shape, f"--benchmark={path}"]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def figures(out: Path) -> dict[str, Any]:
    """What `metrics.json` holds, but for the time it took."""
    return read(out / "metrics.json") | {"generate_sec_per_clip": None}


def test_each_seed_is_the_evaluation_that_it_would_be_alone(
    run: Path, demo_data: Path, together: Path, tmp_path: Path
) -> None:
    evaluate(run, demo_data, tmp_path / "alone", eval__seed=SEEDS[1])
    own = together / "seed-5"
    assert figures(own) == figures(tmp_path / "alone")
    per_clip = (tmp_path / "alone" / "per_clip.csv").read_bytes()
    assert (own / "per_clip.csv").read_bytes() == per_clip
    assert read(own / "evaluation.json") == read(tmp_path / "alone" / "evaluation.json")
    sounds = [path.name for path in sorted((own / "wav").glob("*.wav"))]
    assert len(sounds) == tiny.NUM_TEST
    for name in sounds:
        same = (own / "wav" / name).read_bytes()
        assert same == (tmp_path / "alone" / "wav" / name).read_bytes()
        assert same != (together / "seed-0" / "wav" / name).read_bytes()


def test_scores_are_of_all_seeds_and_clips(together: Path) -> None:
    found = read(together / "metrics.json")
    each = {str(seed): read(together / f"seed-{seed}" / "metrics.json") for seed in SEEDS}
    assert found["seeds"] == read(together / "evaluation.json")["seed"] == [*SEEDS]
    assert found["clips"] == tiny.NUM_TEST
    of_seeds = [rows.read_scored(together / f"seed-{seed}") for seed in SEEDS]
    for name in METRICS:
        score, truth = (
            found["metrics"][name][version] for version in ("generated", "ground_truth")
        )
        values = {seed: own["metrics"][name]["generated"]["value"] for seed, own in each.items()}
        assert score["by_seed"] == pytest.approx(values)
        assert "by_seed" not in truth
        assert truth == each["0"]["metrics"][name]["ground_truth"]
        fractions = [
            row.scores["generated"][name]
            for own in of_seeds
            for row in own
            if name in row.scores["generated"]
        ]
        if fractions:
            above, below = np.sum(fractions, axis=0)
            assert score["value"] == pytest.approx(above / below)
            assert score["low"] <= score["value"] <= score["high"]
            assert score["clips"] == len(fractions) / len(SEEDS)
    distance = found["metrics"]["fd_mel_statistics"]["generated"]
    assert distance["value"] == pytest.approx(np.mean([*distance["by_seed"].values()]))
    assert distance["low"] is distance["high"] is None
    assert "6 rows of features are fewer than the 128 numbers" in distance["warning"]


def test_lines_of_clips_are_means_over_seeds(together: Path) -> None:
    def lines(folder: Path) -> dict[str, dict[str, str]]:
        with (folder / "per_clip.csv").open() as file:
            return {line["clip_id"]: line for line in csv.DictReader(file)}

    found, *each = (
        lines(folder) for folder in (together, together / "seed-0", together / "seed-5")
    )
    assert list(found) == list(each[0])
    name, checked = "mel_distance_db_v2s", 0
    for clip, line in found.items():
        if line[name]:
            mean = np.mean([float(own[clip][name]) for own in each])
            assert float(line[name]) == pytest.approx(mean, abs=1.5e-4)
            checked += 1
    assert checked > 1


def test_the_spread_over_seeds_is_shown(together: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (together / "report.html").read_text()
    assert "over seeds and clips, both drawn anew" in page
    low, high = sorted(
        read(together / "metrics.json")["metrics"]["onset_f1"]["generated"]["by_seed"].values()
    )
    assert f"seeds {low:.2f} to {high:.2f}<" in page
    assert "6 rows of features are fewer than the 128 numbers" in page
    alone = (together / "seed-0" / "report.html").read_text()
    assert "over seeds" not in alone
    evaluator.print_table(read(together / "metrics.json"), together)
    printed = capsys.readouterr().out
    assert printed.count("| lowest to highest seed") == len(METRICS)
    assert f" {low:.2f} to {high:.2f} |" in printed
    assert "warning: `fd_mel_statistics`: 6 rows of features" in printed


def test_they_can_be_compared_with_one_seed(together: Path, tmp_path: Path) -> None:
    compare.compare([together / "seed-0", together], tmp_path / "compare.html")
    assert (tmp_path / "compare.html").read_text().count("<audio") > 1


def test_after_training_other_seeds_are_evaluated_anew(demo_data: Path, together: Path) -> None:
    def is_done(out: Path, *wanted: int) -> bool:
        config = tiny.config(demo_data, train__steps=1, eval__seeds=wanted)
        return evaluator.is_done(out, config)

    assert is_done(together, *SEEDS)
    assert not is_done(together, 0)
    assert not is_done(together)
    assert is_done(together / "seed-0")


def test_killed_in_the_second_seed_it_ends_the_same(
    command: list[str], together: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [*command, f"--out={out}", f"--config.eval.seeds={SEEDS}"]
    with subprocess.Popen(
        command, cwd=tiny.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        limit = time.monotonic() + 300
        while not rows.read(out / "seed-5"):
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (out / "metrics.json").exists()
    sound = min((out / "seed-0" / "wav").glob("*.wav"))
    before = sound.stat().st_mtime_ns
    done = tiny.run(command)
    assert done.returncode == 0, done.stderr
    assert sound.stat().st_mtime_ns == before
    assert "lowest to highest seed" in done.stdout
    found, expected = figures(out), figures(together)
    assert found.pop("benchmark") == expected.pop("benchmark")
    assert found == expected


def test_a_seed_more_leaves_the_others_and_another_evaluation_is_refused(
    run: Path, demo_data: Path, together: Path
) -> None:
    before = figures(together)
    written = {path: path.stat().st_mtime_ns for path in (together / "seed-0" / "wav").iterdir()}
    evaluate(run, demo_data, together, eval__seeds=(5, 0))
    assert read(together / "metrics.json")["seeds"] == [5, 0]
    for changes in ({"eval__sampler__steps": 3, "eval__seeds": SEEDS}, {"eval__seed": 0}):
        with pytest.raises(UserError, match="holds an evaluation of another"):
            evaluate(run, demo_data, together, **changes)
    evaluate(run, demo_data, together, eval__seeds=SEEDS)
    assert figures(together) == before
    wavs = {path: at for path, at in written.items() if path.suffix == ".wav"}
    assert {path: path.stat().st_mtime_ns for path in wavs} == wavs


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("eval.seeds=(1,1)", r"eval.seeds is (1, 1); give different whole numbers from 0"),
        ("eval.seeds=(1,-1)", r"eval.seeds is (1, -1); give different whole numbers from 0"),
    ],
)
def test_seeds_that_cannot_be_are_one_line(
    command: list[str], tmp_path: Path, flag: str, says: str
) -> None:
    refused = tiny.run([*command, f"--out={tmp_path / 'out'}", f"--config.{flag}"])
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    assert says in line
    assert not (tmp_path / "out").exists()


def test_what_failed_in_some_seeds_is_told_with_these() -> None:
    told = {0: {"a": "damaged", "b": "short"}, 5: {"a": "damaged", "c": "silent"}}
    expected = {"a": "damaged", "b": "seed 0: short", "c": "seed 5: silent"}
    assert seeds._by_reason(told) == expected


def test_a_clip_that_a_seed_lacks_counts_where_it_is() -> None:
    def row(index: int, above: float, below: float) -> Row:
        scores = {"wer": (above, below)}
        return Row("visualtts", index, scores={"generated": scores, "ground_truth": scores})

    of_seeds = {0: [row(0, 1, 4), row(1, 1, 2)], 5: [row(1, 2, 2)], 6: []}
    found = seeds.scores_of_clips(of_seeds, ["wer"], ["generated", "ground_truth"])["wer"]
    assert found["generated"]["value"] == 4 / 8
    assert found["generated"]["by_seed"] == {"0": 2 / 6, "5": 1}
    assert found["generated"]["clips"] == found["ground_truth"]["clips"] == 2
    assert not seeds.scores_of_clips({0: [row(0, 0, 0)]}, ["wer"], ["generated"])


# ------------------------------------------------------------------------------------------- names


@pytest.fixture
def twice(own_data: Path) -> Path:
    """A dataset whose test clips of speech, and of sounds, are all called alike."""
    for split in ("test_visualtts", "test_v2s"):
        rewrite_shard(shard(own_data, split), lambda values: values.update(clip_id="the-clip"))
    return own_data


def test_two_clips_of_one_name_are_refused_before_the_second_is_measured(
    run: Path, twice: Path, tmp_path: Path
) -> None:
    config = tiny.config(twice, train__steps=1, eval__batch_size=1)
    with pytest.raises(UserError, match=r"v2s clip 0 and \w+ clip \d are both called 'the-clip'"):
        seeds.evaluate(config, QUICK, tmp_path / "out", run)
    assert len(rows.read(tmp_path / "out")) <= 1
    assert len([*(tmp_path / "out" / "wav").iterdir()]) == 1
    # Gone on with it is refused again: the first one's name is known from its row.
    with pytest.raises(UserError, match="are both called 'the-clip'"):
        seeds.evaluate(config, QUICK, tmp_path / "out", run)


def test_both_of_two_processes_refuse_them(command: list[str], twice: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = launch([*command, f"--out={out}", f"--config.data.path={twice}"], out)
    assert job.wait() == [2, 2], job.printed
    assert all("are both called 'the-clip'" in printed for printed in job.printed)
