"""The command that exports weights of a run, or imported ones, to the reference's state dict."""

import dataclasses
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vssflow_jax.interop import export_weights
from vssflow_jax.models.convert_vssflow import (
    abstract_weights,
    check_sizes,
    from_reference,
    saved_config,
    to_reference,
)
from vssflow_jax.models.vssflow import ModelConfig
from vssflow_jax.run import run_config
from vssflow_jax.run.checkpoint import Checkpoints
from vssflow_jax.run.experiment import Experiment, TrainState
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import folder
from vssflow_jax.weights.mapping import flatten
from vssflow_jax.weights.state_dict import read_state_dict

CONFIG = tiny.config(Path("unused"))
CFG = ModelConfig.from_config(CONFIG.model)


@pytest.fixture(scope="module")
def state() -> TrainState:
    """A state of random numbers, so that averaged weights are not those of the last step."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jax.device_put(
            jnp.asarray(9 * rng.normal(size=leaf.shape), leaf.dtype), leaf.sharding
        ),
        Experiment.from_config(CONFIG).abstract_state,
    )


@pytest.fixture(scope="module")
def run(state: TrainState, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    resolved = run_config.write(workdir, CONFIG)
    with Checkpoints(workdir, keep=1) as checkpoints:
        checkpoints.save(3, state, {}, resolved)
    return workdir


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "vssflow_jax.interop.export_weights", *arguments]


def test_exports_the_averaged_weights_of_a_run(
    run: Path, state: TrainState, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "vssflow.safetensors"
    done = tiny.run(command(f"--workdir={run}", f"--out={out}"))
    assert done.returncode == 0, done.stderr
    assert "wrote" in done.stdout
    assert ("not in the file" in done.stdout) == (CONFIG.codec.kind == "patch_dct")
    found, _ = from_reference(read_state_dict(out), CFG)
    wanted = flatten(state.ema) | flatten(state.frozen)
    for name, value in flatten(found).items():
        np.testing.assert_array_equal(value, wanted[name])


def test_a_run_has_the_weights_of_the_last_step_too(run: Path, state: TrainState) -> None:
    params, frozen, cfg = export_weights.of_run(f"{run}/checkpoints/3", "params")
    assert cfg == CFG
    jax.tree.map(np.testing.assert_array_equal, params, state.params)
    jax.tree.map(np.testing.assert_array_equal, frozen, state.frozen)


def test_a_run_is_exported_without_its_codec_vocoder_and_devices(
    run: Path, state: TrainState, tmp_path: Path
) -> None:
    config = CONFIG.copy_and_resolve_references()
    with config.unlocked():
        config.codec.update({"kind": "audioldm_vae", "path": "/nowhere/vae"})
        config.vocoder.update({"kind": "hifigan", "path": "/nowhere/vocoder"})
        config.sharding.mesh.data = 64
        config.model.transformer.attention = "cudnn"
    copy = tmp_path / "run"
    shutil.copytree(run / "checkpoints", copy / "checkpoints")
    run_config.write(copy, config)
    params, frozen, _ = export_weights.of_run(str(copy))
    jax.tree.map(np.testing.assert_array_equal, params, state.ema)
    jax.tree.map(np.testing.assert_array_equal, frozen, state.frozen)


def test_where_no_mean_is_kept_the_last_weights_are_exported(
    state: TrainState, tmp_path: Path
) -> None:
    config = CONFIG.copy_and_resolve_references()
    config.train.ema_decay = 0.0
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(
            3, dataclasses.replace(state, ema={}), {}, run_config.write(tmp_path, config)
        )
    params, _, _ = export_weights.of_run(str(tmp_path))
    jax.tree.map(np.testing.assert_array_equal, params, state.params)


def test_exports_imported_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    imported = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), abstract_weights(CFG)
    )
    sizes = dataclasses.asdict(CFG)
    folder.save(tmp_path / "imported", "vssflow", sizes, imported)
    state_dict = to_reference(*export_weights.of_folder(tmp_path / "imported"))
    again, _ = from_reference(state_dict, CFG)
    jax.tree.map(np.testing.assert_array_equal, again, imported)
    # Earlier versions called two of the conditions otherwise.
    widths = sizes["widths"]
    earlier = {"clip": widths["visual"], "synch": widths["sync"]}
    earlier |= {name: widths[name] for name in ("lips", "phonemes", "speaker")}
    folder.save(tmp_path / "earlier", "vssflow", {**sizes, "widths": earlier}, imported)
    assert saved_config(tmp_path / "earlier") == CFG
    check_sizes(tmp_path, {**sizes, "widths": earlier}, CFG)


def test_norms_of_queries_and_keys_are_refused() -> None:
    transformer = dataclasses.replace(CFG.transformer, qk_norm=True)
    cfg = dataclasses.replace(CFG, transformer=transformer)
    with pytest.raises(UserError, match=r"qk_norm is True: the reference norms no queries"):
        to_reference({}, {}, cfg)
    with pytest.raises(UserError, match=r"qk_norm is True: the reference norms no queries"):
        from_reference({}, cfg)
    # Those of earlier versions do not say that they are without.
    saved = dataclasses.asdict(CFG)
    del saved["transformer"]["qk_norm"]
    check_sizes(Path("there"), saved, CFG)
    with pytest.raises(UserError, match=r"qk_norm = False, the config says True"):
        check_sizes(Path("there"), saved, cfg)


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    done = tiny.run(command(f"--out={tmp_path / 'out.safetensors'}"))
    assert done.returncode == 2
    assert done.stderr.strip() == "error: give either --checkpoint or --source"
    done = tiny.run(command("--checkpoint=", f"--out={tmp_path / 'out.safetensors'}"))
    assert done.returncode == 2
    assert done.stderr.strip() == "error: give either --checkpoint or --source"
    with pytest.raises(UserError, match=r"must end in \.safetensors"):
        export_weights.check_out(tmp_path / "out.ckpt")
    (tmp_path / "old.safetensors").touch()
    with pytest.raises(UserError, match="is there already"):
        export_weights.check_out(tmp_path / "old.safetensors")
    with pytest.raises(UserError, match="no run in"):
        export_weights.of_run(str(tmp_path))
