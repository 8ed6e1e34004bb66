"""Evaluations side by side: what differs, by how much, and on which clips."""

import csv
import html
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from vssflow_jax.audio import mel
from vssflow_jax.evaluate.pages import compare
from vssflow_jax.utils.errors import UserError

NAMES = [f"clip-{index:02d}" for index in range(20)]
WER = {name: 0.1 * (index % 4) for index, name in enumerate(NAMES)}
ROOT = Path(__file__).parents[2]


def write_run(folder: Path, wer: dict[str, float], **settings) -> Path:
    """What an evaluation of speech clips leaves: `wer` by clip, and DNSMOS, 5 less 4 WER."""
    (folder / "wav").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in wer:
        sound = (0.1 * rng.normal(size=4800)).astype(np.float32)
        soundfile.write(folder / "wav" / f"{name}.wav", sound, mel.SAMPLING_RATE)
    with (folder / "per_clip.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip_id", "task", "transcript", "recognised", "dnsmos_ovrl", "wer"])
        for name, value in wer.items():
            quality = "" if name == NAMES[0] else 5 - 4 * value
            writer.writerow([name, "visualtts", "bin blue, now", "bin <blue>", quality, value])
    value = float(np.mean([*wer.values()]))
    score = {"value": value, "low": value - 0.01, "high": value + 0.01, "clips": len(wer)}
    results = {
        "benchmark": "grid",
        "step": 7,
        "clips": len(wer),
        "metrics": {"wer": {"generated": score, "ground_truth": score}},
        "absent": {},
        "failed": {"clip-99": "no frames"},
    }
    (folder / "metrics.json").write_text(json.dumps(results))
    everything = {"benchmark": "grid", "seed": 0, "config": {"width": 8, "depth": 2}} | settings
    (folder / "evaluation.json").write_text(json.dumps(everything))
    return folder


@pytest.fixture
def better(tmp_path: Path) -> Path:
    """A run whose every clip but the last is better by 0.06, in its `eval/`; returns the run."""
    wer = {name: value - (0.06 if name != NAMES[-1] else -0.4) for name, value in WER.items()}
    write_run(tmp_path / "better" / "eval", wer, seed=1, config={"width": 8, "depth": 4})
    return tmp_path / "better"


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return write_run(tmp_path / "first", WER)


def page(tmp_path: Path, *runs: Path, **options) -> str:
    out = tmp_path / "pages" / "compare.html"
    compare.compare(runs, out, **options)
    return out.read_text(encoding="utf-8")


