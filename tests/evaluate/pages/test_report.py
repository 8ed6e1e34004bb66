"""The page of an evaluation: complete, self-contained, and unharmed by odd input."""

import base64
import dataclasses
import html.parser
import io
import math
import os
import re
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from vssflow_jax.evaluate import evaluator
from vssflow_jax.evaluate.metrics import labels, ranking, registry
from vssflow_jax.evaluate.metrics.published import PUBLISHED
from vssflow_jax.evaluate.pages import report
from vssflow_jax.evaluate.rows import Row
from vssflow_jax.html import clip_view, curves
from vssflow_jax.html.clip_view import ClipView, Sound
from vssflow_jax.html.page import DYNAMIC_RANGE_DB, sound_uri
from vssflow_jax.input_pipeline.tasks import TASKS
from vssflow_jax.utils.errors import UserError

NUM_FRAMES, NUM_BANDS = 30, 64
Clip = tuple[Row, ClipView]


def score(value: float, low: float | None = None, high: float | None = None) -> dict:
    return {"value": value, "low": low, "high": high, "clips": 12}


METRICS = {
    "real_time_factor": {"generated": score(3.2)},
    "onset_recall_joint": {"generated": score(0.7, 0.61, 0.8), "shuffled": score(0.25)},
    "wer": {
        "shuffled": score(0.874),
        "ground_truth": score(0.087, 0.05, 0.12),
        "generated": score(0.237, 0.18, 0.26),
        "codec": score(math.nan),
    },
}
SETTINGS = {
    "benchmark": "demo",
    "checkpoint": "runs/demo",
    "checkpoint_sha256": "0123456789abcdef" * 4,
    "step": 6000,
    "parameters": 1_234_567,
    "placement": "context",
    "seed": 0,
    "sampler": {"method": "euler", "steps": 25, "guidance": 3.0},
    "config": {"model": {"dtype": "float32"}},
}
HISTORY = [
    {"step": step, "loss": 2 / step, "loss_t0": 1 / step, "loss_t4": 3 / step}
    for step in range(1, 101)
]


