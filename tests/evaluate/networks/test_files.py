"""Features in av-benchmark's files are read, and scored as it scores them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vssflow_jax.evaluate.metrics.classes import inception_scores, kl_softmax
from vssflow_jax.evaluate.metrics.fd import frechet_distance
from vssflow_jax.evaluate.metrics.of_sets import OfSet, cosine_similarity, pair_by_name
from vssflow_jax.evaluate.metrics.registry import METRICS
from vssflow_jax.evaluate.networks import files as caches
from vssflow_jax.evaluate.networks import synchformer
from vssflow_jax.utils.errors import UserError

OF_FEATURES = {
    name: x.of_features
    for name, x in METRICS.items()
    if x.of_features and x.of_features.generated.file
}


NAMES = [f"zxpo56cpUB{letter}_000007" for letter in "abcdefghijklmnop"]
GENERATED = [f"{name}-0" for name in NAMES[:14]] + ["unknown"]  # as samplers call them
SEGMENTS = 15


def scores_of(generated: Path, reference: Path) -> tuple[dict[str, float], dict[str, str]]:
    """All scores that the features in two folders give, and why there are no others."""
    scores, absent = {}, {}
    for name, features in OF_FEATURES.items():
        try:
            found, _ = features.measure(generated, reference, {})
        except UserError as error:
            absent[name] = str(error)
        else:
            values = [found.value] if isinstance(found, OfSet) else [*found.values()]
            scores[name] = float(np.mean(values))
    return scores, absent


def tensors(names, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(*shape, generator=generator) for name in names}


def panns_features(names, seed=0):
    features = tensors(names, 2048, seed=seed)
    logits = tensors(names, 527, seed=seed + 1)
    return {
        name: {
            "2048": features[name],
            "logits": logits[name],
            "clipwise_output": logits[name].sigmoid(),
        }
        for name in names
    }


def stacked(clips, names, key=None):
    return np.stack([(clips[name][key] if key else clips[name]).numpy() for name in names])


@pytest.fixture(scope="module")
def files():
    """Side -> file -> what av-benchmark saves in it."""
    exact = [*NAMES[:12], GENERATED[13], "unknown"]  # PANNs' logits are paired by equal names.
    return {
        "generated": {
            "vggish_features.pth": tensors(GENERATED, 8, 128),
            "pann_features.pth": panns_features(exact),
            "passt_features_embed.pth": tensors(GENERATED, 768),
            "passt_logits.pth": tensors(GENERATED, 527),
            "imagebind_audio.pth": tensors(GENERATED, 1024),
            "clap_laion_audio.pth": tensors(GENERATED, 512),
            "synchformer_audio.pth": tensors(GENERATED, SEGMENTS, 6, 768),
        },
        "reference": {
            "vggish_features.pth": tensors(NAMES, 8, 128, seed=7),
            "pann_features.pth": panns_features(NAMES, seed=7),
            "passt_features_embed.pth": tensors(NAMES, 768, seed=7),
            "passt_logits.pth": tensors(NAMES, 527, seed=7),
            "imagebind_video.pth": tensors(NAMES, 1024, seed=7),
            "clap_laion_audio.pth": tensors(NAMES, 512, seed=7),
            "clap_laion_text.pth": tensors(NAMES, 512, seed=8),
            "synchformer_video.pth": tensors(NAMES, SEGMENTS, 8, 768, seed=7),
        },
    }


@pytest.fixture
def folders(files, tmp_path):
    for side, contents in files.items():
        (tmp_path / side).mkdir()
        for name, clips in contents.items():
            torch.save(clips, tmp_path / side / name)
    return tmp_path / "generated", tmp_path / "reference"


def head(video, audio):
    """In place of Synchformer's: the offset whose features are the largest on average."""
    assert video.shape[1:] == (14, 8, 768)
    assert audio.shape[1:] == (14, 6, 768)
    return (video.mean(axis=(1, 2)) + audio.mean(axis=(1, 2)))[:, :21]


