"""The base model's blocks in PyTorch alone, as one would write them there, random weights.

`tests/benchmarks/test_accelerator.py` holds them against ours, weight by weight. Training is by
autocast to bfloat16 over float32 weights and a fused AdamW; generating in bfloat16 throughout, two
rows a clip for guidance. Attention is `scaled_dot_product_attention`. Where there is a compiler,
blocks are compiled one for all, as PyTorch calls regional compilation.
"""

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax

from benchmarks.accelerator.items import Item, Row
from benchmarks.accelerator.sampling import GUIDANCE, STEPS, sampling_pair
from benchmarks.accelerator.sizes import QUICK, Scale, make_experiment
from benchmarks.accelerator.training import LEARNING_RATE, blocks_pair
from vssflow_jax.models.flops import PASSES, transformer_flops
from vssflow_jax.models.layers import rope_tables
from vssflow_jax.models.transformer import TransformerConfig

if TYPE_CHECKING:
    import torch

EAGER, COMPILED = "eager", "compiled"


def torch_blocks(scale: Scale) -> Iterator[Item]:
    """The steps of `blocks` and the sampler of `sampling`, by PyTorch; one line where it is not."""
    jax.config.update("jax_platforms", "cpu")  # The device is PyTorch's here.
    try:
        import torch
    except ImportError:
        yield Item("PyTorch", lambda: {"result": "not installed"})
        return
    if not torch.cuda.is_available() and scale is not QUICK:
        yield Item("PyTorch", lambda: {"result": "sees no GPU"})
        return
    modes = (COMPILED, EAGER) if torch.cuda.is_available() else (EAGER,)
    for clips in {scale.middle: None, scale.batches[0]: None}:
        for mode in modes:
            measure = functools.partial(_measure_step, scale, clips, mode)
            yield Item(f"blocks, {clips} clips, {mode}", measure)
    for clips in scale.generated:
        for steps in STEPS:
            for mode in modes:
                sample = functools.partial(_measure_sampling, scale, steps, clips, mode)
                yield Item(f"Euler {steps}, {clips} clips, {mode}", sample)


