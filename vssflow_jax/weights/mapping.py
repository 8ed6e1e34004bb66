"""Rules that turn the tensors of a source into our weights, and a report of what became of each.

Our weights are nested dicts of arrays, as `nnx.to_pure_dict` makes them; a dotted name is a path.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx, traverse_util

from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights.state_dict import PLAIN, check_number

Weights = dict[Any, Any]  # nested
Initial = Callable[[Sequence[str]], Mapping[str, np.ndarray]]

MAPPED, FOLDED, REINITIALISED = "mapped", "folded", "reinitialised"
MISSING, LEFT_OVER, UNKNOWN = "missing", "left over", "unknown"
STATES = (MAPPED, FOLDED, REINITIALISED, MISSING, LEFT_OVER, UNKNOWN)

_NAMES_IN_ERROR = 3


@dataclasses.dataclass(frozen=True)
class Rule:
    """How one weight of ours is made of tensors of the source.

    Attributes:
      target: dotted path in the nested dict of our weights.
      sources: names of the tensors, in the order in which `convert` takes them.
      convert: from those tensors to the weight; ValueError where their shapes do not allow it.
    """

    target: str
    sources: tuple[str, ...]
    convert: Callable[..., np.ndarray]


@dataclasses.dataclass(frozen=True)
class Entry:
    """What became of some tensors of the source, or where a weight of ours came from.

    Attributes:
      state: one of `STATES`.
      sources: names in the source; none for a weight that has no source.
      target: our name; "" for tensors that no weight is made of.
      size: parameters in the weight, or in the tensors that are not used.
    """

    state: str
    sources: tuple[str, ...]
    target: str
    size: int


@dataclasses.dataclass(frozen=True)
class Report:
    """All entries of one conversion."""

    entries: tuple[Entry, ...]

    def names(self, state: str) -> list[str]:
        """Source names, or our names where there is no source, of the entries in `state`.

        Each is there once, though several weights may be made of one tensor.
        """
        entries = [entry for entry in self.entries if entry.state == state]
        names = [name for entry in entries for name in entry.sources or (entry.target,)]
        return list(dict.fromkeys(names))

    def size(self, state: str) -> int:
        """Parameters in all entries of `state`."""
        return sum(entry.size for entry in self.entries if entry.state == state)

    def table(self) -> str:
        """One line for each group of tensors whose names differ in numbers only, then totals."""
        groups: dict[Any, list[Entry]] = {}
        for entry in self.entries:
            sources = tuple(dict.fromkeys(map(_pattern, entry.sources)))
            key = entry.state, _first_part(entry) or sources, _pattern(entry.target)
            groups.setdefault(key, []).append(entry)
        rows = [("", "source", "here", "tensors", "parameters")]
        for entries in sorted(groups.values(), key=lambda group: STATES.index(group[0].state)):
            names = [name for entry in entries for name in entry.sources]
            rows.append(
                (
                    entries[0].state,
                    _first_part(entries[0]) or _label(names),
                    _label([entry.target for entry in entries]),
                    f"{len(set(names))}",
                    f"{sum(entry.size for entry in entries):,}",
                )
            )
        totals = ", ".join(f"{self.size(state):,} {state}" for state in STATES)
        return f"{_aligned(rows)}\nparameters: {totals}"


Conversion = tuple[Weights, Report]


class PartialLoadError(UserError):
    """Some of what was asked for is missing in the source, or some of the source is unknown.

    Attributes:
      report: what was found and what was not.
    """

    def __init__(self, message: str, report: Report):
        super().__init__(message)
        self.report = report


def flatten(weights: Weights) -> dict[str, Any]:
    """Nested weights by dotted name."""
    return {_dotted(keys): leaf for keys, leaf in traverse_util.flatten_dict(weights).items()}


def abstract_weights(make: Callable[[], nnx.Module]) -> Weights:
    """Shapes of all weights of the network that `make` returns, nested."""
    return nnx.to_pure_dict(nnx.state(nnx.eval_shape(make), nnx.Not(nnx.RngState)))


def convert(
    rules: Iterable[Rule],
    source: Mapping[str, np.ndarray],
    abstract: Weights,
    *,
    may_differ: Collection[str] = (),
    initial: Initial | None = None,
    expected_left_over: Sequence[str] = (),
) -> Conversion:
    """Make all our weights of the tensors of a source.

    Args:
      rules: one for each weight that has a source.
      source: tensors by name.
      abstract: nested, anything with a shape for each of our weights.
      may_differ: dotted names of weights that may have no source, or one of another shape.
      initial: makes those that turn out so, once everything else is known to be well.
      expected_left_over: prefixes of names that may be in the source without being used.

    Returns:
      float32 weights, nested as `abstract`, and the report.

    Raises:
      UserError: a tensor that is used has a wrong shape, or holds integers or numbers that are
        not finite; the message names it.
      PartialLoadError: tensors are missing or unknown.
    """
    by_target = {rule.target: rule for rule in rules}
    leaves = traverse_util.flatten_dict(abstract)
    made = {
        _dotted(keys): _make(_dotted(keys), leaf.shape, by_target, source, may_differ)
        for keys, leaf in leaves.items()
    }
    strange = by_target.keys() - made.keys()
    assert not strange, f"rules for weights that there are not: {strange}"

    used = {name for rule in by_target.values() for name in rule.sources}
    expected = (PLAIN, *expected_left_over)
    unused = [
        Entry(LEFT_OVER if name.startswith(expected) else UNKNOWN, (name,), "", tensor.size)
        for name, tensor in source.items()
        if name not in used
    ]
    report = Report((*(entry for entry, _ in made.values()), *unused))
    _refuse_gaps(report)
    values = {target: value for target, (_, value) in made.items() if value is not None}
    if initial and len(values) < len(made):
        values |= initial([target for target in made if target not in values])
    return traverse_util.unflatten_dict({keys: values[_dotted(keys)] for keys in leaves}), report


def _make(
    target: str,
    shape: tuple[int, ...],
    rules: Mapping[str, Rule],
    source: Mapping[str, np.ndarray],
    may_differ: Collection[str],
) -> tuple[Entry, np.ndarray | None]:
    """Where one weight comes from, and the weight; None where tensors are missing or differ."""
    size = math.prod(shape)
    rule = rules.get(target)
    if rule is None:
        assert target in may_differ, f"no rule makes {target}"
        return Entry(REINITIALISED, (), target, size), None
    missing = tuple(name for name in rule.sources if name not in source)
    if missing:
        return Entry(MISSING, missing, target, size), None
    value = _apply(rule, source)
    if value.shape == shape:
        for name in rule.sources:
            check_number(f"'{name}'", source[name])
        state = FOLDED if len(set(map(_pattern, rule.sources))) > 1 else MAPPED
        return Entry(state, rule.sources, target, size), value.astype(np.float32, copy=False)
    if target not in may_differ:
        wanted = f"its shape would be {value.shape}, the model's is {shape}"
        raise _wrong_shape(rule, source, wanted)
    return Entry(REINITIALISED, rule.sources, target, size), None


def _apply(rule: Rule, source: Mapping[str, np.ndarray]) -> np.ndarray:
    try:
        return rule.convert(*(source[name] for name in rule.sources))
    except (ValueError, IndexError) as error:
        raise _wrong_shape(rule, source, str(error)) from error


def _wrong_shape(rule: Rule, source: Mapping[str, np.ndarray], reason: str) -> UserError:
    """The error that names a rule's tensors, one of each shape: in a stack, the odd one out."""
    first_of = {source[name].shape: name for name in reversed(rule.sources)}
    found = ", ".join(f"'{name}' {shape}" for shape, name in first_of.items())
    return UserError(
        f"weight {rule.target} cannot be made of {found}: {reason}; these are the weights of "
        "another model, or the config has other sizes"
    )


