"""How much of its talking a compiled program hides behind its work, by the order it was given.

XLA for TPU writes a program in the order in which it runs. A collective that begins at one place
and is awaited at another (`collective-permute-start` and `-done` and the like, or a chain of
fusions that carry it on while they compute, `async-collective-start` to `-done`) has the time
between for itself. That order is followed, instruction by instruction:

- Work takes the cycles that XLA estimates for it, at the chip's clock. What moves arrays and has no
  estimate, and kernels, take the bytes that they read and write, at the memory's bandwidth. All of
  it may be taken to be faster by a factor, as a roofline has it.
- A collective takes the bytes that each device sends, over its network: the links within a slice,
  all together, or the data centre's. Each network has one collective at a time, in the order in
  which they begin.
- What is awaited before it is done is exposed for so long: the device waits. What one instruction
  begins and awaits is exposed whole.
- The second turn of a loop stands for all further ones.
"""

import dataclasses
import math
import re
from collections.abc import Mapping

from vssflow_jax.parallel.chips import Chip
from vssflow_jax.plan import hlo
from vssflow_jax.plan.collectives import KINDS, Collective, collective_of

_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
_CHANNEL = re.compile(r"\bchannel_id=(\d+)")
_TRANSFER = re.compile(r'_xla_host_transfer_rendezvous="([^"]*)"')
_BEGINS, _ENDS, _GOES_ON = "AsyncCollectiveStart", "AsyncCollectiveDone", "async_collective_fusion"
_KERNEL = 'custom_call_target="tpu_custom_call"'
_MOVES = ("copy", "concatenate", "reverse", "fusion")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Seconds of one run of a program on a device.

    Attributes:
      work_sec: computing, and moving within the device.
      network_sec: collectives within a slice.
      network_exposed_sec: what the device waits for of these.
      dcn_sec: collectives between slices.
      dcn_exposed_sec: what the device waits for of these.
    """

    work_sec: float
    network_sec: float
    network_exposed_sec: float
    dcn_sec: float
    dcn_exposed_sec: float


def follow(text: str, devices: int, chip: Chip, work_sec: float | None = None) -> Schedule:
    """What a program takes by its schedule.

    Args:
      text: the optimised program, one device's part (`jax.stages.Compiled.as_text`).
      devices: number of devices of a slice.
      chip: what each of them can do; its clock has to be known.
      work_sec: what all work is to take; None for what XLA estimates.

    Raises:
      AssertionError: a collective or a loop is of a kind that is not known.
    """
    program = hlo.Program.parse(text)
    run = _Run(program, devices, chip)
    run.computation(program.entry)
    if work_sec is not None:
        run = _Run(program, devices, chip, speed=run.work.sec / work_sec)
        run.computation(program.entry)
    within, between = run.networks
    return Schedule(
        work_sec=run.work.sec,
        network_sec=within.busy.sec,
        network_exposed_sec=within.exposed.sec,
        dcn_sec=between.busy.sec,
        dcn_exposed_sec=between.exposed.sec,
    )


@dataclasses.dataclass
class _Clock:
    sec: float = 0.0


class _Network:
    """Links that have one collective at a time.

    Attributes:
      bytes_per_sec: what a device sends over them.
      free: when they have done all that was begun.
      busy: how long they have worked.
      exposed: how long they were waited for.
    """

    def __init__(self, bytes_per_sec: float):
        self.bytes_per_sec = bytes_per_sec
        self.free, self.busy, self.exposed = _Clock(), _Clock(), _Clock()


class _Run:
    """A program as it runs: `now` is the time since it began, `work` the work in it."""

    def __init__(self, program: hlo.Program, devices: int, chip: Chip, speed: float = 1.0):
        assert chip.cycles_per_sec, f"no clock is known of {chip.name}"
        self._program = program
        self.now, self.work = _Clock(), _Clock()
        self.networks = (
            _Network(chip.link_bytes_per_sec),
            _Network(chip.dcn_bytes_per_sec or math.inf),
        )
        self._clocks = [self.now, self.work]
        for network in self.networks:
            self._clocks += [network.free, network.busy, network.exposed]
        self._devices, self._speed = devices, speed
        self._cycles_per_sec = chip.cycles_per_sec
        self._memory_bytes_per_sec = chip.memory_bytes_per_sec
        # When a collective that has begun is done, and its network, by a name for it.
        self._begun: dict[str, tuple[float, _Network]] = {}

    def computation(self, name: str) -> None:
        """Run a computation from its first instruction to its last."""
        instructions = self._program.instructions(name)
        by_name = {one.name: one for one in instructions}
        for one in instructions:
            if loop := hlo.loop_of(one.line):
                self._loop(loop[1], self._program.turns(one, instructions))
            elif one.opcode in ("call", "conditional"):  # of several branches the first
                self.computation(next(hlo.called_by(one.line)))
            else:
                self._instruction(name, one, by_name)

    def _loop(self, body: str, turns: int) -> None:
        for _ in range(min(turns, 1)):
            self.computation(body)
        if turns > 1:
            before = [clock.sec for clock in self._clocks]
            self.computation(body)
            for clock, sec in zip(self._clocks, before, strict=True):
                clock.sec += (turns - 2) * (clock.sec - sec)

    def _instruction(
        self, name: str, one: hlo.Instruction, by_name: Mapping[str, hlo.Instruction]
    ) -> None:
        kind = one.opcode.removesuffix("-start").removesuffix("-done")
        if one.opcode == "send":
            sent = collective_of(one.line, name, self._devices)
            self._begin(_name(_TRANSFER, one.line), sent)
        elif one.opcode == "recv-done":
            self._await(_name(_TRANSFER, by_name[one.operands[0]].line))
        elif one.opcode == "async-update":
            self._begun[one.name] = self._begun.pop(one.operands[0])
        elif one.opcode.endswith("-done") and kind in (*KINDS, "async"):
            self._await(one.operands[0])
        elif kind in KINDS:
            self._begin(one.name, collective_of(one.line, name, self._devices))
            if kind == one.opcode:
                self._await(one.name)
        elif one.opcode in ("async-start", "fusion"):
            self._fusion(one, by_name)
        else:
            self._work(one, by_name)

    def _fusion(self, one: hlo.Instruction, by_name: Mapping[str, hlo.Instruction]) -> None:
        """Run what has a computation of its own, in which there may be a collective."""
        called = next(hlo.called_by(one.line))
        lines = self._program.computations[called]
        within = [
            (line, found)
            for line in lines
            if (found := collective_of(line, called, self._devices)) is not None
        ]
        if not within and one.opcode == "async-start":
            self._begin(one.name, None)
        if not within:
            self._work(one, by_name)
            return
        ((line, collective),) = within
        chain = _name(_CHANNEL, line)
        if any(_ENDS in line for line in lines):
            self._await(chain)
        elif any(_BEGINS in line for line in lines):
            self._begin(chain, collective)
        elif one.opcode == "async-start":
            self._begin(one.name, collective)
        elif called.startswith(_GOES_ON):
            self._work(one, by_name)
        else:
            self._begin(one.name, collective)
            self._await(one.name)

    def _begin(self, name: str, collective: Collective | None) -> None:
        """Begin a collective by a name; None is one that no other device has a part in."""
        if collective is None:
            self._begun[name] = self.now.sec, self.networks[False]
            return
        network = self.networks[collective.between_slices]
        sec = collective.wire_bytes / network.bytes_per_sec
        network.busy.sec += sec
        network.free.sec = max(network.free.sec, self.now.sec) + sec
        self._begun[name] = network.free.sec, network

    def _await(self, name: str) -> None:
        """Wait for what has begun by a name."""
        done, network = self._begun.pop(name)
        waited = max(0.0, done - self.now.sec)
        network.exposed.sec += waited
        self.now.sec += waited

    def _work(self, one: hlo.Instruction, by_name: Mapping[str, hlo.Instruction]) -> None:
        if cycles := _CYCLES.search(one.line):
            sec = int(cycles[1]) / self._cycles_per_sec
        elif one.opcode in _MOVES or _KERNEL in one.line:
            taken = [by_name[operand].result for operand in one.operands]
            moved = sum(hlo.result_bytes(array) for array in (one.result, *taken))
            sec = moved / self._memory_bytes_per_sec
        else:  # scalars, names for parts of what there is, and copies beside the work
            return
        self.work.sec += sec / self._speed
        self.now.sec += sec / self._speed


def _name(pattern: re.Pattern[str], line: str) -> str:
    """What a line calls a collective that other lines have a part in."""
    match = pattern.search(line)
    assert match, f"a collective without a name: {line}"
    return match[0]
