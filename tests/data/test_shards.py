"""Shards: a build that is stopped anywhere goes on to the same bytes; bad rows are counted."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data import shard_writer, shards
from data.shard_writer import Contents, Job, Report, Row
from tests import tiny
from tests.data import reference_files
from vssflow_jax.clip import ClipSpec
from vssflow_jax.input_pipeline.dataset import Dataset, version_dir
from vssflow_jax.utils.errors import Rejected, UserError
from vssflow_jax.utils.processes import as_done

SPEC = ClipSpec(duration_sec=1.0)
WIDTHS = {"visual": 2, "sync": 2, "lips": 2, "speaker": 2}
START_SEC = 120.0  # in which the command must have written a shard


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A source of clips whose sound is their number; of those in `bad` there are none."""

    bad: tuple[int, ...] = ()

    def record(self, row: Row) -> dict[str, Any]:
        if row["number"] in self.bad:
            raise Rejected(f"bad number: {row['number']}\tand\nmore")
        texts = dict.fromkeys(("transcript", "voice", "video"), "")
        return {
            **texts,
            "clip_id": row["clip_id"],
            "task": row["task"],
            "duration_sec": 1.0,
            "audio": np.full(SPEC.num_samples, row["number"]),
        }


def contents(bad: tuple[int, ...] = (), count: int = 10) -> Contents:
    tasks = ("v2s", "visualtts")
    rows = [
        {"clip_id": f"clip-{n}", "split": "train", "task": tasks[n % 2], "number": n}
        for n in range(count)
    ]
    return Contents(rows, Numbers(bad), SPEC, WIDTHS, {"source": "numbers"})


def one_by_one(jobs: list[Job]) -> Iterator[Report]:
    return map(shard_writer.write_shard, jobs)


def make(root: Path, of: Contents, **settings: Any) -> str:
    """Make the dataset; the line that says what became of the rows."""
    made = shards.build(root, of, one_by_one, **{"clips_per_shard": 2, **settings})
    return made.partition("\n")[0]


