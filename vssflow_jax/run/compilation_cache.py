"""Compiled programs, kept in the folder of a run for its next start.

What is kept is named by JAX, by all that it depends on: the program, the versions of the compiler
and of the drivers, the devices, and of CPUs their instructions. JAX leaves out what compiles in
less than a second, and takes what cannot be read or written for not there. Of many processes the
main one writes.
"""

from pathlib import Path

import jax

from vssflow_jax.utils.files import bucket_path, is_writable

FOLDER = "compiled"


def keep_in(run: Path) -> None:
    """Keep compiled programs in the folder of a run, from now on.

    Does nothing where JAX was told of another place, be it none (`JAX_COMPILATION_CACHE_DIR`), or
    where the folder cannot be written to.

    Args:
      run: folder of a run, which is there.
    """
    place = jax.config.values["jax_compilation_cache_dir"]
    if place is not None or not is_writable(run):
        return
    jax.config.update("jax_compilation_cache_dir", str(run / FOLDER))
    if bucket_path(run):
        # XLA's own caches beside it, of GPUs, are files of this machine.
        jax.config.update("jax_persistent_cache_enable_xla_caches", "")
