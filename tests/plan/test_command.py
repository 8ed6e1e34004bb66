"""The command that plans, on simulated devices, and what it says to bad input."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from configs import vssflow
from tests import tiny
from vssflow_jax.models.vssflow import ModelConfig
from vssflow_jax.plan import memory, picture, tasks
from vssflow_jax.plan.cache import Cache
from vssflow_jax.plan.command import plan
from vssflow_jax.plan.describe import count_parameters
from vssflow_jax.plan.programs import Program
from vssflow_jax.plan.topologies import Topology
from vssflow_jax.utils.errors import UserError

FLOAT = 4  # bytes
BATCH_SIZE = tiny.OVERRIDES["train.batch_size"]


def command(out: Path, *given: str) -> list[str]:
    overrides = {**tiny.OVERRIDES, "clip.duration_sec": 0.56, "model.transformer.layers": 1}
    return [
        *(sys.executable, "-m", "vssflow_jax.plan", f"--out={out}", f"--cache={out}/cache"),
        f"--config={tiny.ROOT / 'configs' / 'demo.py'}",
        *(f"--config.{name}={value}" for name, value in overrides.items()),
        *given,
    ]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes for a strategy that goes with eight devices and one that does not."""
    out = tmp_path_factory.mktemp("plan")
    done = tiny.run(command(out, "--topology=cpu:8", "--strategies=dp,tp"))
    assert done.returncode == 0, done.stderr
    return out


def test_a_plan_has_figures_tables_and_a_picture(planned: Path):
    row, impossible = json.loads((planned / "plan.json").read_text())["strategies"]
    assert row["mesh"] == {"data": 8}
    assert row["clips"] == BATCH_SIZE
    assert row["totals"]["all-reduce.count"] > 0
    assert row["measured"]["step_sec"] > 0
    assert 0 < row["measured"]["loss"] < 100  # finite
    assert row["memory"]["peak"] > row["memory"]["parameters"] + row["memory"]["optimizer"]
    # Two heads do not divide over four devices: that strategy says so, the other goes on.
    assert "axis 'kv_heads' of 2 does not divide over 4 devices" in impossible["error"]
    page = (planned / "plan.md").read_text()
    assert "| `dp` | data 8 |" in page
    assert f"batches of {BATCH_SIZE} clips ({BATCH_SIZE // 8} per device)" in page
    assert "- `tp`: weight transformer.blocks.cross_attention.k_egk: its axis" in page
    assert (planned / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_memory_is_what_arithmetic_says():
    config = vssflow.get_config("base")
    config.train.ema_decay = 0.99
    topology = Topology.parse("v5e:2x4")
    topology.prepare()
    parameters = sum(count_parameters(ModelConfig.from_config(config.model)).values())
    for strategy, parts in (("dp", 1), ("fsdp", 8), ("tp", 4)):
        config.sharding.strategy = strategy
        state = Program.from_config(config, topology.devices()).experiment.abstract_state
        share = FLOAT * parameters / parts
        # Under tp what is not a head or a feed-forward channel is whole: 2 %.
        close = {"rel": 0.03 if strategy == "tp" else 0.01}
        assert memory.device_bytes(state.params) == pytest.approx(share, **close)
        assert memory.device_bytes(state.ema) == pytest.approx(share, **close)
        assert memory.device_bytes(state.opt_state) == pytest.approx(2 * share, **close)


@pytest.mark.parametrize(
    "name", ["v5e", "gpu:8", "cpu:0", "local:2", "v5e-8", "0xv5e:2x4", "2xcpu:4"]
)
def test_an_unknown_topology_is_one_clear_line(name: str):
    with pytest.raises(UserError, match=r"--topology is .*; give one such as cpu:8, local, v5e"):
        Topology.parse(name)


def test_a_topology_that_libtpu_does_not_know_is_one_clear_line():
    topology = Topology.parse("v99:2x2")
    topology.prepare()
    with pytest.raises(UserError, match=r"--topology is 'v99:2x2', of which libtpu says: "):
        topology.devices()


def test_a_topology_of_two_slices():
    topology = Topology.parse("2xv5e:2x4")
    topology.prepare()
    devices = topology.devices()
    assert sorted(device.slice_index for device in devices) == [0] * 8 + [1] * 8
    assert len(Topology.parse("v5e:2x4").devices()) == 8


def test_a_network_between_slices_that_is_not_known(tmp_path: Path):
    config, topology = tiny.config(Path("unused")), Topology.parse("2xv4:2x2x1")
    with pytest.raises(UserError, match=r"between slices of v4 is, is not known; give --dcn_gb"):
        plan(config, topology, ["hsdp"], 1, Cache(tmp_path))


def test_what_is_refused_of_two_slices_says_so(tmp_path: Path):
    topology = Topology.parse("2xv5e:2x4")
    topology.prepare()
    config = tiny.config(Path("unused"), sharding__strategy="fsdp")
    found = tasks.Job("totals", config, topology, 1).run()
    assert "would gather weights or activations between 2 slices" in found["error"]


@pytest.mark.parametrize(("package", "extra"), [("libtpu", "tpu"), ("matplotlib", "plan")])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, package: str, extra: str):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"'{package}' is not installed: .*\[{extra}\]"):
        Topology.parse("v5e:2x2") if package == "libtpu" else picture.check()


