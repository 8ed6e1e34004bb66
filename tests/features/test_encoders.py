"""CLIP from a local folder against transformers itself, features from files, and who is chosen."""

from pathlib import Path

import numpy as np
import pytest

from vssflow_jax import media
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features import encoders, frozen
from vssflow_jax.features.encoders import Absent, Files, Resemblyzer
from vssflow_jax.features.files import in_shape
from vssflow_jax.features.footage import Encoders, Footage
from vssflow_jax.features.weights_free import WEIGHTS_FREE
from vssflow_jax.input_pipeline.records import on_disk
from vssflow_jax.input_pipeline.streams import STREAMS, Stream
from vssflow_jax.utils.errors import Rejected, UserError

SPEC = ClipSpec(duration_sec=3.0)
SIDE = 32
HIDDEN = 24


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small CLIP with random weights, text half and all."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    half = {"hidden_size": HIDDEN, "intermediate_size": 32, "num_hidden_layers": 2}
    half |= {"num_attention_heads": 2}
    vision = half | {"image_size": SIDE, "patch_size": 8}
    folder = tmp_path_factory.mktemp("clip")
    model = CLIPModel(CLIPConfig(text_config=half, vision_config=vision))
    for parameter in model.parameters():  # Norms start as ones: make the last one tell.
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return folder


def noise(num_frames: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (num_frames, SIDE, SIDE, 3), dtype=np.uint8)


def encode(encoder: frozen.Frozen, frames: np.ndarray) -> np.ndarray:
    kept = encoder.look(SPEC, None).keep(frames, frames[0])
    return encoder(Footage("a", SPEC, SPEC.duration_sec, {encoder: kept}))


def test_clip_is_the_token_before_the_last_norm(clip_folder: Path) -> None:
    import torch
    from transformers import CLIPVisionModel

    encoder = frozen.encoder("visual", clip_folder)
    frames = noise(20)
    features = encode(encoder, frames)
    assert features.shape == (20, HIDDEN) == (20, encoder.width)
    assert features.dtype == np.float32

    pixels = frames / 255.0
    pixels = (pixels - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    model = CLIPVisionModel.from_pretrained(clip_folder).eval()
    with torch.no_grad():
        outputs = model(
            torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32),
            output_hidden_states=True,
        )
    expected = outputs.hidden_states[-1][:, 0].numpy()
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(features - outputs.pooler_output.numpy()).max() > 0.1


def test_clip_sees_squares_ten_times_a_second(clip_folder: Path) -> None:
    look = frozen.encoder("visual", clip_folder).look(SPEC, None)
    assert look.view.rate == 10
    wide = np.zeros((2, SIDE, 3 * SIDE, 3), np.uint8)
    assert look.keep(wide, wide[0]).shape == (2, SIDE, SIDE, 3)


def test_a_folder_without_clip_is_named(clip_folder: Path, tmp_path: Path) -> None:
    import transformers

    with pytest.raises(UserError, match="gone"):
        frozen.encoder("visual", tmp_path / "gone")
    half_there = tmp_path / "half"
    half_there.mkdir()
    (half_there / "config.json").write_bytes((clip_folder / "config.json").read_bytes())
    with pytest.raises(UserError, match="half"):
        frozen.encoder("visual", half_there)
    weights = (clip_folder / "model.safetensors").read_bytes()
    (half_there / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UserError, match="half"):
        frozen.encoder("visual", half_there)

    other = tmp_path / "other"
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    transformers.ViTModel(config).save_pretrained(other)
    with pytest.raises(UserError):
        frozen.encoder("visual", other)


def of_files(
    root: Path, stream: str, array: np.ndarray, duration_sec: float = 3.0, source_sec: float = 0.0
) -> np.ndarray:
    """What `Files` makes of an array on disk."""
    encoder = Files(root / on_disk(stream), STREAMS[stream].width)
    encoder.folder.mkdir()
    np.save(encoder.folder / "a.npy", array)
    return encoder(Footage("a", SPEC, duration_sec, {}, voice="a", source_sec=source_sec))


@pytest.mark.parametrize(
    ("stream", "shape", "kept"),
    [
        ("visual", (30, 768), (30, 768)),
        ("sync", (9, 8, 768), (72, 768)),
        ("sync", (72, 768), (72, 768)),
        ("lips", (52, 1024), (52, 1024)),
        ("lips", (90, 1024), (75, 1024)),
        ("speaker", (256,), (256,)),
    ],
)
def test_files_in_shape_are_taken(tmp_path: Path, stream: str, shape: tuple, kept: tuple) -> None:
    array = np.random.default_rng(0).standard_normal(shape, np.float32)
    source_sec = shape[0] / SPEC.video_rate if stream == "lips" else 3.0
    features = of_files(tmp_path, stream, array, min(source_sec, 3.0), source_sec)
    np.testing.assert_array_equal(features, array.reshape(-1, *kept[1:])[: kept[0]])


