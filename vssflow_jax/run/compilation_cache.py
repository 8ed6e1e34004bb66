"""Compiled programs, kept in the folder of a run for its next start.

What is kept is named by JAX, by all that it depends on: the program, the versions of the compiler
and of the drivers, the devices, and of CPUs their instructions. JAX leaves out what compiles in
less than a second, and takes what cannot be read or written for not there. Of many processes the
main one writes.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

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


@contextlib.contextmanager
def left_out() -> Iterator[None]:
    """A context in which programs are compiled, not taken from where they are kept.

    What XLA has read for a CPU it cannot write again so that it runs (jaxlib 0.10: a function that
    is not found).
    """
    enabled = jax.config.values["jax_enable_compilation_cache"]
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()  # which asks the config once
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()