class Page(html.parser.HTMLParser):
    """What a browser would see: tags with attributes, and the text of each table cell and mark."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.marks: list[str] = []
        self.text = ""
        self._open = ""
        self._in_cell = False
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open = tag
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
            self._in_cell = True
        elif tag == "mark":
            self.marks.append("")

    def handle_endtag(self, tag):
        self._open = ""
        self._in_cell = self._in_cell and tag != "td"

    def handle_data(self, data):
        self.text += data
        if self._in_cell:
            self.rows[-1][-1] += data.strip()
        elif self._open == "mark":
            self.marks[-1] += data
        elif self._open == "code":
            self.rows[-1].insert(0, data)

    def attributes(self, tag: str, name: str) -> list[str]:
        return [value for t, attrs in self.tags if t == tag and (value := attrs.get(name))]


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """A tiny mp4 of two pictures."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for level in (0, 255):
            picture = np.full((32, 48, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def results(metrics=METRICS, *, absent=None, failed=None, problems=None) -> dict:
    found = {"absent": absent or {}, "failed": failed or {}, "problems": problems or {}}
    return {"metrics": metrics, "clips": 12, **found}


@pytest.fixture
def view(video) -> ClipView:
    rng = np.random.default_rng(0)
    media = clip_view.video(video, "test-speech-003")
    log_mels = (rng.normal(-4, 2, (NUM_FRAMES, NUM_BANDS)).astype(np.float32) for _ in range(2))
    names = ("generated", "reference")
    return ClipView.of([Sound(name, media, next(log_mels)) for name in names], [0.15])


@pytest.fixture
def clip(view) -> Clip:
    row = Row(
        "visualtts",
        0,
        "test-speech-003",
        transcript="bin blue at f two now",
        recognised={"generated": "bin blue by f two"},
        scores={"generated": {"wer": (2, 6), "mel_distance_db_visualtts": (math.nan, 1)}},
    )
    return row, view


def changed(clip: Clip, **changes) -> Clip:
    """The clip with other fields of its row; recognised words and scores are the generated's."""
    if "recognised" in changes:
        changes["recognised"] = {"generated": changes["recognised"]}
    if "scores" in changes:
        changes["scores"] = {
            "generated": {name: (value, 1) for name, value in changes["scores"].items()}
        }
    row, view = clip
    return dataclasses.replace(row, **changes), view


@pytest.fixture
def write(tmp_path):
    """Writes a page with the given parts, and reads it back."""

    def _write(**parts) -> Page:
        defaults = {
            "settings": SETTINGS,
            "results": results(),
            "history": HISTORY,
            "clips": [],
        }
        path = tmp_path / "eval" / "report.html"
        report.write_report(path, **(defaults | parts))
        assert [file.name for file in path.parent.iterdir()] == ["report.html"]
        return Page(path)

    return _write


def decode(uri: str, media_type: str) -> bytes:
    head, _, content = uri.partition(",")
    assert head == f"data:{media_type};base64"
    return base64.b64decode(content, validate=True)


def test_nothing_lies_outside_the_file(write, clip):
    page = write(clips=[clip])
    assert not re.search(r"https?://|//\w+\.\w+/|url\(|@import", page.source)
    links = [
        value
        for _, attrs in page.tags
        for name, value in attrs.items()
        if name in ("src", "href", "srcset", "poster", "action", "data") and value
    ]
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)


def test_what_is_heard_comes_before_figures_and_what_is_absent_last(write, clip):
    everything = results(absent={"fd_panns": "no weights"}, failed={"clip-9": "corrupt"})
    page = write(
        settings=SETTINGS | {"benchmark": "vggsound"},
        results=everything | {"problems": {"clip-x": {"mcd": "too short"}}},
        clips=[clip],
    )
    order = ["visualtts", "scores", "training", "published", "failed", "partial"]
    assert page.attributes("section", "id") == [*order, "settings", "absent"]
    assert page.source.index("<video") < page.source.index("<table")
    links = {link.removeprefix("#") for link in page.attributes("a", "href")}
    assert links == {*order, "settings", "absent"}


def test_few_scores_come_before_all_clips(write, clip):
    first = " ".join(write(clips=[clip]).text.partition(clip[0].clip_id)[0].split())
    assert "Word error rate \N{DOWNWARDS ARROW} 23.7 % [18.0, 26.0]" in first
    assert "ground truth 8.7 shuffled 87.4" in first
    assert "0.70 [0.61, 0.80] shuffled 0.25" in first
    assert "Real time factor" not in first
    unmeasured = {"wer": {"generated": score(math.nan)}, "desync": {"codec": score(0.5)}}
    assert "headlines" not in write(results=results(unmeasured)).source.partition("<body>")[2]


def test_scores_that_say_most_are_chosen(write):
    names = ["dnsmos_ovrl", "dnsmos_sig", "mcd", "wer_joint", "mel_distance_db_joint"]
    names += ["onset_recall_joint", "fd_mel_statistics"]
    page = write(results=results({name: {"generated": score(1.0)} for name in names}))
    shown = page.text.partition("Scores")[0]
    chosen = ["Word error rate, joint clips", "DNSMOS, overall", "Onset recall", "Mel distance"]
    assert sorted(chosen, key=shown.index) == chosen
    assert not re.search("Mel-cepstral|speech quality|Fréchet", shown)


def test_videos_decode_to_the_files(write, clip, video):
    uris = write(clips=[clip]).attributes("video", "src")
    assert [decode(uri, "video/mp4") for uri in uris] == [video.read_bytes()] * 2


def test_clips_stand_under_their_task(write, clip):
    clips = [
        changed(clip, clip_id=f"clip-{task}-{index}", task=task, scores={"wer": index})
        for index in range(2)
        for task in ("joint", "visualtts")
    ]
    page = write(clips=clips)
    order = [
        TASKS["visualtts"].title,
        "clip-visualtts-0",
        "clip-visualtts-1",
        TASKS["joint"].title,
        "clip-joint-0",
        "clip-joint-1",
    ]
    body = page.text.partition("Not measured")[0].partition("Settings")[2]  # after the navigation
    assert sorted(order, key=body.index) == order
    assert page.text.count(TASKS["visualtts"].title) == 2  # in the navigation too
    assert TASKS["v2s"].title not in page.text


def test_sounds_without_pictures_are_played_alone(write, clip):
    samples = np.random.default_rng(1).integers(-3000, 3000, (2, 4800)).astype(np.int16)
    log_mel = np.zeros((NUM_FRAMES, NUM_BANDS))
    names = ("generated", "reference")
    sounds = [Sound(n, uri, log_mel) for n, uri in zip(names, map(sound_uri, samples), strict=True)]
    page = write(clips=[(clip[0], ClipView.of(sounds))])
    assert not page.attributes("video", "src")
    for uri, expected in zip(page.attributes("audio", "src"), samples, strict=True):
        found, rate = soundfile.read(io.BytesIO(decode(uri, "audio/flac")), dtype="int16")
        assert rate == 16_000
        np.testing.assert_array_equal(found, expected)


def test_table_has_a_row_for_each_metric(write):
    page = write()
    named = [(name, cells[1:]) for name, *cells in page.rows if name]
    assert named[:3] == [
        ("wer", ["23.7[18.0, 26.0]", "8.7[5.0, 12.0]", "-", "87.4", "12"]),
        ("onset_recall_joint", ["0.70[0.61, 0.80]", "-", "-", "0.25", "12"]),
        ("real_time_factor", ["3.2", "-", "-", "-", "12"]),
    ]
    assert re.search(r"Word error rate\s*, %\s*↓", page.text)
    assert re.search(r"Onset recall, joint clips\s*↑", page.text)
    assert re.search(r"Real time factor\s*real_time_factor", page.text)


def test_many_scores_are_folded_by_what_they_are_of(write):
    few = write().source
    assert few.count('<details class="group" open>') == 3
    assert '<details class="group">' not in few
    one = {"generated": {"value": 1.0, "low": None, "high": None, "clips": 12}}
    many = write(results=results(dict.fromkeys(registry.METRICS, one))).source
    assert many.count('<details class="group" open>') == 1
    assert many.count('<details class="group">') == len(registry.GROUPS) - 1
    headings = re.findall(r"<summary><h3>(.*?)</h3>", many)
    assert headings == [*registry.GROUPS]


def test_every_metric_has_a_heading():
    assert {registry.group(name) for name in registry.METRICS} == set(registry.GROUPS)
    assert registry.group("real_time_factor") == "Others"


def test_networks_are_named_by_what_they_judged(write):
    told = {"wer": "Whisper, sha256 0123456789ab", "fd_panns": "PANNs, sha256 ba9876543210"}
    source = write(results=results() | {"networks": told}).source
    assert "Whisper, sha256 0123456789ab" in source
    assert "PANNs, sha256" not in source  # It has no score.


def test_words_are_counted_and_confusions_told(write):
    words = {
        "substitutions": 3,
        "deletions": 2,
        "insertions": 1,
        "said": 1200,
        "confusions": [["red", "bed", 2], ["s", "", 1]],
    }
    page = write(results=results() | {"words": words})
    assert "Of 1,200 words" in page.text
    assert ["bed", "2"] in page.rows
    assert ["(nothing)", "1"] in page.rows
    assert 'id="words"' not in write().source


def test_sounds_of_another_system_have_a_page_too(write):
    settings = {"benchmark": "grid", "generated": "OTHER/wav", "reference": "TRUE"}
    page = write(settings=settings | {"videos": "", "clips": ""})
    assert "sounds of OTHER/wav" in page.text
    assert "VSSFlow on" not in page.source
    assert "Sounds on grid" in page.source
    assert "parameters" not in page.text


def test_only_metrics_that_were_measured_are_defined(write):
    absent = {"fd_panns": "no weights", "wer_tts": "no such clips", "utmos": "elsewhere"}
    source = write(results=results(absent=absent)).source
    shown, _, rest = source.partition('<section id="absent">')
    heard, unheard = (registry.label(name).explanation for name in ("wer", "fd_panns"))
    assert shown.count(heard.replace("'", "&#39;")) == 1
    assert unheard not in shown
    assert rest.count(unheard) == 1
    assert heard.replace("'", "&#39;") not in rest


def test_what_was_not_measured_is_folded(write):
    absent = {"fd_panns": "no weights", "utmos": "elsewhere"}
    source = write(results=results(absent=absent)).source
    before, _, folded = source.partition('<section id="absent">')[2].partition("<details>")
    assert "2 metrics: why, and how to get each" in folded.partition("</summary>")[0]
    assert folded.index("elsewhere") < folded.index("no weights") < folded.index("</details>")
    assert not re.search("elsewhere|no weights", before)


def test_printed_table_is_markdown_in_80_columns(tmp_path, capsys):
    every = {name: {v: score(0.5) for v in labels.VERSIONS} for name in registry.METRICS}
    metrics = every | METRICS | {"speaker_similarity": {"generated": score(-0.0312)}}
    evaluator.print_table(results(metrics, failed={"clip-1": "corrupt"}), tmp_path)
    _, head, rule, *rows, failed, _, where = capsys.readouterr().out.splitlines()
    assert {len(line) for line in (head, rule, *rows)} == {80}
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (head, *rows)]
    assert cells[0] == ["", "generated", "ground truth", "codec", "shuffled"]
    assert re.fullmatch(r"\| -+ (\| -+: ){4}\|", rule)
    by_name = {name: values for name, *values in cells[1:]}
    assert len(by_name) == len(metrics)
    assert by_name["`wer` \N{DOWNWARDS ARROW}"] == ["0.237", "0.087", "-", "0.874"]
    assert by_name["`onset_recall_joint` \N{UPWARDS ARROW}"] == ["0.70", "-", "-", "0.25"]
    assert by_name["`real_time_factor`"] == ["3.2", "-", "-", "-"]
    assert by_name["`speaker_similarity` \N{UPWARDS ARROW}"][0] == "\N{MINUS SIGN}0.031"
    assert failed.startswith("1 clips failed")
    assert where == f"open {tmp_path / 'report.html'}"
    evaluator.print_table(results({}), tmp_path)
    assert "no metrics were measured" in capsys.readouterr().out


