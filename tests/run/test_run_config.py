"""The config that a run's folder holds: what may differ from it, and how entry points take it."""

import json
from pathlib import Path

import ml_collections
import pytest
from absl import flags

from configs import demo, duration, vssflow
from vssflow_jax import cli
from vssflow_jax.clip import ClipSpec
from vssflow_jax.config import check
from vssflow_jax.duration.train import DurationExperiment
from vssflow_jax.run import run_config
from vssflow_jax.run.run_config import check_resumable, for_training, for_use, read, write
from vssflow_jax.utils.errors import UserError


def config(**changes: object) -> ml_collections.ConfigDict:
    """The demo's config; `changes` name fields with `__` for the dot."""
    result = demo.get_config()
    result.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in changes.items()}
    )
    return result


# ---------------------------------------------------------------------------------- what is kept
def test_a_new_workdir_is_made_and_keeps_the_config(tmp_path: Path):
    workdir = tmp_path / "runs" / "first"
    resolved = write(workdir, config(seed=7))
    assert json.loads((workdir / "config.json").read_text()) == resolved
    assert resolved["seed"] == 7
    assert resolved["train"]["batch_size"] == config().train.batch_size


@pytest.mark.parametrize("made", [demo.get_config(), vssflow.get_config("small,recipe=joint")])
def test_a_config_is_read_as_it_was_written(tmp_path: Path, made: ml_collections.ConfigDict):
    write(tmp_path, made)
    found = read(tmp_path)
    assert found.to_dict() == made.copy_and_resolve_references().to_dict()
    # Tuples too, or flags could not override them.
    assert isinstance(found.eval.sampler.guidance_interval, tuple)


def test_runs_of_earlier_versions_are_read(tmp_path: Path):
    values = run_config.resolved_values(config())
    for name in ("init_weights", "lora", "held_out_every", "held_out_clips", "bad_step"):
        del values["train"][name]
    for name in ("residual_dtype", "qk_norm"):
        del values["model"]["transformer"][name]
    widths = values["model"]["widths"]
    widths["clip"], widths["synch"] = widths.pop("visual"), widths.pop("sync")
    values["clip"] |= {"clip_rate": 10, "synch_rate": 24}
    del values["sharding"]["mesh"]["slices"], values["sharding"]["weights_across_slices"]
    values["train"]["decay_steps"] = 1800
    (tmp_path / "config.json").write_text(json.dumps(values))
    check(read(tmp_path))
    assert read(tmp_path).model.transformer.residual_dtype == "bfloat16"
    assert not read(tmp_path).model.transformer.qk_norm
    assert read(tmp_path).model.widths.to_dict() == config().model.widths.to_dict()
    assert read(tmp_path).sharding.to_dict() == config().sharding.to_dict()
    assert ClipSpec(**read(tmp_path).clip).sync_rate == 24
    now = config()
    with now.unlocked():
        now.clip.update({"visual_rate": 10, "sync_rate": 24})
    check_resumable(tmp_path, now)
    assert for_training(tmp_path, now).train.decay_steps == 1800


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"seed": 0}', '{"seed": 0}\x00'])
def test_a_config_that_is_none(tmp_path: Path, text: str):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config.json is not the config of a run"):
        read(tmp_path)


def test_no_run(tmp_path: Path):
    with pytest.raises(UserError, match=r"no run in .*: it has no config.json; train first"):
        for_use(tmp_path)


# ------------------------------------------------------------------------------------ to train on
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 3),
        ("train.batch_size", 8),
        ("train.learning_rate", 1e-5),
        ("data.mixture.weights.tts", 0.5),
        ("data.mixture.joint_modes", ("add", "insert")),
        ("model.placement", "none"),
        ("model.dtype", "bfloat16"),
        ("clip.duration_sec", 10.0),
    ],
)
def test_another_config_is_refused_by_field_and_both_values(tmp_path: Path, name: str, value):
    write(tmp_path, config())
    earlier = json.loads((tmp_path / "config.json").read_bytes())
    with pytest.raises(UserError) as failure:
        check_resumable(tmp_path, config(**{name.replace(".", "__"): value}))
    message = str(failure.value)
    shown = list(value) if isinstance(value, tuple) else value
    for key in name.split("."):
        earlier = earlier[key]
    assert f"{name} is {earlier} there and {shown} here" in message
    assert str(tmp_path) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train.steps", 5000),
        ("train.decay_steps", 5000),
        ("train.log_every", 1),
        ("train.checkpoint_every", 10),
        ("train.sample_every", 10),
        ("train.init_from", "elsewhere"),
        ("eval.sampler.steps", 3),
        ("sharding.strategy", "dp"),
        ("data.path", "elsewhere"),
        ("model.transformer.remat", "full"),
    ],
)
def test_a_resumed_run_may_go_on_longer_and_report_otherwise(tmp_path: Path, name: str, value):
    write(tmp_path, config())
    check_resumable(tmp_path, config(**{name.replace(".", "__"): value}))


