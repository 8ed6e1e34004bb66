"""Rules applied to small sources: what is made, what is reported, what is refused."""

import re
from typing import Any

import numpy as np
import pytest

from vssflow_jax.utils.errors import UserError
from vssflow_jax.weights import mapping
from vssflow_jax.weights.mapping import PartialLoadError, Rule
from vssflow_jax.weights.state_dict import PLAIN

RULES = [
    Rule("embed.w_io", ("embed.weight",), np.transpose),
    Rule("blocks.b_o", ("blocks.0.bias", "blocks.1.bias"), lambda *biases: np.stack(biases)),
    Rule("sum.b_o", ("one.bias", "other.bias"), np.add),
]
ABSTRACT = {
    "embed": {"w_io": np.empty((3, 2))},
    "blocks": {"b_o": np.empty((2, 4))},
    "sum": {"b_o": np.empty(5)},
}


def source(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    """A source that `RULES` use up; `changes` name tensors with `__` for the dot, None is none."""
    rng = np.random.default_rng(0)
    shapes: dict[str, Any] = {"embed.weight": (2, 3), "one.bias": (5,), "other.bias": (5,)}
    shapes |= {"blocks.0.bias": (4,), "blocks.1.bias": (4,)}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    changed = {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in (tensors | changed).items() if value is not None}


def test_makes_nested_weights_as_the_rules_say() -> None:
    tensors = source()
    weights, _ = mapping.convert(RULES, tensors, ABSTRACT)
    np.testing.assert_array_equal(weights["embed"]["w_io"], tensors["embed.weight"].T)
    np.testing.assert_array_equal(weights["blocks"]["b_o"][1], tensors["blocks.1.bias"])
    np.testing.assert_array_equal(
        weights["sum"]["b_o"], tensors["one.bias"] + tensors["other.bias"]
    )


def test_keeps_numbered_parts_of_a_path_numbers() -> None:
    abstract = {"stages": {0: {"bias": np.empty(2)}}}
    rule = Rule("stages.0.bias", ("up.0.bias",), np.asarray)
    weights, _ = mapping.convert([rule], {"up.0.bias": np.ones(2)}, abstract)
    np.testing.assert_array_equal(weights["stages"][0]["bias"], np.ones(2))
    assert list(mapping.flatten(weights)) == ["stages.0.bias"]


def test_parts_of_a_module_that_make_a_weight_are_listed_behind_its_name() -> None:
    names = [f"{block}.norm.{part}" for block in (0, 1) for part in ("weight", "mean")]
    rules = [
        Rule(f"blocks.{i}.gain", tuple(f"net.{name}" for name in names[2 * i : 2 * i + 2]), np.add)
        for i in (0, 1)
    ]
    tensors = {f"net.{name}": np.zeros(3) for name in names}
    abstract = {"blocks": {i: {"gain": np.empty(3)} for i in (0, 1)}}
    _, report = mapping.convert(rules, tensors, abstract)
    assert "folded  net.*.norm.{weight, mean}  blocks.*.gain  " in report.table()


def test_reports_what_became_of_each_tensor() -> None:
    tensors = source(vae__0__bias=np.zeros(7), vae__conv=np.zeros((2, 2)))
    abstract = ABSTRACT | {"new": {"b_o": np.empty(6)}}
    initial = {"embed.w_io": np.ones((3, 2)), "new.b_o": np.ones(6)}
    tensors["embed.weight"] = np.zeros((9, 9))
    weights, report = mapping.convert(
        RULES,
        tensors,
        abstract,
        may_differ=("new.b_o", "sum.b_o", "embed.w_io"),
        initial=lambda names: {name: initial[name] for name in names},
        expected_left_over=("vae.",),
    )
    np.testing.assert_array_equal(weights["embed"]["w_io"], np.ones((3, 2)))
    np.testing.assert_array_equal(weights["new"]["b_o"], np.ones(6))
    assert report.names("mapped") == ["blocks.0.bias", "blocks.1.bias"]
    assert report.names("folded") == ["one.bias", "other.bias"]
    assert report.names("reinitialised") == ["embed.weight", "new.b_o"]
    assert report.names("left over") == ["vae.0.bias", "vae.conv"]
    assert report.size("left over") == 11

    rows = [re.split(r"  +", line.strip()) for line in report.table().splitlines()]
    assert rows[1:] == [
        ["mapped", "blocks.*.bias", "blocks.b_o", "2", "8"],
        ["folded", "one.bias + other.bias", "sum.b_o", "2", "5"],
        ["reinitialised", "embed.weight", "embed.w_io", "1", "6"],
        ["reinitialised", "-", "new.b_o", "0", "6"],
        ["left over", "vae.*", "-", "2", "11"],
        [
            "parameters: 8 mapped, 5 folded, 12 reinitialised, 0 missing, 11 left over, 0 unknown",
        ],
    ]


def test_one_row_for_tensors_whose_names_differ_in_numbers() -> None:
    names = [f"ups.{i}.convs.0.bias" for i in range(3)]
    rules = [Rule(f"stages.{i}.bias", (name,), np.asarray) for i, name in enumerate(names)]
    abstract = {"stages": {str(i): {"bias": np.empty(2)} for i in range(3)}}
    _, report = mapping.convert(rules, {name: np.zeros(2) for name in names}, abstract)
    row = report.table().splitlines()[1].split()
    assert row == ["mapped", "ups.*.convs.0.bias", "stages.*.bias", "3", "6"]


def test_missing_tensors_are_refused_and_counted() -> None:
    tensors = source(one__bias=None, blocks__0__bias=None, blocks__1__bias=None, embed__weight=None)
    with pytest.raises(
        PartialLoadError, match=r"4 missing \(embed.weight, blocks.0.bias, .*\.\.\."
    ) as e:
        mapping.convert(RULES, tensors, ABSTRACT)
    assert str(e.value).endswith("...); the config is of another model")
    assert e.value.report.size("missing") == 6 + 8 + 5
    assert "missing" in e.value.report.table()


def test_unknown_tensors_are_refused() -> None:
    with pytest.raises(PartialLoadError, match=r"1 unknown \(gate.bias\)"):
        mapping.convert(RULES, source(gate__bias=np.zeros(2)), ABSTRACT)


@pytest.mark.parametrize("wrong", [np.nan, -np.inf])
def test_numbers_that_are_not_finite_are_refused_where_they_are_used(wrong: float) -> None:
    broken = np.array([1, wrong, wrong, 1, 1], np.float32)
    with pytest.raises(UserError, match=r"'other.bias' holds 2 numbers of 5 that are not finite"):
        mapping.convert(RULES, source(other__bias=broken), ABSTRACT)
    unused = {"vit.attn_mask": broken, f"{PLAIN}one.bias": broken, "embed.weight": broken}
    weights, _ = mapping.convert(
        RULES,
        source() | unused,
        ABSTRACT,
        may_differ=("embed.w_io",),
        initial=lambda names: {name: np.ones((3, 2)) for name in names},
        expected_left_over=("vit.",),
    )
    assert np.isfinite(weights["sum"]["b_o"]).all()


def test_large_numbers_whose_sum_overflows_are_numbers() -> None:
    large = np.full(5, 3e38, np.float32)
    mapping.convert(RULES, source(one__bias=large, other__bias=-large), ABSTRACT)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"embed__weight": np.zeros((2, 4))}, r"'embed.weight' \(2, 4\).*\(4, 2\).*\(3, 2\)"),
        ({"embed__weight": np.zeros(3)}, r"'embed.weight' \(3,\)"),
        ({"blocks__1__bias": np.zeros(9)}, r"blocks.b_o.*'blocks.1.bias' \(9,\)"),
        ({"other__bias": np.zeros((2, 3))}, r"'other.bias' \(2, 3\)"),
    ],
)
def test_a_wrong_shape_names_the_tensor(changes: dict[str, np.ndarray], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        mapping.convert(RULES, source(**changes), ABSTRACT)


def test_quantised_weights_are_refused_where_they_are_used() -> None:
    integers = np.ones(5, np.int8)
    with pytest.raises(UserError, match=r"'other.bias' is int8, not floating point; quantised"):
        mapping.convert(RULES, source(other__bias=integers), ABSTRACT)
