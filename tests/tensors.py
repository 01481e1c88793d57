"""Safetensors files for the tests: read and write them, make a batch, compare two files. Needs numpy alone.

  tensors.py batch OUT --shape 2,1,28,28 --classes 10 [--seed 1]
  tensors.py compare GOT WANT --tolerance 1e-5 [--only PREFIX]    norm-wise relative error of every tensor of WANT
"""
import argparse
import json
import struct
import sys

import numpy as np

TYPES = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "|u1", "BOOL": "|b1"}


def load(path):
    """The tensors by name, and the file's metadata."""
    with open(path, "rb") as f:
        data = f.read()
    (n,) = struct.unpack("<Q", data[:8])
    header, out = json.loads(data[8:8 + n]), {}
    meta = header.pop("__metadata__", {})
    for name, t in header.items():
        begin, end = (8 + n + x for x in t["data_offsets"])
        out[name] = np.frombuffer(data[begin:end], TYPES[t["dtype"]]).reshape(t["shape"])
    return out, meta


def save(path, tensors):
    names, header, blobs, at = {v: k for k, v in TYPES.items()}, {}, [], 0
    for name, x in tensors.items():
        blob = np.ascontiguousarray(x).tobytes()
        header[name] = {"dtype": names[x.dtype.newbyteorder("<").str], "shape": list(x.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def batch(a):
    rng = np.random.default_rng(a.seed)
    shape = [int(x) for x in a.shape.split(",")]
    save(a.out, {"images": rng.standard_normal(shape).astype(np.float32),
                 "labels": rng.integers(0, a.classes, shape[0]).astype(np.int32)})


def compare(a):
    got, want, worst, count = load(a.got)[0], load(a.want)[0], 0.0, 0
    for name, w in want.items():
        if not name.startswith(a.only):
            continue
        if name not in got:
            sys.exit(f"FAIL {name} is missing from {a.got}")
        g, w = got[name].astype(np.float64), w.astype(np.float64)
        if g.size != w.size:
            sys.exit(f"FAIL {name} has shape {g.shape}, expected {w.shape}")
        norm = np.linalg.norm(w)
        error = np.linalg.norm(g.reshape(-1) - w.reshape(-1)) / (norm if norm > 1e-12 else 1.0)
        worst, count = max(worst, error), count + 1
        if not error <= a.tolerance:
            sys.exit(f"FAIL {name} relative error {error:.3g} (norm {norm:.3g}), allowed {a.tolerance:.1g}")
    if not count:
        sys.exit("FAIL nothing was compared")
    print(f"PASS {count} tensors, largest relative error {worst:.2g}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(required=True)
    b = sub.add_parser("batch")
    b.add_argument("out")
    b.add_argument("--shape", required=True)
    b.add_argument("--classes", type=int, required=True)
    b.add_argument("--seed", type=int, default=1)
    b.set_defaults(run=batch)
    c = sub.add_parser("compare")
    c.add_argument("got")
    c.add_argument("want")
    c.add_argument("--tolerance", type=float, required=True)
    c.add_argument("--only", default="")
    c.set_defaults(run=compare)
    a = p.parse_args()
    a.run(a)


if __name__ == "__main__":
    main()