def _refuse_gaps(report: Report) -> None:
    missing, unknown = report.names(MISSING), report.names(UNKNOWN)
    parts = [
        f"{len(names)} {what} ({', '.join(names[:_NAMES_IN_ERROR])}"
        f"{', ...' if len(names) > _NAMES_IN_ERROR else ''})"
        for what, names in (("missing", missing), ("unknown", unknown))
        if names
    ]
    if parts:
        raise PartialLoadError(
            f"tensors of the source: {', '.join(parts)}; the config is of another model",
            report,
        )


def _first_part(entry: Entry) -> str:
    """What tensors that are left over are grouped by; "" for the others."""
    return f"{entry.sources[0].partition('.')[0]}.*" if entry.state == LEFT_OVER else ""


def _label(names: Iterable[str]) -> str:
    """The names as one, with * where numbers in them differ; several where more differs.

    Of those that differ in their last part only, that part is {listed}.
    """
    alike: dict[str, list[list[str]]] = {}
    for name in names:
        alike.setdefault(_pattern(name), []).append(name.split("."))
    labels = [
        ".".join(parts[0] if len(set(parts)) == 1 else "*" for parts in zip(*group, strict=True))
        for group in alike.values()
    ]
    modules: dict[str, list[str]] = {}
    for label in labels:
        module, dot, last = label.rpartition(".")
        modules.setdefault(f"{module}{dot}", []).append(last)
    whole = (
        f"{module}{{{', '.join(lasts)}}}" if len(lasts) > 1 else f"{module}{lasts[0]}"
        for module, lasts in modules.items()
    )
    return " + ".join(whole) or "-"


def _dotted(keys: Iterable[str | int]) -> str:
    return ".".join(map(str, keys))


def _pattern(name: str) -> str:
    """A dotted name with * in place of the parts that are numbers."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows in columns: names to the left, the two last columns, numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = len(widths) - 2
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