@pytest.mark.parametrize("here", [True, False])
def test_a_field_of_one_side_only_is_called_absent(tmp_path: Path, here: bool):
    more = config()
    with more.unlocked():
        more.train.extra = 1
    earlier, now = (config(), more) if here else (more, config())
    write(tmp_path, earlier)
    values = "absent there and 1 here" if here else "1 there and absent here"
    with pytest.raises(UserError, match=f"train.extra is {values}"):
        check_resumable(tmp_path, now)


def test_checking_writes_nothing(tmp_path: Path):
    check_resumable(tmp_path / "none", config())
    assert not list(tmp_path.iterdir())


def test_the_schedule_of_a_longer_run_ends_where_it_did(tmp_path: Path):
    assert for_training(tmp_path, config(train__steps=20)).train.decay_steps == 20
    write(tmp_path, for_training(tmp_path, config(train__steps=20)))
    assert for_training(tmp_path, config(train__steps=40)).train.decay_steps == 20
    longer = config(train__steps=40, train__decay_steps=40)
    assert for_training(tmp_path, longer).train.decay_steps == 40


def test_a_new_run_does_not_outlast_its_schedule(tmp_path: Path):
    given = config(train__steps=50, train__decay_steps=40)
    with pytest.raises(UserError, match="the learning rate is 0 from step 40 on"):
        for_training(tmp_path, given)
    given.train.schedule = "constant"
    for_training(tmp_path, given)


@pytest.mark.parametrize("steps", [10, 40])
def test_a_new_run_by_the_config_of_another_has_a_schedule_of_its_own(tmp_path: Path, steps: int):
    write(tmp_path / "old", for_training(tmp_path / "old", config(train__steps=20)))
    given = run_config.get_config(str(tmp_path / "old"))
    given.train.steps = steps
    assert for_training(tmp_path / "new", given).train.decay_steps == steps
    assert for_training(tmp_path / "old", given).train.decay_steps == 20


# ----------------------------------------------------------------------------------------- to use
USABLE = {
    "data.path": "elsewhere",
    "eval.sampler.guidance_interval": (0.1, 0.9),
    "eval.sweep.steps": (1, 2),
    "sharding.strategies": {"mine": {"rules": {"embed": "fsdp"}}},
    "vocoder.kind": "hifigan",
    "codec.path": "elsewhere",
    "model.dtype": "bfloat16",
    "model.transformer.attention": "cudnn",
    "model.transformer.token_multiple": 8,
}


def test_a_run_is_used_by_its_own_config_but_for_how_and_on_what(tmp_path: Path):
    write(tmp_path, config(train__steps=20, train__ema_decay=0.0, seed=3))
    given = config(train__batch_size=4)
    with given.unlocked():
        given.update_from_flattened_dict(USABLE)
    found = for_use(tmp_path, given, overrides=tuple(USABLE))
    assert (found.seed, found.train.steps, found.train.batch_size) == (3, 20, 16)
    assert found.train.ema_decay == 0
    flat = found.to_dict()
    for name, value in USABLE.items():
        here = flat
        for part in name.split("."):
            here = here[part]
        assert here == value


def test_what_may_not_differ_is_refused_by_name_if_it_was_set(tmp_path: Path):
    write(tmp_path, config(train__steps=20))
    given = read(tmp_path)
    given.train.batch_size = 4
    for_use(tmp_path, given)
    with pytest.raises(UserError, match=r"--config.train.batch_size=4: .* trained with 16; only"):
        for_use(tmp_path, given, overrides=["train.batch_size"])
    given.train.mask_ratios = (0.5,)
    for whole_or_part in ("train", "train.mask_ratios[0]"):
        with pytest.raises(UserError, match=r"--config.train.*may differ"):
            for_use(tmp_path, given, overrides=[whole_or_part])
    # Given as it was is not another value.
    for_use(tmp_path, config(train__steps=20), overrides=["train.steps"])


def test_a_section_is_taken_whole(tmp_path: Path):
    run, given = config(), config()
    for one, rules in ((run, {"embed": "fsdp", "mlp": "tensor"}), (given, {"embed": "fsdp"})):
        with one.unlocked():
            one.sharding.strategies = {"mine": {"rules": rules}}
    write(tmp_path, run)
    assert for_use(tmp_path, given).sharding.to_dict() == given.sharding.to_dict()


