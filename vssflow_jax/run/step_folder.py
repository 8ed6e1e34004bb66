"""One checkpoint in its folder: read onto any mesh, and checked on the way."""

import errno
import json
import re
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from vssflow_jax.models import earlier
from vssflow_jax.parallel import distributed
from vssflow_jax.run import added
from vssflow_jax.utils.errors import UserError
from vssflow_jax.utils.files import bucket_path

State = TypeVar("State")  # any tree of arrays

CHECKSUMS = "checksums"
"""The field of a checkpoint's progress that has them."""
COMMITTED = "commit_success.txt"
"""The file that says in a bucket that a checkpoint is whole."""
_METADATA = "_CHECKPOINT_METADATA"
_NANO = 1e-9

_LONGEST_REASON = 200
# The end of what tensorstore says, by name of file, when the system refuses it something.
_OF_SYSTEM = re.compile(r"([^:]+) \[os_error_code=")
# How tensorstore's errors begin, and the system's within them read, that do not tell of damage.
_PASSING = (
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "Too many open files",
)
_PASSING_NUMBERS = {
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.ESTALE),
    *(errno.ETIMEDOUT, errno.ECONNRESET, errno.ENOTCONN, errno.EHOSTUNREACH, errno.ENETUNREACH),
}


class DamagedError(UserError):
    """The files of a checkpoint are not whole, or not as they were written."""

    def __init__(self, folder: Path, reason: str):
        super().__init__(f"checkpoint {folder} is damaged ({reason})")


def read(folder: Path, abstract: State) -> tuple[State, dict[str, Any]]:
    """One checkpoint, placed as `abstract` says, and its progress.

    By orbax's handlers, as its managers wait where one process fails.

    Args:
      folder: its folder.
      abstract: as for `Checkpoints.restore`.

    Raises:
      UserError: it is of another model, or the machine is at fault.
      DamagedError: it is damaged, for any of the processes.
    """
    on_store = orbax_path(folder)
    states, problem, passing = ocp.PyTreeCheckpointHandler(), "", False
    try:
        metadata = states.metadata(on_store / "state")
        names = by_name(getattr(metadata, "tree", metadata))
        is_earlier, lacking = earlier.is_earlier(names), added.lacking(names, abstract)
        there = added.without(abstract, lacking)
        stored = earlier.layouts(there) if is_earlier else there
        _check_shapes(folder, metadata, stored)
        state = states.restore(
            on_store / "state",
            args=ocp.args.PyTreeRestore(
                item=stored,
                restore_args=ocp.checkpoint_utils.construct_restore_args(stored),
                partial_restore=True,
            ),
        )
        progress = ocp.JsonCheckpointHandler().restore(
            on_store / "progress", args=ocp.args.JsonRestore()
        )
    except UserError:
        raise
    except Exception as error:  # Of damaged files orbax and tensorstore raise anything.
        if distributed.is_loss(error):
            raise
        problem, passing = short(error), _may_pass(error)
    if not distributed.all_say(not problem):
        if not distributed.all_say(not passing):
            raise _unread(folder, problem or "another process could not")
        raise DamagedError(folder, problem or "another process could not read its part")
    # Earlier versions kept none.
    kept = progress.pop(CHECKSUMS, {})
    for name, found in checksums(state).items():
        if kept.get(name, found) != found:
            raise DamagedError(folder, f"the numbers of {name} are not those that were saved")
    state = earlier.upgraded(state, there) if is_earlier else state
    return added.completed(state, abstract, lacking), progress


def orbax_path(path: Path) -> epath.Path:
    """The path as orbax takes it."""
    return epath.Path(str(path))


def atomicity(path: Path) -> ocp.options.AtomicityOptions | None:
    """How a checkpoint in this folder becomes whole; None: as orbax does by itself.

    In S3, of which orbax knows nothing, it is as on `gs://`: the last object says that all are
    there. Who reads has to look for it too.
    """
    bucket = bucket_path(path)
    if bucket is None or bucket.scheme != "s3":
        return None
    # Imported here: it is of the inside of orbax.
    from vssflow_jax.run import s3_checkpoints

    s3_checkpoints.enable()
    return ocp.options.AtomicityOptions(mode=ocp.options.AtomicityMode.COMMIT_FILE)


