"""What devices tell one another, read from the text of a compiled program.

Payload is the whole array that a device ends with or starts from: gathered by an all-gather,
reduced by a reduce-scatter or an all-reduce, exchanged by the others. Wire is what each device
sends, by the ring algorithm among n devices (Thakur, Rabenseifner and Gropp 2005): (n - 1) / n of
the payload, and twice that for an all-reduce; a permutation sends its payload once.

XLA for several slices of TPUs writes the program of one slice, and sends and receives on hosts for
what goes on between slices. There payload and wire are those of a ring of slices.
"""

import dataclasses
import math
import re

from vssflow_jax.plan.hlo import Program, result_bytes

KINDS = (
    "all-gather",
    "reduce-scatter",
    "all-reduce",
    "all-to-all",
    "collective-permute",
)

_INSTRUCTION = re.compile(
    rf"^\s+(?:ROOT )?%?\S+ = (.+?) ({'|'.join(KINDS)}|ragged-all-to-all|collective-broadcast)"
    r"(-start)?\("
)
_GROUPS = re.compile(r"replica_groups=(.*)")
_PAIRS = re.compile(r"source_target_pairs=\{(.*?)\}\}")
# On hosts, by the runtime that connects slices.
_SEND = re.compile(r"^\s+(?:ROOT )?%?\S+ = (.+?) send\(.*\bis_host_transfer=true")
_MEGASCALE = "xla_megascale_runtime"
_TRANSFER = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
_TRANSFERS = {
    "ALL_GATHER": "all-gather",
    "REDUCE_SCATTER": "reduce-scatter",
    "ALL_REDUCE": "all-reduce",
    "ALL_TO_ALL": "all-to-all",
    "ONE_TO_ONE": "collective-permute",
}
# Slices as in "{1,2}x{0:7}", or devices as in {{100000,200000},{100001,200001}}.
_TARGET = re.compile(r'_xla_megascale_target="?\{+([\d,]+)')
# XLA for TPU writes a reduce-scatter as an all-reduce in a fusion that keeps a part of it.
_SCATTERING = "all-reduce-scatter"


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of a program.

    Attributes:
      kind: one of `KINDS`.
      payload_bytes: the whole array, see above.
      devices: number of devices in one group.
      between_slices: whether these are of as many slices, each of which may have several groups.
    """

    kind: str
    payload_bytes: int
    devices: int
    between_slices: bool = False

    @property
    def wire_bytes(self) -> float:
        """Bytes that each device sends."""
        if self.kind == "collective-permute":
            return self.payload_bytes
        share = self.payload_bytes * (self.devices - 1) / self.devices
        return 2 * share if self.kind == "all-reduce" else share


def find_collectives(hlo: str, devices: int) -> list[Collective]:
    """The collectives of an optimised program among more than one device.

    Args:
      hlo: the text of the program, one device's part (`jax.stages.Compiled.as_text`).
      devices: number of devices of a slice.

    Raises:
      AssertionError: one is in a loop, where it would run more often than it is written, or is of
        a kind that is not known.
    """
    program = Program.parse(hlo)
    looped = program.looped()
    found: list[Collective] = []
    for name, lines in program.computations.items():
        for line in lines:
            if collective := collective_of(line, name, devices):
                assert name not in looped, f"a collective in a loop: {line}"
                found.append(collective)
    return found


def collective_of(line: str, computation: str, devices: int) -> Collective | None:
    """The collective that a line of a program begins, if it is one among more than one device.

    Args:
      line: line of the program.
      computation: name of the computation that it is in.
      devices: number of devices of a slice.

    Raises:
      AssertionError: it is of a kind that is not known.
    """
    if sent := _SEND.match(line):
        return _between_slices(sent[1], line)
    match = _INSTRUCTION.match(line)
    if not match:
        return None
    result, kind, start = match.groups()
    assert kind in KINDS, f"unknown collective: {line}"
    group = _group_size(kind, line, devices)
    if group == 1:
        return None
    if kind == "all-reduce" and computation.startswith(_SCATTERING):
        return Collective("reduce-scatter", result_bytes(result), group)
    return Collective(kind, _payload(kind, result, bool(start), group), group)


def _between_slices(result: str, line: str) -> Collective | None:
    """The collective that a send on the host begins, if it is to other slices."""
    if _MEGASCALE not in line:
        return None
    transfer, target = _TRANSFER.search(line), _TARGET.search(line)
    kind = _TRANSFERS.get(transfer[1]) if transfer else None
    assert kind, f"unknown transfer between slices: {line}"
    if kind == "collective-permute":
        return Collective(kind, result_bytes(result), 2, between_slices=True)
    assert target, f"unknown target of a transfer between slices: {line}"
    # Device 100007 is of slice 1.
    slices = len({place[:-5] or place for place in target[1].split(",")})
    payload = result_bytes(result) * (slices if kind == "all-gather" else 1)
    return Collective(kind, payload, slices, between_slices=True)


def _payload(kind: str, result: str, start: bool, group: int) -> int:
    """Bytes of the whole array, from the type of the result."""
    size = result_bytes(result)
    if start and kind != "all-reduce":
        # The result of a start holds what went in beside what comes out.
        into_out = {"all-gather": group, "reduce-scatter": 1 / group}.get(kind, 1)
        size = round(size * into_out / (1 + into_out))
    return size * group if kind == "reduce-scatter" else size


def _group_size(kind: str, line: str, devices: int) -> int:
    """Devices of a group, in any of the ways in which HLO writes groups."""
    if kind == "collective-permute":
        pairs = _PAIRS.search(line)
        moves = re.findall(r"(\d+),(\d+)", pairs[1] + "}" if pairs else "")
        return devices if any(source != target for source, target in moves) else 1
    groups = _GROUPS.search(line)
    text = groups[1] if groups else ""
    if first := re.match(r"\{\{([\d,]+)\}", text):  # {{0,1},{2,3}}
        return len(first[1].split(","))
    if iota := re.match(r"\[\d+,(\d+)\]<=", text):  # [2,4]<=[8]
        return int(iota[1])
    if mesh := re.match(r"mesh\[(.*?)\].*?\{(.*?)\}", text):  # mesh['a'=2,'b'=4] {'b'}
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh[1]))
        used = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh[2])
        return math.prod(int(part or sizes[axis]) for axis, part in used)
    assert not text or text.startswith("{}"), f"unknown groups: {line}"
    return devices
