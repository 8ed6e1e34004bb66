"""A look at a dataset: the numbers are right, and all damage is named by shard and record."""

import base64
import collections
import dataclasses
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from array_record.python.array_record_module import ArrayRecordWriter

from data import inspect, shard_writer, shards
from data.inspection.statistics import Moments
from data.inspection.stored import Damage, Stored
from data.inspection.verify import verify
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.phonemes import IDS, SYMBOLS
from vssflow_jax.input_pipeline import dataset, records
from vssflow_jax.utils.errors import Rejected, UserError

SPEC = ClipSpec(duration_sec=2.0)
WIDTHS = {"visual": 6, "sync": 5, "lips": 4, "speaker": 3}
CLIPS_PER_SHARD = 4
ROWS = [
    {"clip_id": f"{split}-{task}-{index}", "split": split, "task": task}
    for split, task, count in (("train", "visualtts", 10), ("train", "v2s", 6), ("test", "v2s", 2))
    for index in range(count)
]
BAD_ROW = {"clip_id": "bad", "split": "train", "task": "v2s"}


@dataclasses.dataclass(frozen=True)
class Noise:
    """Records of noise, the same each time for a clip id; one row is bad."""

    def record(self, row: shard_writer.Row) -> dict[str, Any]:
        if row["clip_id"] == "bad":
            raise Rejected("too short: <bad> & 0.01 s")
        rng = np.random.default_rng([*row["clip_id"].encode()])
        speaks = row["task"] == "visualtts"
        duration_sec = rng.choice([1.0, 1.5, 2.0]) if speaks else 2.0
        samples = round(duration_sec * SPEC.sampling_rate)
        frames = SPEC.phoneme_frames(duration_sec)
        ids = rng.integers(1, 12, 7) if speaks else np.zeros(0, int)
        return {
            "clip_id": row["clip_id"],
            "task": row["task"],
            "transcript": "four by" if speaks else "",
            "voice": "",
            "video": "",
            "duration_sec": duration_sec,
            "audio": rng.integers(-20_000, 20_000, samples),
            "phonemes": ids,
            "phoneme_frames": np.diff(np.linspace(0, frames, len(ids) + 1).astype(int)),
            "event_times_sec": () if speaks else [0.5, 1.5],
            "visual": rng.normal(3, 2, (SPEC.visual_frames, WIDTHS["visual"])),
            "sync": np.maximum(rng.normal(size=(SPEC.sync_frames, WIDTHS["sync"])), 0),
            "lips": rng.normal(size=(frames, WIDTHS["lips"])) if speaks else (),
            "speaker": rng.normal(size=WIDTHS["speaker"]) if speaks else (),
        }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a dataset of 18 clips in 6 shards, and one rejected row; leave it as it is."""
    root = tmp_path_factory.mktemp("whole")
    contents = shard_writer.Contents([*ROWS, BAD_ROW], Noise(), SPEC, WIDTHS, {"source": "noise"})
    shards.build(
        root,
        contents,
        lambda jobs: map(shard_writer.write_shard, jobs),
        max_rejected=0.1,
        clips_per_shard=CLIPS_PER_SHARD,
    )
    return root


@pytest.fixture
def data(whole: Path, tmp_path: Path) -> Path:
    """A copy of the dataset to damage."""
    return Path(shutil.copytree(whole, tmp_path / "data"))


def shard(data: Path, split: str, number: int = 0) -> Path:
    folder = data / dataset.NAME / dataset.SCHEMA_VERSION
    return sorted(folder.glob(f"*-{split}.*"))[number]


def clip_ids(path: Path) -> list[str]:
    """Of the records of a shard."""
    stored = Stored.open(path.parents[2])
    found = [item for item in stored.read() if not isinstance(item, Damage)]
    return [item.values["clip_id"] for item in found if item.shard.path == path]


def values_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """As they come back from a record."""
    values = {**Noise().record(row), "schema_version": records.SCHEMA_VERSION}
    return records.decode(records.encode(values, WIDTHS), WIDTHS)


def flip(path: Path, *indices: int) -> None:
    """Change a byte within the sound of each of these records."""
    ids = clip_ids(path)
    rows = {row["clip_id"]: row for row in ROWS}
    content = bytearray(path.read_bytes())
    for index in indices:
        place = content.index(values_of(rows[ids[index]])["audio"].tobytes()[:64])
        content[place + 10] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def rewrite(path: Path, index: int, change: Mapping[str, Any]) -> None:
    """Write a shard anew with other values in one record."""
    rows = {row["clip_id"]: row for row in ROWS}
    ids = clip_ids(path)
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for place, clip_id in enumerate(ids):
        values = {**Noise().record(rows[clip_id]), "schema_version": records.SCHEMA_VERSION}
        changed = {**values, **change} if place == index else values
        writer.write(records.encode(changed, WIDTHS))
    writer.close()


def damage(data: Path) -> dict[tuple[str, int | None], str]:
    """What `verify` says, by shard and record."""
    return {(item.shard, item.index): item.reason for item in verify(Stored.open(data))}


def numbers(data: Path, **options: Any) -> dict[str, Any]:
    inspect.inspect(data, data / "inspect.html", **options)
    return json.loads((data / "inspect.json").read_text())


# ------------------------------------------------------------------------------------------ damage


def test_a_whole_dataset_is_whole(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect.check(data)
    assert capsys.readouterr().out.strip() == f"{data}: 18 records in 6 shards, whole"


def test_a_flipped_byte_is_named_by_its_record(data: Path) -> None:
    path = shard(data, "train_visualtts", 1)
    flip(path, 2)
    assert damage(data) == {
        (path.name, 2): "Corrupted Riegeli/records file: chunk data hash mismatch"
    }


def test_bytes_between_records_are_looked_at_too(data: Path) -> None:
    path = shard(data, "train_v2s", 0)
    content = bytearray(path.read_bytes())
    content[-30] ^= 1  # where nobody reads
    path.write_bytes(content)
    ((place, reason),) = damage(data).items()
    assert place == (path.name, None)
    assert reason.startswith("not the bytes that were made")


def test_all_damage_is_named_at_once(data: Path) -> None:
    gone, cut = shard(data, "train_v2s", 0), shard(data, "train_visualtts", 0)
    flipped = shard(data, "train_visualtts", 2)
    flip(flipped, 0, 2)
    gone.unlink()
    truncate(cut)
    found = damage(data)
    assert found.keys() == {
        (gone.name, None),
        (cut.name, None),
        (flipped.name, 0),
        (flipped.name, 2),
    }
    assert found[gone.name, None].startswith("missing, with 4 records")
    assert re.match(r"4 records lost, .*Riegeli", found[cut.name, None])


def test_a_shard_of_other_records_is_named(data: Path) -> None:
    long, short = shard(data, "train_visualtts", 0), shard(data, "train_visualtts", 2)
    assert (len(clip_ids(long)), len(clip_ids(short))) == (4, 3)
    long.write_bytes(short.read_bytes())
    assert damage(data) == {(long.name, None): "3 of 4 records"}


def test_what_is_no_shard_or_no_record_is_named(data: Path) -> None:
    garbage, foreign = shard(data, "train_v2s", 0), shard(data, "train_v2s", 1)
    garbage.write_bytes(b"no shard")
    assert len(clip_ids(foreign)) == 2
    writer = ArrayRecordWriter(str(foreign), "group_size:1")
    for _ in range(2):
        writer.write(b"no record")
    writer.close()
    found = damage(data)
    assert found.keys() == {(garbage.name, None), (foreign.name, 0), (foreign.name, 1)}
    assert found[foreign.name, 1].startswith("not of schema 2.0.0, ")


NAN = np.full((50, 4), np.nan)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema_version": "1.1.0"}, "schema 1.1.0 among 2.0.0"),
        ({"task": "v2s"}, "task v2s among visualtts"),
        ({"lips": NAN}, "lips holds NaN or infinity"),
        ({"speaker": [0, np.inf, 0]}, "speaker holds NaN or infinity"),
        ({"speaker": [1, 2]}, "speaker is 2 wide, not 3"),
        ({"phonemes": [1] * 6 + [71]}, "phoneme ids from 1 to 71, not from 1 to 70"),
        ({"phonemes": [0] * 7}, "phoneme ids from 0 to 0, not from 1 to 70"),
        ({"audio": np.zeros(20_000)}, r"1.25 s of audio, but it lasts 2.00 s"),
        ({"duration_sec": 3.0}, "lasts 3 s, the window 2 s"),
        ({"duration_sec": np.nan}, "lasts nan s, the window 2 s"),
        ({"visual": np.zeros((10, 6))}, "visual covers 1.00 s, but it lasts 2.00 s"),
        ({"lips": np.zeros((90, 4))}, "lips covers 3.60 s, but it lasts 2.00 s"),
        ({"phoneme_frames": [1, 2]}, "2 phonemes last 3 frames, but there are 7 and 50 frames"),
        ({"posterior": np.zeros((49, 256))}, "49 latent frames, not 50"),
        ({"lips": np.zeros(7)}, "not of schema 2.0.0, "),
    ],
)
def test_values_that_cannot_be_are_named(data: Path, change: dict[str, Any], says: str) -> None:
    path = shard(data, "train_visualtts", 1)
    ids = clip_ids(path)
    lasting = [
        values_of(row)["duration_sec"] for clip in ids for row in ROWS if row["clip_id"] == clip
    ]
    index = lasting.index(2.0)
    rewrite(path, index, change)
    ((place, reason),) = damage(data).items()
    assert place == (path.name, index)
    assert says in reason


def test_damaged_metadata_is_one_clear_line(data: Path) -> None:
    folder = data / dataset.NAME / dataset.SCHEMA_VERSION
    for name in ("metadata.json", "dataset_info.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match=r"its metadata is damaged .* restore it or rebuild"):
            inspect.check(data)
        (folder / name).write_bytes(whole)
    aged = (folder / "metadata.json").read_text().replace("2.0.0", "2.0.1")
    (folder / "metadata.json").write_text(aged)
    with pytest.raises(UserError, match=r"schema version 2.0.1, this code reads 2.0.0; rebuild"):
        inspect.check(data)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True)


def test_the_command_ends_with_a_line_and_a_code(data: Path) -> None:
    path = shard(data, "train_visualtts", 1)
    flip(path, 2)
    done = run("-m", "data.inspect", str(data), "--verify")
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        f"{path.name}, record 2: Corrupted Riegeli/records file: chunk data hash mismatch"
    ]
    assert re.match(
        r"error: dataset .*: damaged places: 1, among 18 records in 6 shards; restore",
        done.stderr.splitlines()[-1],
    )
    assert not (data / "inspect.html").exists()


def test_the_command_says_where_the_page_is(data: Path) -> None:
    out = data / "out" / "page.html"
    done = run("-m", "data.inspect", str(data), f"--out={out}", "--sample=3")
    assert done.returncode == 0
    assert "18 records of schema 2.0.0 in 6 shards" in done.stdout
    assert done.stdout.splitlines()[-1] == f"open {out}"
    assert {path.name for path in out.parent.iterdir()} == {"page.html", "page.json"}


def test_a_folder_that_is_not_named_is_asked_for() -> None:
    done = run("-c", "from vssflow_jax import cli; cli.run(print, 'DIR')")
    assert done.returncode == 2
    assert done.stderr.strip() == "error: DIR is missing; name it after the command"


# ----------------------------------------------------------------------------------------- numbers


def test_statistics_are_those_of_all_values(data: Path) -> None:
    found = numbers(data)
    assert found["looked_at"] == 18
    for name in ("visual", "sync", "lips", "speaker"):
        arrays = [values_of(row)[name] for row in ROWS]
        values = np.concatenate([array.ravel() for array in arrays]).astype(np.float64)
        field = found["fields"][name]
        assert field["width"] == WIDTHS[name]
        assert field["clips"] == sum(array.size > 0 for array in arrays)
        assert field["mean"] == pytest.approx(values.mean())
        assert field["deviation"] == pytest.approx(values.std())
        assert (field["min"], field["max"]) == (values.min(), values.max())
        assert field["zeros"] == np.mean(values == 0)
    assert found["fields"]["sync"]["zeros"] > 0.4
    assert found["fields"]["visual"]["frames"] == SPEC.visual_frames
    assert found["fields"]["posterior"]["mean"] is None


def test_counts_durations_and_what_is_absent(data: Path) -> None:
    found = numbers(data)
    assert found["counts"] == {"v2s": {"test": 2, "train": 6}, "visualtts": {"train": 10}}
    lasting = [values_of(row)["duration_sec"] for row in ROWS if row["task"] == "visualtts"]
    duration = found["tasks"]["visualtts"]["duration_sec"]
    assert duration["mean"] == pytest.approx(np.mean(lasting))
    assert (duration["min"], duration["max"]) == (min(lasting), max(lasting))
    by_bin = collections.Counter({12: lasting.count(1.0), 18: lasting.count(1.5)})
    by_bin[23] = lasting.count(2.0)
    assert duration["histogram"] == [by_bin[place] for place in range(24)]
    absent = {task: of_task["absent"] for task, of_task in found["tasks"].items()}
    assert {name for name, count in absent["v2s"].items() if count == 8} == {
        "posterior",
        "phonemes",
        "phoneme_frames",
        "lips",
        "speaker",
    }
    assert {name for name, count in absent["visualtts"].items() if count} == {
        "posterior",
        "event_times_sec",
    }


def test_phonemes_are_counted_by_symbol(data: Path) -> None:
    expected = collections.Counter(i for row in ROWS for i in values_of(row)["phonemes"].tolist())
    found = numbers(data)["phonemes"]
    assert [*found] == [*SYMBOLS]
    assert {IDS[symbol]: count for symbol, count in found.items() if count} == expected


def test_files_are_named_with_sizes_and_checksums(data: Path) -> None:
    shard(data, "test_v2s").unlink()
    found = {item["name"]: item for item in numbers(data)["shards"]}
    assert len(found) == 6
    for path in (data / dataset.NAME / dataset.SCHEMA_VERSION).glob("*.array_record-*"):
        content = path.read_bytes()
        item = found.pop(path.name)
        assert item["bytes"] == len(content)
        assert item["sha256"] == hashlib.sha256(content).hexdigest()
    ((_, missing),) = found.items()
    assert (missing["records"], missing["bytes"], missing["sha256"]) == (2, 0, "")


def test_a_sample_is_spread_over_all_shards(data: Path) -> None:
    found = numbers(data, sample=9, checksums=False)
    assert found["looked_at"] == 9
    assert {name: task["clips"] for name, task in found["tasks"].items()} == {
        "v2s": 4,
        "visualtts": 5,
    }
    assert found["counts"]["visualtts"] == {"train": 10}
    assert {item["sha256"] for item in found["shards"]} == {""}
    assert numbers(data, sample=1000)["looked_at"] == 18


def test_damage_is_left_out_and_counted(data: Path) -> None:
    flip(shard(data, "train_visualtts", 0), 1)
    shard(data, "train_v2s", 0).unlink()
    found = numbers(data)
    assert (found["records"], found["looked_at"], found["damaged"]) == (18, 13, 2)
    assert "damaged places left out: 2" in inspect.summary(found)
    assert "--verify names them" in (data / "inspect.html").read_text()


def test_moments_do_not_lose_digits_and_count_what_is_not_finite() -> None:
    rng = np.random.default_rng(0)
    arrays = [1e6 + rng.normal(size=(n, 3)) for n in (5, 1, 30)]
    moments = Moments()
    for array in [*arrays, np.zeros((0, 3))]:
        moments.add(array)
    summary = moments.summary()
    assert (summary["clips"], summary["frames"], summary["width"]) == (3, 12, 3)
    assert summary["deviation"] == pytest.approx(np.concatenate(arrays).std(), rel=1e-6)
    before = summary | {"clips": 4, "not_finite": 3, "frames": 37 / 4}
    moments.add(np.array([[np.nan, np.inf, -np.inf]]))
    assert moments.summary() == before


# -------------------------------------------------------------------------------------------- page


@pytest.fixture
def page(data: Path) -> str:
    inspect.inspect(data, data / "inspect.html")
    return (data / "inspect.html").read_text(encoding="utf-8")


def test_nothing_lies_outside_the_file(page: str) -> None:
    assert not re.search(r"https?://|//\w+\.\w+/|url\(|@import", page)
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(link.startswith(("data:", "#")) for link in links)


def test_clips_are_heard_as_they_are(page: str) -> None:
    heard = re.findall(
        r'<audio [^>]*aria-label="([^"]*)" src="data:audio/flac;base64,([^"]*)"', page
    )
    rows = {row["clip_id"]: row for row in ROWS}
    tasks = collections.Counter(rows[clip_id]["task"] for clip_id, _ in heard)
    assert tasks == dict.fromkeys(("v2s", "visualtts"), inspect.CLIPS_PER_TASK)
    for clip_id, sound in heard:
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound)), dtype="int16")
        assert rate == SPEC.sampling_rate
        np.testing.assert_array_equal(samples, values_of(rows[clip_id])["audio"])


def test_rejected_rows_are_listed_by_kind(page: str) -> None:
    assert "1 too short" in page
    assert "too short: &lt;bad&gt; &amp; 0.01 s" in page
    assert "<bad>" not in page


def table(page: str, section: str) -> list[list[str]]:
    """Texts of the cells of the table in a section, row by row."""
    body = page.partition(f'<section id="{section}">')[2].partition("</section>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]
    return [[re.sub(r"<[^>]*>", "", cell) for cell in row] for row in cells]


def test_tables_hold_the_numbers(page: str, data: Path) -> None:
    found = json.loads((data / "inspect.json").read_text())
    _, v2s, visualtts = table(page, "clips")
    assert v2s == ["v2s", "2", "6", "0.00444", "2", "2, 2"]
    assert visualtts[:3] == ["visualtts", "0", "10"]
    rows = {row[0]: row[1:] for row in table(page, "absent")[1:]}
    assert (rows["lips"], rows["event_times_sec"], rows["audio"]) == (
        ["8", "-"],
        ["-", "10"],
        ["-", "-"],
    )
    lips = next(row for row in table(page, "features") if row[0] == "lips")
    assert lips[4] == f"{found['fields']['lips']['mean']:.3g}"
    assert found["shards"][0]["sha256"] in page


@pytest.mark.parametrize("change", [{"audio": ()}, {"audio": np.zeros(100)}, {"phonemes": [99]}])
def test_odd_clips_do_not_keep_the_page_away(data: Path, change: dict[str, Any]) -> None:
    rewrite(shard(data, "train_visualtts", 0), 0, change)
    assert numbers(data)["looked_at"] == 18


def test_nothing_left_is_shown_too(data: Path) -> None:
    for path in (data / dataset.NAME / dataset.SCHEMA_VERSION).glob("*.array_record-*"):
        path.unlink()
    found = numbers(data)
    assert (found["looked_at"], found["damaged"]) == (0, 6)
    assert "missing" in (data / "inspect.html").read_text()


def test_same_data_gives_the_same_page(page: str, data: Path) -> None:
    inspect.inspect(data, data / "again.html")
    assert (data / "again.html").read_text(encoding="utf-8") == page
