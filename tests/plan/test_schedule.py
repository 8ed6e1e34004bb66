"""Schedules followed by hand: a second is a cycle, a byte of memory, or 10 bytes of network."""

from pathlib import Path

import pytest

from tests import tiny
from tests.plan.test_hlo import looping
from vssflow_jax.parallel import chips
from vssflow_jax.plan import schedule, tasks
from vssflow_jax.plan.programs import changed
from vssflow_jax.plan.schedule import Schedule, follow
from vssflow_jax.plan.topologies import Topology

CHIP = chips.Chip("c", ("C",), 1.0, 1.0, 1.0, 10.0, "", dcn_bytes_per_sec=1.0, cycles_per_sec=1.0)
DEVICES = 4
GROUP = "replica_groups=[1,4]<=[4]"
# 40 bytes over a link: each device sends its payload once.
PERMUTE = "source_target_pairs={{0,1},{1,2},{2,3},{3,0}}"
START = (
    "%s = (f32[10]{0}, f32[10]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%x), "
    f"channel_id=1, {PERMUTE}"
)
DONE = "%d = f32[10]{0} collective-permute-done(%s)"


def work(cycles: int) -> str:
    return (
        f"%f.{cycles} = f32[10]{{0}} fusion(%x), kind=kLoop, calls=%inner, "
        f'backend_config={{"window_config":{{"estimated_cycles":"{cycles}"}}}}'
    )


INNER = """%inner (y: f32[10]) -> f32[10] {
  %y = f32[10]{0} parameter(0)
  ROOT %z = f32[10]{0} negate(%y)
}
"""


def followed(*lines: str, before: str = "", work_sec: float | None = None) -> Schedule:
    body = "\n".join(f"  {line}" for line in lines)
    text = (
        f"HloModule step, is_scheduled=true\n\n{INNER}\n{before}\n"
        f"ENTRY %main (x: f32[10]) -> f32[10] {{\n  %x = f32[10]{{0}} parameter(0)\n{body}\n}}\n"
    )
    return follow(text, DEVICES, CHIP, work_sec)


@pytest.mark.parametrize(
    ("lines", "work_sec", "exposed"),
    [
        ([START, DONE], 0, 4),
        ([START, work(3), DONE], 3, 1),
        ([START, work(3), work(2), DONE], 5, 0),
        ([work(3), START, DONE], 3, 4),  # what is not between hides nothing
        ([START, DONE, work(3)], 3, 4),
    ],
)
def test_what_is_between_start_and_done_hides(lines: list[str], work_sec: float, exposed: float):
    assert followed(*lines) == Schedule(work_sec, 4, exposed, 0, 0)


def test_one_that_begins_and_ends_at_once_is_exposed():
    line = f"%a = f32[20]{{0}} all-reduce(%x), channel_id=1, {GROUP}, to_apply=%inner"
    assert followed(work(50), line, work(50)) == Schedule(100, 12, 12, 0, 0)


def test_a_network_has_one_collective_at_a_time():
    second = (START.replace("%s =", "%t ="), DONE.replace("%d =", "%e =").replace("%s", "%t"))
    assert followed(START, second[0], work(5), DONE, second[1]) == Schedule(5, 8, 3, 0, 0)


def test_work_may_be_faster_than_its_cycles():
    assert followed(START, work(8), DONE, work(8), work_sec=4) == Schedule(4, 4, 2, 0, 0)


def test_a_chain_of_fusions_carries_a_collective_on():
    """The gather is in the first fusion, in one that computes, and in the last: it is one."""
    gather = f"%g = f32[16]{{0}} all-gather(%p), channel_id=7, {GROUP}, dimensions={{0}}"

    def computation(name: str, last: str) -> str:
        return (
            f"%{name} (p: f32[4]) -> f32[16] {{\n  %p = f32[4] parameter(0)\n  {gather}\n{last}}}\n"
        )

    chain = [
        computation(
            "first",
            '  ROOT %r = f32[16] custom-call(%g), custom_call_target="AsyncCollectiveStart"\n',
        ),
        computation("async_collective_fusion.1", "  ROOT %r = f32[16] negate(%g)\n"),
        computation(
            "last",
            '  ROOT %r = f32[16] custom-call(%g), custom_call_target="AsyncCollectiveDone"\n',
        ),
    ]
    begins = "%async-collective-start = f32[16]{0} fusion(%x), kind=kCustom, calls=%first"
    goes_on = work(3).replace("inner", "async_collective_fusion.1")
    ends = "%async-collective-done = f32[16]{0} fusion(%x), kind=kCustom, calls=%last"
    found = followed(begins, goes_on, ends, before="\n".join(chain))
    assert found.work_sec == 3
    assert found.network_sec == pytest.approx(4.8)
    assert found.network_exposed_sec == pytest.approx(1.8)


def test_a_fusion_that_scatters_what_it_reduces_is_exposed():
    fusion = f"""%all-reduce-scatter.3 (p: f32[40]) -> f32[10] {{
  %p = f32[40] parameter(0)
  %all-reduce.9 = f32[40] all-reduce(%p), channel_id=3, {GROUP}
  ROOT %slice = f32[10] dynamic-slice(%all-reduce.9, %i)
}}
"""
    call = "%f = f32[10] fusion(%x), kind=kCustom, calls=%all-reduce-scatter.3"
    assert followed(call, before=fusion) == Schedule(0, 12, 12, 0, 0)


