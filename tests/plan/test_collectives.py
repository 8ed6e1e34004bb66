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


def sent(result: str, transfer: str, target: str) -> str:
    """A send between slices, as XLA for TPU writes it."""
    return (
        f"%send = ({result}, u32[], token[]) send(%x, %after-all), channel_id=2, "
        'is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="'
        'xla_megascale_runtime",_xla_host_transfer_rendezvous="some_0",_xla_megascale_target='
        f'{target},_xla_megascale_transfer_type="{transfer}"}}'
    )


@pytest.mark.parametrize(
    ("transfer", "target", "expected"),
    [
        ("ALL_REDUCE", '"{1,2}x{0:7}"', Collective("all-reduce", 8192, 2, True)),
        ("ALL_REDUCE", '"{1,2,3}x{0:7}"', Collective("all-reduce", 8192, 3, True)),
        ("ALL_GATHER", '"{1,2,3}x{0:7}"', Collective("all-gather", 3 * 8192, 3, True)),
        ("REDUCE_SCATTER", '"{1,2}x{0:7}"', Collective("reduce-scatter", 8192, 2, True)),
        (
            "ALL_TO_ALL",
            "{{100000,200000},{100001,200001}}",
            Collective("all-to-all", 8192, 2, True),
        ),
        (  # Two devices of each slice in a group.
            "ALL_TO_ALL",
            "{{100000,100001,200000,200001}}",
            Collective("all-to-all", 8192, 2, True),
        ),
        (
            "ONE_TO_ONE",
            "{{100000->200000},{200000->300000},{300000->100000}}",
            Collective("collective-permute", 8192, 2, True),
        ),
    ],
)
def test_what_slices_send_one_another(transfer: str, target: str, expected: Collective):
    within = "%r = f32[4] all-reduce(%x), replica_groups={{0,2,4,6},{1,3,5,7}}"
    received = sent("f32[9,9]", transfer, target).replace("send", "recv")
    done = (
        "%send-done = token[] send-done(%send), channel_id=2, is_host_transfer=true, "
        'frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"}'
    )
    line = sent("f32[2,8,128]{2,1,0:T(8,128)}", transfer, target)
    assert found(within, line, done, received) == [Collective("all-reduce", 16, 4), expected]


def test_two_slices_exchange_half_of_what_each_reduces_twice():
    (one,) = found(sent("f32[250]", "ALL_REDUCE", '"{1,2}x{0:7}"'))
    assert one.wire_bytes == 1000


def test_a_transfer_of_an_unknown_kind_is_refused():
    with pytest.raises(AssertionError, match="unknown transfer between slices"):
        found(sent("f32[4]", "SCATTER", '"{1,2}x{0:7}"'))


def test_a_send_to_another_host_program_is_no_collective():
    line = sent("f32[4]", "ALL_REDUCE", '"{1,2}x{0:7}"')
    assert not found(line.replace("xla_megascale_runtime", "tf_rendezvous"))


def test_one_between_slices_in_a_loop_is_refused():
    body = f"""%body (x: f32[4]) -> f32[4] {{
  {sent("f32[4]", "ALL_REDUCE", '"{1,2}x{0:7}"')}
}}
"""
    with pytest.raises(AssertionError, match="in a loop"):
        found("%w = f32[4] while(%x), condition=%condition, body=%body", before=body)