# ------------------------------------------------------------------------------------- the network
def make_stack(cfg: TransformerConfig, tokens: int) -> "torch.nn.Module":
    """A module from (frames [b, t, d], flow time [b], context [b, s, e]) to frames [b, t, d].

    Args:
      cfg: sizes.
      tokens: n = 1 + t.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    class Attention(nn.Module):
        def __init__(self, source_width: int, kv_heads: int, rotate_keys: bool):
            super().__init__()
            self.rotate_keys = rotate_keys
            inner, inner_kv = cfg.heads * cfg.head_dim, kv_heads * cfg.head_dim
            self.q = nn.Linear(cfg.width, inner, bias=False)
            self.k = nn.Linear(source_width, inner_kv, bias=False)
            self.v = nn.Linear(source_width, inner_kv, bias=False)
            self.out = nn.Linear(inner, cfg.width, bias=False)

        def forward(self, x: Any, source: Any, cos: Any, sin: Any) -> Any:
            q, k, v = (
                y.unflatten(-1, (-1, cfg.head_dim)).transpose(1, 2)  # [b, h, n, k]
                for y in (self.q(x), self.k(source), self.v(source))
            )
            q = _rotate(q, cos, sin)
            k = _rotate(k, cos, sin) if self.rotate_keys else k
            shared = q.shape[1] != k.shape[1]
            mixed = functional.scaled_dot_product_attention(q, k, v, enable_gqa=shared)
            return self.out(mixed.transpose(1, 2).flatten(2))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(cfg.width) for _ in range(3))
            self.self_attention = Attention(cfg.width, cfg.heads, rotate_keys=True)
            self.cross_attention = Attention(cfg.context_width, cfg.kv_heads, rotate_keys=False)
            self.value_and_gate = nn.Linear(cfg.width, 2 * cfg.ffw_width)
            self.ffw_out = nn.Linear(cfg.ffw_width, cfg.width)

        def forward(self, x: Any, context: Any, cos: Any, sin: Any) -> Any:
            normed = self.norm1(x)
            x = x + self.self_attention(normed, normed, cos, sin)
            x = x + self.cross_attention(self.norm2(x), context, cos, sin)
            value, gate = self.value_and_gate(self.norm3(x)).chunk(2, dim=-1)
            return x + self.ffw_out(value * functional.silu(gate))

    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("frequencies", torch.randn(cfg.time_features // 2))
            self.time_inner = nn.Linear(cfg.time_features, cfg.width)
            self.time_outer = nn.Linear(cfg.width, cfg.width)
            self.blocks = nn.ModuleList(Block() for _ in range(cfg.layers))
            cos, sin = map(torch.from_numpy, rope_tables(tokens, cfg.head_dim))
            self.register_buffer("cos", cos)
            self.register_buffer("sin", sin)

        def forward(self, frames: Any, t: Any, context: Any) -> Any:
            angle = 2 * torch.pi * t[:, None] * self.frequencies
            features = torch.cat([angle.cos(), angle.sin()], dim=-1).to(frames.dtype)
            first = self.time_outer(functional.silu(self.time_inner(features)))
            x = torch.cat([first[:, None].to(frames.dtype), frames], dim=1)
            for block in self.blocks:
                x = block(x, context, self.cos, self.sin)
            return x[:, 1:]

    return Stack()


def _rotate(x: Any, cos: Any, sin: Any) -> Any:
    """Rotary positions of the first half of each head, [b, h, n, k] -> same."""
    import torch

    turned, kept = x.chunk(2, dim=-1)
    first, second = turned.chunk(2, dim=-1)
    partner = torch.cat([-second, first], dim=-1)
    return torch.cat([(turned * cos + partner * sin).to(x.dtype), kept], dim=-1)


# ------------------------------------------------------------------------------------ measurements
def _measure_step(scale: Scale, clips: int, mode: str) -> Row:
    import torch

    stack, cfg, frames, device = _made(scale, mode)
    optimizer = torch.optim.AdamW(stack.parameters(), lr=LEARNING_RATE, fused=True)
    x, target = torch.randn(2, clips, frames, cfg.width, device=device)
    context = torch.randn(clips, 1 + frames, cfg.context_width, device=device)
    t = torch.rand(clips, device=device)

    def call() -> None:
        with torch.autocast(device, torch.bfloat16):
            loss = torch.nn.functional.mse_loss(stack(x, t, context).float(), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    flops = PASSES * clips * transformer_flops(cfg, frames)
    row = _timed(scale, call, clips, mode)
    per_sec = flops / row["ms"] * 1e3
    return {**row, "tflops": per_sec / 1e12, "mfu": _mfu(per_sec), "pair": blocks_pair(clips)}


def _measure_sampling(scale: Scale, steps: int, clips: int, mode: str) -> Row:
    import torch

    stack, cfg, frames, device = _made(scale, mode)
    channels = make_experiment(scale, "base", clips).model.latent_channels
    into, out = torch.nn.Linear(channels, cfg.width), torch.nn.Linear(cfg.width, channels)
    network = torch.nn.ModuleList([stack, into, out]).to(device, torch.bfloat16)

    def noise(*shape: int) -> Any:
        return torch.randn(*shape, device=device, dtype=torch.bfloat16)

    given = noise(clips, frames, cfg.width), noise(clips, 1 + frames, cfg.context_width)
    # The unconditional rows see zeros.
    beside, context = (torch.cat([part, torch.zeros_like(part)]) for part in given)
    start = noise(clips, frames, channels)

    @torch.no_grad()
    def call() -> None:
        x = start
        for step in range(steps):
            t = torch.full((2 * clips,), step / steps, device=device)
            hidden = network[0](network[1](torch.cat([x, x])) + beside, t, context)
            with_conditions, free = network[2](hidden).chunk(2)
            x = x + (free + GUIDANCE * (with_conditions - free)) / steps

    return {**_timed(scale, call, clips, mode), "pair": sampling_pair(steps, clips)}


def _made(scale: Scale, mode: str) -> tuple[Any, TransformerConfig, int, str]:
    """The blocks, their sizes, frames of a clip, and the device."""
    import torch

    experiment = make_experiment(scale, "base", 1)
    cfg, frames = experiment.model.transformer, experiment.spec.latent_frames
    device = "cuda" if torch.cuda.is_available() else "cpu"
    stack = make_stack(cfg, 1 + frames).to(device)
    if mode == COMPILED:
        for block in stack.blocks:
            block.compile(dynamic=False)
    return stack, cfg, frames, device


def _timed(scale: Scale, call: Callable[[], None], clips: int, mode: str) -> Row:
    import torch

    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    for _ in range(2):  # compiles, and then takes the memory that it keeps
        call()
    wait()
    seconds = scale.clock.seconds(call, lambda _: wait())
    memory = torch.cuda.max_memory_allocated() / 1e9 if on_gpu else None
    row = {"ms": 1e3 * seconds, "clips_per_sec": clips / seconds, "gb": memory}
    return {"result": f"PyTorch, {mode}, bfloat16", **row}


def _mfu(per_sec: float) -> float | None:
    import torch

    from vssflow_jax.parallel.chips import find

    chip = find(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    return chip and per_sec / chip.flops_per_sec