def cells(source: str) -> list[str]:
    """Texts of rows of tables, cells set off by bars."""
    rows = re.findall(r"<tr.*?</tr>", source, re.DOTALL)
    texts = (re.sub(r"</t[hd]>", "|", row) for row in rows)
    return [" ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split()) for text in texts]


def differences(*runs: Path) -> dict[str, Any]:
    return compare.differences(*map(compare.Evaluation.read, runs))


def test_difference_is_that_of_the_clips_in_both(first: Path, tmp_path: Path) -> None:
    others = {**{name: WER[name] + 0.1 for name in NAMES[5:15]}, "clip-77": 9.0}
    other = write_run(tmp_path / "other", others)
    found = differences(first, other)
    assert list(found) == ["wer", "dnsmos_ovrl"]
    expected = {"value": 0.1, "low": 0.1, "high": 0.1, "clips": 10, "won": 0, "lost": 1}
    assert found["wer"] == pytest.approx(expected | {"verdict": "worse"})
    assert found["dnsmos_ovrl"]["value"] == pytest.approx(-0.4)
    assert (found["dnsmos_ovrl"]["won"], found["dnsmos_ovrl"]["lost"]) == (0, 1)


def test_interval_is_of_the_paired_differences(first: Path, better: Path) -> None:
    found = differences(first, better)
    wer = found["wer"]
    # 19 times -0.06 and once +0.4: the mean is -0.037, with a standard error of 0.022.
    assert wer["value"] == pytest.approx(-0.037)
    assert wer["low"] == pytest.approx(-0.06)
    assert 0.0 < wer["high"] < 0.05
    assert not wer["verdict"]
    assert (wer["won"], wer["lost"], wer["clips"]) == (0.95, 0.05, 20)
    assert found["dnsmos_ovrl"]["clips"] == 19  # the first clip has no DNSMOS


def test_one_clip_has_no_interval(first: Path, tmp_path: Path) -> None:
    wer = differences(first, write_run(tmp_path / "other", {NAMES[3]: 0.0}))["wer"]
    assert (wer["clips"], wer["low"], wer["high"], wer["verdict"]) == (1, None, None, "")
    assert wer["value"] == pytest.approx(-0.3)


def test_page_has_scores_differences_and_settings(
    first: Path, better: Path, tmp_path: Path
) -> None:
    source = page(tmp_path, first, better, first)
    rows = cells(source)
    assert any(row.startswith("A first") and row.endswith("| grid| 7| 20| 1|") for row in rows)
    assert "Word error rate , % ↓ wer | | 15.0 [14.0, 16.0] | 11.3 [10.3, 12.3] |" in rows[5]
    assert source.count('class="chosen"') == 1
    same, *_ = (row for row in rows if row.endswith("0 %| 0 %| 20|"))
    assert "0.0 [+0.0, +0.0]" in same
    assert "seed| 0| 1| 0|" in rows
    assert "config.depth| 2| 4| 2|" in rows
    assert not any(row.startswith(("config.width", "benchmark|")) for row in rows)
    assert "different benchmarks" not in source


def test_clips_that_differ_most_come_first(first: Path, better: Path, tmp_path: Path) -> None:
    source = page(tmp_path, first, better, clips_per_task=2)
    shown = re.findall(r'<h4 class="clip-id">(.*?)</h4>', source)
    assert len(shown) == 2
    assert shown[0] == NAMES[-1]
    assert source.count("<audio") == 4
    assert source.count("bin &lt;blue&gt;") == 4
    assert "<h4" not in page(tmp_path, first, better, clips_per_task=0)


def test_other_benchmark_is_pointed_out(first: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", WER)
    results = json.loads((other / "metrics.json").read_text())
    (other / "metrics.json").write_text(json.dumps(results | {"benchmark": "lrs2"}))
    assert "different benchmarks" in page(tmp_path, first, other)


def test_damaged_evaluations_are_named(first: Path, better: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no finished evaluation.*run_eval\.py"):
        page(tmp_path, first, tmp_path / "nowhere")
    (better / "eval" / "per_clip.csv").unlink()
    with pytest.raises(UserError, match=r"better: no finished evaluation.*per_clip\.csv"):
        page(tmp_path, first, better)
    (first / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"first: damaged.*run the evaluation again"):
        page(tmp_path, first, better)
    assert not (tmp_path / "pages").exists()


def test_missing_sound_is_named(first: Path, better: Path, tmp_path: Path) -> None:
    (better / "eval" / "wav" / f"{NAMES[-1]}.wav").unlink()
    with pytest.raises(UserError, match=rf"{NAMES[-1]}.*better.*\.wav"):
        page(tmp_path, first, better)


def test_runs_without_a_common_clip_are_refused(first: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", {"elsewhere": 0.5})
    with pytest.raises(UserError, match=r"first and .*other have no clip in common"):
        page(tmp_path, first, other)


@pytest.mark.parametrize(
    ("operands", "message"),
    [([], "RUN_A is missing"), (["."], "RUN_B is missing"), ([".", ".", "."], "no finished")],
)
def test_command_takes_two_runs_or_more(operands: list[str], message: str) -> None:
    command = [sys.executable, "-m", "vssflow_jax.evaluate.compare", *operands]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert message in line


def test_published_figures_stand_below_those_of_the_runs(first: Path, better: Path, tmp_path: Path):
    source = page(tmp_path, first, better)
    table = source.partition('<section id="published">')[2].partition("</section>")[0]
    systems = [row.split("|")[0].strip() for row in cells(table)[1:]]
    assert systems[:2] == ["A: first", "B: better"]
    assert "lips, motion, text" in systems
    assert table.count('class="own"') == 2


def test_sounds_of_another_system_stand_beside_a_run(first: Path, better: Path, tmp_path: Path):
    """They have no step, and no config."""
    folder = better / "eval"
    results = json.loads((folder / "metrics.json").read_text())
    del results["step"]
    (folder / "metrics.json").write_text(json.dumps(results))
    settings = {"benchmark": "grid", "generated": "OTHER/wav"}
    (folder / "evaluation.json").write_text(json.dumps(settings))
    source = page(tmp_path, first, better)
    assert "OTHER/wav" in source
