"""Whisper in small against transformers and CTranslate2, its front end, vocabulary and folders."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from scipy.special import log_softmax
from tokenizers.decoders import ByteLevel
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration
from transformers.models.whisper import feature_extraction_whisper

from tests import tiny
from tests.networks import whisper_files as files
from tests.networks.files import import_command
from tests.parity.golden import FORWARD, compare
from vssflow_jax.interop.import_weights import import_weights
from vssflow_jax.networks.whisper import convert, mel, published
from vssflow_jax.networks.whisper.network import Whisper, WhisperConfig
from vssflow_jax.networks.whisper.search import Found, Rules, search
from vssflow_jax.networks.whisper.transcribe import Recogniser, Transcriber, _recognise
from vssflow_jax.networks.whisper.vocabulary import END, START, Vocabulary
from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.mapping import LEFT_OVER, MAPPED

MOST = 20


@pytest.fixture(scope="module")
def theirs() -> WhisperForConditionalGeneration:
    return files.peer()


@pytest.fixture(scope="module")
def folder(theirs: WhisperForConditionalGeneration, tmp_path_factory: Any) -> Path:
    """Of Hugging Face."""
    return files.write_hugging_face(theirs, tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def ours(folder: Path) -> Recogniser:
    return published.load(folder)


def sounds(number: int, seed: int = 0) -> np.ndarray:
    """Noise for a window of the small network, [number, 2 t, m]."""
    shape = (number, 2 * files.SIZES["max_source_positions"], files.SIZES["num_mel_bins"])
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def tokens(number: int, length: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, files.SIZE, (number, length))


def assert_same(name: str, found: Any, wanted: Any) -> None:
    row = compare(name, np.asarray(found), np.asarray(wanted), FORWARD)
    assert row.ok, row


# ------------------------------------------------------------------------------------- the network
def test_logits_are_those_of_transformers(
    ours: Recogniser, theirs: WhisperForConditionalGeneration
) -> None:
    x, said = sounds(2), tokens(2, 9)
    with torch.no_grad():
        wanted = theirs(
            input_features=torch.from_numpy(x).mT, decoder_input_ids=torch.from_numpy(said)
        )
    encoded = nnx.jit(lambda network, x: network.encoder(x))(ours.network, x)
    assert_same("encoder", encoded, wanted.encoder_last_hidden_state)
    logits = nnx.jit(lambda network, *x: network(*x))(ours.network, x, said)
    assert_same("logits", logits, wanted.logits)


def test_the_model_without_its_output_has_the_same_weights(
    ours: Recogniser, theirs: WhisperForConditionalGeneration
) -> None:
    held = {name: tensor.numpy() for name, tensor in theirs.model.state_dict().items()}
    made, report = convert.convert_weights(held, ours.cfg)
    assert report.names(LEFT_OVER) == []
    jax.tree.map(np.testing.assert_array_equal, made, nnx.to_pure_dict(nnx.state(ours.network)))


def test_token_by_token_is_as_all_at_once(ours: Recogniser) -> None:
    x, said = sounds(2), tokens(4, 7)

    @nnx.jit
    def by_token(network: Any, x: jax.Array, said: jax.Array) -> jax.Array:
        decoder, found = network.decoder, []
        heard = decoder.listen(network.encoder(x), jnp.float32)
        read = decoder.nothing(4, 12, heard)
        for place in range(7):
            behind, read = decoder(said[:, place : place + 1], read, heard, place)
            found.append(decoder.logits(behind, jnp.float32))
        return jnp.concatenate(found, axis=1)

    # Two rows of tokens for each sound, against every row with a sound of its own.
    wanted = nnx.jit(lambda network, *x: network(*x))(ours.network, x.repeat(2, axis=0), said)
    assert_same("logits", by_token(ours.network, x, jnp.asarray(said)), wanted)


def test_bfloat16_changes_little(ours: Recogniser) -> None:
    x, said = sounds(2), tokens(2, 9)
    plain = nnx.jit(lambda network, *x: network(*x))(ours.network, x, said)
    rounded = nnx.jit(lambda network, *x: network(*x, jnp.bfloat16))(ours.network, x, said)
    assert rounded.dtype == jnp.float32
    assert 0 < jnp.linalg.norm(rounded - plain) < 0.02 * jnp.linalg.norm(plain)


# -------------------------------------------------------------------------------------- the search
def found_by(
    recogniser: Recogniser, x: np.ndarray, *, beams: int, length_penalty: float = 1.0
) -> Found:
    """The best texts of log-mels."""
    words, v = recogniser.vocabulary, recogniser.cfg.vocabulary
    masks = [np.isin(np.arange(v), barred) for barred in (words.suppressed, words.suppressed_first)]

    @nnx.jit
    def run(network: Any, x: jax.Array) -> Found:
        heard = network.decoder.listen(network.encoder(x), jnp.float32)
        return search(
            network.decoder,
            heard,
            jnp.asarray(words.prompt("en")),
            Rules(words.end, jnp.asarray(masks[0]), jnp.asarray(masks[1])),
            beams=beams,
            most=MOST,
            length_penalty=length_penalty,
        )

    return jax.device_get(run(recogniser.network, x))


def test_one_beam_takes_the_likeliest_token_each_time(ours: Recogniser) -> None:
    x, words = sounds(16, seed=1), ours.vocabulary
    found = found_by(ours, x, beams=1)
    assert len({*found.lengths}) > 2
    logits = nnx.jit(lambda network, *x: network(*x))
    for row in range(len(x)):
        said, total = [*words.prompt("en")], 0.0
        before = len(said)
        while len(said) < before + MOST and (len(said) == before or said[-1] != words.end):
            padded = np.zeros((1, 4 + MOST), np.int32)
            padded[0, : len(said)] = said
            next_ = np.array(logits(ours.network, x[row : row + 1], padded)[0, len(said) - 1])
            next_[[*words.suppressed]] = -np.inf
            if len(said) == before:
                next_[[*words.suppressed_first]] = -np.inf
            likeliest = int(np.argmax(next_))
            total += log_softmax(next_)[likeliest]
            said.append(likeliest)
        told = [token for token in said[before:] if token != words.end]
        assert found.tokens[row, : found.lengths[row]].tolist() == told
        np.testing.assert_allclose(found.log_probability[row], total, rtol=1e-5)


@pytest.mark.parametrize(
    ("beams", "length_penalty"), [(1, 1.0), (2, 0.6), (5, 0.6), (5, 1.0), (5, 2.0)]
)
def test_finds_what_ctranslate2_does(
    theirs: WhisperForConditionalGeneration,
    ours: Recogniser,
    beams: int,
    length_penalty: float,
    tmp_path: Path,
) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2")
    peer = ctranslate2.models.Whisper(str(files.write_ctranslate2(theirs, tmp_path)))
    x = sounds(64, seed=1)
    found = found_by(ours, x, beams=beams, length_penalty=length_penalty)
    wanted = peer.generate(
        ctranslate2.StorageView.from_array(np.ascontiguousarray(x.swapaxes(1, 2))),
        [[*ours.vocabulary.prompt("en")]] * len(x),
        beam_size=beams,
        length_penalty=length_penalty,
        max_length=2 * MOST,
        return_scores=True,
    )
    told = [row[:length].tolist() for row, length in zip(found.tokens, found.lengths, strict=True)]
    assert len({*found.lengths}) > 3
    assert told == [each.sequences_ids[0] for each in wanted]
    np.testing.assert_allclose(found.rank, [each.scores[0] for each in wanted], atol=1e-4)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators_in_large_v3s_size(platform: str) -> None:
    cfg = WhisperConfig()
    network = nnx.eval_shape(lambda: Whisper(cfg, rngs=nnx.Rngs(0)))
    mask = jax.ShapeDtypeStruct((cfg.vocabulary,), bool)
    log_mels = jax.ShapeDtypeStruct((2, mel.FRAMES, cfg.bands), jnp.float32)
    prompt = jax.ShapeDtypeStruct((4,), jnp.int32)

    def run(weights: nnx.State, log_mels: Any, prompt: Any, masks: Any) -> Found:
        rules = Rules(50_257, *masks)
        options = {"beams": 5, "most": 224, "length_penalty": 1.0, "dtype": "bfloat16"}
        return _recognise(definition, weights, log_mels, prompt=prompt, rules=rules, **options)

    definition, weights = nnx.split(network)
    exported = jax.export.export(jax.jit(run), platforms=[platform])
    found = exported(weights, log_mels, prompt, (mask, mask))
    assert [x.shape for x in found.out_avals] == [(2, 224), (2,), (2,), (2,)]


# ----------------------------------------------------------------------------------- the front end
def quiet_and_loud(samples: int) -> np.ndarray:
    """A tone that is followed by noise 80 dB below it."""
    tone = 0.8 * np.sin(0.1 * np.arange(samples // 2))
    noise = 1e-4 * np.random.default_rng(0).normal(size=samples - len(tone))
    return np.concatenate([tone, noise]).astype(np.float32)


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=samples).astype(np.float32) / 10


@pytest.mark.parametrize("bands", [80, 128])
@pytest.mark.parametrize(
    ("samples", "make", "by_torch"),
    [
        (50_000, noise, True),
        (50_000, noise, False),
        (50_000, quiet_and_loud, False),
        (1_600, quiet_and_loud, False),
        (mel.SAMPLES - 100, noise, False),
        (mel.SAMPLES, noise, False),
    ],
)
def test_log_mels_are_those_of_transformers(
    bands: int,
    samples: int,
    make: Callable[[int], np.ndarray],
    by_torch: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those by torch are in float32, which noise is well in but not what is 80 dB below a tone."""
    monkeypatch.setattr(feature_extraction_whisper, "is_torch_available", lambda: by_torch)
    waveform = make(samples)
    extractor = WhisperFeatureExtractor(feature_size=bands)
    wanted = extractor(waveform, sampling_rate=mel.SAMPLING_RATE, return_tensors="np")
    assert_same("log-mels", mel.log_mel(waveform, bands), wanted.input_features[0].T)


