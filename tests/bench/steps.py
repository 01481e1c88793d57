"""Training-step benchmark: our trainers and PyTorch, one process a measurement, interleaved rounds, medians and ratios.

Prints a Markdown table and, with --json FILE, writes every sample. Absolute times depend on the machine and its neighbours;
the ratios are taken in one interleaved run.
"""
import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile

here = os.path.dirname(os.path.abspath(__file__))


def peak_mb(argv, **kwargs):
    """Runs argv; its standard output and the peak resident memory of its process, in MB."""
    read_end, write_end = os.pipe()
    kwargs["env"] = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    process = subprocess.Popen(argv, stdout=write_end, stderr=subprocess.PIPE, **kwargs)
    os.close(write_end)
    with os.fdopen(read_end) as f:
        out = f.read()
    talk = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"failed: {' '.join(argv)}\n{talk}")
    return out, usage.ru_maxrss / 1024


def run_ours(trainer, a):
    with tempfile.TemporaryDirectory() as out:
        _, peak = peak_mb([trainer, "train", "--data", "synthetic", "--max-steps", str(a.steps + 1), "--no-eval",
                           "--log-every", "1", "--threads", str(a.threads), "--out", out])
        with open(os.path.join(out, "metrics.csv")) as f:
            rates = [float(row["images_per_s"]) for row in csv.DictReader(f) if row["images_per_s"]]
    return {"ms": 1e3 * a.batch / statistics.median(rates[1:]), "peak_mb": peak}


def run_torch(simulate, a):
    argv = [sys.executable, os.path.join(here, "torch_step.py")]
    for name in ("image", "patch", "channels", "classes", "dim", "depth", "heads", "batch", "threads"):
        argv += ["--" + name, str(getattr(a, name))]
    argv += ["--steps", "1" if simulate else "2"] + (["--simulate"] if simulate else [])
    out, peak = peak_mb(argv)
    return dict(json.loads(out), peak_mb=peak)


def build_trainers(tetrac, folder, a):
    model = os.path.join(folder, "vit.onnx")
    sizes = [x for n in ("image", "patch", "channels", "classes", "dim", "depth", "heads") for x in ("--" + n, str(getattr(a, n)))]
    subprocess.run([tetrac, "new", "vit", "-o", model] + sizes, check=True)
    trainers = {}
    for recipe in ("fp32", "tetrajet"):
        trainers[recipe] = os.path.join(folder, recipe)
        subprocess.run([tetrac, "compile", model, "--recipe", recipe, "--batch", str(a.batch), "-o", trainers[recipe]], check=True)
    return trainers


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("tetrac")
    for name, default in [("image", 28), ("patch", 4), ("channels", 1), ("classes", 10), ("dim", 192), ("depth", 6), ("heads", 3),
                          ("batch", 128), ("threads", 2), ("steps", 8), ("rounds", 5)]:
        p.add_argument("--" + name, type=int, default=default)
    p.add_argument("--json")
    a = p.parse_args()
    samples = {}
    with tempfile.TemporaryDirectory() as folder:
        trainers = build_trainers(a.tetrac, folder, a)
        for _ in range(a.rounds):
            for name, run in [("tetrac tetrajet", lambda: run_ours(trainers["tetrajet"], a)),
                              ("tetrac fp32", lambda: run_ours(trainers["fp32"], a)),
                              ("PyTorch fp32", lambda: run_torch(False, a)),
                              ("PyTorch, TetraJet simulated", lambda: run_torch(True, a))]:
                samples.setdefault(name, []).append(run())
    torch_ms = [s["ms"] for s in samples["PyTorch fp32"]]
    print(f"ViT {a.image}x{a.image}/{a.patch}, {a.dim} x {a.depth}, batch {a.batch}, {a.threads} threads, {a.rounds} rounds\n")
    print("| contender | ms a step | times PyTorch fp32's speed | peak MB |\n| --- | ---: | ---: | ---: |")
    for name, s in samples.items():
        ratio = statistics.median(t / x["ms"] for t, x in zip(torch_ms, s))
        print(f"| {name} | {statistics.median(x['ms'] for x in s):.0f} | {ratio:.2f} | {statistics.median(x['peak_mb'] for x in s):.0f} |")
    if a.json:
        with open(a.json, "w") as f:
            json.dump({"settings": vars(a), "samples": samples}, f, indent=1)


if __name__ == "__main__":
    main()
