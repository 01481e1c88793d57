"""One contender of the step benchmark: a Vision Transformer's training step in PyTorch.

Modes: fp32, compile (torch.compile of the blocks: all are alike, so that one compilation serves them, and steps take as long
as with the whole model compiled), bf16 (autocast), sim (TetraJet simulated). The simulation follows NUMERICS sections 2 to
4: operands are rounded to the E2M1 grid per block of 32 along the reduction axis and multiplied in float32, which is what
public 4-bit training code does.

The process stays alive between rounds and serves all numbers of threads, so that neither start-up nor compilation is
measured, nor paid twice: it prints one JSON line {"base_mb", "torch"}, then for each line "N THREADS" on standard input takes
N steps and prints {"ms", "peak_mb", "warmup_s"}. Where a number of threads is new it takes a step first that does not count
(with torch.compile two): it loads, allocates, compiles. Of the simulation only the very first step is such a one.
"""
import argparse
import json
import resource
import sys
import time

import torch
from torch import nn
import torch.nn.functional as F


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def quantize(x, stochastic):
    """x [R, K] on the MXFP4 grid, blocks of 32 along K, truncation-free scales."""
    rows, k = x.shape
    pad = -k % 32
    blocks = F.pad(x, (0, pad)).view(rows, -1, 32)
    peak = blocks.abs().amax(dim=2, keepdim=True).clamp_min(1e-30)
    scale = torch.exp2(torch.ceil(torch.log2(peak / 6)))
    y = blocks / scale
    step = torch.exp2(torch.floor(torch.log2(y.abs().clamp_min(1.0))) - 1)
    t = y / step
    t = torch.floor(t + torch.rand_like(t)) if stochastic else torch.round(t)
    return (t * step * scale).view(rows, -1)[:, :k]


class TetraJetLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, b):
        xq, wq = quantize(x, False), quantize(w, False)
        ctx.save_for_backward(xq, wq)
        return xq @ wq.t() + b

    @staticmethod
    def backward(ctx, dy):
        xq, wq = ctx.saved_tensors
        dyq = quantize(dy, True)
        dx = dyq @ quantize(wq.t(), True).t()
        dw = quantize(dy.t(), True) @ quantize(xq.t(), True).t()
        return dx, dw, dyq.sum(0)


class Linear(nn.Linear):
    simulate = False

    def forward(self, x):
        if not Linear.simulate:
            return super().forward(x)
        y = TetraJetLinear.apply(x.reshape(-1, x.shape[-1]), self.weight, self.bias)
        return y.view(*x.shape[:-1], -1)


def attention(q, k, v):
    """PyTorch's fused attention where this version has it."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v)
    return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1) @ v


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.qkv, self.proj = Linear(dim, 3 * dim), Linear(dim, dim)
        self.fc1, self.fc2 = Linear(dim, 4 * dim), Linear(4 * dim, dim)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.proj(attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.patch = nn.Conv2d(a.channels, a.dim, a.patch, a.patch)
        tokens = (a.image // a.patch) ** 2 + 1
        self.cls, self.pos = nn.Parameter(torch.zeros(1, 1, a.dim)), nn.Parameter(torch.zeros(1, tokens, a.dim))
        self.blocks = nn.ModuleList(Block(a.dim, a.heads) for _ in range(a.depth))
        self.norm, self.head = nn.LayerNorm(a.dim, 1e-6), nn.Linear(a.dim, a.classes)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def make_optimizer(parameters):
    """AdamW, in one fused sweep where this version does that on a CPU."""
    settings = {"lr": 1e-3, "weight_decay": 0.05}
    try:
        return torch.optim.AdamW(parameters, fused=True, **settings)
    except (RuntimeError, TypeError):
        return torch.optim.AdamW(parameters, **settings)


class Trainer:
    def __init__(self, a):
        self.mode, self.bf16, self.warm = a.mode, a.mode == "bf16", set()
        self.model = ViT(a)
        self.parameters = list(self.model.parameters())
        self.optimizer = make_optimizer(self.parameters)
        if a.mode == "compile":
            for block in self.model.blocks:
                block.compile()
        self.images = torch.randn(a.batch, a.channels, a.image, a.image)
        self.labels = torch.randint(a.classes, (a.batch,))

    def step(self):
        self.optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            loss = F.cross_entropy(self.model(self.images), self.labels)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()

    def use_threads(self, threads):
        """Seconds of the steps that warm up, 0 if none was needed."""
        torch.set_num_threads(threads)
        if threads in self.warm:
            return 0
        steps = 2 if self.mode == "compile" else 1 if self.mode != "sim" or not self.warm else 0
        self.warm.add(threads)
        if self.mode == "compile":
            from torch._inductor import config
            config.cpp.threads = threads  # part of the key of what is kept; generated code has the number in it
        return 1e-3 * sum(self.timed() for _ in range(steps))

    def timed(self):
        start = time.perf_counter()
        self.step()
        return 1e3 * (time.perf_counter() - start)


def loaded_mb(a):
    """What PyTorch itself takes, once one step of a tiny model has loaded everything it loads late."""
    tiny = argparse.Namespace(**dict(vars(a), image=4, patch=4, dim=64, depth=1, heads=1, batch=1, mode="fp32"))
    Trainer(tiny).step()
    return peak_mb()


def main():
    p = argparse.ArgumentParser(description=__doc__)
    for name in ("image", "patch", "channels", "classes", "dim", "depth", "heads", "batch"):
        p.add_argument("--" + name, type=int, required=True)
    p.add_argument("--mode", choices=["fp32", "compile", "bf16", "sim"], required=True)
    a = p.parse_args()
    torch.manual_seed(1)
    torch.set_flush_denormal(True)
    base = loaded_mb(a)
    Linear.simulate = a.mode == "sim"
    trainer = Trainer(a)
    print(json.dumps({"base_mb": base, "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        n, threads = (int(x) for x in line.split())
        warmup = trainer.use_threads(threads)
        print(json.dumps({"ms": [trainer.timed() for _ in range(n)], "peak_mb": peak_mb(), "warmup_s": warmup}), flush=True)


if __name__ == "__main__":
    main()