@pytest.fixture
def network(monkeypatch):
    monkeypatch.setattr(synchformer, "load", {Path("weights.pth"): head}.__getitem__)
    return {"synchformer": Path("weights.pth")}


def test_scores_are_those_of_the_paired_features(files, folders):
    scores, absent = scores_of(*folders)
    assert list(absent) == ["desync"]
    generated, reference = files["generated"], files["reference"]

    def both(file, key=None, paired=GENERATED[:14], of=NAMES[:14]):
        return stacked(generated[file], paired, key), stacked(reference[file], of, key)

    windows = [
        np.concatenate([clip.numpy() for clip in side["vggish_features.pth"].values()])
        for side in (generated, reference)
    ]
    passt = both("passt_logits.pth")
    exact = both("pann_features.pth", "logits", NAMES[:12], NAMES[:12])
    all_panns = list(generated["pann_features.pth"])
    images = [stacked(reference["imagebind_video.pth"], NAMES[:14])]
    sounds = [stacked(generated["imagebind_audio.pth"], GENERATED[:14])]
    heard = both("clap_laion_audio.pth")
    captions = stacked(reference["clap_laion_text.pth"], NAMES[:14])
    expected = {
        "fd_vggish": frechet_distance(*windows),
        "fd_panns": frechet_distance(*both("pann_features.pth", "2048", all_panns, NAMES)),
        "fd_passt": frechet_distance(*both("passt_features_embed.pth")),
        "kl_panns": kl_softmax(exact[1], exact[0]).mean(),
        "kl_passt": kl_softmax(passt[1], passt[0]).mean(),
        "is_panns": inception_scores(
            stacked(generated["pann_features.pth"], all_panns, "logits")
        ).mean(),
        "is_passt": inception_scores(passt[0]).mean(),
        "ib_score": cosine_similarity(*images, *sounds).mean(),
        "fd_clap": frechet_distance(*heard),
        "clap_score": cosine_similarity(captions, heard[0]).mean(),
    }
    assert scores == pytest.approx(expected, rel=1e-12)


def test_desync_looks_at_both_ends_of_each_pair(files, folders, network):
    scores, clips = OF_FEATURES["desync"].measure(*folders, network)
    assert clips == 14
    assert isinstance(scores, dict)
    assert list(scores) == GENERATED[:14]
    video = stacked(files["reference"]["synchformer_video.pth"], NAMES[:14])
    sound = stacked(files["generated"]["synchformer_audio.pth"], GENERATED[:14])
    ends = [head(video[:, :14], sound[:, :14]), head(video[:, 1:], sound[:, 1:])]
    offsets = [np.abs(np.linspace(-2, 2, 21)[logits.argmax(axis=1)]) for logits in ends]
    assert len(np.unique(offsets)) > 2
    np.testing.assert_allclose(list(scores.values()), np.mean(offsets, axis=0), atol=1e-6)


