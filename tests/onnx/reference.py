#!/usr/bin/env python3
"""Reference for one training step: interprets an ONNX model with PyTorch autograd in float64.

    reference.py MODEL.onnx --write-batch N BATCH.safetensors      random normalised images, labels
    reference.py MODEL.onnx --batch BATCH.safetensors -o REF.safetensors [--smoothing S] [--compare OURS.safetensors]

MODEL is best what `TRAINER export` writes: there every parameter is an initializer of its own. The output holds loss,
logits and grad:NAME for every parameter (see is_parameter) that the loss depends on, in the initializer's layout.
--compare prints the relative error |ours - reference| / |reference| (2-norm) of every tensor of `TRAINER grad`'s output
and fails above --tolerance. Needs torch >= 1.13, numpy and onnx.
"""
import argparse
import json
import os
import sys

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
import tensors  # noqa: E402

MAX_INT = 2**63 - 1


def to_torch(array):
    """Floats become float64: the reference computes in double throughout."""
    t = torch.from_numpy(np.array(array))
    return t.double() if t.is_floating_point() else t


def ints(t):
    return [int(v) for v in t.reshape(-1)]


def torch_type(onnx_type):
    kind = helper.tensor_dtype_to_np_dtype(onnx_type) if hasattr(helper, "tensor_dtype_to_np_dtype") else \
        onnx.mapping.TENSOR_TYPE_TO_NP_TYPE[onnx_type]
    return torch.float64 if np.issubdtype(kind, np.floating) else to_torch(np.zeros(1, kind)).dtype


def is_parameter(t):
    """Trained: floats of more than one element that are no attention mask (infinite, or 0 and one hugely negative value)."""
    if not t.is_floating_point() or t.numel() < 2 or not torch.isfinite(t).all():
        return False
    low = t[t != 0].unique()
    return not (low.numel() == 1 and low.item() <= -100)


class Model:
    def __init__(self, path):
        proto = onnx.load(path)
        self.graph = proto.graph
        self.opset = next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))
        self.constants = {t.name: to_torch(numpy_helper.to_array(t)) for t in self.graph.initializer}
        self.parameters = [n for n, t in self.constants.items() if is_parameter(t)]
        self.input = next(i for i in self.graph.input if i.name not in self.constants)

    def input_shape(self, batch):
        dims = self.input.type.tensor_type.shape.dim
        return [d.dim_value or batch for d in dims]

    def forward(self, images):
        values = dict(self.constants)
        values[self.input.name] = images
        for node in self.graph.node:
            args = [values[n] if n else None for n in node.input]
            attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            op = getattr(Ops, node.op_type, None)
            if op is None or node.domain not in ("", "ai.onnx"):
                sys.exit(f"reference.py: node '{node.name}': {node.op_type} is not known here")
            result = op(self, node, attrs, *args)
            values.update(zip(node.output, result if isinstance(result, (tuple, list)) else [result]))
        return values[self.graph.output[0].name]


def axes_of(a, operand):
    return ints(operand) if operand is not None else list(a.get("axes", []))


def reduce(function):
    def run(m, n, a, x, axes=None):
        dims = axes_of(a, axes)
        if not dims and a.get("noop_with_empty_axes", 0):
            return x
        return function(x, dims or list(range(x.dim())), bool(a.get("keepdims", 1)))
    return staticmethod(run)


def plain(function):
    return staticmethod(lambda m, n, a, *x: function(*x))


def divide(x, y):
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


