"""The benchmark's report in Markdown, from its samples: what was asked for and whether it was reached, then the tables."""
import os
import re

from contenders import MODELS, OURS, PEERS, median
from samples import (Kernels, Profile, Steps, shortage_of_linears, shortage_of_memory, shortage_of_products,
                     shortage_of_step)


def table(head, rows):
    """The first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(str(x) for x in row) + " |" for row in rows])


# ---- targets ----

def judged(lines, text, wanted, threads, value, form, short="", at_most=False):
    """Adds a target if it was measured; `short` says of which resource there was too little, should it be missed."""
    if value is None:
        return
    met = value <= wanted if at_most else value >= wanted
    lines.append({"text": text, "wanted": ("<= " if at_most else ">= ") + form.format(wanted), "threads": threads,
                  "measured": form.format(value), "met": met, "short": short})


def kernel_targets(data, threads, lines):
    mx, linear = Kernels(data, "mx", threads), Kernels(data, "linear", threads)
    judged(lines, f"MXFP4 product against OpenBLAS sgemm, median of {len(mx.counted)}", 3.4, threads, mx.ratio("openblas"),
           "{:.2f}", shortage_of_products(mx))
    judged(lines, "MXFP4 product, share of the VNNI peak, best shape", 0.62, threads, max(mx.shares(), default=None), "{:.0%}",
           "vector instructions around the dot products")
    judged(lines, f"Linear forward and backward against OpenBLAS, median of {len(linear.counted)}", 2.5, threads,
           linear.ratio("openblas"), "{:.2f}", shortage_of_linears(linear, mx))


def step_targets(data, steps, model, threads, lines):
    title = data["models"][model]["title"] + ": "
    short = {r: shortage_of_step(Profile(p)) for r in OURS if (p := data["profiles"].get(f"{model} {threads} {r}"))}
    for what, peer, reference, wanted, form in (
            ("tetrajet against PyTorch fp32", "tetrajet", "torch-fp32", 2.5, "{:.2f}"),
            ("tetrajet against TetraJet simulated", "tetrajet", "torch-sim", 10, "{:.1f}"),
            ("our fp32 against PyTorch fp32", "fp32", "torch-fp32", 1.3, "{:.2f}")):
        judged(lines, title + what, wanted, threads, steps.speedup(model, threads, peer, reference), form, short.get(peer, ""))
    ours = steps.peak(model, threads, "tetrajet")
    for what, theirs in (("peak memory, tetrajet to PyTorch fp32", steps.peak(model, threads, "torch-fp32")),
                         ("the same, PyTorch itself left out", steps.beyond_itself(model, threads, "torch-fp32"))):
        judged(lines, title + what, 0.40, threads, ours / theirs if ours and theirs else None, "{:.0%}",
               shortage_of_memory(data, model), at_most=True)


def targets(data):
    lines, steps = [], Steps(data)
    for threads in sorted({s["threads"] for s in data["steps"]} | {int(k.split()[1]) for k in data["kernels"]}):
        kernel_targets(data, threads, lines)
        for model in data["models"]:
            step_targets(data, steps, model, threads, lines)
    small = data["compile"].get("deit-small tetrajet")
    judged(lines, "compiling DeiT-Small, seconds", 20, "", median(small["seconds"]) if small else None, "{:.1f}",
           "time in LLVM", at_most=True)
    if not lines:
        return []
    rows = [(x["text"], x["threads"], x["wanted"], x["measured"], "yes" if x["met"] else "**no**") for x in lines]
    missed = [f"- {x['text']}, {x['threads']} threads: {x['measured']}. Short of: {x['short'] or 'unknown, not profiled'}."
              for x in lines if not x["met"]]
    out = ["### Targets", f"{len(lines) - len(missed)} of {len(lines)} are met.",
           table(["target", "threads", "wanted", "measured", "met"], rows)]
    return out + ["Missed, and what there is too little of:\n\n" + "\n".join(missed)] if missed else out


# ---- tables ----

def number(x, form="{:.0f}"):
    return "" if x is None else form.format(x)


def heading(text, threads):
    return f"#### {text}, {threads} thread{'s' if int(threads) != 1 else ''}"


def step_table(data, steps, model, threads):
    rows = []
    for peer, name in PEERS.items():
        key = (model, threads, peer)
        if key in steps.by:
            rows.append((name, number(steps.ms(*key)), number(steps.speedup(*key, "torch-fp32"), "{:.2f}"),
                         number(steps.peak(*key)), number(steps.beyond_itself(*key))))
    return table(["contender", "ms a step", "speed, PyTorch fp32 = 1", "peak MB", "without PyTorch itself, MB"], rows)


def step_tables(data):
    steps, out = Steps(data), []
    for model, threads in sorted({k[:2] for k in steps.by}, key=lambda k: (list(MODELS).index(k[0]), k[1])):
        about = data["models"].get(model, MODELS[model])
        rounds = [len(v) for k, v in steps.by.items() if k[:2] == (model, threads)]
        out += [heading(about["title"], threads),
                f"Model: {about.get('source', 'unknown')}; {min(rounds)} to {max(rounds)} rounds.",
                step_table(data, steps, model, threads)]
    return ["### Whole training steps"] + out if out else []


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
    return f"int8 tile unit {peaks['tile_gops']:.0f} GOP/s, " if peaks.get("tile_gops") else ""


KINDS = {"mx": "MXFP4 products (share of the peak of the unit used)", "linear": "A whole linear layer, forward and backward",
         "f32": "Float32 products (share of the FMA peak)", "quant": "Quantizers (share of the read bandwidth)"}


def kernel_tables(data):
    out = []
    for key in sorted(data["kernels"], key=lambda k: (k.split()[1], list(KINDS).index(k.split()[0]))):
        kind, threads = key.split()
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
           f"Up to {settings.get('rounds', '?')} rounds of {settings.get('steps', '?')} steps; {minutes:.0f} minutes."]
    out += targets(data) + step_tables(data) + profile_tables(data) + compile_table(data) + kernel_tables(data)
    if data["notes"]:
        out += ["### What could not be measured", "\n".join(f"- {k}: {x}" for k, x in data["notes"].items())]
    return "\n\n".join(out)
