"""Collectives read from programs as compilers write them; the snippets are made up."""

import pytest

from vssflow_jax.plan.collectives import Collective, find_collectives

DEVICES = 8
_HEAD = "HloModule step, is_scheduled=true\n\n"


def found(*lines: str, before: str = "") -> list[Collective]:
    body = "\n".join(f"  {line}" for line in lines)
    text = f"{_HEAD}{before}\nENTRY %main (x: f32[4]) -> f32[4] {{\n{body}\n}}\n"
    return find_collectives(text, DEVICES)


@pytest.mark.parametrize(
    ("groups", "devices"),
    [
        ("{{0,1,2,3},{4,5,6,7}}", 4),
        ("[4,2]<=[8]", 2),
        ("[2,4]<=[4,2]T(1,0)", 4),
        ("mesh['data'=2,'fsdp'=4] {'fsdp'}", 4),
        ("mesh['data'=2,'fsdp'=4] {'data','fsdp'}", 8),
        ("mesh['a'=1,'b'=4,'c'=2], device_ids=([2,4]T(1,0)) {'b'}", 4),
        ("mesh['a'=8] {'a':(2)4}", 4),
        ("{}", DEVICES),
    ],
)
def test_groups_in_every_notation(groups: str, devices: int):
    line = (
        f"%g = bf16[16,64]{{1,0:T(8,128)(2,1)}} all-gather(%x), replica_groups={groups}, dims={{0}}"
    )
    assert found(line) == [Collective("all-gather", 16 * 64 * 2, devices)]


@pytest.mark.parametrize(
    ("line", "kind", "payload"),
    [
        (
            "%r = f32[4,8]{1,0} reduce-scatter(%x), replica_groups=[1,8]<=[8]",
            "reduce-scatter",
            1024,
        ),
        ("ROOT %r = (f32[4], bf16[2]) all-reduce(%x, %y), replica_groups={}", "all-reduce", 20),
        ("%a = s32[8,2]{1,0} all-to-all(%x), replica_groups=[1,8]<=[8]", "all-to-all", 64),
        (
            "%p = f32[5] collective-permute(%x), source_target_pairs={{0,1},{1,0}}",
            "collective-permute",
            20,
        ),
        # Asynchronous: what goes in, what comes out, and what it is awaited by.
        (
            "%s = (f32[1,8]{1,0}, f32[8,8]{1,0}) all-gather-start(%x), replica_groups=[1,8]<=[8]",
            "all-gather",
            256,
        ),
        (
            "%s = (f32[5], f32[5], u32[], u32[]) collective-permute-start(%x), "
            "source_target_pairs={{0,1},{1,0}}",
            "collective-permute",
            20,
        ),
        ("%s = f32[6] all-reduce-start(%x), replica_groups={}", "all-reduce", 24),
    ],
)
def test_payload_is_the_whole_array(line: str, kind: str, payload: int):
    done = "%d = f32[8,8] all-gather-done(%s)"  # counted at its start
    assert found(line, done) == [Collective(kind, payload, DEVICES)]


def test_a_fusion_of_all_reduce_and_slice_is_a_reduce_scatter():
    fusion = """%all-reduce-scatter.3 (input: bf16[64,32]) -> bf16[8,32] {
  %input = bf16[64,32] parameter(0)
  %all-reduce.9 = bf16[64,32] all-reduce(%input), replica_groups={{0,1,2,3,4,5,6,7}}
  ROOT %slice = bf16[8,32] dynamic-slice(%all-reduce.9, %i, %j)
}
"""
    call = "%f = bf16[8,32] fusion(%x), kind=kCustom, calls=%all-reduce-scatter.3"
    assert found(call, before=fusion) == [Collective("reduce-scatter", 64 * 32 * 2, 8)]


def test_what_stays_on_a_device_is_no_collective():
    alone = "replica_groups={{0},{1},{2},{3},{4},{5},{6},{7}}"
    to_itself = "source_target_pairs={{0,0},{1,1}}"
    assert not found(
        f"%g = f32[4] all-gather(%x), {alone}",
        f"%p = f32[4] collective-permute(%x), {to_itself}",
        '%n = f32[4] add(%x, %x), metadata={op_name="all-reduce(x)"}',
    )


def test_one_in_a_loop_is_refused():
    body = """%inner (x: f32[4]) -> f32[4] {
  %g = f32[4] all-reduce(%x), replica_groups={}
}

%body (x: f32[4]) -> f32[4] {
  %c = f32[4] call(%x), to_apply=%inner
}

%condition (x: f32[4]) -> pred[] {
  %c = pred[] constant(true)
}
"""
    assert len(found("%c = f32[4] call(%x), to_apply=%inner", before=body)) == 1
    with pytest.raises(AssertionError, match="in a loop"):
        found("%w = f32[4] while(%x), condition=%condition, body=%body", before=body)


@pytest.mark.parametrize(
    ("kind", "wire"),
    [
        ("all-gather", 750),
        ("reduce-scatter", 750),
        ("all-reduce", 1500),
        ("all-to-all", 750),
        ("collective-permute", 1000),
    ],
)
def test_what_a_ring_of_four_sends(kind: str, wire: float):
    assert Collective(kind, 1000, 4).wire_bytes == wire