class Ops:
    """One function an operator: (model, node, attributes, operands...) -> result or results."""

    Add, Sub, Mul = plain(torch.add), plain(torch.sub), plain(torch.mul)
    Div, Pow, Neg, Exp, Log = plain(divide), plain(torch.pow), plain(torch.neg), plain(torch.exp), plain(torch.log)
    Sqrt, Reciprocal, Erf, Tanh = plain(torch.sqrt), plain(torch.reciprocal), plain(torch.erf), plain(torch.tanh)
    Sigmoid, Relu, Abs, Floor = plain(torch.sigmoid), plain(torch.relu), plain(torch.abs), plain(torch.floor)
    Not, IsNaN, And, Or = plain(torch.logical_not), plain(torch.isnan), plain(torch.logical_and), plain(torch.logical_or)
    Equal, Less, Greater = plain(torch.eq), plain(torch.lt), plain(torch.gt)
    Where, MatMul, Identity, Dropout = plain(torch.where), plain(torch.matmul), plain(lambda x: x), plain(lambda x, *_: x)
    Size = plain(lambda x: torch.tensor(x.numel()))
    ReduceMean = reduce(lambda x, d, k: x.mean(d, keepdim=k))
    ReduceSum = reduce(lambda x, d, k: x.sum(d, keepdim=k))
    ReduceMax = reduce(lambda x, d, k: x.amax(d, keepdim=k))
    GlobalAveragePool = plain(lambda x: x.mean(list(range(2, x.dim())), keepdim=True))
    Expand = plain(lambda x, shape: x.expand(torch.broadcast_shapes(x.shape, ints(shape))))

    @staticmethod
    def Constant(m, n, a):
        (value,) = a.values()
        return to_torch(numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.array(value))

    @staticmethod
    def ConstantOfShape(m, n, a, shape):
        value = to_torch(numpy_helper.to_array(a["value"])) if "value" in a else torch.zeros(1, dtype=torch.float64)
        return value.reshape(()).expand(ints(shape)).clone()

    @staticmethod
    def Cast(m, n, a, x):
        return x.to(torch_type(a["to"]))

    @staticmethod
    def Shape(m, n, a, x):
        return torch.tensor(list(x.shape)[a.get("start", 0):a.get("end", MAX_INT)], dtype=torch.int64)

    @staticmethod
    def Reshape(m, n, a, x, shape):
        dims = ints(shape)
        if not a.get("allowzero", 0):
            dims = [x.shape[i] if d == 0 else d for i, d in enumerate(dims)]
        return x.reshape(dims)

    @staticmethod
    def Flatten(m, n, a, x):
        rows = int(np.prod(x.shape[:a.get("axis", 1)]))
        return x.reshape(rows, -1)

    @staticmethod
    def Squeeze(m, n, a, x, axes=None):
        for axis in sorted((d % x.dim() for d in axes_of(a, axes)), reverse=True):
            x = x.squeeze(axis)
        return x if axes_of(a, axes) else x.squeeze()

    @staticmethod
    def Unsqueeze(m, n, a, x, axes=None):
        dims = axes_of(a, axes)
        for axis in sorted(d % (x.dim() + len(dims)) for d in dims):
            x = x.unsqueeze(axis)
        return x

    @staticmethod
    def Transpose(m, n, a, x):
        return x.permute(list(a.get("perm", reversed(range(x.dim())))))

    @staticmethod
    def Slice(m, n, a, x, starts=None, ends=None, axes=None, steps=None):
        first = ints(starts) if starts is not None else list(a["starts"])
        last = ints(ends) if ends is not None else list(a["ends"])
        where = ints(axes) if axes is not None else list(a.get("axes", range(len(first))))
        step = ints(steps) if steps is not None else [1] * len(first)
        index = [slice(None)] * x.dim()
        for d, b, e, s in zip(where, first, last, step):
            index[d] = slice(b, e, s)
        return x[tuple(index)]

    @staticmethod
    def Split(m, n, a, x, split=None):
        sizes = ints(split) if split is not None else a.get("split")
        axis = a.get("axis", 0)
        return x.split(list(sizes) if sizes else -(-x.shape[axis] // len(n.output)), axis)

    @staticmethod
    def Concat(m, n, a, *x):
        return torch.cat(x, a["axis"])

    @staticmethod
    def Gather(m, n, a, x, index):
        axis = a.get("axis", 0) % x.dim()
        flat = x.index_select(axis, index.reshape(-1) % x.shape[axis])
        return flat.reshape(list(x.shape[:axis]) + list(index.shape) + list(x.shape[axis + 1:]))

    @staticmethod
    def Pad(m, n, a, x, pads, value=None, axes=None):
        amounts, where = ints(pads), ints(axes) if axes is not None else list(range(x.dim()))
        both = [0] * (2 * x.dim())
        for i, d in enumerate(where):
            both[2 * (x.dim() - 1 - d)], both[2 * (x.dim() - 1 - d) + 1] = amounts[i], amounts[i + len(where)]
        return torch.nn.functional.pad(x, both, value=0.0 if value is None else float(value))

    @staticmethod
    def Gemm(m, n, a, x, w, c=None):
        x = x.t() if a.get("transA", 0) else x
        w = w.t() if a.get("transB", 0) else w
        y = a.get("alpha", 1.0) * (x @ w)
        return y if c is None else y + a.get("beta", 1.0) * c

    @staticmethod
    def Conv(m, n, a, x, w, b=None):
        pads = list(a.get("pads", [0, 0, 0, 0]))
        x = torch.nn.functional.pad(x, [pads[1], pads[3], pads[0], pads[2]])
        return torch.nn.functional.conv2d(x, w, b, stride=list(a.get("strides", [1, 1])),
                                          dilation=list(a.get("dilations", [1, 1])), groups=a.get("group", 1))

    @staticmethod
    def Softmax(m, n, a, x):
        if m.opset >= 13:
            return x.softmax(a.get("axis", -1))
        axis = a.get("axis", 1) % x.dim()
        return x.flatten(axis).softmax(-1).reshape(x.shape)

    @staticmethod
    def LayerNormalization(m, n, a, x, gain, bias=None):
        axis = a.get("axis", -1) % x.dim()
        return torch.nn.functional.layer_norm(x, x.shape[axis:], gain, bias, a.get("epsilon", 1e-5))

    @staticmethod
    def Gelu(m, n, a, x):
        if a.get("approximate", b"none") == b"tanh":
            return 0.5 * x * (1 + torch.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
        return 0.5 * x * (1 + torch.erf(x / 2**0.5))


def step(model, images, labels, smoothing):
    """loss, logits and gradients by name, as float64 arrays."""
    for name in model.parameters:
        model.constants[name].requires_grad_(True)
    logits = model.forward(to_torch(images))
    labels = to_torch(labels)
    soft = labels if labels.dim() == 2 else torch.nn.functional.one_hot(labels.long(), logits.shape[1]).double()
    soft = (1 - smoothing) * soft + smoothing / logits.shape[1]
    loss = -(soft * logits.log_softmax(1)).sum(1).mean()
    loss.backward()
    out = {"loss": loss.detach().numpy(), "logits": logits.detach().numpy()}
    for name in model.parameters:
        if model.constants[name].grad is not None:
            out["grad:" + name] = model.constants[name].grad.numpy()
    return out


def compare(ours_path, reference, tolerance):
    ours, meta = tensors.load(ours_path)
    transposed = set(json.loads(meta.get("tetrac.transposed", "[]")))
    worst, missing = 0.0, [n for n in reference if n not in ours]
    # Gradients that cancel to zero (a key's bias) are rounding noise on both sides: below float32's resolution of all of
    # them together they count as equal.
    noise = 2.0**-24 * np.sqrt(sum(np.sum(r**2) for n, r in reference.items() if n.startswith("grad:")))
    for name in [n for n in ours if n in reference]:
        x, r = ours[name].astype(np.float64), reference[name]
        x = x.T if name[5:] in transposed else x
        norm, distance = np.linalg.norm(r), np.linalg.norm(x.reshape(r.shape) - r)
        error = 0.0 if distance <= noise and norm <= noise else distance / max(norm, noise)
        worst = max(worst, error)
        print(f"{error:.3e}  |reference| {norm:.3e}  {name}{'' if error <= tolerance else '   <-- too large'}")
    for name in missing:
        print(f"missing: {name}")
    good = worst <= tolerance and not missing
    print(f"{'PASS' if good else 'FAIL'}: worst relative error {worst:.3e}, tolerance {tolerance:g}, {len(missing)} missing")
    return 0 if good else 1


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("--batch", help="safetensors with images and labels")
    p.add_argument("-o", "--out", help="where the reference goes, float64 safetensors")
    p.add_argument("--smoothing", type=float, default=0.0)
    p.add_argument("--compare", metavar="OURS", help="what TRAINER grad wrote for the same batch")
    p.add_argument("--tolerance", type=float, default=1e-5)
    p.add_argument("--write-batch", nargs=2, metavar=("N", "FILE"), help="write a random batch of N and stop")
    p.add_argument("--classes", type=int, default=10)
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    torch.set_num_threads(2)
    model = Model(args.model)
    if args.write_batch:
        rng = np.random.default_rng(args.seed)
        shape = model.input_shape(int(args.write_batch[0]))
        tensors.save(args.write_batch[1], {"images": rng.standard_normal(shape).astype(np.float32),
                                           "labels": rng.integers(0, args.classes, shape[0]).astype(np.int32)})
        return 0
    if not args.batch:
        p.error("--batch or --write-batch is needed")
    batch, _ = tensors.load(args.batch)
    reference = step(model, batch["images"], batch["labels"], args.smoothing)
    if args.out:
        tensors.save(args.out, reference)
    return compare(args.compare, reference, args.tolerance) if args.compare else 0


if __name__ == "__main__":
    sys.exit(main())