def test_bars_lie_as_the_intervals_do(write):
    scores = {"wer": {"generated": score(0.2, 0.1, 0.5), "codec": score(0.3, 0.0, 0.4)}}
    source = write(results=results(scores)).source
    bars = re.findall(
        r'<i style="left:([\d.]+)%;width:([\d.]+)%"></i><b style="left:([\d.]+)%"', source
    )
    assert bars == [("20.0", "80.0", "40.0"), ("0.0", "80.0", "60.0")]


def test_published_figures_stand_beside_those_of_their_benchmark(write):
    table = PUBLISHED["vggsound"][0]
    metrics = {"desync": {"generated": score(0.5)}, "ib_score": {"generated": score(0.3)}}
    page = write(settings=SETTINGS | {"benchmark": "vggsound"}, results=results(metrics))
    assert table.source in page.text
    assert table.caveat in page.text
    rows = [row for row in page.rows if len(row) == len(table.metrics)]
    assert rows[0] == ["-"] * (len(table.metrics) - 2) + ["0.300", "0.500"]
    assert rows[-1][-2:] == ["0.332", "0.442"]
    assert table.source not in write().text


def test_published_tables_are_whole():
    for table in {
        table.source: table for tables in PUBLISHED.values() for table in tables
    }.values():
        for system, values in table.systems.items():
            assert len(values) == len(table.metrics), system
        for metric in table.metrics:
            assert registry.label(metric).better, metric


