"""Networks are those of their published files, held against PyTorch; other files are refused."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from vssflow_jax.evaluate.networks import panns, synchformer, vggish
from vssflow_jax.evaluate.networks.layers import read_weights
from vssflow_jax.utils.errors import UserError

RATE = 16_000
NARROW = (3, 4, 5, 6, 7, 8)  # channels of Cnn14's blocks


def weights(shapes, seed=0):
    """Random tensors of a network, of a size at which signals neither die nor grow."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        if name.endswith("running_var"):
            found[name] = 0.5 + values.abs()
        elif len(shape) == 1:
            found[name] = 0.1 * values + float("bn" in name or ".ln" in name)
        else:
            found[name] = values * (2 / values[0].numel()) ** 0.5
    return found


def empty(shapes):
    """Tensors of zeros that take no room in a file."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def as_numpy(tensors):
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def sound(samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def torch_cnn14(w, waveform):
    """Cnn14 in the words of PyTorch."""

    def norm(name, x):
        statistics = (w[f"{name}.running_mean"], w[f"{name}.running_var"])
        return F.batch_norm(x, *statistics, w[f"{name}.weight"], w[f"{name}.bias"])

    x = F.pad(torch.from_numpy(waveform)[None, None], (256, 256), mode="reflect")
    stft = "spectrogram_extractor.stft.conv"
    power = sum(
        F.conv1d(x, w[f"{stft}_{part}.weight"], stride=160) ** 2 for part in ("real", "imag")
    )
    mel = (power.transpose(1, 2) @ w["logmel_extractor.melW"]).clamp(min=1e-10).log10() * 10
    x = norm("bn0", mel[:, None].transpose(1, 3)).transpose(1, 3)
    for number in range(1, 7):
        for layer in (1, 2):
            name = f"conv_block{number}"
            x = F.conv2d(x, w[f"{name}.conv{layer}.weight"], padding=1)
            x = F.relu(norm(f"{name}.bn{layer}", x))
        x = F.avg_pool2d(x, 2 if number < 6 else 1)
    x = x.mean(dim=3)
    x = x.amax(dim=2) + x.mean(dim=2)
    features = F.relu(F.linear(x, w["fc1.weight"], w["fc1.bias"]))
    return features[0], F.linear(features, w["fc_audioset.weight"], w["fc_audioset.bias"])[0]


def torch_vggish(w, log_mels):
    x = torch.from_numpy(log_mels)[:, None]
    for place in (0, 3, 6, 8, 11, 13):
        x = F.conv2d(x, w[f"features.{place}.weight"], w[f"features.{place}.bias"], padding=1)
        x = F.relu(x)
        x = F.max_pool2d(x, 2) if place not in (6, 11) else x
    x = x.permute(0, 2, 3, 1).flatten(1)
    for place in (0, 2, 4):
        x = F.linear(x, w[f"embeddings.{place}.weight"], w[f"embeddings.{place}.bias"])
        x = F.relu(x) if place < 4 else x
    return x


def torch_synchformer(w, video, audio):
    def linear(name, x):
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def heads(name, x):
        return linear(name, x).unflatten(-1, (8, -1)).transpose(1, 2)

    seen = norm("transformer.vis_in_lnorm", linear("vproj", video.flatten(1, 2)))
    heard = norm("transformer.aud_in_lnorm", linear("aproj", audio.flatten(1, 2)))
    first, between = (
        w[f"transformer.{name}_tok"].expand(len(video), 1, -1) for name in ("OFF", "MOD")
    )
    x = torch.cat([first, seen, between, heard], dim=1) + w["transformer.pos_emb_cfg.pos_emb"]
    for block in (f"transformer.blocks.{number}" for number in range(3)):
        normed = norm(f"{block}.ln1", x)
        parts = [heads(f"{block}.attn.{name}", normed) for name in ("query", "key", "value")]
        read = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        x = x + linear(f"{block}.attn.proj", read)
        inner = F.gelu(linear(f"{block}.mlp.0", norm(f"{block}.ln2", x)))
        x = x + linear(f"{block}.mlp.2", inner)
    return linear("transformer.off_head", norm("transformer.ln_f", x[:, 0]))


@pytest.mark.parametrize("samples", [panns.MIN_SAMPLES, RATE, 20_001])
def test_cnn14_is_the_original(samples):
    tensors = weights(panns.shapes(NARROW))
    both = np.stack([sound(samples), sound(samples, seed=1)])
    found = panns.forward(as_numpy(tensors), both)
    for number, waveform in enumerate(both):
        for ours, theirs in zip(found, torch_cnn14(tensors, waveform), strict=True):
            atol = 1e-5 * float(theirs.abs().max())
            np.testing.assert_allclose(ours[number], theirs, atol=atol)


def test_vggish_is_the_original():
    narrow = {
        name: tuple(size if size in (1, 3) else size // 16 for size in shape)
        for name, shape in vggish.shapes().items()
    }
    tensors = weights(narrow)
    log_mels = vggish.log_mel_windows(sound(2 * RATE))
    assert log_mels.shape == (2, 96, 64)
    theirs = torch_vggish(tensors, log_mels)
    ours = vggish.forward(as_numpy(tensors), log_mels)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * float(theirs.abs().max()))


def test_mel_of_vggish_is_of_its_first_release():
    """A tone lies in the band whose mel is nearest, and its log magnitude is that of a window."""
    band = 20
    edges = np.linspace(*(1127 * np.log(1 + f / 700) for f in (125, 7500)), 66)
    tone = 700 * (np.exp(edges[band + 1] / 1127) - 1)
    waveform = np.sin(2 * np.pi * tone / RATE * np.arange(RATE))
    log_mels = vggish.log_mel_windows(waveform)[0]
    assert (log_mels.argmax(axis=1) == band).all()
    assert vggish.log_mel_windows(np.zeros(RATE)) == pytest.approx(np.log(0.01))
    assert vggish.mel_bank()[0].max() == 0


def test_head_of_synchformer_is_the_original():
    tensors = weights(synchformer.shapes(32))
    rng = np.random.default_rng(0)
    video, audio = (rng.standard_normal((2, 14, n, 32)).astype(np.float32) for n in (8, 6))
    theirs = torch_synchformer(tensors, torch.from_numpy(video), torch.from_numpy(audio))
    ours = synchformer.forward(as_numpy(tensors), video, audio)
    assert ours.shape == (2, 21)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * float(theirs.abs().max()))


@pytest.fixture(scope="module")
def cnn14_file(tmp_path_factory):
    """Laid out as published: by an old torch, with a sampler's arrays beside the model."""
    path = tmp_path_factory.mktemp("weights") / "Cnn14_16k.pth"
    counts = {"bn0.num_batches_tracked": torch.tensor(7)}
    bias = {"fc_audioset.bias": torch.arange(527.0), "fc1.bias": torch.ones(2048)}
    model = empty(panns.shapes()) | counts | bias
    sampler = {"indexes": np.arange(5), "pointer": np.int64(2)}
    checkpoint = {"iteration": 3, "model": model, "sampler": sampler}
    torch.save(checkpoint, path, _use_new_zipfile_serialization=False)
    numpy_1 = path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path.write_bytes(numpy_1)
    return path


