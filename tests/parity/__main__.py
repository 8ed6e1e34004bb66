"""Hold this implementation against golden data of the reference:

python -m tests.parity GOLDEN_DIR

Prints a row for each quantity; exits with 1 if one is off or any array was not looked at.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from tests.parity import (
    adamw,
    audiobox,
    av_hubert,
    cfg,
    dit,
    duration,
    flow,
    imagebind,
    layout,
    mel,
    metrics_desync,
    metrics_fd,
    metrics_kl_is,
    metrics_mcd,
    metrics_wer,
    mix,
    nisqa,
    passt,
    phones,
    rawnet3,
    synchformer,
    synchformer_sound,
    syncnet,
    utmos,
    vae,
    vocoder,
)
from tests.parity.golden import SUFFIXES, Golden, Row, missing
from vssflow_jax.cli import fail
from vssflow_jax.utils.errors import UserError

CHECKS: dict[str, Callable[[Golden], Iterator[Row]]] = {
    "adamw_small": adamw.check,
    "audiobox": audiobox.check,
    "av_hubert": av_hubert.check,
    "cfg_small": cfg.check,
    "dit_small": dit.check,
    "duration_small": duration.check,
    "imagebind": imagebind.check,
    "layout_small": layout.check,
    "mel": mel.check,
    "metrics_desync": metrics_desync.check,
    "metrics_fd": metrics_fd.check,
    "metrics_kl_is": metrics_kl_is.check,
    "metrics_mcd": metrics_mcd.check,
    "metrics_wer": metrics_wer.check,
    "mix": mix.check,
    "nisqa": nisqa.check,
    "passt": passt.check,
    "phones": phones.check,
    "rawnet3": rawnet3.check,
    "synchformer": synchformer.check,
    "synchformer_sound": synchformer_sound.check,
    "syncnet": syncnet.check,
    "utmos": utmos.check,
    "vae_small": vae.check,
    "vaflow_small": flow.check,
    "vocoder_small": vocoder.check,
}


def check_directory(directory: Path) -> Iterator[Row]:
    """All rows of all files of a directory and those below it, in order of name.

    Raises:
      UserError: there are no golden files.
    """
    paths = golden_files(directory)
    if not paths:
        raise UserError(f"{directory} holds no golden data (*.npz, *.json)")
    with jax.default_matmul_precision("highest"):
        for path in paths:
            yield from check_file(path)


def golden_files(directory: Path) -> list[Path]:
    """The golden files of a directory and of those below it."""
    return sorted(path for path in directory.rglob("*") if path.suffix in SUFFIXES)


def check_file(path: Path) -> Iterator[Row]:
    """All rows of a file; the last one fails and says why where they cannot be finished."""
    if path.stem not in CHECKS:
        yield missing(f"{path.stem} (no check of that name)")
        return
    try:
        golden = Golden(path)
        yield from CHECKS[path.stem](golden)
        yield from golden.unseen()
    except UserError as error:
        yield missing(f"{path.stem} ({error})")
    except Exception as error:  # of whatever layer met values that cannot be; others go on
        reason = " ".join(str(error).split())
        yield missing(f"{path.stem} ({type(error).__name__}: {reason})")


def main(arguments: list[str]) -> int:
    """Print the table; returns the exit code."""
    if len(arguments) != 1:
        fail("give one directory: python -m tests.parity GOLDEN_DIR")
    directory = Path(arguments[0])
    rows = []
    print(f"{'quantity':72}{'shape':>20}{'error':>11}{'tolerance':>11}  ok")
    try:
        for row in check_directory(directory):
            rows.append(row)
            shape = "x".join(map(str, row.shape)) or "number"
            mark = "yes" if row.ok else "NO"
            print(f"{row.name:72}{shape:>20}{row.error:11.1e}{row.tolerance:11.0e}  {mark}")
    except UserError as error:
        fail(str(error))
    failed = sum(not row.ok for row in rows)
    print(f"{len(rows)} quantities, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
