"""Whisper in small with random weights, in the layouts that it is published in."""

import copy
import json
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

from vssflow_jax.networks.byte_pairs import bytes_of_characters
from vssflow_jax.networks.whisper import vocabulary
from vssflow_jax.weights.ctranslate2 import MODEL_FILE

BYTES = [*bytes_of_characters()]
SPECIAL = [
    vocabulary.END,
    vocabulary.START,
    "<|en|>",
    "<|de|>",
    "<|translate|>",
    vocabulary.TRANSCRIBE,
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    vocabulary.NO_TIMESTAMPS,
]
TOKENS = [*BYTES, "Ġthe", "Ã©", *SPECIAL]
TIMESTAMPS = 5  # that files leave out
SIZE = len(TOKENS) + TIMESTAMPS
SUPPRESSED = [3, 4, TOKENS.index(vocabulary.START), TOKENS.index("<|nospeech|>")]
SUPPRESSED_FIRST = [TOKENS.index("Ġ"), TOKENS.index(vocabulary.END)]
ENDING = 8.0
SIZES = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_mel_bins": 16,
    "max_source_positions": 20,
    "max_target_positions": 40,
}


def peer(seed: int = 0, **sizes: int) -> WhisperForConditionalGeneration:
    """The network of transformers."""
    ends = TOKENS.index(vocabulary.END)
    marks = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), ends)
    start = TOKENS.index(vocabulary.START)
    network = WhisperForConditionalGeneration(
        WhisperConfig(vocab_size=SIZE, **{**SIZES, **sizes}, **marks, decoder_start_token_id=start)
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            z = torch.randn(tensor.shape, generator=generator)
            spread = 0.3 if "embed" in name else max(tensor.shape[1:], default=100) ** -0.5
            tensor.copy_(spread * z + ("norm.weight" in name))
        # Texts of all lengths: it ends where the last norm's output is like its bias.
        bias = network.model.decoder.layer_norm.bias
        network.model.decoder.embed_tokens.weight[ends] += ENDING * bias / bias.norm() ** 2
    network.generation_config = GenerationConfig(
        suppress_tokens=SUPPRESSED, begin_suppress_tokens=SUPPRESSED_FIRST
    )
    return network.eval()


def write_hugging_face(network: WhisperForConditionalGeneration, folder: Path) -> Path:
    """As `save_pretrained` of a network and of its tokenizer do."""
    network.save_pretrained(folder)
    texts, special = TOKENS[: -len(SPECIAL)], TOKENS[-len(SPECIAL) :]
    tokenizer = {
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(texts)}},
        "added_tokens": [
            {"id": len(texts) + i, "content": token} for i, token in enumerate(special)
        ],
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def write_ctranslate2(
    network: WhisperForConditionalGeneration, folder: Path, quantization: str | None = None
) -> Path:
    """As CTranslate2's converter does."""
    pytest.importorskip("ctranslate2")
    from ctranslate2.converters.transformers import WhisperLoader

    # A copy: quantising works in place.
    spec = WhisperLoader().get_model_spec(copy.deepcopy(network))
    spec.register_vocabulary(vocabulary.with_timestamps(TOKENS, SIZE))
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.config.suppress_ids = SUPPRESSED
    spec.config.suppress_ids_begin = SUPPRESSED_FIRST
    folder.mkdir(exist_ok=True)
    spec.save(str(folder))
    assert (folder / MODEL_FILE).is_file()
    return folder