def test_log_mels_of_silence() -> None:
    # By transformers too: 10^-10 on its scale.
    np.testing.assert_allclose(mel.log_mel(np.zeros(100), 80), -1.5)


# ---------------------------------------------------------------------------------- the vocabulary
def test_text_is_that_of_the_tokenizers() -> None:
    words = Vocabulary(tuple(files.TOKENS))
    rng = np.random.default_rng(0)
    for _ in range(20):
        said = rng.integers(0, words.end, 30)
        wanted = ByteLevel().decode([words.tokens[number] for number in said])
        assert words.text(said) == wanted.strip()
    umlauts = [files.BYTES.index("Ġ"), *map(files.TOKENS.index, ("Ã©", "Ġthe", END, START))]
    assert words.text(umlauts) == "é the"


def test_prompts() -> None:
    words = Vocabulary(tuple(files.TOKENS))
    named = [words.tokens[number] for number in words.prompt("de")]
    assert named == [START, "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    with pytest.raises(UserError, match="language is 'fr', which this Whisper does not know"):
        words.prompt("fr")
    english = Vocabulary((*files.TOKENS, *["x"] * (51_864 - len(files.TOKENS))))
    assert [english.tokens[i] for i in english.prompt("en")] == [START, "<|notimestamps|>"]
    with pytest.raises(UserError, match="language is 'de', but this Whisper knows English only"):
        english.prompt("de")
    with pytest.raises(UserError, match=r"no token '<\|startof.*'; it is none of Whisper's"):
        Vocabulary(("<|en|>",)).prompt("en")


# ----------------------------------------------------------------------- folders and transcripts
def test_the_command_imports_a_folder_of_hugging_face(
    folder: Path, ours: Recogniser, tmp_path: Path
) -> None:
    done = tiny.run(import_command("whisper", folder, tmp_path / "imported"))
    assert done.returncode == 0, done.stderr
    assert "licence of the published weights: MIT" in done.stdout
    assert done.stderr == ""
    assert_equal(published.load(tmp_path / "imported"), ours)
    assert len(ours.vocabulary.tokens) == ours.cfg.vocabulary == files.SIZE
    assert ours.vocabulary.tokens[-files.TIMESTAMPS :][1] == "<|0.02|>"
    assert [*ours.vocabulary.suppressed] == files.SUPPRESSED
    assert [*ours.vocabulary.suppressed_first] == files.SUPPRESSED_FIRST


def assert_equal(found: Recogniser, wanted: Recogniser) -> None:
    assert found.cfg == wanted.cfg
    assert found.vocabulary == wanted.vocabulary
    jax.tree.map(np.testing.assert_array_equal, nnx.state(found.network), nnx.state(wanted.network))


def test_a_folder_of_ctranslate2_holds_the_same(
    theirs: WhisperForConditionalGeneration, ours: Recogniser, tmp_path: Path
) -> None:
    source = files.write_ctranslate2(theirs, tmp_path / "source")
    report = import_weights("whisper", source, tmp_path / "imported")
    assert "decoder.embeddings.weight" in report.names(MAPPED)
    assert_equal(published.load(tmp_path / "imported"), ours)
    assert_equal(published.load(source / "model.bin"), ours)
    tokens = json.loads((source / "vocabulary.json").read_text())
    (source / "vocabulary.json").unlink()
    (source / "vocabulary.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    assert_equal(published.load(source), ours)


def test_a_tokenizer_in_two_files_and_settings_in_the_config_are_as_good(
    folder: Path, ours: Recogniser, tmp_path: Path
) -> None:
    source = shutil.copytree(folder, tmp_path / "source")
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    (source / "tokenizer.json").unlink()
    (source / "vocab.json").write_text(json.dumps(tokenizer["model"]["vocab"]))
    added = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    (source / "added_tokens.json").write_text(json.dumps(added))
    (source / "generation_config.json").unlink()
    config = json.loads((source / "config.json").read_text())
    config["suppress_tokens"] = files.SUPPRESSED
    config["begin_suppress_tokens"] = files.SUPPRESSED_FIRST
    (source / "config.json").write_text(json.dumps(config))
    assert_equal(published.load(source), ours)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"activation_function": "relu"}, "activation_function is 'relu'; only"),
        ("config.json", {"scale_embedding": True}, "scale_embedding is True; only False"),
        ("config.json", {"decoder_attention_heads": 2}, "decoder_attention_heads is 2; only 4"),
        ("config.json", {"encoder_attention_heads": 5}, "decoder_attention_heads is 4; only 5"),
        ("config.json", None, r"config\.json is missing"),
        ("tokenizer.json", None, r"vocab\.json is missing"),
        ("tokenizer.json", {"added_tokens": [{"id": 999, "content": "x"}]}, "tokens are missing"),
        ("model.safetensors", None, "holds no weights"),
    ],
)
def test_what_a_folder_lacks_is_said_in_one_line(
    folder: Path, file: str, change: dict[str, Any] | None, message: str, tmp_path: Path
) -> None:
    source = shutil.copytree(folder, tmp_path / "source")
    if change is None:
        (source / file).unlink()
    else:
        values = json.loads((source / file).read_text())
        (source / file).write_text(json.dumps(values | change))
    with pytest.raises(UserError, match=message) as error:
        import_weights("whisper", source, tmp_path / "imported")
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def listener(tmp_path_factory: Any) -> Recogniser:
    """One that hears whole windows."""
    network = files.peer(max_source_positions=1500, encoder_layers=1, decoder_layers=1)
    return published.load(files.write_hugging_face(network, tmp_path_factory.mktemp("whole")))