@pytest.fixture(scope="module")
def vggish_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vggish.pth"
    torch.save(empty(vggish.shapes()) | {"embeddings.4.bias": torch.arange(128.0)}, path)
    return path


def test_safetensors_are_read(tmp_path):
    tensors = weights(synchformer.shapes(), seed=1)
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "a.pth")
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((1, 14, n, 768)).astype(np.float32) for n in (8, 6)]
    logits = [synchformer.load(tmp_path / f"a.{kind}")(*inputs) for kind in ("pth", "safetensors")]
    np.testing.assert_array_equal(*logits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc1.bias": None}, "no tensor 'fc1.bias'"),
        ({"other": torch.zeros(2)}, "unknown tensor 'other'"),
        ({"fc1.bias": torch.zeros(9)}, r"'fc1.bias' has shape \(9,\), expected \(2048,\)"),
        # The front end tells the file of another sampling rate; all else is alike.
        ({"logmel_extractor.melW": torch.zeros(513, 64)}, r"\(513, 64\), expected \(257, 64\)"),
        ({"fc1.bias": "text"}, "no tensor 'fc1.bias'"),
    ],
)
def test_other_weights_are_refused(change, message, tmp_path):
    tensors = empty(panns.shapes()) | change
    path = tmp_path / "other.pth"
    torch.save({"model": {name: x for name, x in tensors.items() if x is not None}}, path)
    with pytest.raises(UserError, match=f"{message}.* no file of PANNs' Cnn14 at 16 kHz"):
        panns.load(path)


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_numbers_that_are_not_finite_are_refused_where_they_are_used(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    tensors = {"used": torch.ones(2), "mask": torch.full((2,), -torch.inf)}
    save = save_file if kind == "safetensors" else torch.save
    save(tensors, path)
    np.testing.assert_array_equal(read_weights(path, "a net", {"used": (2,)}, ["mask"])["used"], 1)
    save(tensors | {"used": torch.tensor([1, torch.nan])}, path)
    with pytest.raises(UserError, match=rf"a\.{kind}: 'used' holds 1 numbers of 2"):
        read_weights(path, "a net", {"used": (2,)}, ["mask"])


def test_files_that_would_run_code_are_refused(tmp_path):
    torch.save({"model": {}, "config": print}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="holds no state dict"):
        panns.load(tmp_path / "a.pth")
    with pytest.raises(UserError, match="does not exist"):
        panns.load(tmp_path / "b.pth")
