"""What recomputation costs and gains: one model's trainers under every setting of memory.recompute, which take turns."""
import os

from contenders import MODELS, Ours, median, say, watched
from samples import Spread

# Of the recipe as it is, and of each level to its end.
SETTINGS = {"the recipe's own": []}
for level in ("none", "cheap", "most", "all"):
    SETTINGS[f"`recompute={level}`, `goal=0`"] = ["--set", f"memory.recompute={level}", "--set", "memory.goal=0"]
REFERENCE = "`recompute=none`, `goal=0`"


def run(record, compile_line, model, folder, threads, rounds):
    """`compile_line`: tetrac's command for a tetrajet trainer of the model, which goes to the path that is its last word."""
    known = record.data.setdefault("recompute", {"model": model, "threads": threads, "samples": {}})
    if (known["model"], known["threads"]) != (model, threads):
        known = record.data["recompute"] = {"model": model, "threads": threads, "samples": {}}
    taken = lambda setting: known["samples"].setdefault(setting, [])
    if all(len(taken(s)) >= rounds for s in SETTINGS):
        return
    trainers = {}
    for i, (setting, words) in enumerate(SETTINGS.items()):
        trainer = os.path.join(folder, f"{model}.recompute.{i}")
        watched(compile_line[:-1] + [trainer] + words)
        trainers[setting] = Ours(trainer, MODELS[model]["batch"])
    for number in range(rounds):
        for setting, trainer in trainers.items():
            if len(taken(setting)) <= number:
                taken(setting).append(trainer.steps(MODELS[model]["steps"], threads))
                record.save()
        of = {s: median(taken(s)[number]["ms"]) for s in SETTINGS}
        say(f"recomputation, round {number + 1}: " + ", ".join(f"{ms:.0f}" for ms in of.values()) + " ms")


def rows(data):
    """(setting, ms a step, its ratio to keeping everything, peak MB, that peak's share) of what was measured."""
    samples = data.get("recompute", {}).get("samples", {})
    out = []
    for setting in [s for s in SETTINGS if samples.get(s) and samples.get(REFERENCE)]:
        pairs = list(zip(samples[setting], samples[REFERENCE]))
        peak, all_kept = (median([s["peak_mb"] for s in samples[x]]) for x in (setting, REFERENCE))
        out.append((setting, median([median(s["ms"]) for s in samples[setting]]),
                    Spread([median(s["ms"]) / median(r["ms"]) for s, r in pairs]), peak, peak / all_kept))
    return out