def test_transcripts_are_of_each_sound_by_itself(listener: Recogniser) -> None:
    waveforms = [noise(samples) for samples in (3_000, 20_000, 480_000)]
    hear = Transcriber(listener, beams=2, most_tokens=6, rows=2)
    alone = [hear([x])[0] for x in waveforms]
    # Two at a time, the last with a row that is not asked for.
    together = hear(waveforms)
    assert [said.tokens for said in together] == [said.tokens for said in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.text == other.text == listener.vocabulary.text(one.tokens)
        np.testing.assert_allclose(one.log_probability, other.log_probability, rtol=1e-4)
    assert all(0 < len(said.tokens) <= 6 for said in alone)
    assert hear([]) == []


def test_eight_devices_hear_the_same(listener: Recogniser, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    network = files.peer(max_source_positions=1500, encoder_layers=1, decoder_layers=1)
    files.write_hugging_face(network, folder)
    waveforms = [noise(1000 * number) for number in range(1, 12)]
    np.savez(tmp_path / "sounds.npz", *waveforms)
    program = (
        "import pathlib, sys, numpy as np\n"
        "from vssflow_jax.networks.whisper import published\n"
        "from vssflow_jax.networks.whisper.transcribe import Transcriber\n"
        "folder, sounds = map(pathlib.Path, sys.argv[1:])\n"
        "hear = Transcriber(published.load(folder), beams=2, most_tokens=6, rows=1)\n"
        "print(*(said.tokens for said in hear([*np.load(sounds).values()])), sep='\\n')"
    )
    command = [sys.executable, "-c", program, f"{folder}", f"{tmp_path}/sounds.npz"]
    done = tiny.run(command, env=tiny.EIGHT_DEVICES)
    assert done.returncode == 0, done.stderr
    here = Transcriber(listener, beams=2, most_tokens=6)(waveforms)
    assert done.stdout.splitlines() == [str(said.tokens) for said in here]


def test_sounds_longer_than_the_window_are_refused(listener: Recogniser) -> None:
    with pytest.raises(UserError, match=r"sound 1 lasts 30\.1 s, and Whisper hears 30 s at once"):
        Transcriber(listener)([noise(100), noise(481_600)])
