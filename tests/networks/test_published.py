"""Files as they are published, imported by the command and loaded back; and damaged ones."""

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from safetensors.torch import save_file

from tests import tiny
from tests.networks import small
from tests.networks.files import FILES, as_read, import_command
from vssflow_jax.interop.import_weights import import_weights
from vssflow_jax.networks import published
from vssflow_jax.networks.published import NETWORKS
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import folder as weights
from vssflow_jax.weights.mapping import FOLDED, LEFT_OVER, MAPPED, flatten

# Sizes of the small files; what is not named is as published.
SIZES: dict[str, dict[str, Any]] = {
    "clip": {"width": 128, "layers": 2, "heads": 2, "inner_width": 192, "image_size": 32},
    "synchformer": {"width": 128, "layers": 2, "heads": 2, "inner_width": 192, "image_size": 32},
    "av_hubert": {
        "channels": (8, 16, 24, 32),
        "width": 128,
        "layers": 2,
        "heads": 2,
        "inner_width": 192,
    },
    "utmos": {
        "width": 128,
        "layers": 2,
        "heads": 2,
        "inner_width": 192,
        "positional_groups": 16,
        "channels": 16,
        "embedding": 8,
        "memory": 8,
        "hidden": 24,
    },
    "audiobox": {
        "width": 128,
        "layers": 2,
        "heads": 2,
        "inner_width": 192,
        "positional_groups": 16,
        "buckets": 32,
        "channels": 16,
    },
    "nisqa": {"channels": (4, 6, 8), "width": 24, "inner_width": 24, "hidden": 12},
    "rawnet3": {
        "filters": 16,
        "channels": 32,
        "joined": 48,
        "attention": 8,
        "embedding": 12,
    },
    "passt": {"width": 128, "layers": 2, "heads": 2, "inner_width": 192, "classes": 9},
}
SHAPES = {
    "clip": (32, 32, 3),
    "synchformer": (16, 32, 32, 3),
    "av_hubert": (9, 88, 88),
    "rawnet3": (6000,),
    "utmos": (1600,),
    "audiobox": (1600,),
    "nisqa": (32, 48),
    "passt": (1000, 128),
}
LICENCES = {
    "clip": "MIT",
    "synchformer": "MIT",
    "av_hubert": "non-commercial research only",
    "rawnet3": "MIT",
    "utmos": "MIT",
    "audiobox": "CC BY 4.0",
    "nisqa": "CC BY-NC-SA 4.0: non-commercial",
    "passt": "Apache-2.0",
}


