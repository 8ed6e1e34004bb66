"""What a workdir remembers: the rows of its metrics."""

from pathlib import Path

import pytest

from vssflow_jax.run.workdir import MetricsLog, read_metrics
from vssflow_jax.utils.files import write_atomically


def rows(*steps: int) -> list[dict[str, float]]:
    return [{"step": step, "loss": 1 / step} for step in steps]


def write(workdir: Path, *steps: int) -> None:
    with MetricsLog(workdir) as log:
        for row in rows(*steps):
            log.write(row)


def test_rows_come_back_as_they_were(tmp_path: Path):
    write(tmp_path, 1, 3, 7)
    write(tmp_path, 9)
    assert read_metrics(tmp_path) == rows(1, 3, 7, 9)


def test_no_rows_yet(tmp_path: Path):
    assert read_metrics(tmp_path) == []


def test_a_row_is_on_the_disk_as_soon_as_it_is_written(tmp_path: Path):
    with MetricsLog(tmp_path) as log:
        log.write(rows(4)[0])
        assert read_metrics(tmp_path) == rows(4)


def test_the_last_row_of_a_step_counts(tmp_path: Path):
    write(tmp_path, 1, 2, 3)
    with MetricsLog(tmp_path) as log:
        log.write({"step": 2, "loss": 20.0})
        log.write({"step": 3, "loss": 30.0})
    assert [row["loss"] for row in read_metrics(tmp_path)] == [1.0, 20.0, 30.0]


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', "{", '{"step": 3, "loss": 0.5}'])
def test_a_row_that_was_cut_short_is_dropped_before_the_next(tmp_path: Path, torn: str):
    write(tmp_path, 1, 2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    write(tmp_path, 5)
    assert read_metrics(tmp_path) == rows(1, 2, 5)


def test_a_log_of_nothing_but_a_torn_row_becomes_empty(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text('{"step"')
    write(tmp_path, 1)
    assert read_metrics(tmp_path) == rows(1)


def test_a_killed_run_can_be_read_without_going_on_with_it(tmp_path: Path):
    write(tmp_path, 1, 2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert read_metrics(tmp_path) == rows(1, 2)


def test_atomic_writing_replaces_the_whole_file(tmp_path: Path):
    path = tmp_path / "small.json"
    write_atomically(path, "a longer text")
    write_atomically(path, "short")
    assert path.read_text() == "short"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_earlier_file(tmp_path: Path, monkeypatch):
    path = tmp_path / "small.json"
    write_atomically(path, "earlier")

    def full_disk(self: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "later")
    assert path.read_bytes() == b"earlier"