def short(error: BaseException) -> str:
    """What an error of the libraries below says, without their pages of context."""
    text = " ".join(str(error).split())
    if found := _OF_SYSTEM.search(text):
        return found[1].strip()
    return text[:_LONGEST_REASON] or repr(error)


def _may_pass(error: Exception) -> bool:
    """Whether it was not what is on the disk: memory, files, rights or the network were wanting."""
    return (
        isinstance(error, MemoryError | ConnectionError | TimeoutError)
        or getattr(error, "errno", None) in _PASSING_NUMBERS
        # Of clients of buckets, whose errors are no errors of Python's.
        or re.search("Timeout|Connection", type(error).__name__) is not None
        or re.search("|".join(_PASSING), str(error)) is not None
    )


def _unread(folder: Path, problem: str) -> UserError:
    return UserError(
        f"checkpoint {folder} could not be read, which need not be its fault: {problem}; see to "
        "the machine and start again"
    )


def damages(folder: Path) -> list[str]:
    """What is wrong with a checkpoint, read as it lies there, a field after the other.

    Returns:
      reasons, such as arrays whose numbers are not those that were saved; none if it is whole.

    Raises:
      UserError: it could not be read, and the machine may be at fault.
    """
    path, states, found = orbax_path(folder.absolute()), ocp.PyTreeCheckpointHandler(), []
    atomicity(folder)  # so that orbax finds what is in a bucket
    try:
        progress = ocp.JsonCheckpointHandler().restore(
            path / "progress", args=ocp.args.JsonRestore()
        )
        metadata = states.metadata(path / "state")
        for field, part in getattr(metadata, "tree", metadata).items():
            plain = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), {field: part})
            arrays = states.restore(
                path / "state",
                args=ocp.args.PyTreeRestore(
                    item={field: part}, restore_args=plain, partial_restore=True
                ),
            )
            kept = progress.get(CHECKSUMS, {})
            for name, array in by_name(arrays).items():
                if name in kept and kept[name] != _sum(array):
                    found.append(f"the numbers of {name} are not those that were saved")
    except Exception as error:  # Of damaged files orbax and tensorstore raise anything.
        if _may_pass(error):
            raise _unread(folder, short(error)) from error
        found.append(short(error))
    return found


def _sum(array: np.ndarray) -> int:
    """As `checksums`, of an array of this machine."""
    bits = np.ascontiguousarray(array).view(f"uint{8 * array.dtype.itemsize}")
    return int(np.sum(bits, dtype=np.uint32))


def size(folder: Path) -> int:
    """Bytes of a checkpoint's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def commit_time(folder: Path) -> float | None:
    """Unix time at which a checkpoint became whole; None where that is not known."""
    try:
        return _NANO * json.loads((folder / _METADATA).read_text())["commit_timestamp_nsecs"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def checksums(state: Any) -> dict[str, int]:
    """The sum of the bits of each array, by its name: the same on any mesh.

    What is stored has no checksums of its own: a flipped bit would be read as another number.
    """
    return {name: int(total) for name, total in jax.device_get(_sums(by_name(state))).items()}


@jax.jit
def _sums(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    def total(x: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
        return jnp.sum(bits, dtype=jnp.uint32)  # which wraps around

    return jax.tree.map(total, arrays)


def _check_shapes(folder: Path, metadata: Any, abstract: Any) -> None:
    """Check that the arrays of a checkpoint are those that are asked for.

    Raises:
      UserError: names the first that is missing, unknown or of another shape.
    """
    stored, wanted = (
        {name: leaf.shape for name, leaf in by_name(tree).items()}
        for tree in (getattr(metadata, "tree", metadata), abstract)
    )
    if isinstance(abstract, dict):
        stored = {name: stored[name] for name in stored if name.partition(".")[0] in abstract}
    for name in sorted(stored.keys() | wanted.keys()):
        there, here = stored.get(name, "absent"), wanted.get(name, "absent")
        if there != here:
            raise UserError(
                f"checkpoint {folder} does not fit this config's model: {name} is {there} there "
                f"and {here} here"
            )


def by_name(tree: Any) -> dict[str, Any]:
    """The leaves of a state, or what is known of them, by dotted name."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
