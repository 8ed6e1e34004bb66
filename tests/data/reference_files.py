"""Metadata and feature files as the reference has them, good ones and bad ones of every kind.

By hand:  python -m tests.data.reference_files DIR
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from data import manifest, shard_writer, shards
from data.manifest import WIDTHS
from vssflow_jax.clip import ClipSpec
from vssflow_jax.features.phonemes import IDS

SPEC = ClipSpec()
NO_VIDEO, NO_LIPS, NO_SYNCH = "clip/no_video.npy", "lip/fake_lip.npy", "synch/fake_sync.npy"
SYMBOLS = ("<blank>", "B", "IH1", "N", "<blank>", "B", "L", "UW1", "<blank>", "AE1", "T", "<blank>")
GOOD_OF_EACH_KIND = 6
LONG_SEC = 12.0
ODD_SEC = 1.8  # 45 latent frames, but a little less as float32


@dataclasses.dataclass(frozen=True)
class Reference:
    """What `make` has made.

    Attributes:
      root: of all files.
      parts: as `--manifest` has them.
      splits: of the good rows, by clip id.
      reasons: how the reason of each bad row starts, by name.
    """

    root: Path
    parts: list[str]
    splits: dict[str, str]
    reasons: dict[str, str]

    def contents(self, **settings: Any) -> shard_writer.Contents:
        """What the dataset of all rows is made of."""
        rows, rejected = manifest.read_rows([manifest.Part.parse(text) for text in self.parts])
        source = manifest.Manifest(self.root, SPEC, **settings)
        return shard_writer.Contents(
            shards.scattered(rows), source, SPEC, WIDTHS, {"source": "manifest"}, rejected
        )


class Writer:
    """Writes files of one set; every method returns a path relative to the root."""

    def __init__(self, root: Path):
        self.root = root
        self.rng = np.random.default_rng(0)

    def array(self, path: str, values: np.ndarray) -> str:
        self._place(path)
        np.save(self.root / path, values)
        return path

    def noise(self, path: str, *shape: int) -> str:
        return self.array(path, self.rng.standard_normal(shape, np.float32))

    def arrays(self, path: str, **arrays: np.ndarray) -> str:
        self._place(path)
        np.savez(self.root / path, **arrays)
        return path

    def damaged(self, path: str) -> str:
        """An archive with a byte flipped in the compressed data."""
        self._place(path)
        np.savez_compressed(self.root / path, feat=self.rng.standard_normal((64, 512)))
        content = bytearray((self.root / path).read_bytes())
        content[len(content) // 2] ^= 0xFF
        (self.root / path).write_bytes(content)
        return path

    def huge(self, path: str) -> str:
        """A file whose header tells of more numbers than there are anywhere."""
        self._place(path)
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**6)}
        with (self.root / path).open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
        return path

    def sound(self, path: str, seconds: float, rate: int = 16_000, channels: int = 1) -> str:
        self._place(path)
        samples = self.rng.uniform(-0.5, 0.5, (round(seconds * rate), channels))
        soundfile.write(self.root / path, samples, rate, subtype="PCM_16")
        return path

    def text(self, path: str, text: str) -> str:
        self._place(path)
        (self.root / path).write_text(text)
        return path

    def row(self, name: str, seconds: float = 2.0, **fields: str) -> dict[str, str]:
        """The fields of a clip of VisualTTS and their files, but for the fields given."""
        folder, lips = f"GRID/{name[:2]}", round(min(seconds, SPEC.duration_sec) * SPEC.video_rate)
        makers = {
            "audio": lambda: self.sound(f"{folder}/{name}.wav", seconds),
            "visual": lambda: self.noise(f"clip/{name}.npy", SPEC.visual_frames, WIDTHS["visual"]),
            "speaker": lambda: self.noise(f"speaker/{folder}/{name}.npy", WIDTHS["speaker"]),
            "lips": lambda: self.noise(f"lip/{name}.npy", lips, WIDTHS["lips"]),
            "sync": lambda: self.noise(f"synch/{name}.npy", 30, 8, WIDTHS["sync"]),
            "phonemes": lambda: ids(SYMBOLS),
            "symbols": lambda: " ".join(SYMBOLS),
        }
        return {field: fields.get(field) or make() for field, make in makers.items()}

    def _place(self, path: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)


def ids(symbols: tuple[str, ...]) -> str:
    return " ".join(str(IDS[symbol]) for symbol in symbols)


def make(root: Path) -> Reference:
    """Write the files under `root`."""
    writer = Writer(root)
    writer.array(NO_VIDEO, np.zeros((SPEC.visual_frames, WIDTHS["visual"]), np.float32))
    writer.array(NO_LIPS, np.zeros((1, WIDTHS["lips"]), np.float32))
    writer.array(NO_SYNCH, np.zeros((30, 8, WIDTHS["sync"]), np.float32))
    silent = {
        "lips": NO_LIPS,
        "speaker": writer.array("speaker/none.npy", np.zeros(WIDTHS["speaker"], np.float32)),
        "phonemes": "0",
        "symbols": "0",
    }
    unseen = {"visual": NO_VIDEO, "lips": NO_LIPS, "sync": NO_SYNCH}

    def several(name: str, **fields: str) -> list[dict[str, str]]:
        return [
            writer.row(f"{name}{number}", 1 + number / 4, **fields)
            for number in range(GOOD_OF_EACH_KIND)
        ]

    cavp = writer.rng.standard_normal((64, 512), np.float32)
    good = {
        "train": [
            *several("foley", **silent),
            *several("lrs"),
            *several("libri", **unseen),
            writer.row("cavp", **silent, visual=writer.arrays("clip/cavp.npz", feat=cavp)),
            writer.row("flat", sync=writer.noise("synch/flat.npy", 240, WIDTHS["sync"])),
            writer.row("stereo", audio=writer.sound("GRID/st/stereo.wav", 2.0, 44_100, 2)),
            writer.row("long", LONG_SEC),
            writer.row("odd", ODD_SEC),
        ],
        "test": [writer.row("unheard", **silent), writer.row("unseen")],
        "train_joint": several("v2c"),
    }
    # Of how each is rejected, and its fields.
    zeros = np.zeros((50, WIDTHS["lips"]), np.float32)
    spoilt = np.full((SPEC.visual_frames, WIDTHS["visual"]), np.nan, np.float32)
    loud = np.full((50, WIDTHS["lips"]), 1e5, np.float32)
    bad = {
        "nan": ("not finite", {"visual": writer.array("clip/nan.npy", spoilt)}),
        "loud": ("not finite", {"lips": writer.array("lip/loud.npy", loud)}),
        "narrow": ("wrong shape", {"lips": writer.noise("lip/narrow.npy", 50, 768)}),
        "fewclip": ("wrong shape", {"visual": writer.noise("clip/few.npy", 80, WIDTHS["visual"])}),
        "twovoices": ("wrong shape", {"speaker": writer.noise("speaker/two.npy", 2, 256)}),
        "scalar": ("wrong shape", {"lips": writer.noise("lip/scalar.npy")}),
        "integers": (
            "wrong type",
            {"sync": writer.array("synch/int.npy", np.ones((30, 8, 768)).astype(int))},
        ),
        "flipped": ("unreadable file", {"visual": writer.damaged("clip/flipped.npz")}),
        "huge": ("unreadable file", {"visual": writer.huge("clip/huge.npy")}),
        "wide": (
            "wrong shape",
            {"visual": writer.arrays("clip/wide.npz", feat=np.ones((4, 5000), np.float32))},
        ),
        "voicenpz": (
            "wrong shape",
            {"speaker": writer.arrays("speaker/v.npz", feat=np.ones((4, 256), np.float32))},
        ),
        "longname": ("missing file", {"audio": f"GRID/{'x' * 300}/longname.wav"}),
        "missing": ("missing file", {"visual": "clip/nowhere.npy"}),
        "unheard2": ("missing file", {"audio": "GRID/un/unheard2.wav"}),
        "nonpy": ("unreadable file", {"sync": writer.text("synch/text.npy", "no array")}),
        "emptynpy": ("unreadable file", {"speaker": writer.text("speaker/empty.npy", "")}),
        "nowav": ("unreadable file", {"audio": writer.text("GRID/no/nowav.wav", "no sound")}),
        "short": ("too short", {"audio": writer.sound("GRID/sh/short.wav", 0.04)}),
        "shortlips": ("wrong length", {"lips": writer.noise("lip/fewer.npy", 25, WIDTHS["lips"])}),
        "longlips": ("wrong length", {"lips": writer.noise("lip/more.npy", 75, WIDTHS["lips"])}),
        "zerolips": ("zeros for lips", {"lips": writer.array("lip/zeros.npy", zeros)}),
        "blind": ("missing stream", {**silent, "visual": NO_VIDEO, "sync": NO_SYNCH}),
        "id71": ("bad phonemes", {"phonemes": ids(SYMBOLS[:-1]) + " 71"}),
        "noid": ("bad phonemes", {"phonemes": ids(SYMBOLS[:-1]) + " x"}),
        "otherid": ("bad phonemes", {"phonemes": ids(("T", *SYMBOLS[1:]))}),
        "fewids": ("bad phonemes", {"phonemes": ids(SYMBOLS[:-1])}),
        "mute": ("bad phonemes", {"phonemes": "0", "lips": NO_LIPS}),
    }
    lines = {part: ["|".join(row.values()) for row in rows] for part, rows in good.items()}
    lines["train"] += ["|".join(writer.row(name, **row).values()) for name, (_, row) in bad.items()]
    lines["train"] += ["", lines["train"][0].replace("|", ",", 1)]
    lines["test"].append(lines["train"][0])
    for part, text in lines.items():
        writer.text(f"{part}.csv", "\n".join(text) + "\n")
    reasons = {
        clip_id(row.get("audio", f"GRID/{name[:2]}/{name}.wav")): kind
        for name, (kind, row) in bad.items()
    }
    reasons |= {
        f"train.csv line {len(lines['train'])}": "wrong number of fields: 6, expected 7",
        clip_id(good["train"][0]["audio"]): "duplicate: test.csv line 3, first at train.csv line 1",
    }
    return Reference(
        root,
        [f"{part}:{root / part}.csv" for part in lines],
        {
            clip_id(row["audio"]): part if part == "train_joint" else f"{part}_{task(row)}"
            for part, rows in good.items()
            for row in rows
        },
        reasons,
    )


def clip_id(audio: str) -> str:
    return "-".join(Path(audio).with_suffix("").parts)


def task(row: dict[str, str]) -> str:
    if row["phonemes"] == "0":
        return "v2s"
    return "tts" if row["lips"] == NO_LIPS else "visualtts"


if __name__ == "__main__":
    make(Path(sys.argv[1]))
