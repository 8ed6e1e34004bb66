"""What a run has made of its time: the share that trained it, and where the rest went.

Goodput and badput are Google's words for it ("Machine Learning Productivity Goodput", 2024).
"""

import contextlib
import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from vssflow_jax.run import workdir as run_files
from vssflow_jax.utils import processes

Clock = Callable[[], float]

OTHER = "other"


@dataclasses.dataclass(frozen=True)
class Goodput:
    """What a run has made of its time over all its starts; checkpoints keep it.

    Attributes:
      started_sec: Unix time at which the run was first started.
      productive_sec: spent by the devices on steps that the run has kept.
      lost_sec: cause -> seconds lost to it; empty in checkpoints of earlier versions. With
        `productive_sec` they add up to all the time until it was made.
    """

    started_sec: float
    productive_sec: float = 0.0
    lost_sec: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def elapsed_sec(self) -> float:
        """From the first start to when it was made."""
        return self.productive_sec + sum(self.lost_sec.values())

    def until(self, began_sec: float, seen_sec: float) -> "Goodput":
        """This one, of a checkpoint, with what was lost before a process went on from it.

        Args:
          began_sec: Unix time at which the process began.
          seen_sec: Unix time at which the one before it was last seen at work.
        """
        if not self.lost_sec:  # An earlier version did not tell the causes apart.
            return self
        saved_sec = self.started_sec + self.elapsed_sec
        seen_sec = max(saved_sec, min(seen_sec, began_sec))
        lost = defaultdict(float, self.lost_sec)
        lost["undone"] += seen_sec - saved_sec
        lost["absent"] += began_sec - seen_sec
        return dataclasses.replace(self, lost_sec=dict(lost))


def last_seen_sec(workdir: Path, goodput: Goodput) -> float:
    """Unix time of the last row of `throughput.jsonl`; the run's start, if none tells."""
    told = [row.get("elapsed_sec", 0.0) for row in run_files.rows(workdir, run_files.THROUGHPUT)]
    return goodput.started_sec + (told[-1] if told else 0.0)


class Startup:
    """How long the parts of a start take, from its begin to the end of the first step.

    Args:
      began_sec: Unix time at which it began; now, if None.
      unix_time: seconds that all machines agree on.
    """

    def __init__(self, began_sec: float | None = None, unix_time: Clock = time.time):
        self.began_sec = unix_time() if began_sec is None else began_sec
        self.parts: dict[str, float] = defaultdict(float)
        """Seconds by part."""
        self._unix_time = unix_time

    @classmethod
    def of_process(cls) -> "Startup":
        """That of this process, which has imported modules until now."""
        age_sec = processes.age_sec()
        startup = cls(time.time() - age_sec)
        startup.parts["imports"] = age_sec
        return startup

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Around a part, or some of it."""
        begun = self._unix_time()
        try:
            yield
        finally:
            self.parts[name] += self._unix_time() - begun

    def end(self, ended_sec: float) -> None:
        """Call what no part has `OTHER`, up to the Unix time at which the first step ended."""
        self.parts[OTHER] = ended_sec - self.began_sec - sum(self.parts.values())

    def __str__(self) -> str:
        parts = (f"{name.replace('_', ' ')} {sec:.1f}" for name, sec in self.parts.items())
        return f"started in {sum(self.parts.values()):.1f} s: {', '.join(parts)}"
