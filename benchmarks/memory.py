"""Memory of a process, as Linux counts it."""

import re
from pathlib import Path


def peak_gb(process: int | str = "self") -> float:
    """The most that a process has held, of the machine's memory.

    Not what `getrusage` says, which for a process that another one started begins with what that
    one has held.

    Args:
      process: its number.
    """
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert match, "no Linux"
    return int(match[1]) * 1024 / 1e9