def write(kind: str, folder: Path, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    """A small file of a kind, of other tensors if there are some."""
    file = FILES[kind](small=True)
    path = folder / file.file
    file.write(file.tensors() if tensors is None else tensors, path)
    return path


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_imported_loaded_back_and_run(kind: str, tmp_path: Path) -> None:
    file, out = FILES[kind](small=True), tmp_path / "imported"
    report = import_weights(kind, write(kind, tmp_path), out)
    assert set(report.names(MAPPED)) | set(report.names(FOLDED)) == set(file.shapes)
    assert set(report.names(LEFT_OVER)) == set(file.ignored)

    cfg = NETWORKS[kind].config(**SIZES[kind])
    saved = weights.read_config(out, kind)
    assert saved == json.loads(json.dumps(dataclasses.asdict(cfg)))
    network: Any = published.load(kind, out)
    x = np.random.default_rng(0).normal(size=(2, *SHAPES[kind])).astype(np.float32)
    found = nnx.jit(lambda network, x: small.joined(network(x)))(network, x)
    assert np.all(np.isfinite(found))
    assert found.shape[0] == 2

    held = as_read(file.tensors())
    if kind == "clip":
        held = {name: x.astype(np.float16).astype(np.float32) for name, x in held.items()}
    made, _ = NETWORKS[kind].convert(held, cfg)
    loaded = flatten(nnx.to_pure_dict(nnx.state(network)))
    assert loaded.keys() == flatten(made).keys()
    for name, value in flatten(made).items():
        np.testing.assert_array_equal(loaded[name], value, err_msg=name)


@pytest.mark.parametrize("kind", FILES)
def test_the_command_prints_table_sizes_and_licence(kind: str, tmp_path: Path) -> None:
    done = tiny.run(import_command(kind, write(kind, tmp_path), tmp_path / "imported"))
    assert done.returncode == 0, done.stderr
    assert f"licence of the published weights: {LICENCES[kind]}" in done.stdout
    assert "left over" in done.stdout
    assert "0 missing" in done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("warning: ")
    assert "not the published sizes: " in line


def test_tensors_in_safetensors_are_as_good(tmp_path: Path) -> None:
    tensors = FILES["synchformer"](small=True).tensors()
    save_file(tensors, tmp_path / "synchformer.safetensors")
    import_weights("synchformer", tmp_path / "synchformer.safetensors", tmp_path / "a")
    import_weights("synchformer", write("synchformer", tmp_path), tmp_path / "b")
    assert (tmp_path / "a" / weights.WEIGHTS_FILE).read_bytes() == (
        tmp_path / "b" / weights.WEIGHTS_FILE
    ).read_bytes()


def test_a_file_without_the_prefix_of_a_finetuned_network_is_read_too(tmp_path: Path) -> None:
    tensors = {
        name.removeprefix("encoder.w2v_model."): tensor
        for name, tensor in FILES["av_hubert"](small=True).tensors().items()
        if not name.startswith("decoder.")
    }
    import_weights("av_hubert", write("av_hubert", tmp_path, tensors), tmp_path / "a")
    import_weights("av_hubert", write("av_hubert", tmp_path), tmp_path / "b")
    assert (tmp_path / "a" / weights.WEIGHTS_FILE).read_bytes() == (
        tmp_path / "b" / weights.WEIGHTS_FILE
    ).read_bytes()


def test_a_file_of_the_package_around_the_network_is_as_good(tmp_path: Path) -> None:
    tensors = FILES["passt"](small=True).tensors()
    wrapped = {f"net.{name}": tensor for name, tensor in tensors.items()}
    wrapped |= {"device_proxy": torch.zeros(1), "mel.window": torch.ones(800)}
    import_weights("passt", write("passt", tmp_path, wrapped), tmp_path / "a")
    import_weights("passt", write("passt", tmp_path), tmp_path / "b")
    assert (tmp_path / "a" / weights.WEIGHTS_FILE).read_bytes() == (
        tmp_path / "b" / weights.WEIGHTS_FILE
    ).read_bytes()


# ----------------------------------------------------------------------------- what is not right
def import_tensors(kind: str, tensors: dict[str, np.ndarray]) -> None:
    """As the importer does with the tensors of a file."""
    network = NETWORKS[kind]
    network.convert(tensors, network.sizes(tensors, Path("unused")))


@pytest.mark.parametrize("kind", FILES)
def test_each_name_that_is_missing_is_said(kind: str) -> None:
    file = FILES[kind](small=True)
    held = as_read(file.tensors())
    for name in file.shapes:
        with pytest.raises(UserError) as error:
            import_tensors(kind, {other: x for other, x in held.items() if other != name})
        # The name that tells a network is named without what stands before it in files.
        assert any(part in one_line(error) for part in (name, *suffixes(name))), name


def suffixes(name: str) -> list[str]:
    """What is left of a name behind each of its dots, but for words that all names end in."""
    parts = name.split(".")
    found = [".".join(parts[start:]) for start in range(1, len(parts))]
    return [suffix for suffix in found if suffix not in ("weight", "bias")]


@pytest.mark.parametrize("kind", FILES)
def test_each_shape_that_is_wrong_is_an_error_of_one_line(kind: str) -> None:
    file = FILES[kind](small=True)
    held = as_read(file.tensors())
    for name in file.shapes:
        for wrong in (
            np.concatenate([np.atleast_1d(held[name])] * 2, axis=-1),
            held[name][..., None, None],
            held[name].reshape(-1)[:-1],
        ):
            with pytest.raises(UserError) as error:
                import_tensors(kind, held | {name: wrong})
            one_line(error)


@pytest.mark.parametrize("kind", FILES)
def test_a_name_more_is_said(kind: str, tmp_path: Path) -> None:
    tensors = FILES[kind](small=True).tensors() | {"teacher.weight": torch.ones(2)}
    path, out = write(kind, tmp_path, tensors), tmp_path / "imported"
    with pytest.raises(UserError, match=r"1 unknown \(teacher\.weight\)") as error:
        import_weights(kind, path, out)
    one_line(error)
    assert not out.exists()


@pytest.mark.parametrize("kind", FILES)
def test_another_networks_file_is_refused(kind: str, tmp_path: Path) -> None:
    other = "rawnet3" if kind != "rawnet3" else "synchformer"
    with pytest.raises(UserError, match=r"the source has no tensor .*; it is no file of ") as error:
        import_weights(kind, write(other, tmp_path), tmp_path / "imported")
    one_line(error)


@pytest.mark.parametrize("kind", FILES)
def test_numbers_that_are_not_finite_matter_where_they_are_used(kind: str, tmp_path: Path) -> None:
    file = FILES[kind](small=True)
    tensors = file.tensors()
    for name in file.ignored:
        if tensors[name].is_floating_point():
            tensors[name].fill_(torch.nan)
    import_weights(kind, write(kind, tmp_path, tensors), tmp_path / "imported")
    used = [*file.shapes][-1]
    tensors[used][0] = torch.inf
    with pytest.raises(UserError, match=rf"'{re.escape(used)}' holds .* not finite") as error:
        import_weights(kind, write(kind, tmp_path, tensors), tmp_path / "broken")
    one_line(error)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_refused(kind: str, share: float, tmp_path: Path) -> None:
    path = write(kind, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=rf"{path.name} is not a whole file of torch") as error:
        import_weights(kind, path, tmp_path / "imported")
    one_line(error)


class Attack:
    """Runs a command, if it is ever read."""

    def __init__(self, ran: Path):
        self.ran = ran

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return os.system, (f"touch {self.ran}",)


@pytest.mark.parametrize("kind", ["synchformer", "av_hubert", "rawnet3"])
def test_a_file_that_wants_to_run_code_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    path, ran = tmp_path / FILES[kind](small=True).file, tmp_path / "ran"
    torch.save({"model": FILES[kind](small=True).tensors(), "cfg": Attack(ran)}, path)
    with pytest.raises(UserError, match=r"asks to run (posix|nt)\.system, which no we") as error:
        import_weights(kind, path, tmp_path / "imported")
    one_line(error)
    assert not ran.exists()


def test_folders_of_other_networks_and_versions_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "imported"
    import_weights("rawnet3", write("rawnet3", tmp_path), out)
    with pytest.raises(UserError, match="holds weights of 'rawnet3'; give a folder of 'clip'"):
        published.load("clip", out)
    config = out / weights.CONFIG_FILE
    text = config.read_text()
    config.write_text(text.replace('"taps"', '"length"'))
    with pytest.raises(UserError, match=r"sizes are of another version \(.*'length'\)"):
        published.load("rawnet3", out)
    config.write_text(text.replace('"channels": 32', '"channels": 64'))
    with pytest.raises(UserError, match=r"has shape .*, but the config's model has"):
        published.load("rawnet3", out)


# ----------------------------------------------------------------------------------- in full size
@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_full_width(kind: str, tmp_path: Path) -> None:
    file = FILES[kind](small=False)
    path = tmp_path / file.file
    file.write(file.tensors(), path)
    done = tiny.run(import_command(kind, path, tmp_path / "imported"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # not a word of other sizes
    network: Any = published.load(kind, tmp_path / "imported")
    shape = (1, *small.CASES[kind].published_shape)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    if kind == "av_hubert":
        x = x[:, :25]
    found = jax.device_get(nnx.jit(lambda network, x: small.joined(network(x)))(network, x))
    assert np.all(np.isfinite(found))
    shapes = {
        "clip": (768,),
        "synchformer": (8, 768),
        "av_hubert": (25, 1024),
        "rawnet3": (256,),
        "audiobox": (4,),
        "nisqa": (5,),
        "passt": (527 + 768,),
    }
    assert found.shape == (1, *shapes.get(kind, ()))
