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
import recompute
import render
from contenders import LIMITED, MODELS, OURS, PEERS, Failed, Ours, Torch, clean, median, model_file, say, watched

FORMAT = 2


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

    def sample(self, model, target, threads, peer, number):
        wanted = {"model": model, "target": target, "threads": threads, "peer": peer, "round": number}
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
            known = record.data["compile"].get(f"{model} {recipe}", {"seconds": []})
            for _ in range(max(1, (a.compiles if recipe == "tetrajet" else 1) - len(known["seconds"]))):
                _, seconds, peak = watched(compile_line(a, source, model, recipe, trainer))
                known["seconds"].append(seconds)
                known.update(bytes=os.path.getsize(trainer), peak_mb=peak, **plan_of(trainer))
            say(f"{model} {recipe}: compiled in {median(known['seconds']):.1f} s")
            record.data["compile"][f"{model} {recipe}"] = known
            record.save()
    return trainers


def compile_line(a, source, model, recipe, trainer):
    return [a.tetrac, "compile", source, "--recipe", recipe, "--batch", str(MODELS[model]["batch"]), "-o", trainer]


# ---- steps ----

def rounds_of(a, peer):
    return min(a.rounds, a.slow_rounds) if peer == "torch-sim" else a.rounds


def steps_of(a, model, peer):
    return 1 if peer == "torch-sim" else a.steps or MODELS[model]["steps"]


class Comparison:
    """Contenders on one model, with the machine's target ("") or a lesser one, which take turns at each number of threads."""

    def __init__(self, a, record, model, trainers, threads, peers, target=""):
        self.a, self.record, self.model, self.target, self.threads = a, record, model, target, threads
        missing = [p for p in peers if not all(self.sample(t, p, r) for t in threads for r in range(rounds_of(a, p)))]
        self.contenders = {p: self.start(p, trainers) for p in missing}
        for peer in missing:
            record.data["notes"].pop(self.what(peer), None)
            self.guarded(peer, self.contenders[peer].ready)
        say(f"{self.model} {self.target}: {len(self.contenders)} contenders ready")

    def start(self, peer, trainers):
        if peer in OURS:
            return Ours(trainers[self.model, peer], MODELS[self.model]["batch"])
        limits = LIMITED[self.target]["limits"] if self.target else {}
        return Torch(self.a.python, peer[len("torch-"):], self.model, self.a.patience, self.a.cache, limits)

    def guarded(self, peer, do, *what):
        """What do() returns; None where the contender cannot go on, which is noted."""
        try:
            return do(*what)
        except (Failed, BrokenPipeError) as fault:
            self.record.note(self.what(peer), str(fault))
            self.contenders.pop(peer).stop()
            return None

    def sample(self, threads, peer, number):
        return self.record.sample(self.model, self.target, threads, peer, number)

    def what(self, peer):
        return ", ".join(x for x in (self.model, self.target, PEERS[peer]) if x)

    def turn(self, number, threads, peer):
        if number >= rounds_of(self.a, peer) or self.sample(threads, peer, number):
            return
        sample = self.guarded(peer, self.contenders[peer].steps, steps_of(self.a, self.model, peer), threads)
        if not sample:
            return
        place = {"model": self.model, "target": self.target, "threads": threads, "peer": peer, "round": number}
        self.record.data["steps"].append(dict(sample, **place))
        self.record.save()
        say(f"{self.what(peer)}, {threads} threads, round {number + 1}: {median(sample['ms']):.0f} ms, "
            f"peak {sample['peak_mb']:.0f} MB")

    def round(self, number):
        """A turn of each at each number of threads. The order changes with the round: no one always follows the same."""
        for threads in self.threads:
            order = list(self.contenders)
            for peer in order[number % max(1, len(order)):] + order[:number % max(1, len(order))]:
                self.turn(number, threads, peer)

    def stop(self):
        for contender in self.contenders.values():
            contender.stop()


def run_profiles(a, record, comparison):
    for peer in [p for p in OURS if p in comparison.contenders]:
        for threads in a.threads:
            key = f"{comparison.model} {threads} {peer}"
            if key not in record.data["profiles"]:
                steps = 2 * MODELS[comparison.model]["steps"]
                table = comparison.guarded(peer, comparison.contenders[peer].profile, steps, threads)
                if not table:
                    break
                record.data["profiles"][key] = table
                record.save()


def run_steps(a, record, trainers, deadline):
    """All comparisons of steps. The time left is divided by cost: rounds that do not fit are left to another run, the first is
    always taken."""
    for i, model in enumerate(a.models):
        costs = [MODELS[m]["cost"] for m in a.models[i:]]
        limit = time.monotonic() + (deadline - time.monotonic()) * costs[0] / sum(costs)
        comparison = Comparison(a, record, model, trainers, a.threads, a.peers)
        run_profiles(a, record, comparison)
        for number in range(a.rounds):
            if comparison.contenders and (number == 0 or time.monotonic() < limit):
                comparison.round(number)
        comparison.stop()


