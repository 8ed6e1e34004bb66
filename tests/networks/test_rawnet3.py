"""RawNet3 in ESPnet's files, and of sounds of different lengths in one batch."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from tests.networks import files, small
from tests.networks.test_published import one_line, suffixes
from tests.networks.test_published import write as write_authors
from vssflow_jax.interop.import_weights import import_weights
from vssflow_jax.networks import rawnet3
from vssflow_jax.networks.published import NETWORKS, other_sizes
from vssflow_jax.networks.rawnet3 import ESPNET, LEAST_SAMPLES, RawNet3Config
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import folder as weights
from vssflow_jax.weights.mapping import LEFT_OVER

SMALL = {"filters": 16, "channels": 32, "joined": 48, "attention": 8, "embedding": 12}
# What ESPnet's names start with, and what their authors' do.
RENAMED = {
    "frontend.flipped_filter": "preprocess.0.flipped_filter",
    "frontend.norm.": "preprocess.1.",
    "frontend.conv.": "conv1.",
    "encoder.": "",
    "pooling.": "",
    "projector.bn.": "bn5.",
    "projector.fc.": "fc6.",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small file of ESPnet's, in a folder of its own."""
    file = files.rawnet3_espnet(small=True)
    path = tmp_path / "espnet" / file.file
    path.parent.mkdir()
    file.write(file.tensors(), path)
    return path


def sizes(out: Path) -> RawNet3Config:
    return RawNet3Config(**weights.read_config(out, "rawnet3"))


# --------------------------------------------------------------------------------- ESPnet's files
def test_a_file_of_espnets_is_the_authors_network_with_another_stride(
    source: Path, tmp_path: Path
) -> None:
    report = import_weights("rawnet3", source, tmp_path / "espnets")
    file = files.rawnet3_espnet(small=True)
    assert set(report.names(LEFT_OVER)) == set(file.ignored)
    renamed = {}
    for name, tensor in file.tensors().items():
        start = next((x for x in RENAMED if name.startswith(x)), None)
        if start:
            renamed[RENAMED[start] + name.removeprefix(start)] = tensor
    import_weights("rawnet3", write_authors("rawnet3", tmp_path, renamed), tmp_path / "authors")
    for stride, out in ((16, "espnets"), (10, "authors")):
        assert sizes(tmp_path / out) == RawNet3Config(**SMALL, stride=stride)
    first, second = (tmp_path / x / weights.WEIGHTS_FILE for x in ("espnets", "authors"))
    assert first.read_bytes() == second.read_bytes()


