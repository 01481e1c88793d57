"""One contender of the step benchmark: a ViT training step in PyTorch, in float32 or with TetraJet simulated.

The simulation follows NUMERICS sections 2 to 4: operands are rounded to the E2M1 grid per block of 32 along the reduction
axis and multiplied in float32, which is what public 4-bit training code does. Prints one JSON line.
"""
import argparse
import json
import resource
import statistics
import time

import torch
from torch import nn
import torch.nn.functional as F


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


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.qkv, self.proj = Linear(dim, 3 * dim), Linear(dim, dim)
        self.fc1, self.fc2 = Linear(dim, 4 * dim), Linear(4 * dim, dim)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        p = torch.softmax(q @ k.transpose(-1, -2) * (d // self.heads) ** -0.5, dim=-1)
        x = x + self.proj((p @ v).transpose(1, 2).reshape(b, n, d))
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


def main():
    p = argparse.ArgumentParser()
    for name, default in [("image", 28), ("patch", 4), ("channels", 1), ("classes", 10), ("dim", 192), ("depth", 6),
                          ("heads", 3), ("batch", 128), ("threads", 2), ("steps", 3)]:
        p.add_argument("--" + name, type=int, default=default)
    p.add_argument("--simulate", action="store_true")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.set_flush_denormal(True)
    Linear.simulate = a.simulate
    model = ViT(a)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    images, labels = torch.randn(a.batch, a.channels, a.image, a.image), torch.randint(a.classes, (a.batch,))
    times = []
    for _ in range(a.steps + 1):
        start = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"ms": 1e3 * statistics.median(times[1:]), "peak_mb": peak}))


if __name__ == "__main__":
    main()