@pytest.mark.parametrize(
    ("stream", "array", "reason"),
    [
        ("visual", np.ones((29, 768), np.float32), "wrong shape"),
        ("visual", np.ones((30, 512), np.float32), "wrong shape"),
        ("sync", np.ones((9, 7, 768), np.float32), "wrong shape"),
        ("sync", np.ones((8, 9, 768), np.float32), "wrong shape"),
        ("speaker", np.ones((1, 256), np.float32), "wrong shape"),
        ("visual", np.ones((30, 768), int), "wrong type"),
        ("visual", np.full((30, 768), np.nan), "not finite"),
        ("lips", np.ones((60, 1024), np.float32), "wrong length"),
        ("lips", np.ones((72, 1024), np.float32), "wrong length"),  # 24 a second
        ("lips", np.ones((90, 1024), np.float32), "wrong length"),  # 30 a second
    ],
)
def test_files_out_of_shape_are_rejected(
    tmp_path: Path, stream: str, array: np.ndarray, reason: str
) -> None:
    with pytest.raises(Rejected, match=f"^{reason}: .*a.npy"):
        of_files(tmp_path, stream, array)


def test_a_damaged_file_is_rejected(tmp_path: Path) -> None:
    of_files(tmp_path, "visual", np.ones((30, 768), np.float32))
    path = tmp_path / "clip" / "a.npy"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(Rejected, match=r"^unreadable file: .*a.npy"):
        Files(path.parent, 768)(Footage("a", SPEC, 3.0, {}))


def test_no_file_is_no_features(tmp_path: Path) -> None:
    assert not len(Files(tmp_path / "clip", 768)(Footage("a", SPEC, 3.0, {})))
    assert not len(Files(tmp_path / "speaker", 256)(Footage("a", SPEC, 3.0, {})))


def test_each_stream_has_the_encoder_that_was_chosen(clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "lips").mkdir()
    (tmp_path / "synch").mkdir()
    chosen = encoders.choose(str(clip_folder), "", str(tmp_path), ["sync"])
    assert chosen == Encoders(
        {
            "visual": frozen.encoder("visual", clip_folder),
            "sync": WEIGHTS_FREE["sync"],
            "lips": Files(tmp_path / "lips", 1024),
            "speaker": Absent(256),
        }
    )
    assert chosen.widths == {"visual": HIDDEN, "sync": 96, "lips": 1024, "speaker": 256}
    widths = {name: stream.width for name, stream in STREAMS.items()}
    assert encoders.choose("", "", "", []).widths == widths
    either = [
        encoders.choose("", "", "", names) for names in (["clip", "synch"], ["visual", "sync"])
    ]
    assert either[0] == either[1]


def test_an_entry_of_the_table_may_name_an_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Stream("pose", width=34, rate=lambda spec: 5, encoder=WEIGHTS_FREE["visual"])
    monkeypatch.setitem(STREAMS, "pose", entry)
    chosen = encoders.choose("", "", str(tmp_path), [])
    assert chosen["pose"] is WEIGHTS_FREE["visual"]
    assert [*chosen.widths] == [*STREAMS]
    assert of_files(tmp_path, "pose", np.ones((15, 34), np.float32)).shape == (15, 34)
    assert encoders.choose("", "", str(tmp_path), [])["pose"] == Files(tmp_path / "pose", 34)
    with pytest.raises(Rejected, match=r"pose is \(14, 34\), expected \(15, 34\)"):
        in_shape(np.ones((14, 34)), "pose", SPEC, tmp_path)


@pytest.mark.parametrize(
    ("clip", "speaker", "root", "weights_free", "what"),
    [
        ("x", "", "", ["visual"], "--clip and .* choose one"),
        ("", "resemblyzer", "", ["speaker"], "--speaker and .* choose one"),
        ("", "", "gone", [], "gone: no such folder"),
        ("", "", "", ["lip"], "no stream 'lip'"),
    ],
)
def test_choices_that_cannot_be(
    clip: str, speaker: str, root: str, weights_free: list, what: str
) -> None:
    with pytest.raises(UserError, match=what):
        encoders.choose(clip, speaker, root, weights_free)


def of_voice(sample: np.ndarray | None) -> np.ndarray:
    return Resemblyzer()(Footage("a", SPEC, 3.0, {}, voice="a", voice_sample=sample))


def test_voices_are_known_by_their_vectors(demo_data: Path) -> None:
    first, second = (
        media.read_audio(path, SPEC.sampling_rate)
        for path in sorted((demo_data / "voices").iterdir())[:2]
    )
    half = len(first) // 2
    own, same, other = map(of_voice, (first[:half], first[half:], second))
    assert own.shape == (Resemblyzer().width,)
    assert own.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(own), 1, atol=1e-5)
    assert own @ same > own @ other
    assert encoders.choose("", "resemblyzer", "", [])["speaker"] == Resemblyzer()


def test_a_voice_sample_without_a_voice_is_rejected() -> None:
    assert not len(of_voice(None))
    for silence in (np.zeros(16_000, np.float32), np.zeros(0, np.float32)):
        with pytest.raises(Rejected, match=r"^bad voice_sample: no voice"):
            of_voice(silence)
