"""Programs taken apart; the snippets are made up, as XLA for TPU writes them."""

import pytest

from vssflow_jax.plan import hlo


def looping(start: str = "0", limit: str = "8", step: str = "2", direction: str = "LT") -> str:
    """A loop over a counter, the second element of what it carries."""
    return f"""HloModule step, is_scheduled=true

%condition.1 (given: (f32[4], u32[])) -> pred[] {{
  %given = (f32[4]{{0:T(8,128)S(1)}}, u32[]{{:T(128)}}) parameter(0)
  %limit = u32[]{{:T(128)}} constant({limit})
  %counter = u32[]{{:T(128)}} get-tuple-element(%given), index=1
  ROOT %lt = pred[]{{:T(512)}} compare(%counter, %limit), direction={direction}
}}

%body.1 (given.1: (f32[4], u32[])) -> (f32[4], u32[]) {{
  %given.1 = (f32[4]{{0:T(8,128)S(1)}}, u32[]{{:T(128)}}) parameter(0)
  %one = u32[]{{:T(128)}} constant(1)
  %rest = u32[]{{:T(128)}} constant({step})
  %x = f32[4]{{0:T(8,128)S(1)}} get-tuple-element(%given.1), index=0
  %counter.1 = u32[]{{:T(128)}} get-tuple-element(%given.1), index=1
  %between = u32[]{{:T(128)S(6)}} add(%counter.1, %one), backend_config={{"a":[]}}
  %after = u32[]{{:T(128)S(6)}} add(%between, %rest)
  %next = u32[]{{:T(128)S(6)}} subtract(%after, %one)
  ROOT %tuple.1 = (f32[4]{{0}}, u32[]{{:T(128)}}) tuple(%x, /*index=1*/%next)
}}

ENTRY %main.2_spmd (x.1: f32[4]) -> f32[4] {{
  %x.1 = f32[4]{{0:T(128)}} parameter(0)
  %constant.9 = u32[]{{:T(128)}} constant({start})
  %copy.3 = u32[]{{:T(128)}} copy(%constant.9)
  %tuple.2 = (f32[4]{{0:T(128)}}, u32[]{{:T(128)}}) tuple(%x.1, %copy.3)
  %while.1 = (f32[4]{{0}}, u32[]{{:T(128)}}) while(%tuple.2), condition=%condition.1, body=%body.1
  ROOT %result = f32[4]{{0:T(128)}} get-tuple-element(%while.1), index=0
}}
"""


def turns(**given: str) -> int:
    program = hlo.Program.parse(looping(**given))
    around = program.instructions(program.entry)
    (loop,) = (one for one in around if one.opcode == "while")
    return program.turns(loop, around)


def test_instructions_in_order():
    program = hlo.Program.parse(looping())
    assert program.entry == "main.2_spmd"
    assert [one.name for one in program.instructions("condition.1")] == [
        *("given", "limit", "counter", "lt"),
    ]
    tuple_ = program.instructions("body.1")[-1]
    assert (tuple_.opcode, tuple_.operands) == ("tuple", ("x", "next"))
    assert tuple_.result == "(f32[4]{0}, u32[]{:T(128)})"
    assert program.looped() == {"condition.1", "body.1"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 4),
        ({"limit": "7"}, 4),
        ({"start": "1", "step": "1"}, 7),
        ({"direction": "LE"}, 5),
        ({"start": "8"}, 0),
    ],
)
def test_how_often_a_loop_runs(given: dict[str, str], expected: int):
    assert turns(**given) == expected


@pytest.mark.parametrize(
    ("given", "why"), [({"direction": "NE"}, "up to a number"), ({"step": "0"}, "not count up")]
)
def test_a_loop_that_does_not_count_up_is_refused(given: dict[str, str], why: str):
    with pytest.raises(AssertionError, match=why):
        turns(**given)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("f32[8,2]{1,0:T(8,128)}", 64),
        ("(bf16[3]{0}, pred[5]{0})", 11),
        ("(f32[4]{0}, f32[4]{0}, u32[]{:S(2)})", 32),  # what a start is awaited by
        ("u32[]", 4),
        ("s4[3]", 2),
    ],
)
def test_bytes_of_a_result(result: str, expected: int):
    assert hlo.result_bytes(result) == expected