def test_what_is_absent_or_failed_is_said(write):
    failed = {f"clip-{index}": f"corrupt file {index}" for index in range(120)}
    absent = {"fd_panns": "name weights by --config.eval.backbones.panns=PATH"}
    partial = {"clip-x": {"mcd": "too short", "mp4": "no video"}}
    page = write(results=results(absent=absent, failed=failed, problems=partial))
    assert "Clips measured in part: 1" in page.text
    assert ["mcd: too short; mp4: no video"] in page.rows
    assert ["fd_panns", absent["fd_panns"]] in page.rows
    assert "Failed clips: 120" in page.text
    header = page.source.partition("</header>")[0]
    assert re.search('href="#failed">120 clips failed<', header)
    assert re.search('href="#partial">1 measured in part<', header)
    assert "none failed" not in header
    assert "12 clips measured, none failed" in write().text
    assert "corrupt file 99" in page.text
    assert "corrupt file 100" not in page.text
    assert not re.search("Failed clips|measured in part|Not measured", write().text)


def test_settings_are_all_there(write):
    page = write()
    assert "VSSFlow on demo" in page.text
    assert "euler, 25 steps, guidance 3.0" in page.text
    assert ["float32"] in page.rows
    assert [SETTINGS["checkpoint_sha256"]] in page.rows


def test_best_and_worst_clips_come_first(write, clip):
    rates = {"a": 0.5, "b": math.nan, "c": 0.0, "d": 1.0, "e": 0.25}
    clips = [changed(clip, clip_id=f"clip-{k}", scores={"wer": v}) for k, v in rates.items()]
    text = write(clips=clips).text
    order = ["Best first (Word error rate)", "clip-c", "clip-e", "Worst first (Word error rate)"]
    order += ["clip-d", "clip-a", "Without a score to order them", "clip-b"]
    assert sorted(order, key=text.index) == order


