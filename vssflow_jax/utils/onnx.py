"""Networks that are ONNX files inside other packages, run on the CPU (`onnxruntime`)."""

import functools
from typing import Any

from vssflow_jax.utils.optional import package_file, require


@functools.cache
def session(package: str, name: str, extra: str) -> Any:
    """A network to run, of one thread: clips are read side by side.

    Args:
      package, name, extra: see `package_file`.

    Raises:
      UserError: the package, or onnxruntime, is not installed.
    """
    onnxruntime = require("onnxruntime", extra)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = package_file(package, name, extra)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