def test_a_generic_start_is_awaited_through_its_updates():
    wrapped = f"""%wrapped (p: f32[40]) -> f32[10] {{
  %p = f32[40] parameter(0)
  ROOT %r = f32[10] reduce-scatter(%p), channel_id=3, {GROUP}, dimensions={{0}}, to_apply=%inner
}}
"""
    start = "%a = ((f32[40]), f32[10], s32[]) async-start(%x), calls=%wrapped"
    update = "%b = ((f32[40]), f32[10], s32[]) async-update(%a), calls=%wrapped"
    done = "%c = f32[10] async-done(%b), calls=%wrapped"
    found = followed(start, work(2), update, work(3), done, before=wrapped)
    assert found == Schedule(5, 12, 7, 0, 0)


def loop() -> str:
    """The loop of four turns, its counter without work."""
    return looping().replace(" copy(", " bitcast(") + INNER


def test_a_loop_counts_as_often_as_it_runs():
    inside = "\n".join(f"  {line}" for line in (START, work(3), DONE))
    text = loop().replace("  %one =", f"{inside}\n  %one =")
    assert follow(text, DEVICES, CHIP) == Schedule(12, 16, 4, 0, 0)
    assert follow(text, DEVICES, CHIP, work_sec=2) == Schedule(2, 16, 14, 0, 0)


def test_a_loop_hides_what_began_before_it():
    outside, done = (line.replace("%s", "%o").replace("%d", "%p") for line in (START, DONE))
    text = loop().replace("  %one =", f"  {work(1)}\n  %one =")
    text = text.replace("  %while.1", f"  {outside}\n  %while.1")
    text = text.replace("  ROOT %result", f"  {done}\n  ROOT %result")
    assert follow(text, DEVICES, CHIP) == Schedule(4, 4, 0, 0, 0)


def test_what_goes_between_slices_has_a_network_of_its_own():
    def half(opcode: str, name: str, operands: str) -> str:
        return (
            f"%{name} = (f32[10], u32[], token[]) {opcode}({operands}), channel_id=2, "
            'is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="'
            'xla_megascale_runtime",_xla_host_transfer_rendezvous="grads_1",_xla_megascale_target='
            '"{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}'
        )

    lines = (
        half("send", "sent", "%x, %token"),
        half("recv", "received", "%token"),
        START,
        work(10),
        DONE,
        "%send-done = token[] send-done(%sent), channel_id=2",
        "%recv-done = (f32[10], token[]) recv-done(%received), channel_id=2",
    )
    # 40 bytes, of which a ring of two sends as many.
    assert followed(*lines) == Schedule(10, 4, 0, 40, 30)


def test_what_has_no_cycles_takes_the_bytes_it_moves():
    kernel = '%k = f32[10]{0} custom-call(%x), custom_call_target="tpu_custom_call"'
    free = '%a = f32[10]{0} custom-call(), custom_call_target="AllocateBuffer"'
    assert followed(kernel, free, "%c = f32[10]{0} copy(%x)").work_sec == 160


def test_what_other_devices_have_no_part_in_takes_no_time():
    alone = START.replace(PERMUTE, "source_target_pairs={{0,0},{1,1},{2,2},{3,3}}")
    assert followed(alone, work(1), DONE) == Schedule(1, 0, 0, 0, 0)


def test_what_is_awaited_has_to_have_begun():
    with pytest.raises(KeyError, match="'s'"):
        followed(DONE)


def test_a_chip_without_a_clock_is_refused():
    with pytest.raises(AssertionError, match="no clock"):
        follow("", DEVICES, schedule.Chip("c", ("C",), 1.0, 1.0, 1.0, 10.0, ""))


@pytest.mark.slow
def test_a_step_for_eight_chips_hides_what_it_gathers():
    """The demo's, compiled as training compiles it for chips that are not there."""
    topology = Topology.parse("v5e:2x4")
    topology.prepare()
    config = tiny.config(Path("unused"), model__transformer__layers=4)
    given = {"work_sec": 1e-3, "dcn_bytes_per_sec": 0.0}

    def found(strategy: str) -> dict[str, dict[str, float]]:
        of_strategy = changed(config, sharding__strategy=strategy)
        return tasks.find_schedule(of_strategy, topology.devices(), **given)["schedule"]

    fsdp, dp = found("fsdp"), found("dp")
    for one in (fsdp, dp):
        assert one["by_roofline"]["work_sec"] == pytest.approx(1e-3)
        assert one["by_roofline"]["dcn_sec"] == 0
    # Gradients that are summed at the end are awaited; weights come while others are used.
    assert dp["by_cycles"]["network_sec"] > 0
    all_of_it = pytest.approx(dp["by_cycles"]["network_sec"])
    assert dp["by_cycles"]["network_exposed_sec"] == all_of_it
    assert fsdp["by_cycles"]["network_exposed_sec"] < 0.8 * fsdp["by_cycles"]["network_sec"]