def test_ranking_takes_the_first_score_there_is_and_minds_its_direction():
    scores = [
        {"mel_distance_db_v2s": 1.0},
        {"onset_f1": 0.9, "mel_distance_db_v2s": 7.0},
        {"onset_f1": 0.1},
    ]
    assert ranking.rank("v2s", scores) == ranking.Ranking("onset_f1", [2, 1], [0])
    distances = [{"mel_distance_db_joint": value} for value in (1.0, 3.0, 2.0)]
    assert ranking.rank("joint", distances) == ranking.Ranking(
        "mel_distance_db_joint", [1, 2, 0], []
    )
    assert ranking.rank("tts", [{}, {"desync": 1.0}]) == ranking.Ranking("", [], [0, 1])


@pytest.mark.parametrize(
    ("count", "taken"),
    [(0, []), (1, [4]), (2, [4, 0]), (3, [4, 3, 0]), (5, [4, 3, 2, 1, 0]), (9, [4, 3, 2, 1, 0, 5])],
)
def test_extremes_are_taken_from_both_ends(count, taken):
    scores = [*({"wer": value / 4} for value in range(5)), {}]
    assert ranking.extremes("visualtts", scores, count) == taken


def test_numbers_are_written_for_people():
    wer = registry.label("wer_tts")
    assert (wer.title, wer.number(0.2168), wer.text(0.2168)) == (
        "Word error rate, tts clips",
        "21.7",
        "21.7\N{NO-BREAK SPACE}%",
    )
    assert wer.number(-0.0001) == "0.0"
    assert wer.interval(-0.02, 0.3, sign=True) == "[\N{MINUS SIGN}2.0, +30.0]"
    assert [wer.interval(None, 0.3), wer.interval(math.nan, 0.3), wer.text(math.inf)] == [
        "",
        "",
        "-",
    ]
    assert registry.label("new_thing").number(0.123456) == "0.1235"
    assert (wer.is_better(-0.1), wer.is_better(0.1), wer.is_better(0.0)) == (True, False, None)
    assert registry.label("new_thing").is_better(1.0) is None


def test_metrics_come_in_one_order():
    names = ["zebra", "mel_distance_db_joint", "mel_distance_db_tts", "wer_joint", "apple", "wer"]
    assert registry.in_order(names) == [
        *("wer", "wer_joint", "mel_distance_db_tts", "mel_distance_db_joint", "zebra", "apple")
    ]


def test_score_that_is_not_a_number_shows_as_absent(write, clip):
    page = write(clips=[clip], results=results({}))
    scores = page.text.partition(clip[0].clip_id)[2]
    assert scores.count("Word error rate") == 1  # what it is ordered by, above its sounds
    assert re.search(r"Word error rate\s*33\.3\s%", scores)
    assert re.search(r"Mel distance\s*-", scores)
    assert not re.search(r"\bnan\b", page.text, re.IGNORECASE)


def test_differing_words_are_marked(write, clip):
    assert write(clips=[clip]).marks == ["at", "now", "by"]
    assert write(clips=[changed(clip, recognised="BIN  blue at f two now")]).marks == []
    nothing_heard = write(clips=[changed(clip, recognised="")])
    assert nothing_heard.marks == clip[0].transcript.split()
    no_speech = write(clips=[changed(clip, transcript="", recognised="")])
    assert "recognised" not in no_speech.text.partition(clip[0].clip_id)[2]


def test_markup_in_text_is_escaped(write, clip):
    odd = "<script>alert(1)</script> \"q\" 'x' & {{ 7 * 7 }} ünï 漢字"
    plain = write(clips=[clip])
    page = write(
        settings={**SETTINGS, "benchmark": odd, odd: odd},
        clips=[changed(clip, clip_id=odd, transcript=odd, recognised=odd)],
        results=results({odd: {odd: score(1.0)}}, absent={odd: odd}, failed={odd: odd}),
    )
    assert len(page.attributes("video", "src")) == 2
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert [tag for tag, _ in plain.tags].count("script") == 1
    assert page.text.count(odd) >= 10


def test_losses_of_test_clips_are_shown_as_they_are(write):
    held_out = [{"step": step, "held_out": 2.0 - step % 2} for step in range(1, 9)]
    page = write(history=[*HISTORY, *held_out])
    assert "test clips" in page.text
    drawn = page.attributes("polyline", "points")
    # Raw and smoothed are the same: up and down, from one end of the plot to the other.
    assert max(drawn.count(points) for points in drawn) == 2
    assert "test clips" not in write(history=HISTORY).text


def test_without_history_or_metrics_it_says_so(write):
    page = write(history=[], results=results({}))
    assert "Training" not in page.text
    assert "No metrics" in page.text
    assert not page.attributes("polyline", "points")