def test_what_is_not_there_is_left_out_and_said(folders):
    generated, reference = folders
    (generated / "passt_logits.pth").unlink()
    (reference / "imagebind_video.pth").unlink()
    (reference / "vggish_features.pth").unlink()
    scores, reasons = scores_of(*folders)
    assert set(reasons) == {"kl_passt", "is_passt", "ib_score", "fd_vggish", "desync"}
    assert set(scores) == set(OF_FEATURES) - set(reasons)
    assert f"no features by passt in {generated}: get passt-s-f128" in reasons["kl_passt"]
    assert f"no features by imagebind_video in {reference}" in reasons["ib_score"]
    assert "name it by --config.eval.backbones.vggish or lay it at" in reasons["fd_vggish"]
    assert "or extract vggish_features.pth with av-benchmark" in reasons["fd_vggish"]
    assert "--config.eval.backbones.synchformer" in reasons["desync"]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({}, "holds no dict of clips"),
        (torch.zeros(3), "holds no dict of clips"),
        ({"a": torch.zeros(527)}, r"'a' has shape \[527\], expected \[768\]"),
        ({"a": torch.zeros(2, 768)}, r"'a' has shape \[2, 768\], expected \[768\]"),
        ({"a": "text"}, r"'a' has shape \[\], expected \[768\]"),
        ({"a": {"2048": torch.zeros(768)}}, r"'a' has shape \[\], expected \[768\]"),
    ],
)
def test_other_features_are_refused(contents, message, tmp_path):
    torch.save(contents, tmp_path / "passt_features_embed.pth")
    with pytest.raises(UserError, match=message) as error:
        caches.read(tmp_path, caches.PASST_FEATURES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no file of torch", None])
def test_damaged_files_are_refused(content, folders):
    path = folders[0] / "passt_features_embed.pth"
    path.write_bytes(path.read_bytes()[:1000] if content is None else content)
    with pytest.raises(UserError, match=r"passt_features_embed\.pth is ") as error:
        OF_FEATURES["fd_passt"].measure(*folders, backbones={})
    assert "\n" not in str(error.value)


def test_clips_of_other_names_are_refused(folders):
    torch.save(tensors(["x", "y"], 527), folders[0] / "passt_logits.pth")
    with pytest.raises(UserError, match=r"none of 2 generated clips"):
        OF_FEATURES["kl_passt"].measure(*folders, backbones={})


@pytest.mark.parametrize(
    ("score", "file", "shape"),
    [
        ("fd_passt", "passt_features_embed.pth", [768]),
        ("kl_passt", "passt_logits.pth", [527]),
        ("desync", "synchformer_audio.pth", [SEGMENTS, 6, 768]),
    ],
)
def test_values_that_are_not_finite_are_named(folders, network, score, file, shape):
    broken = {GENERATED[3]: torch.full(shape, torch.nan)}
    torch.save(tensors(GENERATED, *shape) | broken, folders[0] / file)
    with pytest.raises(UserError, match=f"clip '{GENERATED[3]}' has a value that is not finite"):
        OF_FEATURES[score].measure(*folders, network)


def test_clips_too_short_for_synchformer_have_no_score(folders, network):
    short = tensors(GENERATED, SEGMENTS, 6, 768) | {GENERATED[3]: torch.zeros(13, 6, 768)}
    torch.save(short, folders[0] / "synchformer_audio.pth")
    scores, _ = OF_FEATURES["desync"].measure(*folders, network)
    assert [name for name, score in scores.items() if np.isnan(score)] == [GENERATED[3]]


def test_desync_compares_the_same_moments_of_picture_and_sound(files, folders, network):
    """A sound that goes on after the pictures changes nothing."""
    before, _ = OF_FEATURES["desync"].measure(*folders, network)
    sound = files["generated"]["synchformer_audio.pth"]
    longer = {name: torch.cat([x, 9 * torch.randn(3, 6, 768)]) for name, x in sound.items()}
    torch.save(longer, folders[0] / "synchformer_audio.pth")
    assert OF_FEATURES["desync"].measure(*folders, network)[0] == before


def test_clips_that_are_called_like_samples_stay_themselves():
    names = ["s1_bbaf2n_speaker01", "s1_bbaf2n_speaker001", "s1_bbaf2n_speaker0012", 30 * "s"]
    assert [*map(len, names)] == [19, 20, 21, 30]
    assert pair_by_name(names, names, clean=True) == {name: name for name in names}


def test_features_of_other_clips_do_not_count(folders):
    whole, clips = OF_FEATURES["fd_passt"].measure(*folders, {})
    some, fewer = OF_FEATURES["fd_passt"].measure(*folders, {}, only=GENERATED[:9])
    assert (clips, fewer) == (14, 9)
    assert some.value != whole.value
    with pytest.raises(UserError, match="no clip is fit for it"):
        OF_FEATURES["fd_passt"].measure(*folders, {}, only=["another"])


def test_files_that_would_run_code_are_refused(tmp_path):
    torch.save({"a": print}, tmp_path / "passt_logits.pth")
    with pytest.raises(UserError, match="holds more than tensors"):
        caches.read(tmp_path, caches.PASST_LOGITS)
    with pytest.raises(UserError, match="no such file"):
        caches.read(tmp_path, caches.IMAGEBIND_AUDIO)
