"""The text of a compiled program (HLO) taken apart: computations, instructions, loops."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

_COMPUTATION = re.compile(r"^(ENTRY )?%?(\S+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?(\S+) = (.+?) ([a-z][\w-]*)\(([^)]*)\)")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_CALLED = re.compile(
    r"\b(?:calls|to_apply|body|condition|branch_computations|true_computation|"
    r"false_computation|called_computations)=(?:%?([\w.-]+)|\{([^}]*)\})"
)
_LOOP = re.compile(r" while\(.*\bcondition=%?([\w.-]+), body=%?([\w.-]+)")
_INDEX = re.compile(r"\bindex=(\d+)")

# What a loop counts with: on integers, as compilers write it.
_ARITHMETIC: Mapping[str, Callable[..., int]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    **dict.fromkeys(("copy", "convert", "bitcast", "reshape"), lambda a: a),
}
_BEYOND = {"LT": 0, "LE": 1}  # of the limit, how far a loop counts


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a computation.

    Attributes:
      name: its own.
      result: type of what it computes, in the program's notation.
      opcode: what it does, such as "fusion" or "all-gather-start".
      operands: names of what it takes; of a constant or a parameter, what is written there.
      line: all of it.
    """

    name: str
    result: str
    opcode: str
    operands: tuple[str, ...]
    line: str


@dataclasses.dataclass(frozen=True)
class Program:
    """A program as its text has it.

    Attributes:
      computations: lines of each computation in the order in which they run, by its name.
      entry: name of the computation that is run.
    """

    computations: Mapping[str, Sequence[str]]
    entry: str

    @classmethod
    def parse(cls, text: str) -> "Program":
        computations: dict[str, list[str]] = {}
        entry, lines = "", list[str]()
        for line in text.splitlines():
            if header := _COMPUTATION.match(line):
                lines = computations.setdefault(header[2], [])
                entry = header[2] if header[1] else entry
            else:
                lines.append(line)
        return cls(computations, entry)

    def instructions(self, name: str) -> list[Instruction]:
        """The instructions of a computation, in order."""
        found = (_INSTRUCTION.match(line) for line in self.computations[name])
        return [
            Instruction(
                match[1],
                match[2],
                match[3],
                _operands(match[4]),
                match.string,
            )
            for match in found
            if match
        ]

    def looped(self) -> set[str]:
        """Names of the computations that a loop runs, by itself or by others that it calls."""
        looped: set[str] = set()
        waiting = [
            name
            for lines in self.computations.values()
            for line in lines
            for name in loop_of(line) or ()
        ]
        while waiting:
            name = waiting.pop()
            if name not in looped:
                looped.add(name)
                lines = self.computations.get(name, ())
                waiting += [called for line in lines for called in called_by(line)]
        return looped

    def turns(self, loop: Instruction, around: Sequence[Instruction]) -> int:
        """How often a loop runs its body.

        Args:
          loop: a "while" that counts up to a constant.
          around: the instructions of the computation that it is in.

        Raises:
          AssertionError: the loop does not count in a way that is known.
        """
        names = loop_of(loop.line)
        assert names, f"no loop: {loop.line}"
        condition, body = (self.instructions(name) for name in names)
        compared = _root(condition)
        direction = re.search(r"direction=(\w+)", compared.line)
        beyond = _BEYOND.get(direction[1]) if direction else None
        assert beyond is not None, f"a loop that does not count up to a number: {loop.line}"
        counter, limit = compared.operands
        index = _index(_find(condition, counter))
        start = _integer(around, _find(around, loop.operands[0]).operands[index], {})
        after = _root(body).operands[index]
        step = _integer(body, after, {index: 0})
        assert step > 0, f"a loop that does not count up: {loop.line}"
        return max(0, -((start - beyond - _integer(condition, limit, {})) // step))


def loop_of(line: str) -> tuple[str, str] | None:
    """Names of condition and body, if a line is a loop."""
    loop = _LOOP.search(line)
    return (loop[1], loop[2]) if loop else None


def called_by(line: str) -> Iterator[str]:
    """Names of the computations that a line calls."""
    for one, several in _CALLED.findall(line):
        yield from [one] if one else re.findall(r"[\w.-]+", several)


def result_bytes(result: str) -> int:
    """Bytes of all arrays in a type, but for the scalars by which a start is awaited."""
    arrays = _ARRAY.findall(result)
    if len(arrays) > 1:
        arrays = [array for array in arrays if array[0] != "u32" or array[2]]
    return sum(_array_bytes(bits, shape) for _, bits, shape in arrays)


def _array_bytes(bits: str, shape: str) -> int:
    size = math.prod(int(length) for length in shape.split(",") if length)
    return -(-size * int(bits or 8) // 8)  # pred has a byte


def _operands(text: str) -> tuple[str, ...]:
    """Names in a list such as "%a, /*index=1*/%b", which may have types before them."""
    parts = re.sub(r"/\*.*?\*/", "", text).split(", ")
    return tuple(part.split()[-1].removeprefix("%") for part in parts if part.strip())


def _root(computation: Sequence[Instruction]) -> Instruction:
    return next(one for one in computation if one.line.lstrip().startswith("ROOT "))


def _find(computation: Sequence[Instruction], name: str) -> Instruction:
    return next(one for one in computation if one.name == name)


def _index(one: Instruction) -> int:
    """Which element of a tuple is taken."""
    index = _INDEX.search(one.line)
    assert index, f"not an element of a tuple: {one.line}"
    return int(index[1])


def _integer(computation: Sequence[Instruction], name: str, elements: Mapping[int, int]) -> int:
    """What a computation comes to, by the elements of the tuple that it is given."""
    one = _find(computation, name)
    if one.opcode == "constant":
        return int(one.operands[0])
    if one.opcode == "get-tuple-element":
        return elements[_index(one)]
    operation = _ARITHMETIC.get(one.opcode)
    assert operation, f"a number that is not known: {one.line}"
    return operation(*(_integer(computation, operand, elements) for operand in one.operands))