@pytest.mark.parametrize("values", [[1.9], [math.nan, 2.0], [1.0, 1.0, 1.0], [3.0, math.inf]])
def test_short_flat_and_broken_histories_are_drawn(write, values):
    history = [{"step": step, "loss": value} for step, value in enumerate(values, start=1)]
    (raw, smoothed) = write(history=[*history, {"step": 9}]).attributes("polyline", "points")
    for points in (raw, smoothed):
        numbers = [float(number) for number in re.split("[ ,]", points)]
        assert np.isfinite(numbers).all()
        assert all(0 <= number <= 100 for number in numbers)


def test_curves_fall_with_the_loss(write):
    curves = write().attributes("polyline", "points")
    assert len(curves) == 4  # raw and smoothed loss, two bins of flow time
    for points in curves[1:]:
        x, y = np.array([pair.split(",") for pair in points.split()], float).T
        assert (np.diff(x) >= 0).all()
        assert (np.diff(y) >= 0).all()  # SVG counts downwards


def test_bins_of_flow_time_are_named(write):
    text = write().text
    assert "0\N{EN DASH}0.2" in text
    assert "0.8\N{EN DASH}1" in text


def test_last_value_of_a_step_counts():
    rows = [{"step": 1, "loss": 5.0}, {"step": 2, "loss": 4.0}, {"step": 1, "loss": 3.0}]
    steps, values, _ = curves._series([*rows, {"step": 2, "wer": 0.1}], "loss").T
    assert steps.tolist() == [1, 2]
    assert values.tolist() == [3, 4]


def test_smoothing_keeps_a_line_and_calms_noise():
    rng = np.random.default_rng(0)
    line = np.linspace(2, 1, 500)
    np.testing.assert_allclose(curves._smooth(line)[50:-50], line[50:-50], atol=1e-9)
    noise = rng.normal(size=500)
    assert curves._smooth(noise).std() < 0.3 * noise.std()
    assert curves._smooth(np.array([4.0])).tolist() == [4.0]


def test_spectrograms_share_one_scale():
    quiet = np.full((NUM_FRAMES, NUM_BANDS), -20.0)
    loud = quiet.copy()
    loud[3, 5] = 0.0
    half = quiet.copy()
    half[3, 5] = -DYNAMIC_RANGE_DB / 2 * math.log(10) / 20
    panels = ClipView.of([Sound("generated", "", half), Sound("reference", "", loud)]).panels
    generated, reference = (
        np.asarray(Image.open(io.BytesIO(decode(panel.spectrogram, "image/png")))).astype(int)
        for panel in panels
    )
    row = NUM_BANDS - 1 - 5  # low bands are at the bottom
    assert generated.shape == reference.shape == (NUM_BANDS, NUM_FRAMES)
    assert reference[row, 3] == 255
    assert abs(generated[row, 3] - 127) <= 1
    assert np.count_nonzero(generated) == np.count_nonzero(reference) == 1


def test_events_stand_at_their_time(write, clip, view):
    twice = dataclasses.replace(view, event_percents=[0.0, 50.0])
    events = '<div class="events"><i style="left:0.00%"></i><i style="left:50.00%"></i></div>'
    assert events in write(clips=[(clip[0], twice)]).source
    silence = Sound("silence", "", np.zeros((NUM_FRAMES, NUM_BANDS)))
    assert ClipView.of([silence], [0.0, 0.15]).event_percents == [0, 50]


def test_same_input_gives_the_same_bytes(write, clip):
    assert write(clips=[clip]).source == write(clips=[clip]).source


def test_missing_video_is_named(tmp_path):
    with pytest.raises(UserError, match=r"test-speech-003.*gone\.mp4"):
        clip_view.video(tmp_path / "gone.mp4", "test-speech-003")


def test_damaged_sound_is_named(tmp_path):
    wav = tmp_path / "clip.wav"
    wav.write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"test-speech-003.*clip\.wav"):
        clip_view.read_wav(wav, "test-speech-003")
    soundfile.write(wav, np.zeros(800), 8000)
    with pytest.raises(UserError, match=r"8000 Hz instead of 16000"):
        clip_view.read_wav(wav, "test-speech-003")


def test_full_disk_leaves_the_old_page(write, monkeypatch, tmp_path):
    before = write().source

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write(settings=SETTINGS | {"benchmark": "new"})
    assert [file.name for file in (tmp_path / "eval").iterdir()] == ["report.html"]
    assert (tmp_path / "eval" / "report.html").read_text(encoding="utf-8") == before