def test_an_unknown_strategy_is_one_clear_line(tmp_path: Path):
    config = tiny.config(Path("unused"))
    with pytest.raises(UserError, match=r"--strategies has 'zero'; choose from: dp, fsdp"):
        plan(config, Topology("cpu:8", 8), ["dp", "zero"], 1, Cache(tmp_path))


def test_two_sizes_of_a_batch_are_one_clear_line(tmp_path: Path):
    done = tiny.run(command(tmp_path, "--topology=cpu:8", "--clips_per_device=4"))
    assert done.returncode == 2
    (error,) = done.stderr.splitlines()
    assert error == (
        f"error: --clips_per_device=4 and --config.train.batch_size={BATCH_SIZE} both say how "
        "large a batch is; give one of them"
    )


def test_no_plan_at_all_is_an_error(tmp_path: Path):
    done = tiny.run(command(tmp_path, "--topology=v5e:2x4", "--strategies=tp"))
    assert done.returncode == 2
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: no strategy can be planned; tp: weight transformer.blocks.")
    assert "its axis 'kv_heads' of 2 does not divide over 4 devices" in error


def test_results_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config, topology = tiny.config(Path("unused")), Topology("v5e:2x4")
    cache = Cache(tmp_path)
    result: dict[str, Any] = {"error": "kept"}
    for task in tasks.TASKS:
        job = tasks.Job(task, config, topology, 1)
        cache.put(job.key, result)
    (row,) = plan(config, topology, [config.sharding.strategy], 1, Cache(tmp_path))
    assert row["error"] == "kept"
    other = tasks.Job("memory", config, topology, 2)
    assert cache.get(other.key) is None


def test_the_largest_batch_lies_on_a_line(monkeypatch: pytest.MonkeyPatch):
    """Of a step that takes 100 and 7 for each clip: (1000 - 100) / 7 clips fit."""

    def found(clips: int) -> memory.Memory:
        return memory.Memory(10, 20, 0, 0, 2 * clips, 70 + 5 * clips)

    def measure(program: Any) -> tuple[memory.Memory, bool]:
        return found(program), True

    monkeypatch.setattr(memory, "measure_memory", measure)
    monkeypatch.setattr(
        memory.Program, "from_config", lambda config, devices: config.train.batch_size // 8
    )
    for clips in (4, 128, 200):
        config = tiny.config(Path("unused"), train__batch_size=8 * clips)
        assert memory.largest_batch(config, [None] * 8, found(clips), 1000) == 128
    config = tiny.config(Path("unused"), train__batch_size=8)
    assert memory.largest_batch(config, [None] * 8, found(1), 101) == 0