def test_a_checkpoint_to_go_on_from_is_as_good(source: Path, tmp_path: Path) -> None:
    checkpoint = {
        "model": files.rawnet3_espnet(small=True).tensors(),
        "reporter": {"epoch": 40, "stats": {}},
        "optimizers": [{"state": {0: {"step": 7}}, "param_groups": []}],
        "schedulers": [None],
        "scaler": None,
    }
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    import_weights("rawnet3", tmp_path / "checkpoint.pth", tmp_path / "a")
    import_weights("rawnet3", source, tmp_path / "b")
    first, second = (tmp_path / x / weights.WEIGHTS_FILE for x in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_both_published_sizes_are_no_other_ones() -> None:
    assert other_sizes("rawnet3", RawNet3Config()) == ""
    assert other_sizes("rawnet3", ESPNET) == ""
    wider = dataclasses.replace(ESPNET, joined=2048)
    assert other_sizes("rawnet3", wider) == "joined is 2048, not 1536"
    wider = dataclasses.replace(RawNet3Config(), joined=2048)
    assert other_sizes("rawnet3", wider) == "joined is 2048, not 1536"


@pytest.mark.parametrize(
    ("text", "stride"),
    [
        ("frontend: asteroid_frontend\nfrontend_conf:\n    sinc_stride: 10\nnormalize: null\n", 10),
        ("frontend_conf:\n    sinc_stride: 48\n    log_term: 1.0e-06\n", 48),
        ("frontend_conf: {}\nnormalize_conf: {}\n", 16),
        ("model: something else\n", 16),
    ],
)
@pytest.mark.parametrize("named", ["the file", "the folder"])
def test_the_stride_is_that_of_the_config_beside(
    text: str, stride: int, named: str, source: Path, tmp_path: Path
) -> None:
    (source.parent / "config.yaml").write_text(text)
    import_weights("rawnet3", source if named == "the file" else source.parent, tmp_path / "out")
    assert sizes(tmp_path / "out") == RawNet3Config(**SMALL, stride=stride)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frontend_conf: [1,", r"config\.yaml is not YAML \("),
        ("- a list\n", r"config\.yaml is no config of ESPnet's"),
        ("frontend_conf: 16\n", r"config\.yaml is no config of ESPnet's"),
        ("frontend_conf:\n  log_term: 0.1\n", r"has log_term 0\.1 and normalize None, which"),
        ("normalize: utterance_mvn\n", r"and normalize utterance_mvn, which RawNet3 \("),
        ("frontend_conf:\n  sinc_stride: many\n", "has sinc_stride 'many', which is no number"),
        ("frontend_conf:\n  sinc_stride: 0\n", "has sinc_stride 0, which is no number"),
    ],
)
def test_a_config_of_another_network_is_one_line(
    text: str, message: str, source: Path, tmp_path: Path
) -> None:
    (source.parent / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        import_weights("rawnet3", source, tmp_path / "out")
    one_line(error)


def test_a_config_beside_the_authors_file_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("frontend_conf:\n  sinc_stride: 48\n")
    import_weights("rawnet3", write_authors("rawnet3", tmp_path), tmp_path / "out")
    assert sizes(tmp_path / "out").stride == 10


def test_each_name_of_espnets_that_is_missing_is_said() -> None:
    file, network = files.rawnet3_espnet(small=True), NETWORKS["rawnet3"]
    held = files.as_read(file.tensors())
    for name in file.shapes:
        there = {other: x for other, x in held.items() if other != name}
        with pytest.raises(UserError) as error:
            network.convert(there, network.sizes(there, Path("unused")))
        assert any(part in one_line(error) for part in (name, *suffixes(name))), name


def test_a_network_of_espnets_for_something_else_is_refused(tmp_path: Path) -> None:
    """One with a mel spectrogram in front, as ESPnet's ECAPA-TDNN has it."""
    tensors = {"frontend.logmel.melmat": torch.ones(9, 4), "encoder.conv.weight": torch.ones(2, 2)}
    torch.save(tensors, tmp_path / "9epoch.pth")
    with pytest.raises(UserError, match=r"no tensor 'frontend\.conv\.filterbank\.low_hz_'"):
        import_weights("rawnet3", tmp_path / "9epoch.pth", tmp_path / "out")


# ------------------------------------------------------------------------------ different lengths
def test_a_vector_knows_nothing_of_the_padding() -> None:
    network = small.network("rawnet3")
    samples = np.array([4800, LEAST_SAMPLES + 500], np.int32)
    waves = np.random.default_rng(0).normal(size=(2, 4800)).astype(np.float32)
    waves[1, samples[1] :] = 7
    run = nnx.jit(lambda network, *given: network(given[0], jnp.float32, *given[1:]))
    told, untold = run(network, waves, samples), run(network, waves)
    (alone,) = run(network, waves[1:, : samples[1]])
    scale = float(jnp.abs(untold).max())
    np.testing.assert_allclose(told[0] / scale, untold[0] / scale, atol=1e-5)
    np.testing.assert_allclose(told[1] / scale, alone / scale, atol=1e-5)
    assert np.abs(untold[1] - alone).max() > 0.01 * scale  # It is heard, if nothing is told of it.


@pytest.mark.parametrize("stride", [RawNet3Config().stride, ESPNET.stride])
def test_own_frames_are_as_many_as_there_are_of_the_sound_alone(stride: int) -> None:
    cfg = dataclasses.replace(small.CASES["rawnet3"].cfg, stride=stride)
    samples = np.arange(LEAST_SAMPLES - 1, 2000, 23)
    own = NETWORKS["rawnet3"].make(cfg).own(2000, jnp.asarray(samples))
    frames = (samples - cfg.taps) // stride + 1
    for mask, pool in zip(own[1:], (1, *rawnet3.POOLS), strict=True):
        frames = frames // pool
        np.testing.assert_array_equal(np.asarray(mask).sum(axis=(1, 2)), frames)
    # One frame alone has no deviation.
    assert frames[1] >= 2
    assert frames[0] == 1 or stride < ESPNET.stride