def all_bytes(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def numbers(root: Path, task: str) -> list[int]:
    clips = Dataset(root, SPEC).clips("train", task)
    return [round(clips[index].features.waveform[0] * 2**15) for index in range(len(clips))]


def test_a_second_build_gives_the_same_bytes(tmp_path: Path):
    for name in ("one", "other"):
        made = make(tmp_path / name, contents())
        assert made.splitlines()[0] == "10 clips = 10 written + 0 rejected"
    first = all_bytes(tmp_path / "one")
    assert all_bytes(tmp_path / "other") == first
    assert sorted(numbers(tmp_path / "one", "v2s")) == [0, 2, 4, 6, 8]
    assert len([name for name in first if "array_record" in name]) == 6


def test_a_build_that_is_stopped_anywhere_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever lasts appears by a rename: stop before each of them, and after the last."""
    of = contents(bad=(0, 3))
    make(tmp_path / "whole", of, max_rejected=0.5)
    expected = all_bytes(tmp_path / "whole")
    rename, renames = Path.replace, 0
    left = None

    def stopping(path: Path, target: Path) -> Path:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", stopping)
    while True:
        root, left = tmp_path / str(renames), renames
        try:
            make(root, of, max_rejected=0.5)
            break
        except KeyboardInterrupt:
            assert not (root / "vssflow/2.0.0" / shard_writer.COMPLETE).exists()
        left = -1  # Never again.
        make(root, of, max_rejected=0.5)
        assert all_bytes(root) == expected, renames
        renames += 1
    assert renames > 12  # of six shards, their reports, and the metadata


def test_two_builds_at_once_are_refused(tmp_path: Path):
    def meanwhile(jobs: list[Job]) -> Iterator[Report]:
        with pytest.raises(UserError, match="another process builds it; wait"):
            make(tmp_path, contents())
        return one_by_one(jobs)

    shards.build(tmp_path, contents(), meanwhile)
    assert numbers(tmp_path, "v2s")


def test_another_source_does_not_go_on_with_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stopped(jobs: list[Job]) -> Iterator[Report]:
        yield shard_writer.write_shard(jobs[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.build(tmp_path, contents(), stopped)
    with pytest.raises(UserError, match="unfinished build of other rows or settings"):
        make(tmp_path, contents(bad=(99,)))


def test_no_rows_leave_nothing_behind(tmp_path: Path):
    with pytest.raises(UserError, match="no rows"):
        make(tmp_path / "out", contents(count=0))
    assert not (tmp_path / "out").exists()


class Infinite(Numbers):
    """The same, but some speakers are no numbers."""

    def record(self, row: Row) -> dict[str, Any]:
        values = super().record(row)
        return values | {"speaker": np.full(4, np.nan)} if row["number"] == 5 else values


def test_what_is_not_finite_is_no_record(tmp_path: Path):
    of = dataclasses.replace(contents(), source=Infinite())
    made = make(tmp_path, of, max_rejected=0.1)
    assert made == "10 clips = 9 written + 1 rejected (1 not finite)"


class Deadly(Numbers):
    """A source whose worker is killed."""

    def record(self, row: Row) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still here")


def test_a_killed_worker_is_one_line(tmp_path: Path):
    of = dataclasses.replace(contents(), source=Deadly())
    with pytest.raises(UserError, match=r"a worker was killed, .* the same command goes on"):
        shards.build(tmp_path, of, lambda jobs: as_done(shard_writer.write_shard, jobs, 2))


@pytest.mark.parametrize(("clips", "expected"), [(10, 1), (1000, 4), (300_000, 129)])
def test_shards_are_neither_too_many_nor_too_few(tmp_path: Path, clips: int, expected: int):
    jobs = shards.plan(tmp_path, contents(count=clips), 0, "none")
    assert [len(split) for split in jobs.values()] == [expected, expected]


def test_a_stopped_tidying_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make(tmp_path / "whole", contents())
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "stopped", contents())
    assert "is there already, whole" in make(tmp_path / "stopped", contents())
    assert all_bytes(tmp_path / "stopped") == all_bytes(tmp_path / "whole")


def test_what_is_there_is_not_made_again(tmp_path: Path):
    make(tmp_path, contents())
    before = all_bytes(tmp_path)
    assert "is there already, whole; delete it to make it again" in make(tmp_path, contents())
    other = dataclasses.replace(contents(), origin={"source": "letters"})
    with pytest.raises(UserError, match="holds a dataset of other rows or settings"):
        make(tmp_path, other)
    assert all_bytes(tmp_path) == before


def test_an_unfinished_build_of_something_else(tmp_path: Path):
    with pytest.raises(UserError, match="1 of 10 rows are bad so far"):
        make(tmp_path, contents(bad=(1, 2, 3)))
    with pytest.raises(UserError, match="holds an unfinished build of other rows"):
        make(tmp_path, contents(count=8))
    with pytest.raises(UserError, match="holds an unfinished build of other rows"):
        make(tmp_path, contents(bad=(1, 2, 3)), compression="zstd")


def test_an_unfinished_build_says_all_it_knows(tmp_path: Path):
    """Too many bad rows stop it; the same shards serve when more are allowed."""
    with pytest.raises(
        UserError, match=r"1 of 10 rows are bad so far, more than --max_rejected=0\.0 of"
    ):
        make(tmp_path, contents(bad=(1, 2, 3)), clips_per_shard=1)
    directory = tmp_path / "vssflow/2.0.0"
    assert (directory / shard_writer.REJECTED).read_text() == "clip-2\tbad number: 2 and more\n"
    made_before = {path: path.stat().st_mtime_ns for path in directory.glob("*array_record*")}
    assert 0 < len(made_before) < 10  # It stopped at once.
    made = make(tmp_path, contents(bad=(1, 2, 3)), clips_per_shard=1, max_rejected=0.3)
    assert made.splitlines()[0] == "10 clips = 7 written + 3 rejected (3 bad number)"
    for path, time_ns in made_before.items():
        assert path.stat().st_mtime_ns == time_ns


def test_rows_that_were_bad_before_count_too(tmp_path: Path):
    of = dataclasses.replace(contents(bad=(1,)), rejected=[("line 3", "no row: x")])
    with pytest.raises(UserError, match="2 of 11 rows are bad so far"):
        make(tmp_path, of, max_rejected=0.1)
    made = make(tmp_path, of, max_rejected=0.2)
    assert made.splitlines()[0] == "11 clips = 9 written + 2 rejected (1 bad number, 1 no row)"


def test_nothing_but_bad_rows(tmp_path: Path):
    with pytest.raises(UserError, match="10 of 10 rows are bad"):
        make(tmp_path, contents(bad=tuple(range(10))), max_rejected=1.0)


def test_shards_without_a_record(tmp_path: Path):
    """One in a split with others, and a whole split."""
    make(tmp_path, contents(bad=(0, 2, 1, 3, 5, 7, 9)), max_rejected=1.0)
    assert numbers(tmp_path, "v2s") == [4, 6, 8]
    assert Dataset(tmp_path, SPEC).counts == {"train_v2s": 3}
    assert not list(version_dir(tmp_path).glob("*visualtts*"))


def test_compression_changes_bytes_alone(tmp_path: Path):
    for compression in shard_writer.COMPRESSIONS:
        make(tmp_path / compression, contents(), compression=compression)
    assert numbers(tmp_path / "zstd", "v2s") == numbers(tmp_path / "none", "v2s")
    sizes = {
        compression: sum(len(content) for content in all_bytes(tmp_path / compression).values())
        for compression in shard_writer.COMPRESSIONS
    }
    assert sizes["zstd"] <= sizes["none"]


def test_the_order_of_rows_depends_on_their_names():
    rows = contents().rows
    mixed = shards.scattered(rows)
    assert mixed == shards.scattered(reversed(rows))
    assert mixed != list(rows)


def test_kill_9(tmp_path: Path):
    """The command, killed amid its shards and given again, beside a build left in peace."""
    reference = reference_files.make(tmp_path / "reference")
    command = [
        *(sys.executable, "-m", "data.build", "--source=manifest", "--workers=2"),
        *(f"--manifest={part}" for part in reference.parts),
        *(f"--features-root={reference.root}", f"--out={tmp_path / 'killed'}"),
        *("--clips_per_shard=1", "--max_rejected=0.5"),
    ]
    directory = tmp_path / "killed/vssflow/2.0.0"
    with subprocess.Popen(command, cwd=tiny.ROOT, stderr=subprocess.DEVNULL) as build:
        limit = time.monotonic() + START_SEC
        while not list(directory.glob(f"{shard_writer.UNFINISHED}/*array_record*.json")):
            assert build.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.002)
        build.kill()
    assert not (directory / shard_writer.COMPLETE).exists()
    done = tiny.run(command)
    assert done.returncode == 0, done.stderr
    written, rejected = len(reference.splits), len(reference.reasons)
    counts = f"{written + rejected} clips = {written} written + {rejected} rejected (5 bad phonemes"
    assert counts in done.stdout
    origin = json.loads((directory / "metadata.json").read_text())["origin"]
    of = dataclasses.replace(reference.contents(), origin=origin)
    make(tmp_path / "whole", of, clips_per_shard=1, max_rejected=0.5)
    assert all_bytes(tmp_path / "killed") == all_bytes(tmp_path / "whole")


def test_the_command_says_that_too_many_rows_are_bad(tmp_path: Path):
    line = "a/b.wav|c.npy|d.npy|e.npy|f.npy|3|AY0"
    (tmp_path / "rows.csv").write_text(f"{line}\n{line}\n")
    command = [sys.executable, "-m", "data.build", "--source=manifest", "--workers=1"]
    failed = tiny.run([*command, f"--manifest={tmp_path}/rows.csv", f"--out={tmp_path}"])
    assert failed.returncode == 2
    (says,) = failed.stderr.splitlines()
    assert says.startswith("error: 1 of 2 rows are bad so far, more than --max_rejected=0.01 of")
