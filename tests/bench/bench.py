"""The benchmark: tetrac against the frameworks and libraries one would otherwise use, on this machine, in one run.

Contenders of a comparison take turns, round by round, and each ratio is formed within a round; the median over rounds is what
is reported. Every sample goes to the JSON file as soon as it is taken: a run that was stopped goes on where it was when
started again, unless tetrac, PyTorch or the machine changed. The Markdown report goes to standard output.
"""
import argparse
import json
import os
import re
import sys
import tempfile
import time

import machine
import render
from contenders import MODELS, OURS, PEERS, Failed, Ours, Torch, clean, median, model_file, say, watched

FORMAT = 1


def comparable(identity):
    """What must be equal for samples to go together: not the commit, since the compiler's digest says it better."""
    return {k: {n: x for n, x in v.items() if n != "tetrac"} if k == "versions" else v for k, v in identity.items()}


class Record:
    """The samples, in a file that is whole at any moment."""

    def __init__(self, path, identity, fresh):
        self.path = path
        self.data = {"identity": identity, "compile": {}, "models": {}, "steps": [], "kernels": {}, "profiles": {}, "notes": {}}
        if fresh or not os.path.exists(path):
            return
        with open(path) as f:
            old = json.load(f)
        if comparable(old.get("identity", {})) == comparable(identity):
            self.data = old
            say(f"going on with the samples of {path} (--fresh starts anew)")
        else:
            say(f"{path} is of another tetrac, PyTorch or machine: starting anew")

    def save(self):
        with open(self.path + ".tmp", "w") as f:
            json.dump(self.data, f, indent=1)
        os.replace(self.path + ".tmp", self.path)

    def sample(self, model, threads, peer, number):
        wanted = {"model": model, "threads": threads, "peer": peer, "round": number}
        return next((s for s in self.data["steps"] if all(s[k] == v for k, v in wanted.items())), None)

    def note(self, key, text):
        self.data["notes"][key] = text
        say(f"{key}: {text}")
        self.save()


def plan_of(trainer):
    """Planned memory of a training step and what of it is state, in MB, from the trainer's own account."""
    text, _, _ = watched([trainer, "info"])
    found = [re.search(key + r" +([\d.]+) MiB", text) for key in ("a training step", "state")]
    return {name: float(m.group(1)) for name, m in zip(("step_mb", "state_mb"), found) if m}


def compile_trainers(a, record, folder):
    """Compiles each model under each recipe; {(model, recipe): trainer}. Of `tetrajet` several times, for the time it takes."""
    trainers = {}
    for model in a.models:
        source, origin = model_file(a.tetrac, model, folder, dict(a.onnx))
        record.data["models"][model] = {"title": MODELS[model]["title"], "source": origin}
        for recipe in [r for r in OURS if r in a.peers]:
            trainers[model, recipe] = trainer = os.path.join(folder, f"{model}.{recipe}")
            argv = [a.tetrac, "compile", source, "--recipe", recipe, "--batch", str(MODELS[model]["batch"]), "-o", trainer]
            known = record.data["compile"].get(f"{model} {recipe}", {"seconds": []})
            for _ in range(max(1, (a.compiles if recipe == "tetrajet" else 1) - len(known["seconds"]))):
                _, seconds, peak = watched(argv)
                known["seconds"].append(seconds)
                known.update(bytes=os.path.getsize(trainer), peak_mb=peak, **plan_of(trainer))
            say(f"{model} {recipe}: compiled in {median(known['seconds']):.1f} s")
            record.data["compile"][f"{model} {recipe}"] = known
            record.save()
    return trainers


def rounds_of(a, peer):
    return min(a.rounds, a.slow_rounds) if peer == "torch-sim" else a.rounds


def open_contender(a, model, peer, threads, trainers):
    if peer in OURS:
        return Ours(trainers[model, peer], MODELS[model]["batch"], threads)
    started = time.monotonic()
    contender = Torch(a.python, peer[len("torch-"):], model, threads, a.patience, a.cache)
    say(f"{model}, {threads} threads: {PEERS[peer]} ready after {time.monotonic() - started:.0f} s")
    return contender


def run_round(a, record, number, model, threads, contenders):
    """One turn of each contender that lacks it. The order changes with the round, so that no one always follows the same."""
    order = list(contenders)
    for peer in order[number % len(order):] + order[:number % len(order)]:
        if number >= rounds_of(a, peer) or record.sample(model, threads, peer, number):
            continue
        try:
            sample = contenders[peer].steps(1 if peer == "torch-sim" else a.steps)
        except (Failed, BrokenPipeError) as fault:
            record.note(f"{model}, {threads} threads, {PEERS[peer]}", str(fault))
            del contenders[peer]
            continue
        record.data["steps"].append(dict(sample, model=model, threads=threads, peer=peer, round=number))
        record.save()
        say(f"{model}, {threads} threads, round {number + 1}: {PEERS[peer]} {median(sample['ms']):.0f} ms, "
            f"peak {sample['peak_mb']:.0f} MB")


def open_missing(a, record, model, threads, trainers):
    """Contenders of which samples are missing; what cannot run is noted."""
    contenders = {}
    for peer in a.peers:
        if all(record.sample(model, threads, peer, r) for r in range(rounds_of(a, peer))):
            continue
        what = f"{model}, {threads} threads, {PEERS[peer]}"
        record.data["notes"].pop(what, None)
        try:
            contenders[peer] = open_contender(a, model, peer, threads, trainers)
        except Failed as fault:
            record.note(what, str(fault))
    return contenders


