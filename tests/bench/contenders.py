"""The models and the contenders of the step benchmark. A contender can start, be ready, take some steps, and stop."""
import csv
import glob
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time

here = os.path.dirname(os.path.abspath(__file__))

# Sizes of each model; `exports` are names under which exporters' files of it lie in ../shared/models; `cost` is the relative
# time of its rounds, by which a limited time is divided; `steps` are taken in a round: more rounds say more than longer ones.
MODELS = {
    "vit-28": {"title": "ViT 28x28/4, 192 x 6, batch 128", "exports": "timm_vit28_*.onnx", "batch": 128, "cost": 1.5, "steps": 2,
               "sizes": {"image": 28, "patch": 4, "channels": 1, "classes": 10, "dim": 192, "depth": 6, "heads": 3}},
    "deit-tiny": {"title": "DeiT-Tiny 224, batch 32", "exports": "timm_deit_tiny*.onnx", "batch": 32, "cost": 2.2, "steps": 1,
                  "sizes": {"image": 224, "patch": 16, "channels": 3, "classes": 1000, "dim": 192, "depth": 12, "heads": 3}},
    "deit-small": {"title": "DeiT-Small 224, batch 16", "exports": "timm_deit_small*.onnx", "batch": 16, "cost": 3, "steps": 1,
                   "sizes": {"image": 224, "patch": 16, "channels": 3, "classes": 1000, "dim": 384, "depth": 12, "heads": 6}},
    # For a look whether the scripts work; in no default set.
    "mini": {"title": "ViT 8x8/4, 64 x 1, batch 8", "exports": "", "batch": 8, "cost": 0.1, "steps": 2,
             "sizes": {"image": 8, "patch": 4, "channels": 1, "classes": 10, "dim": 64, "depth": 1, "heads": 2}},
}
PEERS = {
    "tetrajet": "tetrac tetrajet",
    "fp32": "tetrac fp32",
    "torch-fp32": "PyTorch fp32",
    "torch-compile": "PyTorch fp32, torch.compile",
    "torch-bf16": "PyTorch bf16 (autocast)",
    "torch-sim": "PyTorch, TetraJet simulated",
}
OURS = ("tetrajet", "fp32")

# Targets below this machine's own, and what holds PyTorch's and OpenBLAS's kernels to the same instructions.
LIMITED = {
    "cpu:v4": {"title": "AVX-512 with VNNI, no matrix unit", "needs": "avx512_vnni",
               "limits": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI", "ATEN_CPU_CAPABILITY": "avx512",
                          "MKL_ENABLE_INSTRUCTIONS": "AVX512", "OPENBLAS_CORETYPE": "SkylakeX"}},
    "cpu:v3": {"title": "AVX2", "needs": "avx2",
               "limits": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
                          "OPENBLAS_CORETYPE": "Haswell"}},
}


class Failed(Exception):
    """A contender that cannot run here; the message says why."""


def clean(env):
    """Takes out settings that would slow a contender down."""
    for name in [k for k in env if k.startswith(("OPENBLAS_", "OMP_", "MKL_", "KMP_", "GOMP_"))]:
        del env[name]


def watched(argv, **kwargs):
    """Runs argv to its end: (standard output, seconds, peak resident MB of its process)."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        process = subprocess.Popen(argv, stdout=out, stderr=err, **kwargs)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if status != 0:
            talk = err.read().decode(errors="replace").strip().splitlines()
            raise Failed(f"exit {process.returncode}: {talk[-1] if talk else 'nothing said'}")
        return out.read().decode(errors="replace"), seconds, usage.ru_maxrss / 1024


def model_file(tetrac, name, folder, given):
    """(ONNX file, where it is from): an exporter's file if there is one, else `tetrac new`."""
    if name in given:
        return given[name], "the file given by --onnx"
    shared = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(here))), "shared", "models")
    exports = sorted(glob.glob(os.path.join(shared, MODELS[name]["exports"]))) if MODELS[name]["exports"] else []
    if exports:
        return exports[0], "exported by timm: " + os.path.basename(exports[0])
    model = os.path.join(folder, name + ".onnx")
    sizes = [x for k, v in MODELS[name]["sizes"].items() for x in ("--" + k, str(v))]
    watched([tetrac, "new", "vit", "-o", model] + sizes)
    return model, "tetrac new"


class Ours:
    """A trainer: one process a round, since it starts in no time. Its first step touches its memory and is not counted. A step
    is an epoch, all of the same images, which lie in memory as bytes; what an epoch's end saves waits for the last."""

    def __init__(self, trainer, batch):
        self.trainer, self.batch = trainer, batch

    def train(self, n, threads, out, *options):
        """Takes one step and n others; the peak of memory."""
        steps = str(n + 1)
        return watched([self.trainer, "train", "--data", f"synthetic:{self.batch}", "--epochs", steps, "--save-every", steps,
                        "--no-eval", "--threads", str(threads), "--out", out, *options])[2]

    def ready(self):
        pass

    def steps(self, n, threads):
        with tempfile.TemporaryDirectory() as out:
            peak = self.train(n, threads, out, "--log-every", "1")
            with open(os.path.join(out, "metrics.csv")) as f:
                rates = [float(row["images_per_s"]) for row in csv.DictReader(f) if row["images_per_s"]]
        return {"ms": [1e3 * self.batch / r for r in rates[-n:]], "peak_mb": peak}

    def profile(self, n, threads):
        """Where the time of a step goes, as the trainer's table has it, from n steps after the first."""
        with tempfile.TemporaryDirectory() as out:
            self.train(n, threads, out, "--profile", str(n))
            with open(os.path.join(out, "profile.md")) as f:
                return "".join(line for line in f if line.startswith("|"))

    def stop(self):
        pass


class Torch:
    """A process of torch_step.py that waits between rounds. What torch.compile made is kept in `cache` for the next run;
    `limits` are settings that hold its libraries to an instruction set."""

    def __init__(self, python, mode, model, patience, cache, limits):
        argv = [python, os.path.join(here, "torch_step.py"), "--mode", mode, "--batch", str(MODELS[model]["batch"])]
        argv += [x for k, v in MODELS[model]["sizes"].items() for x in ("--" + k, str(v))]
        self.patience = patience
        self.talk = tempfile.TemporaryFile()
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.talk,
                                        env=dict(os.environ, TORCHINDUCTOR_CACHE_DIR=cache, **limits),
                                        text=True)

    def ready(self):
        self.about = self.answer()

    def answer(self):
        ready, _, _ = select.select([self.process.stdout], [], [], self.patience)
        line = self.process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)
        self.stop()
        self.talk.seek(0)
        said = [s for s in self.talk.read().decode(errors="replace").strip().splitlines() if s.strip()]
        raise Failed(f"no answer in {self.patience} s" if not ready else said[-1] if said else "ended without a word")

    def steps(self, n, threads):
        self.process.stdin.write(f"{n} {threads}\n")
        self.process.stdin.flush()
        return dict(self.answer(), base_mb=self.about["base_mb"])

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def median(values):
    return statistics.median(values)


def say(text):
    print(text, file=sys.stderr, flush=True)