def test_the_config_of_something_else_is_one_line(tmp_path: Path):
    with pytest.raises(UserError, match=r"the config is of run_duration.py"):
        check(duration.get_config())
    with pytest.raises(UserError, match=r"the config is of run_train.py"):
        DurationExperiment.from_config(config())
    older = config()
    with older.unlocked():
        del older.data["max_bad_records"]
    with pytest.raises(UserError, match=r"or of another version: .*max_bad_records"):
        check(older)


def test_a_config_of_another_model_is_refused(tmp_path: Path):
    write(tmp_path, config())
    other = config(model__transformer__layers=3)
    with pytest.raises(UserError, match=r"another model .*layers is 8 there and 3 here"):
        for_use(tmp_path, other)


# ------------------------------------------------------------------------------ the command line
def parsed(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> flags.FlagValues:
    """The flags of an entry point that takes a config and a run."""
    values = flags.FlagValues()
    cli.config_flags.DEFINE_config_file(
        "config", None, "", flag_values=values, lock_config=True, sys_argv=["command", *argv]
    )
    flags.DEFINE_string("checkpoint", "", "", flag_values=values)
    flags.DEFINE_alias("workdir", "checkpoint", flag_values=values)
    flags.DEFINE_string("transcript", "", "", flag_values=values)
    flags.DEFINE_multi_string("manifest", [], "", flag_values=values)
    monkeypatch.setattr(cli.flags, "FLAGS", values)
    cli._parse(["command", *argv])
    return values


@pytest.mark.parametrize(
    "named",
    [
        ["--workdir=RUN"],
        ["--workdir", "RUN"],
        ["-checkpoint=RUN/checkpoints/5"],
        ["--checkpoint=RUN/"],
    ],
)
def test_the_config_of_a_run_is_taken_where_none_is_named(named, tmp_path: Path, monkeypatch):
    write(tmp_path, config(seed=5))
    argv = [text.replace("RUN", str(tmp_path)) for text in named]
    values = parsed([*argv, "--config.eval.sweep.steps=(1,2)", "--config.seed=6"], monkeypatch)
    assert values.config.seed == 6
    assert values.config.eval.sweep.steps == (1, 2)
    assert set(cli.overridden(values)) == {"seed", "eval.sweep.steps"}
    demo_file = demo.__file__
    assert parsed([*argv, f"--config={demo_file}"], monkeypatch).config.seed == 0


@pytest.mark.parametrize(
    "form",
    ["--config=RUN", "--config RUN", "--config=RUN/checkpoints/5", "--config=RUN/config.json"],
)
def test_a_run_is_a_config_too(form: str, tmp_path: Path, monkeypatch):
    write(tmp_path, config(seed=5))
    argv = form.replace("RUN", str(tmp_path)).split()
    values = parsed([*argv, "--config.train.steps=7"], monkeypatch)
    assert (values.config.seed, values.config.train.steps) == (5, 7)


def test_a_field_of_no_config_is_one_line(tmp_path: Path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        parsed([f"--workdir={tmp_path}/none", "--config.train.steps=7"], monkeypatch)
    assert f"there is no run in {tmp_path}/none; name --config" in capsys.readouterr().err


def test_without_a_run_there_is_no_config(tmp_path: Path, monkeypatch):
    values = parsed([f"--workdir={tmp_path}/none"], monkeypatch)
    assert values.config is None
    assert cli.overridden(values) == []


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--workdir=az://bucket/run"], "--checkpoint: az://bucket/run: no path"),
        (
            ["--manifest=train:hf://bucket/a.csv"],
            "--manifest: hf://bucket/a.csv: no path",
        ),
        (
            [f"--config={demo.__file__}", "--config.data.path=az://b/d"],
            "--config.data.path: az://b/d: no path",
        ),
        (
            [f"--config={demo.__file__}", "--config.eval.backbones.panns=https://x.org/p.pth"],
            "--config.eval.backbones.panns: https://x.org/p.pth: no path",
        ),
        (["az://bucket/run"], "the command line: az://bucket/run: no path"),
    ],
)
def test_buckets_and_urls_are_refused(argv, says, tmp_path: Path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as left:
        parsed(argv, monkeypatch)
    assert left.value.code == 2
    assert says in capsys.readouterr().err


def test_what_is_said_may_hold_a_url(monkeypatch):
    assert parsed(["--transcript=see http://x.org"], monkeypatch).transcript == "see http://x.org"
