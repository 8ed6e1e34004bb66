"""What the metrics ask of the arrays they are given."""

import numpy as np
from numpy.typing import NDArray

from vssflow_jax.utils.errors import UserError


def check_rows(
    what: str, *arrays: NDArray[np.floating], least: int = 1, width: int | None = None
) -> None:
    """Check arrays of a row for each clip, or for each window of a clip.

    Args:
      what: the metric, for the message.
      arrays: [n, d] each; d is the same in all of them.
      least: rows that each must have.
      width: what d must be.

    Raises:
      UserError: other shapes, too few rows, a value that is not finite.
    """
    shapes = " and ".join(str(array.shape) for array in arrays)
    if any(array.ndim != 2 for array in arrays):
        raise UserError(f"{what}: shape {shapes}, expected [rows, width]")
    widths = {array.shape[1] for array in arrays}
    if len(widths) > 1 or 0 in widths or (width is not None and widths != {width}):
        expected = "one width" if width is None else f"width {width}"
        raise UserError(f"{what}: shape {shapes}, expected {expected}")
    for array in arrays:
        if len(array) < least:
            raise UserError(f"{what}: rows {len(array)}, at least {least} are needed")
        damaged = np.flatnonzero(~np.isfinite(array).all(axis=1))
        if damaged.size:
            raise UserError(f"{what}: row {damaged[0]} holds a value that is not finite")


def check_paired_rows(
    what: str, a: NDArray[np.floating], b: NDArray[np.floating], width: int | None = None
) -> None:
    """Check two arrays [n, d] of which row i in one belongs to row i in the other.

    Raises:
      UserError: as `check_rows`; or one array has more rows.
    """
    check_rows(what, a, b, width=width)
    if len(a) != len(b):
        raise UserError(f"{what}: rows {len(a)} and {len(b)}, expected pairs")