def run_steps(a, record, trainers, deadline):
    """All comparisons of steps. The time left is divided by cost: rounds that do not fit are left to another run, the first is
    always taken."""
    pairs = [(m, t) for t in a.threads for m in a.models]
    costs = [MODELS[m]["cost"] / t for m, t in pairs]
    for i, (model, threads) in enumerate(pairs):
        limit = time.monotonic() + (deadline - time.monotonic()) * costs[i] / sum(costs[i:])
        contenders = open_missing(a, record, model, threads, trainers)
        for number in range(a.rounds):
            if contenders and (number == 0 or time.monotonic() < limit):
                run_round(a, record, number, model, threads, contenders)
        for contender in contenders.values():
            contender.stop()
        for peer in [p for p in OURS if p in contenders]:
            record.data["profiles"][f"{model} {threads} {peer}"] = contenders[peer].profile()
            record.save()


def run_kernels(a, record):
    """Tables of the kernel benchmark, which takes turns with OpenBLAS and oneDNN itself."""
    for threads in a.threads:
        for kind in a.kernels:
            key = f"{kind} {threads}"
            if key in record.data["kernels"]:
                continue
            with tempfile.TemporaryDirectory() as folder:
                out = os.path.join(folder, "kernels.json")
                try:
                    _, seconds, _ = watched([a.bench_kernels, str(threads), kind, "--json", out])
                    with open(out) as f:
                        record.data["kernels"][key] = json.load(f)
                except (Failed, OSError, ValueError) as fault:
                    record.note(f"kernels {kind}, {threads} threads", str(fault))
                    continue
            say(f"kernels {kind}, {threads} threads: {seconds:.0f} s")
            record.save()


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = lambda known: lambda text: [checked(x, known) for x in text.split(",") if x]
    defaults = [m for m in MODELS if m != "mini"]
    p.add_argument("tetrac", help="the compiler (tools/bench.sh gives it)")
    p.add_argument("--python", default=sys.executable, help="interpreter of the PyTorch contenders (tools/bench.sh gives it)")
    p.add_argument("--models", type=names(MODELS), default=defaults, help="of " + ",".join(MODELS))
    p.add_argument("--peers", type=names(PEERS), default=list(PEERS), help="of " + ",".join(PEERS))
    p.add_argument("--kernels", type=names(["mx", "linear", "f32", "quant"]), default=["mx", "linear", "f32", "quant"],
                   help="kernel tables, of mx,linear,f32,quant; '' for none")
    p.add_argument("--threads", type=lambda s: [int(x) for x in s.split(",")], default=[2, 1], help="such as 1,2")
    p.add_argument("--rounds", type=int, default=5, help="rounds of each comparison (default 5)")
    p.add_argument("--slow-rounds", type=int, default=2, help="rounds of the simulated contender (default 2)")
    p.add_argument("--steps", type=int, default=2, help="steps a round (default 2; 1 of the simulated contender)")
    p.add_argument("--minutes", type=float, default=38, help="time after which no further rounds are begun (default 38)")
    p.add_argument("--compiles", type=int, default=2, help="times each model is compiled (default 2)")
    p.add_argument("--patience", type=int, default=600, help="seconds after which a contender counts as stuck (default 600)")
    p.add_argument("--onnx", type=lambda s: s.split("=", 1), action="append", default=[], metavar="MODEL=FILE",
                   help="an exporter's file of a model")
    p.add_argument("--json", default=None, help="where the samples are kept (default bench.json in the build folder)")
    p.add_argument("--fresh", action="store_true", help="forget earlier samples")
    p.add_argument("--render", action="store_true", help="measure nothing, only write the report")
    p.add_argument("--publish", metavar="PAGE.md", help="also put the report between the marks of this page")
    a = p.parse_args()
    build = os.path.dirname(os.path.abspath(a.tetrac))
    a.bench_kernels = os.path.join(build, "tests", "bench_kernels")
    a.cache = os.path.join(build, "inductor-cache")
    a.json = a.json or os.path.join(build, "bench.json")
    return a


def checked(name, known):
    if name not in known:
        raise argparse.ArgumentTypeError(f"{name} is not one of {', '.join(known)}")
    return name


def publish(page, report):
    """Replaces what lies between the page's marks."""
    with open(page) as f:
        text = f.read()
    marked = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.S)
    put, n = marked.subn(lambda m: m.group(1) + report + "\n" + m.group(2), text)
    if n != 1:
        sys.exit(f"{page}: has no '<!-- measured -->' ... '<!-- end -->' to put the report in")
    with open(page + ".tmp", "w") as f:
        f.write(put)
    os.replace(page + ".tmp", page)


def measured(a, root):
    """Measures what is missing and returns all samples."""
    about = {"format": FORMAT, "digest": machine.digest(a.tetrac), "machine": machine.cpu(),
             "versions": machine.versions(root, a.python)}
    record = Record(a.json, about, a.fresh)
    record.data.setdefault("sessions", []).append({"settings": {k: v for k, v in vars(a).items() if k in SETTINGS}})
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trainers = compile_trainers(a, record, folder)
        run_kernels(a, record)
        run_steps(a, record, trainers, start + 60 * a.minutes)
    record.data["sessions"][-1]["seconds"] = round(time.monotonic() - start)
    record.save()
    return record.data


def main():
    a = arguments()
    clean(os.environ)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if a.render:
        with open(a.json) as f:
            data = json.load(f)
    else:
        try:
            data = measured(a, root)
        except Failed as fault:
            sys.exit(f"bench: {fault}")
    report = render.report(data)
    print(report)
    if a.publish:
        publish(a.publish, report)


SETTINGS = ("models", "peers", "kernels", "threads", "rounds", "slow_rounds", "steps", "compiles", "minutes")

if __name__ == "__main__":
    main()
