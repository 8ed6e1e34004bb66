"""Files of CTranslate2, as its own writer makes them; and damaged ones."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.networks import whisper_files as files
from vssflow_jax.interop.import_weights import import_weights
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.ctranslate2 import MODEL_FILE, read_ctranslate2


@pytest.fixture
def exact(tmp_path: Path) -> Path:
    return files.write_ctranslate2(files.peer(), tmp_path / "exact")


@pytest.mark.parametrize(
    ("quantization", "tolerance"),
    [
        ("float16", 1e-3),
        ("bfloat16", 5e-3),
        ("int16", 1e-3),
        ("int8", 5e-3),
        ("int8_float16", 5e-3),
    ],
)
def test_numbers_of_all_kinds(
    exact: Path, quantization: str, tolerance: float, tmp_path: Path
) -> None:
    wanted = read_ctranslate2(exact)
    found = read_ctranslate2(files.write_ctranslate2(files.peer(), tmp_path / "x", quantization))
    assert found.network == wanted.network == "WhisperSpec"
    assert found.tensors.keys() == wanted.tensors.keys()
    changed = 0
    for name, tensor in wanted.tensors.items():
        other = found.tensors[name]
        assert (other.dtype, other.shape) == (tensor.dtype, tensor.shape), name
        error = np.abs(other - tensor).max(initial=0)
        assert error <= tolerance * np.abs(tensor).max(initial=0), name
        changed += error > 0
    assert changed > 20


def test_names_are_like_those_of_pytorch(exact: Path) -> None:
    tensors = read_ctranslate2(exact / MODEL_FILE).tensors
    network = files.peer().model
    for name, own in (
        ("decoder.layer.2.ffn.linear_0.weight", network.decoder.layers[2].fc1.weight),
        ("encoder.layer.1.ffn.layer_norm.bias", network.encoder.layers[1].final_layer_norm.bias),
        ("encoder.conv1.weight", network.encoder.conv1.weight),
    ):
        np.testing.assert_array_equal(tensors[name], own.detach().numpy())
    assert "decoder.projection.weight" not in tensors  # a second name


@pytest.mark.parametrize("share", [0.0001, 0.001, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_refused(exact: Path, share: float) -> None:
    path = exact / MODEL_FILE
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    message = r"model\.bin is not a whole model\.bin of CTranslate2: it ends \d+ bytes too early"
    with pytest.raises(UserError, match=message) as error:
        read_ctranslate2(exact)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"", b"PK\x03\x04", "is no model.bin of CTranslate2, or one of version 67324752"),
        (
            struct.pack("<I", 6),
            struct.pack("<I", 7),
            "or one of version 7; those of version 4 to 6",
        ),
        (b"decoder/scale_emb", b"decoder/scale_\xff\xffb", "is not a whole model.bin"),
        (b"WhisperSpec", b"WhisperXpec", "holds a 'WhisperXpec' of CTranslate2, not a 'Whisper"),
        (
            b"decoder/activation\0\0\x01\x01\0\0\0\x03",
            b"decoder/activation\0\0\x01\x01\0\0\0\0",
            "has another activation than GELU",
        ),
        (b"encoder/conv1/bias", b"encoder/conv1/tail", r"1 missing \(encoder\.conv1\.bias\)"),
        (b"decoder/embeddings/weight", b"decoder/embeddings/heavie", "no tensor '"),
    ],
)
def test_files_of_something_else_are_refused(
    exact: Path, old: bytes, new: bytes, message: str, tmp_path: Path
) -> None:
    path = exact / MODEL_FILE
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    pattern = message if "\\" in message else re.escape(message)
    with pytest.raises(UserError, match=pattern) as error:
        import_weights("whisper", exact, tmp_path / "imported")
    assert "\n" not in str(error.value)


def test_a_vocabulary_of_another_network_is_refused(exact: Path, tmp_path: Path) -> None:
    vocabulary = exact / "vocabulary.json"
    vocabulary.write_text(vocabulary.read_text().replace("[", '["more", ', 1))
    with pytest.raises(UserError, match="names 274 tokens, but the network has 273; they are of"):
        import_weights("whisper", exact, tmp_path / "imported")
    vocabulary.write_text("{}")
    with pytest.raises(UserError, match=r"vocabulary\.json is not a list of tokens"):
        import_weights("whisper", exact, tmp_path / "imported")
    vocabulary.unlink()
    with pytest.raises(UserError, match=r"no vocabulary\.json and no vocabulary\.txt"):
        import_weights("whisper", exact, tmp_path / "imported")