# ---- lesser targets, kernels ----

def run_kernels(a, record, kinds, threads, target=""):
    """Tables of the kernel benchmark, which takes turns with its rivals itself."""
    for kind in kinds:
        key = " ".join(x for x in (kind, str(threads), target) if x)
        whole = a.all_kernels and not target
        known = record.data["kernels"].get(key)
        if known and (known.get("whole") or not whole):
            continue
        how = ["--target", target] if target else []
        how += [] if whole else ["--quick", "--rivals", "openblas"]
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "kernels.json")
            try:
                _, seconds, _ = watched([a.bench_kernels, str(threads), kind, "--json", out] + how,
                                        env=dict(os.environ, **(LIMITED[target]["limits"] if target else {})))
                with open(out) as f:
                    record.data["kernels"][key] = dict(json.load(f), whole=whole)
            except (Failed, OSError, ValueError) as fault:
                record.note(f"kernels {key}", str(fault))
                continue
        say(f"kernels {key}: {seconds:.0f} s")
        record.save()


def run_limited(a, record, folder):
    """The first model and the products of targets below this machine's, at the first number of threads."""
    model, features = a.models[0], machine.cpu()["features"]
    for target in [t for t in a.limited if LIMITED[t]["needs"] in features]:
        peers = [p for p in a.peers if p in OURS or p == "torch-fp32"]
        if "mx" in a.kernels:
            run_kernels(a, record, ["mx"], a.threads[0], target)
        if all(record.sample(model, target, a.threads[0], p, r) for p in peers for r in range(a.limited_rounds)):
            continue
        source, _ = model_file(a.tetrac, model, folder, dict(a.onnx))
        trainers = {}
        for recipe in [p for p in peers if p in OURS]:
            trainers[model, recipe] = trainer = os.path.join(folder, f"{model}.{recipe}.limited")
            try:
                watched(compile_line(a, source, model, recipe, trainer) + ["--target", target])
            except Failed as fault:
                record.note(f"{model}, {target}, {PEERS[recipe]}", str(fault))
                peers.remove(recipe)
        comparison = Comparison(a, record, model, trainers, a.threads[:1], peers, target)
        for number in range(min(a.rounds, a.limited_rounds)):
            comparison.round(number)
        comparison.stop()


def run_recompute(a, record, folder):
    """The first model at the first number of threads: what a byte costs to remake is much the same in the others."""
    if not a.recompute_rounds or "tetrajet" not in a.peers:
        return
    model = a.models[0]
    source, _ = model_file(a.tetrac, model, folder, dict(a.onnx))
    try:
        recompute.run(record, compile_line(a, source, model, "tetrajet", ""), model, folder, a.threads[0], a.recompute_rounds)
    except Failed as fault:
        record.note(f"{model}, settings of memory.recompute", str(fault))


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
    p.add_argument("--all-kernels", action="store_true", help="with DeiT-B's shapes, few tokens and oneDNN (8 minutes more)")
    p.add_argument("--limited", type=names(LIMITED), default=list(LIMITED),
                   help="lesser targets to measure the first model with, of " + ",".join(LIMITED) + "; '' for none")
    p.add_argument("--limited-rounds", type=int, default=3, help="rounds of these (default 3)")
    p.add_argument("--recompute-rounds", type=int, default=3,
                   help="rounds of the first model under each setting of memory.recompute (default 3; 0 for none)")
    p.add_argument("--threads", type=lambda s: [int(x) for x in s.split(",")], default=[2, 1], help="such as 1,2")
    p.add_argument("--rounds", type=int, default=6, help="rounds of each comparison (default 6)")
    p.add_argument("--slow-rounds", type=int, default=2, help="rounds of the simulated contender (default 2)")
    p.add_argument("--steps", type=int, default=0, help="steps a round (default 2 of small models, 1 of others and simulated)")
    p.add_argument("--minutes", type=float, default=24, help="time after which no further rounds are begun (default 24)")
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
        compiled = time.monotonic()
        for threads in a.threads:
            run_kernels(a, record, a.kernels, threads)
        run_limited(a, record, folder)
        run_recompute(a, record, folder)
        compared = time.monotonic()
        run_steps(a, record, trainers, start + 60 * a.minutes)
    end = time.monotonic()
    record.data["sessions"][-1]["seconds"] = round(end - start)
    record.save()
    say(f"{end - start:.0f} s: compiling {compiled - start:.0f}, kernels and lesser targets {compared - compiled:.0f}, "
        f"steps {end - compared:.0f}")
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


SETTINGS = ("models", "peers", "kernels", "all_kernels", "limited", "threads", "rounds", "slow_rounds", "steps", "compiles",
            "minutes")

if __name__ == "__main__":
    main()
