"""What a workdir remembers: whose run it is, and the rows of its metrics."""

import json
from pathlib import Path

import ml_collections
import pytest

from configs import demo
from vssflow_jax.errors import UserError
from vssflow_jax.run_files import MetricsLog, check, claim, read_metrics, write_atomically


def config(**changes: object) -> ml_collections.ConfigDict:
    """The demo's config; `changes` name fields with `__` for the dot."""
    result = demo.get_config()
    result.train.decay_steps = 5000  # else it follows train.steps
    result.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in changes.items()}
    )
    return result


def test_a_new_workdir_is_made_and_keeps_the_config(tmp_path: Path):
    workdir = tmp_path / "runs" / "first"
    resolved = claim(workdir, config(seed=7))
    assert json.loads((workdir / "config.json").read_text()) == resolved
    assert resolved["seed"] == 7
    assert resolved["train"]["batch_size"] == config().train.batch_size


def test_the_same_config_may_claim_again(tmp_path: Path):
    first = claim(tmp_path, config())
    assert claim(tmp_path, config()) == first


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 3),
        ("train.batch_size", 8),
        ("train.learning_rate", 1e-5),
        ("data.mixture.weights.tts", 0.5),
        ("data.mixture.joint_modes", ("add", "insert")),
        ("model.placement", "none"),
        ("clip.duration_sec", 10.0),
    ],
)
def test_another_config_is_refused_by_field_and_both_values(tmp_path: Path, name: str, value):
    claim(tmp_path, config())
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(UserError) as failure:
        claim(tmp_path, config(**{name.replace(".", "__"): value}))
    message = str(failure.value)
    shown = list(value) if isinstance(value, tuple) else value
    earlier = json.loads(before)
    for key in name.split("."):
        earlier = earlier[key]
    assert f"{name} is {earlier} there and {shown} here" in message
    assert str(tmp_path) in message
    assert "\n" not in message
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train.steps", 5000),
        ("train.log_every", 1),
        ("train.checkpoint_every", 10),
        ("train.sample_every", 10),
        ("eval.sampler.steps", 3),
        ("sharding.strategy", "dp"),
        ("data.path", "elsewhere"),
    ],
)
def test_a_resumed_run_may_go_on_longer_and_report_otherwise(tmp_path: Path, name: str, value):
    claim(tmp_path, config())
    changed = config(**{name.replace(".", "__"): value})
    check(tmp_path, changed)
    claim(tmp_path, changed)
    kept = json.loads((tmp_path / "config.json").read_text())
    for key in name.split("."):
        kept = kept[key]
    assert kept == value


@pytest.mark.parametrize("here", [True, False])
def test_a_field_of_one_side_only_is_called_absent(tmp_path: Path, here: bool):
    more = config()
    with more.unlocked():
        more.train.extra = 1
    earlier, now = (config(), more) if here else (more, config())
    claim(tmp_path, earlier)
    values = "absent there and 1 here" if here else "1 there and absent here"
    with pytest.raises(UserError, match=f"train.extra is {values}"):
        check(tmp_path, now)


def test_checking_writes_nothing(tmp_path: Path):
    check(tmp_path / "none", config())
    assert not list(tmp_path.iterdir())


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

    def full_disk(self: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "later")
    assert path.read_bytes() == b"earlier"
