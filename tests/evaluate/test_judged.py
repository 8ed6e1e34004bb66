"""What networks are shown of an evaluation, what is taken from elsewhere, and what is said."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.networks import files as network_files
from vssflow_jax.evaluate.benchmark import Benchmark
from vssflow_jax.evaluate.judged import SOUNDS, Judged, Shown, named_weights
from vssflow_jax.evaluate.networks import vggish
from vssflow_jax.evaluate.networks.store import Store
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import folder

RATE = 16_000
CLIPS = ("a", "b", "c")
BENCHMARK = Benchmark("mine", metrics=("utmos", "fd_vggish"), recogniser="none")


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    """Two clips with a speaker, and one without."""
    sounds: dict[str, dict[str, Path]] = {side: {} for side in SOUNDS}
    for number, (side, name) in enumerate((x, y) for x in SOUNDS for y in CLIPS):
        path = tmp_path / side / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        samples = 0.1 * np.random.default_rng(number).standard_normal(2 * RATE)
        soundfile.write(path, samples, RATE)
        sounds[side][name] = path
    tasks = {"a": "visualtts", "b": "visualtts", "c": "v2s"}
    return Shown(sounds, videos={}, tasks=tasks, spoken={"a", "b"})


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = tmp_path_factory.mktemp("weights")
    judge = network_files.utmos(small=True)
    judge.write(judge.tensors(), made / judge.file)
    zeros = {name: torch.zeros(()).expand(shape) for name, shape in vggish.shapes().items()}
    torch.save(zeros, made / "vggish.pth")
    return {"utmos": made / judge.file, "vggish": made / "vggish.pth"}


def rows() -> list[Row]:
    tasks = {"a": "visualtts", "b": "visualtts", "c": "v2s"}
    return [Row(task, number, name) for number, (name, task) in enumerate(tasks.items())]


def test_what_a_named_folder_has_is_taken_and_the_rest_is_made(
    shown: Shown, weights: dict[str, Path], tmp_path: Path
) -> None:
    named = tmp_path / "av-benchmark"
    named.mkdir()
    theirs = {f"clip-{x}": torch.randn(8, 128) for x in range(5)}
    torch.save(theirs, named / "vggish_features.pth")
    own = {side: tmp_path / "features" / side for side in SOUNDS}
    judged = Judged(weights, own, {"generated": named})
    judged.check(BENCHMARK)
    judged.extract(BENCHMARK, shown)
    made = {(side, x.name) for side, path in own.items() for x in path.iterdir()}
    assert made == {("generated", "utmos"), ("reference", "utmos"), ("reference", "vggish")}
    assert Store(own["generated"] / "utmos").done() == {"a", "b"}  # Nobody speaks in the other.
    good = rows()
    scores, absent = judged.scores(BENCHMARK, good)
    assert not absent
    assert scores["fd_vggish"]["generated"]["clips"] == 5
    for row in good:
        has = {version for version, found in row.scores.items() if "utmos" in found}
        assert has == ({"generated", "ground_truth"} if row.task == "visualtts" else set())
    assert set(judged.networks(BENCHMARK)) == {"utmos", "fd_vggish"}


def test_voices_are_compared_where_somebody_speaks(shown: Shown, tmp_path: Path) -> None:
    file = network_files.rawnet3_espnet(small=True)
    file.write(file.tensors(), tmp_path / file.file)
    shutil.copy(shown.sounds["reference"]["a"], shown.sounds["generated"]["a"])
    judged = Judged(
        {"rawnet3": tmp_path / file.file}, {side: tmp_path / "features" / side for side in SOUNDS}
    )
    benchmark = Benchmark("mine", metrics=("speaker_similarity_rawnet3",), recogniser="none")
    judged.check(benchmark)
    judged.extract(benchmark, shown)
    good = rows()
    scores, absent = judged.scores(benchmark, good)
    assert not absent
    assert not scores  # They are of single clips, and a true sound has none.
    a, b, c = (row.scores.get("generated", {}) for row in good)
    name, *others = a
    assert (name, others) == ("speaker_similarity_rawnet3", [])
    assert a[name] == (pytest.approx(1, abs=1e-6), 1.0)
    assert 0 < b[name][0] < a[name][0] - 1e-5
    assert not c  # Nobody speaks.
    assert all("ground_truth" not in row.scores for row in good)
    assert judged.networks(benchmark)[name].startswith("RawNet3, sha256 ")


def test_voices_by_two_networks_are_not_compared(tmp_path: Path) -> None:
    for side, width in (("generated", 192), ("reference", 256)):
        made = {clip: {"features": np.ones(width, np.float32)} for clip in "ab"}
        store = Store(tmp_path / side / "rawnet3")
        store.claim({"sha256": "of both"})
        store.add(made, {})
    judged = Judged({}, {side: tmp_path / side for side in SOUNDS})
    benchmark = Benchmark("mine", metrics=("speaker_similarity_rawnet3",), recogniser="none")
    _, absent = judged.scores(benchmark, rows())
    assert "are of 192 and of 256 numbers" in absent["speaker_similarity_rawnet3"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sha256": "other"}, "are by another file of weights than"),
        ({"max_sec": 8}, "of clips cut otherwise"),
    ],
)
def test_features_that_were_made_otherwise_are_not_compared(
    changed: dict[str, str], message: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for side, more in (("generated", {}), ("reference", changed)):
        store = Store(tmp_path / side / "vggish")
        store.claim({"sha256": "one", "max_sec": 0} | more)
        store.add({clip: {"features": rng.normal(size=(8, 128))} for clip in CLIPS}, {})
    judged = Judged({}, {side: tmp_path / side for side in SOUNDS})
    found, absent = judged.scores(BENCHMARK, rows())
    assert "fd_vggish" not in found
    assert message in absent["fd_vggish"]


def test_clips_that_a_network_has_not_seen_yet_are_no_part_of_a_score(
    shown: Shown, weights: dict[str, Path], tmp_path: Path
) -> None:
    own = {side: tmp_path / "features" / side for side in SOUNDS}
    fewer = shown._replace(sounds={side: {"a": paths["a"]} for side, paths in shown.sounds.items()})
    Judged(weights, own).extract(BENCHMARK, fewer)  # as if it had been killed
    found, absent = Judged({}, own).scores(BENCHMARK, rows())
    assert "fd_vggish" not in found
    assert absent["fd_vggish"].startswith(
        "VGGish was stopped before it had seen the sound of 2 clips, such as b: get vggish-10086976"
    )
    Judged(weights, own).extract(BENCHMARK, shown)
    assert "fd_vggish" in Judged({}, own).scores(BENCHMARK, rows())[0]


def test_features_of_clips_that_are_gone_do_not_count(
    shown: Shown, weights: dict[str, Path], tmp_path: Path
) -> None:
    judged = Judged(weights, {side: tmp_path / "features" / side for side in SOUNDS})
    judged.extract(BENCHMARK, shown)
    scores, _ = judged.scores(BENCHMARK, rows())
    assert scores["fd_vggish"]["generated"]["clips"] == 3
    fewer, _ = judged.scores(BENCHMARK, rows()[:2])
    assert fewer["fd_vggish"]["generated"]["clips"] == 2


def test_it_is_said_what_is_missing(weights: dict[str, Path], tmp_path: Path) -> None:
    own = {side: tmp_path / side for side in SOUNDS}
    wanted = Benchmark("x", metrics=("ib_score", "fd_passt", "wer"), recogniser="whisper")
    _, absent = Judged({"imagebind": tmp_path}, own).scores(wanted, rows())
    assert "no clip has a video for ImageBind" in absent["ib_score"]
    assert "get passt-s-f128-p16-s10-ap.476-swa.pt from kkoutini/PaSST" in absent["fd_passt"]
    without = Judged({}, own).add_words(wanted, rows())
    assert "get a folder openai/whisper-*" in without["wer"]
    silent = Judged({"whisper": tmp_path}, own).add_words(wanted, rows())
    assert "no clip has a transcript for Whisper" in silent["wer"]


def test_weights_by_name_come_before_those_of_a_folder(tmp_path: Path) -> None:
    for name in ("utmos", "synchformer", "elsewhere"):
        (tmp_path / name).mkdir()
    found = named_weights({"utmos": f"{tmp_path}/elsewhere", "panns": ""}, str(tmp_path))
    assert found == {"utmos": tmp_path / "elsewhere", "synchformer": tmp_path / "synchformer"}
    # One side of Synchformer, as encoders have it, compares nothing.
    (tmp_path / "synchformer").rmdir()
    folder.save(tmp_path / "synchformer", "synchformer", {}, {"a": np.zeros(1, np.float32)})
    assert "synchformer" not in named_weights({}, str(tmp_path))
    with pytest.raises(UserError, match="holds one side of Synchformer"):
        Judged({"synchformer": tmp_path / "synchformer"}, {}).check(
            Benchmark("x", metrics=("desync",))
        )
    with pytest.raises(UserError, match=r"eval\.backbones\.utmos is /nowhere"):
        named_weights({"utmos": "/nowhere"}, "")
