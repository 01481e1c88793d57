"""What the samples of a benchmark say: times, ratios within rounds, peaks, and which resource a step is short of."""
from contenders import median

BLOCK_MODELS = ("deit_t.", "deit_s.")  # whose products the kernel targets are about


class Spread:
    """Ratios: their median counts, the lowest and the highest tell how much of it is noise. False where there are none."""

    def __init__(self, ratios):
        self.n, self.low, self.high = len(ratios), min(ratios, default=None), max(ratios, default=None)
        self.median = median(ratios) if ratios else None

    def __bool__(self):
        return self.n > 0

    def text(self, form="{:.2f}"):
        """Such as `2.47 (2.40 to 2.51)`."""
        if not self.n:
            return ""
        around = f" ({form.format(self.low)} to {form.format(self.high)})" if self.n > 1 else ""
        return form.format(self.median) + around


class Steps:
    """Samples of the step benchmark with one target ("": the machine's own) by model, threads and peer."""

    def __init__(self, data, target=""):
        self.by = {}
        for s in data["steps"]:
            if s["target"] == target:
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
        """How many times as fast as the reference, in each round that both took part in."""
        a, b = self.by.get((model, threads, peer), {}), self.by.get((model, threads, reference), {})
        return Spread([median(b[r]["ms"]) / median(a[r]["ms"]) for r in a if r in b])


class Kernels:
    """Rows of the kernel benchmark of one kind at one number of threads; `counted` are those the targets are about."""

    def __init__(self, data, kind, threads, target=""):
        result = data["kernels"].get(f"{kind} {threads} {target}".strip(), {})
        self.peaks = result.get("peaks", {})
        self.rows = [r for r in result.get("rows", []) if r["kind"] == kind]
        self.counted = [r for r in self.rows if r["name"].startswith(BLOCK_MODELS) and "@" not in r["name"]]

    def ratio(self, rival):
        """The rival's time to ours in the counted rows: here the spread is one of shapes."""
        return Spread([r[rival + "_ms"] / r["ours_ms"] for r in self.counted if r.get(rival + "_ms")])

    def shares(self):
        """Operations a second of the counted products as shares of the VNNI peak, whichever unit made them."""
        peak = self.peaks.get("vnni_gops")
        return [2e-6 * r["m"] * r["n"] * r["k"] / r["ours_ms"] / peak for r in self.counted] if peak else []


class Profile:
    """The table of `TRAINER train --profile`: rows of (op, ms, share of the step, GFLOP/s, roofline)."""

    def __init__(self, text):
        self.rows, self.summary = [], [x for x in text.splitlines() if "at that the step would take" in x]
        for line in text.splitlines():
            cells = [c.strip() for c in line.strip().strip("|").split("|")]
            if len(cells) != 8 or cells[0] in ("op", "") or cells[0].startswith((":", "...")):
                continue
            value = lambda i: float(cells[i]) if cells[i] else None
            self.rows.append({"op": cells[0], "calls": cells[1], "ms": value(2), "percent": value(3), "gflops": value(4),
                              "gbs": value(5), "roofline": value(6), "busy": value(7)})

    def step_ms(self):
        return sum(r["ms"] for r in self.rows)

    def best_ms(self):
        """What the measured peaks would allow, if each op were bound by nothing else."""
        return sum(r["ms"] * min(r["roofline"] or 0, 100) / 100 for r in self.rows)


def resource(row):
    """What bounds an op, by how near it is to its roofline: M(ultiply units), D(ata, memory) or V(ector instructions)."""
    near = (row["roofline"] or 0) >= 60
    return ("M" if row["gflops"] else "D") if near else "V"


def largest_ops(profile, n=3):
    """The ops that take most time, with their share of the step and of their roofline and what bounds them."""
    top = sorted(profile.rows, key=lambda r: -r["ms"])[:n]
    return [f"`{r['op']}` {r['percent']:.0f} % at {r['roofline'] or 0:.0f} % {resource(r)}" for r in top]


def shortage_of_products(kernels):
    """How near its peak OpenBLAS is, and so how near ours we would have to be."""
    peaks, ratio = kernels.peaks, kernels.ratio("openblas").median
    if not ratio or not peaks.get("vnni_gops") or not peaks.get("fma_gflops") or not kernels.shares():
        return ""
    share = median(kernels.shares())
    theirs = share * peaks["vnni_gops"] / ratio / peaks["fma_gflops"]
    return (f"products reach {share:.0%} of the VNNI peak in the median, OpenBLAS {theirs:.0%} of the FMA peak, of which the "
            f"VNNI peak is {peaks['vnni_gops'] / peaks['fma_gflops']:.1f} times")


def shortage_of_linears(linear, products):
    """What of a linear layer's time is not its three products."""
    ms = {r["name"]: r["ours_ms"] for r in products.counted}
    parts = [1 - sum(ms[f"{r['name']}.{p}"] for p in ("Y", "dX", "dW")) / r["ours_ms"] for r in linear.counted
             if all(f"{r['name']}.{p}" in ms for p in ("Y", "dX", "dW"))]
    return f"quantizers take {median(parts):.0%} of a layer in the median" if parts else ""


def shortage_of_memory(data, model):
    known = data["compile"].get(f"{model} tetrajet", {})
    if "step_mb" not in known:
        return ""
    title = data["models"][model]["title"]
    return f"{title}: {known['step_mb']:.0f} MB, {known['state_mb']:.0f} of them weights and optimizer"
