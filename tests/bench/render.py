"""The benchmark's report in Markdown, from its samples: what was asked for and whether it was reached, then the tables."""
import os
import re

import recompute
from contenders import LIMITED, MODELS, OURS, PEERS, median
from samples import (Kernels, Profile, Steps, largest_ops, shortage_of_linears, shortage_of_memory, shortage_of_products)


def table(head, rows):
    """The first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(str(x) for x in row) + " |" for row in rows])


# ---- targets ----

def judged(tally, value, wanted, form="", at_most=False, text=None):
    """A measured value as it stands in a table, bold where it misses its target; counts it in `tally`."""
    if value is None:
        return ""
    met = value <= wanted if at_most else value >= wanted
    tally.append(met)
    text = text or form.format(value)
    return text if met else "**" + text.replace(" (", "** (", 1) + ("" if " (" in text else "**")


def kernel_targets(data, threads, tally):
    mx, linear = Kernels(data, "mx", threads), Kernels(data, "linear", threads)
    short = "; ".join(x for x in (shortage_of_products(mx), shortage_of_linears(linear, mx)) if x)
    products, layers, best = mx.ratio("openblas"), linear.ratio("openblas"), max(mx.shares(), default=None)
    if not products and not layers:
        return [], ""
    row = (threads, judged(tally, products.median, 3.4, text=products.text()), judged(tally, best, 0.62, "{:.0%}"),
           judged(tally, layers.median, 2.5, text=layers.text()))
    return [row], f"- {plural(threads)}: {short}." if short else ""


def step_targets(data, steps, model, threads, tally):
    """A row of the table of steps."""
    fast, simulated = (steps.speedup(model, threads, "tetrajet", p) for p in ("torch-fp32", "torch-sim"))
    fp32 = steps.speedup(model, threads, "fp32", "torch-fp32")
    ours, theirs = steps.peak(model, threads, "tetrajet"), steps.peak(model, threads, "torch-fp32")
    beyond = steps.beyond_itself(model, threads, "torch-fp32")
    share = lambda of: judged(tally, ours / of if ours and of else None, 0.40, "{:.1%}", at_most=True)
    return (data["models"][model]["title"], threads, judged(tally, fast.median, 2.5, text=fast.text()),
            judged(tally, simulated.median, 10, text=simulated.text("{:.1f}")),
            judged(tally, fp32.median, 1.3, text=fp32.text()), share(theirs), share(beyond))


def plural(threads):
    return f"{threads} thread{'s' if int(threads) != 1 else ''}"


def largest_table(data):
    """Of which ops a step consists, a line for each profile."""
    rows = []
    for key, text in data["profiles"].items():
        model, threads, recipe = key.split()
        rows.append([data["models"][model]["title"], recipe, threads] + largest_ops(Profile(text)))
    rows.sort(key=lambda r: (r[1] != "tetrajet", r[0], r[2]))
    legend = ("Each op with its share of the step, the share it reaches of its roofline, and what it is short of: V vector "
              "instructions (around a product, or without one), M multiply units, D memory.")
    head = ["model", "recipe", "threads", "largest op", "second", "third"]
    return ["### What the steps consist of", legend, table(head, rows)] if rows else []


def targets(data):
    steps, tally, kernels, shortages = Steps(data), [], [], []
    counts = sorted({k[1] for k in steps.by} | {int(k.split()[1]) for k in data["kernels"]})
    rows = [step_targets(data, steps, m, t, tally) for m in data["models"] for t in counts
            if any(k[:2] == (m, t) for k in steps.by)]
    for threads in counts:
        row, short = kernel_targets(data, threads, tally)
        kernels += row
        shortages += [short] if short else []
    small = data["compile"].get("deit-small tetrajet")
    compiled = judged(tally, median(small["seconds"]) if small else None, 20, "{:.1f}", at_most=True)
    if not tally:
        return []
    out = ["### Targets", f"{sum(tally)} of {len(tally)} are met; what misses its target is bold. Ratios are medians over "
           "rounds (of kernels: over shapes), in brackets the lowest and the highest."]
    if rows:
        out.append(table(["a step (wanted)", "threads", "tetrajet against PyTorch fp32 (>= 2.5)", "against the simulation (>= 10)",
                          "our fp32 against PyTorch's (>= 1.3)", "peak memory to PyTorch's (<= 40%)",
                          "without PyTorch itself (<= 40%)"], rows))
    if kernels:
        out += [table(["kernels on threads", "MXFP4 product against OpenBLAS (>= 3.4)", "its best share of the VNNI peak (>= 62%)",
                       "Linear forward and backward (>= 2.5)"], kernels)]
        out += ["Where kernels spend the rest:\n\n" + "\n".join(shortages)] if shortages else []
    planned = [shortage_of_memory(data, m) for m in data["models"]]
    out += ["What a step keeps in memory:\n\n" + "\n".join(f"- {x}" for x in planned if x)] if any(planned) else []
    return out + [f"Compiling DeiT-Small takes {compiled} s (wanted: at most 20)."] if compiled else out


# ---- tables ----

def number(x, form="{:.0f}"):
    return "" if x is None else form.format(x)


def heading(text, threads):
    return f"#### {text}, {plural(threads)}"


def step_table(steps, model, threads):
    rows = []
    for peer, name in PEERS.items():
        key = (model, threads, peer)
        if key in steps.by:
            speed = "1" if peer == "torch-fp32" else steps.speedup(*key, "torch-fp32").text()
            rows.append((name, number(steps.ms(*key)), speed, number(steps.peak(*key)), number(steps.beyond_itself(*key)),
                         len(steps.by[key])))
    return table(["contender", "ms a step", "speed, PyTorch fp32 = 1", "peak MB", "without PyTorch itself, MB", "rounds"], rows)


def step_tables(data):
    steps, out = Steps(data), []
    for model, threads in sorted({k[:2] for k in steps.by}, key=lambda k: (list(MODELS).index(k[0]), k[1])):
        about = data["models"].get(model, MODELS[model])
        out += [heading(about["title"], threads), step_table(steps, model, threads)]
    sources = "; ".join(f"{m['title']}: {m['source']}" for m in data["models"].values())
    return ["### Whole training steps", f"Models: {sources}."] + out if out else []


def limited_table(data):
    """What the same code does where there are fewer instructions, PyTorch and OpenBLAS held to the same."""
    limited = next((s for s in data["steps"] if s["target"]), None)
    if not limited:
        return []
    key, rows = (limited["model"], limited["threads"]), []
    for target in [""] + list(LIMITED):
        steps = Steps(data, target)
        if (*key, "tetrajet") not in steps.by:
            continue
        title = LIMITED[target]["title"] + f" (`--target {target}`)" if target else "all of this machine"
        rows.append([title] + [number(steps.ms(*key, p)) for p in ("tetrajet", "fp32", "torch-fp32")] +
                    [steps.speedup(*key, p, "torch-fp32").text() for p in OURS] +
                    [Kernels(data, "mx", key[1], target).ratio("openblas").text()])
    head = ["instructions", "tetrajet, ms a step", "our fp32, ms", "PyTorch fp32, ms", "tetrajet against PyTorch fp32",
            "our fp32 against PyTorch's", "MXFP4 product against OpenBLAS"]
    where = f"{data['models'][key[0]]['title']}, {plural(key[1])}; PyTorch and OpenBLAS are held to the same instructions."
    return ["### Without the matrix unit", where, table(head, rows)]


def recompute_table(data):
    rows = [(setting, number(ms), "1" if setting == recompute.REFERENCE else ratio.text(), number(peak), f"{share:.0%}")
            for setting, ms, ratio, peak, share in recompute.rows(data)]
    if not rows:
        return []
    about = data["recompute"]
    where = f"{data['models'][about['model']]['title']}, {plural(about['threads'])}, recipe tetrajet; the settings give equal bits."
    head = ["memory.*", "ms a step", "time, everything kept = 1", "peak MB", "of all kept"]
    return ["### What recomputation costs and gains", where, table(head, rows)]


def profile_tables(data):
    """Where the time of a tetrajet step goes: the ops that take nine tenths of it."""
    out = []
    for key, text in data["profiles"].items():
        model, threads, recipe = key.split()
        if recipe != "tetrajet":
            continue
        profile, rows, seen = Profile(text), [], 0
        for r in profile.rows:
            if seen < 90:
                rows.append((f"`{r['op']}`", number(r["ms"], "{:.1f}"), number(r["percent"], "{:.1f}"), number(r["gflops"]),
                             number(r["gbs"], "{:.1f}"), number(r["roofline"])))
            seen += r["percent"]
        out += [heading(data["models"][model]["title"], threads), f"{profile.step_ms():.0f} ms a step in the profile; the "
                f"measured peaks would allow {profile.best_ms():.0f} ms.",
                table(["op", "ms a step", "% of it", "GFLOP/s", "GB/s", "% of roofline"], rows)]
    return ["### Where the time of a tetrajet step goes"] + out if out else []


def kernel_table(rows):
    onednn = any(r.get("onednn_ms") for r in rows)
    peers = ["openblas"] + (["onednn", "onednn_int8"] if onednn else [])
    names = {"openblas": "OpenBLAS", "onednn": "oneDNN", "onednn_int8": "oneDNN int8"}
    body = []
    for r in rows:
        of = [number(r[p + "_ms"] / r["ours_ms"] if r.get(p + "_ms") else None, "{:.2f}") for p in peers]
        body.append([r["name"], f"{r['m']} x {r['n']} x {r['k']}", number(r["ours_ms"], "{:.2f}")] + of +
                    [number(r.get("peak_share") or None, "{:.0%}")])
    return table(["what", "M x N x K", "ms"] + ["times as fast as " + names[p] for p in peers] + ["share of peak"], body)


def tile_peak(peaks):
    units = (("tile_gops", "int8 tile unit", "GOP/s"), ("f32_tile_gflops", "float32 by bfloat16 tiles", "GFLOP/s"))
    return "".join(f"{what} {peaks[key]:.0f} {unit}, " for key, what, unit in units if peaks.get(key))


KINDS = {"mx": "MXFP4 products (share of the peak of the unit used)", "linear": "A whole linear layer, forward and backward",
         "f32": "Float32 products (share of the peak of the fastest unit)", "quant": "Quantizers (share of the read bandwidth)"}


def kernel_tables(data):
    out = []
    own = [k.split() for k in data["kernels"] if k.count(" ") == 1]
    for kind, threads in sorted(own, key=lambda k: (k[1], list(KINDS).index(k[0]))):
        kernels = Kernels(data, kind, threads)
        if not kernels.rows:
            continue
        peaks = kernels.peaks
        out += [heading(KINDS[kind], threads),
                f"Peaks measured meanwhile: float32 FMA {peaks.get('fma_gflops', 0):.0f} GFLOP/s, int8 dot product "
                f"{peaks.get('vnni_gops', 0):.0f} GOP/s, {tile_peak(peaks)}reading {peaks.get('read_gbs', 0):.1f} GB/s.",
                kernel_table(kernels.rows)]
    return ["### Kernels"] + out if out else []


def compile_table(data):
    rows = []
    for key, c in data["compile"].items():
        model, recipe = key.split()
        rows.append((data["models"].get(model, MODELS[model])["title"], recipe, f"{median(c['seconds']):.1f}",
                     f"{c['peak_mb']:.0f}", f"{c['bytes'] / 1e6:.1f}"))
    head = ["model", "recipe", "compile, s", "compiler's peak MB", "trainer, MB"]
    return ["### Compiling", table(head, rows)] if rows else []


def described(identity):
    m, v = identity["machine"], identity["versions"]
    cache = ", ".join(f"{k} {x}" for k, x in m["caches"].items())
    which = f"family/model/stepping {m['family_model_stepping']}"
    return [f"- {m['cpu']} ({which}), {m['cores']} cores, {m['memory_gb']} GB; {cache}",
            f"- {' '.join(m['features'])}",
            "- " + "; ".join(f"{k} {x}" for k, x in v.items() if x)] + torch_wanted(v)


def torch_wanted(v):
    """A word if the PyTorch compared with is not the newest, which tests/bench/requirements.txt names."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "requirements.txt")) as f:
        wanted = re.search(r"^torch==(.*)$", f.read(), re.M).group(1)
    if (v["torch"] or "").split("+")[0] == wanted:
        return []
    said = f"**PyTorch {v['torch']} instead of {wanted}**, which the benchmark is meant for, but which was not to be had here."
    return ["- " + said]


def report(data):
    minutes = sum(s.get("seconds", 0) for s in data.get("sessions", [])) / 60
    settings = data["sessions"][-1]["settings"] if data.get("sessions") else {}
    out = ["### What was measured on", "\n".join(described(data["identity"])),
           f"Up to {settings.get('rounds', '?')} rounds, of the simulation {settings.get('slow_rounds', '?')}; "
           f"{minutes:.0f} minutes."]
    out += targets(data) + step_tables(data) + limited_table(data) + recompute_table(data) + largest_table(data) + compile_table(data)
    out += profile_tables(data) + kernel_tables(data)
    if data["notes"]:
        out += ["### What could not be measured", "\n".join(f"- {k}: {x}" for k, x in data["notes"].items())]
    return "\n\n".join(out)
