"""Training on a disk that fails while a checkpoint is being written, after room was found for it:

python -m tests.failing_disk HOW SAVE PROCESS ARGUMENTS_OF_RUN_TRAIN

HOW is a key of `WAYS`; SAVE, the number of the first save that fails;
PROCESS, whose disk it is.
"""

import resource
import sys
from collections.abc import Callable
from pathlib import Path

import jax

from vssflow_jax.run import checkpoint

_SMALL = 1 << 16  # bytes: rows of a short run fit, arrays do not


def limit_files(folder: Path) -> None:
    """What the system lets a file hold is used up, as a quota would be."""
    del folder
    resource.setrlimit(resource.RLIMIT_FSIZE, (_SMALL, resource.RLIM_INFINITY))


def lose_folder(folder: Path) -> None:
    """Nothing can be made in the folder any more; unlike rights, this stops root too."""
    folder.rename(folder.with_name("lost"))
    folder.write_text("no folder")


WAYS: dict[str, Callable[[Path], None]] = {"limit": limit_files, "lost": lose_folder}


def main(how: str, save: int, process: int) -> None:
    check_room, saves = checkpoint.check_room, iter(range(1, save))

    def fails(folder: Path, size: int) -> None:
        check_room(folder, size)
        if next(saves, None) is None and jax.process_index() == process:
            WAYS[how](folder)

    checkpoint.check_room = fails


if __name__ == "__main__":
    how, save, process = sys.argv[1:4]
    sys.argv[1:] = sys.argv[4:]
    import run_train
    from vssflow_jax import cli

    main(how, int(save), int(process))
    cli.run(run_train.main)
