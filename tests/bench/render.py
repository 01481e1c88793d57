"""The benchmark's report in Markdown, from its samples: what was asked for and whether it was reached, then the tables."""
from contenders import MODELS, PEERS, median

BLOCK_MODELS = ("deit_t.", "deit_s.")  # whose products the GEMM targets are about


def table(head, rows):
    """The first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(str(x) for x in row) + " |" for row in rows])


# ---- what the samples say ----

class Steps:
    """Samples of the step benchmark by model, threads and peer."""

    def __init__(self, data):
        self.by = {}
        for s in data["steps"]:
            self.by.setdefault((s["model"], s["threads"], s["peer"]), {})[s["round"]] = s

    def ms(self, *key):
        return median([median(s["ms"]) for s in self.by[key].values()]) if key in self.by else None

    def peak(self, *key):
        return median([s["peak_mb"] for s in self.by[key].values()]) if key in self.by else None

    def beyond_itself(self, *key):
        """Peak without what PyTorch itself takes, before a model is made; of ours it is all."""
        if key not in self.by:
            return None
        return median([s["peak_mb"] - s.get("base_mb", 0) for s in self.by[key].values()])

    def speedup(self, model, threads, peer, reference):
        """How many times as fast as the reference, the median of the ratios within the rounds that both took part in."""
        a, b = self.by.get((model, threads, peer), {}), self.by.get((model, threads, reference), {})
        ratios = [median(b[r]["ms"]) / median(a[r]["ms"]) for r in a if r in b]
        return median(ratios) if ratios else None


def kernel_rows(data, kind, threads):
    """Rows of the kernel benchmark over the products of DeiT-T and DeiT-S at their full batch."""
    found = data["kernels"].get(f"{kind} {threads}", {}).get("rows", [])
    return [r for r in found if r["kind"] == kind]


def counted(rows):
    return [r for r in rows if r["name"].startswith(BLOCK_MODELS) and "@" not in r["name"]]


def ratios(rows, rival):
    return [r[rival + "_ms"] / r["ours_ms"] for r in rows if r.get(rival + "_ms")]


# ---- targets ----

def best_share(rows):
    shares = [r["peak_share"] for r in rows if r.get("peak_share")]
    return max(shares) if shares else None


def judge(value, wanted, at_most=False):
    return value <= wanted if at_most else value >= wanted


def target_lines(data):
    """(target, wanted, threads, measured, met) of all that was measured."""
    steps, lines = Steps(data), []

    def line(text, wanted, threads, value, form, at_most=False):
        if value is not None:
            lines.append((text, ("<= " if at_most else ">= ") + form.format(wanted), threads, form.format(value),
                          judge(value, wanted, at_most)))

    for t in sorted({s["threads"] for s in data["steps"]} | {int(k.split()[1]) for k in data["kernels"]}):
        mx, linear = counted(kernel_rows(data, "mx", t)), counted(kernel_rows(data, "linear", t))
        line(f"MXFP4 product against OpenBLAS sgemm, median of {len(mx)}", 3.4, t,
             median(ratios(mx, "openblas")) if ratios(mx, "openblas") else None, "{:.2f}")
        line("MXFP4 product, share of the VNNI peak, best shape", 0.62, t, best_share(mx), "{:.0%}")
        line(f"Linear forward and backward against OpenBLAS, median of {len(linear)}", 2.5, t,
             median(ratios(linear, "openblas")) if ratios(linear, "openblas") else None, "{:.2f}")
        for m in data["models"]:
            title = data["models"][m]["title"]
            line(f"{title}: tetrajet against PyTorch fp32", 2.5, t, steps.speedup(m, t, "tetrajet", "torch-fp32"), "{:.2f}")
            line(f"{title}: tetrajet against TetraJet simulated", 10, t, steps.speedup(m, t, "tetrajet", "torch-sim"), "{:.1f}")
            line(f"{title}: our fp32 against PyTorch fp32", 1.3, t, steps.speedup(m, t, "fp32", "torch-fp32"), "{:.2f}")
            ours, theirs = steps.peak(m, t, "tetrajet"), steps.beyond_itself(m, t, "torch-fp32")
            line(f"{title}: peak memory, tetrajet to PyTorch fp32", 0.40, t, ours / theirs if ours and theirs else None,
                 "{:.0%}", at_most=True)
    small = data["compile"].get("deit-small tetrajet")
    line("compiling DeiT-Small, seconds", 20, "", median(small["seconds"]) if small else None, "{:.1f}", at_most=True)
    return lines


def targets(data):
    lines = target_lines(data)
    if not lines:
        return []
    met = sum(1 for x in lines if x[4])
    rows = [(text, threads, wanted, measured, "yes" if ok else "**no**") for text, wanted, threads, measured, ok in lines]
    return ["### Targets", f"{met} of {len(lines)} are met.",
            table(["target", "threads", "wanted", "measured", "met"], rows)]


# ---- tables ----

def number(x, form="{:.0f}"):
    return "" if x is None else form.format(x)


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
        out += [f"#### {about['title']}, {threads} thread{'s' if threads > 1 else ''}",
                f"Model: {about.get('source', 'unknown')}; {min(rounds)} to {max(rounds)} rounds.",
                step_table(data, steps, model, threads)]
    return ["### Whole training steps"] + out if out else []


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


KINDS = {"mx": "MXFP4 products (share of the VNNI peak)", "linear": "A whole linear layer, forward and backward",
         "f32": "Float32 products (share of the FMA peak)", "quant": "Quantizers (share of the read bandwidth)"}


def kernel_tables(data):
    out = []
    for key, result in sorted(data["kernels"].items(), key=lambda x: (x[0].split()[1], list(KINDS).index(x[0].split()[0]))):
        kind, threads = key.split()
        rows = kernel_rows(data, kind, threads)
        if not rows:
            continue
        peaks = result.get("peaks", {})
        out += [f"#### {KINDS[kind]}, {threads} thread{'s' if threads != '1' else ''}",
                f"Peaks measured meanwhile: float32 FMA {peaks.get('fma_gflops', 0):.0f} GFLOP/s, int8 dot product "
                f"{peaks.get('vnni_gops', 0):.0f} GOP/s, reading {peaks.get('read_gbs', 0):.1f} GB/s.", kernel_table(rows)]
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
            "- " + "; ".join(f"{k} {x}" for k, x in v.items() if x)]


def report(data):
    minutes = sum(s.get("seconds", 0) for s in data.get("sessions", [])) / 60
    settings = data["sessions"][-1]["settings"] if data.get("sessions") else {}
    out = ["### What was measured on", "\n".join(described(data["identity"])),
           f"Up to {settings.get('rounds', '?')} rounds of {settings.get('steps', '?')} steps; {minutes:.0f} minutes."]
    out += targets(data) + step_tables(data) + compile_table(data) + kernel_tables(data)
    if data["notes"]:
        out += ["### What could not be measured", "\n".join(f"- {k}: {x}" for k, x in data["notes"].items())]
    return "\n\n".join(out)
