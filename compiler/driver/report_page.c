/* The page: what the runs came to, how they got there, and what their 4-bit weights did meanwhile. One recipe is one colour
 * throughout; where it has several runs, each is a faint line and their mean a strong one. */
#include <math.h>
#include <stddef.h>
#include <string.h>
#include "compiler/driver/report_chart.h"

static const char style[] =
    "<style>\n"
    ":root{--bg:#fcfcfb;--card:#fff;--ink:#1c2024;--soft:#60666d;--rule:#e3e5e8;--grid:#eceef0;--heat:29,111,180;"
    "--c0:#1d6fb4;--c1:#d4600a;--c2:#0f8560;--c3:#b8348b;--c4:#6a4fc0;--c5:#96700a;--c6:#0e8a9e;--c7:#6b6f75}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1b1f23;--ink:#e7e9ec;--soft:#9aa2ab;--rule:#30363c;"
    "--grid:#282d32;--heat:92,168,240;"
    "--c0:#63aef2;--c1:#f3964f;--c2:#48c798;--c3:#ea80c2;--c4:#aa97f2;--c5:#d8b13a;--c6:#52c6da;--c7:#a6abb1}}\n"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu "
    "Sans',sans-serif}\n"
    "main{max-width:1240px;margin:0 auto;padding:28px 22px 60px}"
    "h1{font-size:25px;margin:0 0 2px;font-weight:650}h2{font-size:18px;margin:40px 0 4px;font-weight:650}"
    "p{margin:2px 0 12px;color:var(--soft);max-width:78ch}\n"
    ".key{display:flex;flex-wrap:wrap;gap:4px 20px;margin:10px 0 12px;padding:0;list-style:none;color:var(--soft)}"
    ".chip{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:7px}\n"
    ".cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));gap:16px}"
    ".small{grid-template-columns:repeat(auto-fill,minmax(min(100%,280px),1fr))}"
    "figure{margin:0;padding:14px 16px 8px;background:var(--card);border:1px solid var(--rule);border-radius:10px}"
    "figcaption b{font-weight:600;overflow-wrap:anywhere}figcaption "
    "span{display:block;color:var(--soft);font-size:13px;line-height:1.4;margin-bottom:4px}"
    "svg{display:block;width:100%;height:auto;margin-top:6px}\n"
    ".grid{stroke:var(--grid);fill:none}.axis{stroke:var(--rule);fill:none}"
    ".tick,.label{fill:var(--soft);font-size:12px;font-variant-numeric:tabular-nums}.label{font-size:12.5px}"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round}.faint{stroke-width:1.2;opacity:.45}"
    ".dashed{stroke-dasharray:5 4}.stairs{stroke-width:1.8}.dot{stroke:none}\n"
    ".wide{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:10px}"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "th,td{padding:7px 10px;text-align:right;white-space:nowrap}th{color:var(--soft);font-weight:500;font-size:13px}"
    "td:first-child,th:first-child{text-align:left}tbody tr{border-top:1px solid var(--rule)}"
    "td small{color:var(--soft);font-size:12.5px}.best{font-weight:650}"
    "details{margin-top:14px}summary{cursor:pointer;color:var(--soft)}details .wide{margin-top:8px}\n";

static void put_style(tt_strbuf *out) {
  tt_strbuf_append(out, style, sizeof style - 1);
  for (int i = 0; i < TT_CHART_COLORS; i++)
    tt_strbuf_printf(out, ".line.c%d{stroke:var(--c%d)}.dot.c%d{fill:var(--c%d)}.chip.c%d{background:var(--c%d)}\n", i, i, i, i,
                     i, i);
  tt_strbuf_printf(out, "</style>\n");
}

static void put_name(tt_strbuf *out, int color, const char *name) {
  tt_strbuf_printf(out, "<span class=\"chip c%d\"></span>", color % TT_CHART_COLORS);
  tt_put_escaped(out, name);
}

/* ---- curves over training ---- */

typedef enum { OF_METRICS, OF_TRACK } source;
typedef struct figure {
  source from;
  size_t offset; /* of the double in a metric row, or in a track row */
  const char *title, *note;
  bool log_y, from_zero;
  double scale;
} figure;

#define METRIC(field) OF_METRICS, offsetof(tt_metric_row, field)
#define TRACK(field) OF_TRACK, offsetof(tt_track_row, total.field)

static const figure training[] = {
    {METRIC(test_acc), "Test accuracy, %", NULL, false, false, 100},
    {METRIC(loss), "Training loss", "mean since the line before", false, false, 1},
    {METRIC(test_loss), "Test loss", NULL, false, false, 1},
    {METRIC(grad_norm), "Gradient norm", "before clipping", true, false, 1},
};
static const figure oscillation[] = {
    {TRACK(oscillating), "Oscillating weights, %", "share with R = dist Q / dist W above 16 in the window", false, true, 100},
    {TRACK(rate_q), "Rate of change of Q(W)", "step by step, relative to its norm", true, false, 1},
    {TRACK(rate_w), "Rate of change of W", "the latent weights, step by step, relative to their norm", true, false, 1},
    {OF_TRACK, offsetof(tt_track_row, rate_y), "Rate of change of a block's output",
     "on the same images, step by step, relative to its norm; the last block unless the recipe names another", true, false, 1},
    {TRACK(confidence), "Quantization confidence", "0 at a rounding threshold, 1 farthest from it; mean", false, false, 1},
    {TRACK(ratio), "Mean oscillation ratio R", "how far Q(W) moved for each unit that W moved", false, true, 1},
    {TRACK(error), "Quantization error of the weights, %", "norm of W - Q(W) over norm of W", false, false, 100},
};

/* Points of one run for a figure; returns how many are finite. */
static int collect(const tt_run *run, const figure *f, double *x, double *y) {
  int n = 0, count = f->from == OF_METRICS ? run->n_rows : run->n_tracks;
  for (int i = 0; i < count; i++) {
    const char *row = f->from == OF_METRICS ? (const char *)&run->rows[i] : (const char *)&run->tracks[i];
    double epoch = f->from == OF_METRICS ? run->rows[i].epoch : run->tracks[i].epoch;
    double value = *(const double *)(const void *)(row + f->offset);
    if (!isfinite(value) || !isfinite(epoch)) continue;
    x[n] = epoch;
    y[n++] = value;
  }
  return n;
}

static tt_line make_line(const tt_run *run, const figure *f, tt_arena *arena) {
  int most = run->n_rows > run->n_tracks ? run->n_rows : run->n_tracks;
  double *x = TT_NEW_N(arena, double, most), *y = TT_NEW_N(arena, double, most);
  tt_line l = {.label = run->label, .color = run->group, .x = x, .y = y};
  l.n = collect(run, f, x, y);
  return l;
}

/* The mean of lines that have the same points; n = 0 where they differ. */
static tt_line mean_line(int n, const tt_line *lines, const char *label, tt_arena *arena) {
  tt_line mean = {.label = label, .color = lines[0].color, .x = lines[0].x, .n = lines[0].n};
  double *y = TT_NEW_N(arena, double, mean.n);
  for (int k = 0; k < n; k++) {
    if (lines[k].n != mean.n) return (tt_line){.n = 0};
    for (int i = 0; i < mean.n; i++) {
      if (fabs(lines[k].x[i] - mean.x[i]) > 1e-6 * fmax(1, fabs(mean.x[i]))) return (tt_line){.n = 0};
      y[i] += lines[k].y[i] / n;
    }
  }
  mean.y = y;
  return mean;
}

static int group_lines(const tt_study *s, const tt_group *g, const figure *f, tt_line *lines, tt_arena *arena) {
  int n = 0;
  for (int i = 0; i < g->n; i++) {
    lines[n] = make_line(&s->runs[g->runs[i]], f, arena);
    if (lines[n].n) n++;
  }
  if (n < 2) return n;
  tt_line mean = mean_line(n, lines, tt_arena_printf(arena, "%s, mean of %d", g->name, n), arena);
  for (int i = 0; i < n && mean.n; i++) lines[i].style = TT_LINE_FAINT;
  if (mean.n) lines[n++] = mean;
  return n;
}

static void put_figures(tt_strbuf *out, const tt_study *s, const figure *figures, int n_figures) {
  tt_strbuf_printf(out, "<div class=\"cards\">\n");
  for (int i = 0; i < n_figures; i++) {
    const figure *f = &figures[i];
    tt_arena *arena = tt_arena_create();
    tt_line *lines = TT_NEW_N(arena, tt_line, 2 * s->n_runs);
    int n = 0;
    for (int k = 0; k < s->n_groups; k++) n += group_lines(s, &s->groups[k], f, lines + n, arena);
    tt_chart chart = {.title = f->title, .note = f->note, .x_label = "epoch", .log_y = f->log_y, .scale = f->scale,
                      .has_low = f->from_zero, .low = 0, .n = n, .lines = lines};
    tt_chart_put(out, &chart);
    tt_arena_destroy(arena);
  }
  tt_strbuf_printf(out, "</div>\n");
}

static void put_key(tt_strbuf *out, const tt_study *s) {
  tt_strbuf_printf(out, "<ul class=\"key\">");
  for (int i = 0; i < s->n_groups; i++) {
    tt_strbuf_printf(out, "<li>");
    put_name(out, i, s->groups[i].name);
    tt_strbuf_printf(out, "</li>");
  }
  tt_strbuf_printf(out, "</ul>\n");
}

/* ---- the end state of the weights ---- */

/* A figure of the last record, over all weights. */
static double track_value(const tt_run *run, size_t offset) {
  const tt_track_row *t = tt_run_last_track(run);
  return t ? *(const double *)(const void *)((const char *)&t->total + offset) : NAN;
}

/* The mean over a group's runs of the histogram at `offset` of their last totals; how many runs have one. */
static int mean_histogram(const tt_study *s, const tt_group *g, size_t offset, int bins, double *mean) {
  int n = 0;
  memset(mean, 0, sizeof *mean * (size_t)bins);
  for (int i = 0; i < g->n; i++) {
    const tt_track_row *t = tt_run_last_track(&s->runs[g->runs[i]]);
    if (!t) continue;
    const double *hist = (const double *)(const void *)((const char *)&t->total + offset);
    double sum = 0;
    for (int b = 0; b < bins; b++) mean[b] += hist[b], sum += hist[b];
    n += sum > 0;
  }
  for (int b = 0; b < bins && n; b++) mean[b] /= n;
  return n;
}

/* A histogram as an outline: two points a bin. */
static tt_line outline(const tt_group *g, int color, const double *hist, int bins, double first, double width,
                       tt_arena *arena) {
  double *x = TT_NEW_N(arena, double, 2 * bins), *y = TT_NEW_N(arena, double, 2 * bins);
  for (int b = 0; b < bins; b++) {
    x[2 * b] = first + width * b;
    x[2 * b + 1] = first + width * (b + 1);
    y[2 * b] = y[2 * b + 1] = hist[b];
  }
  return (tt_line){.label = g->name, .color = color, .style = TT_LINE_STAIRS, .n = 2 * bins, .x = x, .y = y};
}

static void put_confidence(tt_strbuf *out, const tt_study *s, tt_arena *arena) {
  tt_line *lines = TT_NEW_N(arena, tt_line, s->n_groups);
  int n = 0;
  double hist[TT_CONFIDENCE_BINS];
  for (int i = 0; i < s->n_groups; i++)
    if (mean_histogram(s, &s->groups[i], offsetof(tt_track_stats, confidence_hist), TT_CONFIDENCE_BINS, hist))
      lines[n++] = outline(&s->groups[i], i, hist, TT_CONFIDENCE_BINS, 0, 1.0 / TT_CONFIDENCE_BINS, arena);
  tt_chart chart = {.title = "Confidence at the end, % of weights",
                    .note = "20 bins; oscillation gathers weights at the thresholds, on the left",
                    .x_label = "quantization confidence",
                    .scale = 100,
                    .has_low = true,
                    .n = n,
                    .lines = lines};
  tt_chart_put(out, &chart);
}

static void put_scales(tt_strbuf *out, const tt_study *s, tt_arena *arena) {
  tt_line *lines = TT_NEW_N(arena, tt_line, s->n_groups);
  int n = 0, low = TT_SCALE_BINS, high = 0;
  double hist[TT_SCALE_BINS], first = NAN;
  for (int i = 0; i < s->n_groups; i++) {
    if (!mean_histogram(s, &s->groups[i], offsetof(tt_track_stats, scale_hist), TT_SCALE_BINS, hist)) continue;
    for (int b = 0; b < TT_SCALE_BINS; b++)
      if (hist[b] > 0) low = b < low ? b : low, high = b > high ? b : high;
  }
  for (int i = 0; i < s->n_runs && isnan(first); i++) first = track_value(&s->runs[i], offsetof(tt_track_stats, scale_first));
  if (low > high || isnan(first)) return;
  low = low > 0 ? low - 1 : 0, high = high < TT_SCALE_BINS - 1 ? high + 1 : high;
  for (int i = 0; i < s->n_groups; i++)
    if (mean_histogram(s, &s->groups[i], offsetof(tt_track_stats, scale_hist), TT_SCALE_BINS, hist))
      lines[n++] = outline(&s->groups[i], i, hist + low, high - low + 1, first + low - 0.5, 1, arena);
  tt_chart chart = {.title = "Block scales at the end, % of blocks",
                    .note = "of the quantized weights",
                    .x_label = "exponent of the scale",
                    .scale = 100,
                    .has_low = true,
                    .n = n,
                    .lines = lines};
  tt_chart_put(out, &chart);
}

/* The four elements that oscillated most in the window before, and what they did in the last. */
static void put_trajectories(tt_strbuf *out, const tt_run *run, tt_arena *arena) {
  const tt_track_row *t = tt_run_last_track(run);
  for (int i = 0; t && i < t->n_trajectories && i < 4; i++) {
    const tt_trajectory *p = &t->trajectories[i];
    double *x = TT_NEW_N(arena, double, p->n);
    for (int k = 0; k < p->n; k++) x[k] = t->step - p->n + 1 + k;
    tt_line lines[2] = {{.label = "Q(w)", .color = 7, .style = TT_LINE_STAIRS, .n = p->n, .x = x, .y = p->q},
                        {.label = "w", .color = run->group, .n = p->n, .x = x, .y = p->w}};
    char note[80];
    snprintf(note, sizeof note, "element %lld, R = %.0f before", (long long)p->index, p->ratio);
    tt_chart chart = {.title = tt_arena_printf(arena, "%s: %s", run->label, p->weight),
                      .note = note,
                      .x_label = "step",
                      .small = true,
                      .n = 2,
                      .lines = lines};
    tt_chart_put(out, &chart);
  }
}

/* ---- tables ---- */

static void put_percent(tt_strbuf *out, const tt_spread *s, const char *extra) {
  tt_strbuf_printf(out, "<td%s>", extra);
  tt_put_number(out, 100 * s->mean, 2);
  if (s->n > 1) tt_strbuf_printf(out, " <small>± %.2f</small>", 100 * s->sd);
  tt_strbuf_printf(out, "</td>");
}

/* The difference to a group with its 95 % interval, in percent points. */
static void put_difference(tt_strbuf *out, const tt_study *s, int group, int base) {
  tt_strbuf_printf(out, "<td>");
  if (group != base) {
    tt_spread d = tt_paired(s, group, base, tt_run_accuracy);
    double half = tt_spread_half_width(&d);
    if (isfinite(d.mean)) tt_strbuf_printf(out, "%+.2f", 100 * d.mean);
    if (isfinite(half)) tt_strbuf_printf(out, " <small>± %.2f</small>", 100 * half);
  }
  tt_strbuf_printf(out, "</td>");
}

typedef struct column {
  const char *head;
  double (*value)(const tt_run *);
  double scale;
  const char *format;
} column;

static double oscillating_of(const tt_run *run) { return track_value(run, offsetof(tt_track_stats, oscillating)); }
static double rate_w_of(const tt_run *run) { return track_value(run, offsetof(tt_track_stats, rate_w)); }
static double rate_q_of(const tt_run *run) { return track_value(run, offsetof(tt_track_stats, rate_q)); }
static double rate_y_of(const tt_run *run) { return tt_run_last_track(run) ? tt_run_last_track(run)->rate_y : NAN; }
static double confidence_of(const tt_run *run) { return track_value(run, offsetof(tt_track_stats, confidence)); }
static double speed_of(const tt_run *run) { return run->n_rows ? run->rows[run->n_rows - 1].images_per_s : NAN; }

static const column columns[] = {
    {"test loss", tt_run_test_loss, 1, "%.4f"},
    {"train loss", tt_run_loss, 1, "%.4f"},
    {"R &gt; 16, %", oscillating_of, 100, "%.2f"},
    {"r(W)", rate_w_of, 1, "%.2e"},
    {"r(Q(W))", rate_q_of, 1, "%.2e"},
    {"r(Y)", rate_y_of, 1, "%.2e"},
    {"confidence", confidence_of, 1, "%.3f"},
    {"images/s", speed_of, 1, "%.0f"},
};
enum { N_COLUMNS = sizeof columns / sizeof *columns };

/* Whether any run has a value for column i. */
static bool column_used(const tt_study *s, int i) {
  for (int k = 0; k < s->n_runs; k++)
    if (isfinite(columns[i].value(&s->runs[k]))) return true;
  return false;
}

static void put_cell(tt_strbuf *out, double x, const column *c) {
  char text[40];
  snprintf(text, sizeof text, c->format, x * c->scale);
  tt_strbuf_printf(out, "<td>%s</td>", isfinite(x) ? text : "–");
}

static int best_group(const tt_study *s, tt_arena *arena) {
  int best = -1;
  double value = -INFINITY;
  for (int i = 0; i < s->n_groups; i++) {
    tt_spread a = tt_group_spread(s, i, tt_run_accuracy, arena);
    if (a.mean > value) value = a.mean, best = i;
  }
  return best;
}

static void put_summary(tt_strbuf *out, const tt_study *s, tt_arena *arena) {
  int base[2] = {tt_study_find(s, "fp32"), tt_study_find(s, "microscaling")}, best = best_group(s, arena);
  tt_strbuf_printf(out, "<div class=\"wide\"><table><thead><tr><th>recipe</th><th>runs</th><th>accuracy, %%</th>");
  if (base[0] >= 0) tt_strbuf_printf(out, "<th>to fp32</th>");
  if (base[1] >= 0) tt_strbuf_printf(out, "<th>to microscaling</th>");
  for (int c = 0; c < N_COLUMNS; c++)
    if (column_used(s, c)) tt_strbuf_printf(out, "<th>%s</th>", columns[c].head);
  tt_strbuf_printf(out, "</tr></thead><tbody>\n");
  for (int i = 0; i < s->n_groups; i++) {
    tt_spread a = tt_group_spread(s, i, tt_run_accuracy, arena);
    tt_strbuf_printf(out, "<tr><td>");
    put_name(out, i, s->groups[i].name);
    tt_strbuf_printf(out, "</td><td>%d</td>", s->groups[i].n);
    put_percent(out, &a, i == best && s->n_groups > 1 ? " class=\"best\"" : "");
    for (int b = 0; b < 2; b++)
      if (base[b] >= 0) put_difference(out, s, i, base[b]);
    for (int c = 0; c < N_COLUMNS; c++) {
      if (!column_used(s, c)) continue;
      tt_spread v = tt_group_spread(s, i, columns[c].value, arena);
      put_cell(out, v.mean, &columns[c]);
    }
    tt_strbuf_printf(out, "</tr>\n");
  }
  tt_strbuf_printf(out, "</tbody></table></div>\n");
}

static void put_runs(tt_strbuf *out, const tt_study *s) {
  tt_strbuf_printf(
      out, "<details><summary>Each run</summary><div class=\"wide\"><table><thead><tr><th>run</th><th>recipe</th><th>seed</th>"
           "<th>steps</th><th>accuracy, %%</th><th>best, %%</th>");
  for (int c = 0; c < N_COLUMNS; c++)
    if (column_used(s, c)) tt_strbuf_printf(out, "<th>%s</th>", columns[c].head);
  tt_strbuf_printf(out, "</tr></thead><tbody>\n");
  for (int i = 0; i < s->n_runs; i++) {
    const tt_run *r = &s->runs[i];
    tt_strbuf_printf(out, "<tr><td>");
    put_name(out, r->group, r->label);
    tt_strbuf_printf(out, "</td><td>");
    tt_put_escaped(out, r->recipe ? r->recipe : "–");
    tt_strbuf_printf(out, "</td><td>");
    tt_put_number(out, r->seed, 0);
    tt_strbuf_printf(out, "</td><td>");
    tt_put_number(out, r->n_rows ? r->rows[r->n_rows - 1].step : r->tracks[r->n_tracks - 1].step, 0);
    tt_strbuf_printf(out, "</td><td>");
    tt_put_number(out, 100 * tt_run_accuracy(r), 2);
    tt_strbuf_printf(out, "</td><td>");
    tt_put_number(out, 100 * tt_run_best(r), 2);
    tt_strbuf_printf(out, "</td>");
    for (int c = 0; c < N_COLUMNS; c++)
      if (column_used(s, c)) put_cell(out, columns[c].value(r), &columns[c]);
    tt_strbuf_printf(out, "</tr>\n");
  }
  tt_strbuf_printf(out, "</tbody></table></div></details>\n");
}

/* A cell shaded by x over `most`. */
static void put_heat(tt_strbuf *out, double x, double most) {
  if (!isfinite(x)) {
    tt_strbuf_printf(out, "<td>–</td>");
    return;
  }
  tt_strbuf_printf(out, "<td style=\"background:rgba(var(--heat),%.2f)\">%.2f</td>", most > 0 ? 0.55 * fmax(0, x / most) : 0.0,
                   100 * x);
}

static double quantizer_value(const tt_study *s, const tt_group *g, int which, tt_arena *arena) {
  double *x = TT_NEW_N(arena, double, g->n);
  for (int i = 0; i < g->n; i++) {
    const tt_track_row *t = tt_run_last_track(&s->runs[g->runs[i]]);
    x[i] = t ? t->quantizer_error[which] : NAN;
  }
  return tt_spread_of(g->n, x).mean;
}

/* What each quantizer loses, a row a recipe that has any. */
static void put_quantizers(tt_strbuf *out, const tt_study *s, tt_arena *arena) {
  double most = 0;
  for (int i = 0; i < s->n_groups; i++)
    for (int k = 0; k < TT_QUANTIZERS; k++) most = fmax(most, quantizer_value(s, &s->groups[i], k, arena));
  if (!(most > 0)) return;
  tt_strbuf_printf(
      out,
      "<h2>The six quantizers</h2>\n<p>Quantization error on the first training images, %% of the norm of what each is given: "
      "forward X, W; gradients for dX, then W again; gradients for dW, then X again.</p>\n<div "
      "class=\"wide\"><table><thead><tr>"
      "<th>recipe</th><th>Q1 X</th><th>Q2 W</th><th>Q3 dY</th><th>Q4 W</th><th>Q5 dY</th><th>Q6 X</th></tr></thead><tbody>\n");
  for (int i = 0; i < s->n_groups; i++) {
    bool any = false;
    for (int k = 0; k < TT_QUANTIZERS; k++) any |= isfinite(quantizer_value(s, &s->groups[i], k, arena));
    if (!any) continue;
    tt_strbuf_printf(out, "<tr><td>");
    put_name(out, i, s->groups[i].name);
    tt_strbuf_printf(out, "</td>");
    for (int k = 0; k < TT_QUANTIZERS; k++) put_heat(out, quantizer_value(s, &s->groups[i], k, arena), most);
    tt_strbuf_printf(out, "</tr>\n");
  }
  tt_strbuf_printf(out, "</tbody></table></div>\n");
}

static double weight_value(const tt_study *s, const tt_group *g, const char *name, tt_arena *arena) {
  double *x = TT_NEW_N(arena, double, g->n);
  for (int i = 0; i < g->n; i++) {
    const tt_track_row *t = tt_run_last_track(&s->runs[g->runs[i]]);
    x[i] = NAN;
    for (int k = 0; t && k < t->n_weights; k++)
      if (strcmp(t->weights[k].name, name) == 0) x[i] = t->weights[k].oscillating;
  }
  return tt_spread_of(g->n, x).mean;
}

/* Oscillating share by weight and recipe, where there are 4-bit weights; rows are those of the first such run. */
static void put_weights(tt_strbuf *out, const tt_study *s, tt_arena *arena) {
  const tt_track_row *first = NULL;
  bool *shown = TT_NEW_N(arena, bool, s->n_groups);
  for (int i = 0; i < s->n_runs; i++) {
    if (!isfinite(oscillating_of(&s->runs[i]))) continue;
    shown[s->runs[i].group] = true;
    if (!first) first = tt_run_last_track(&s->runs[i]);
  }
  if (!first || !first->n_weights) return;
  double most = 0;
  for (int w = 0; w < first->n_weights; w++)
    for (int i = 0; i < s->n_groups; i++) most = fmax(most, weight_value(s, &s->groups[i], first->weights[w].name, arena));
  tt_strbuf_printf(out, "<h2>Layer by layer</h2>\n<p>Share of weights with R above 16 in the last window, %%.</p>\n"
                        "<div class=\"wide\"><table><thead><tr><th>weight</th>");
  for (int i = 0; i < s->n_groups; i++) {
    if (!shown[i]) continue;
    tt_strbuf_printf(out, "<th>");
    put_name(out, i, s->groups[i].name);
    tt_strbuf_printf(out, "</th>");
  }
  tt_strbuf_printf(out, "</tr></thead><tbody>\n");
  for (int w = 0; w < first->n_weights; w++) {
    tt_strbuf_printf(out, "<tr><td>");
    tt_put_escaped(out, first->weights[w].name);
    tt_strbuf_printf(out, "</td>");
    for (int i = 0; i < s->n_groups; i++)
      if (shown[i]) put_heat(out, weight_value(s, &s->groups[i], first->weights[w].name, arena), most);
    tt_strbuf_printf(out, "</tr>\n");
  }
  tt_strbuf_printf(out, "</tbody></table></div>\n");
}

/* ---- the page ---- */

static void put_tracked(tt_strbuf *out, const tt_study *s, tt_arena *arena) {
  bool any = false, paths = false;
  for (int i = 0; i < s->n_runs; i++) {
    any |= s->runs[i].n_tracks > 0;
    paths |= s->runs[i].n_tracks && tt_run_last_track(&s->runs[i])->n_trajectories;
  }
  if (!any) return;
  tt_strbuf_printf(
      out,
      "<h2>Oscillation</h2>\n<p>A weight oscillates where small moves of its latent value throw its 4-bit value to and fro "
      "across a rounding threshold. All quantized weights together, window by window.</p>\n");
  put_key(out, s);
  put_figures(out, s, oscillation, sizeof oscillation / sizeof *oscillation);
  tt_strbuf_printf(out, "<h2>Where the weights rest</h2>\n<p>The last tracked step.</p>\n<div class=\"cards\">\n");
  put_confidence(out, s, arena);
  put_scales(out, s, arena);
  tt_strbuf_printf(out, "</div>\n");
  if (paths) {
    tt_strbuf_printf(
        out, "<h2>The most oscillating elements</h2>\n<p>Coloured: the latent weight. Grey: what it is rounded to. The "
             "last window of each recipe's first run; the window before has chosen them.</p>\n<div class=\"cards small\">\n");
    for (int i = 0; i < s->n_groups; i++) put_trajectories(out, &s->runs[s->groups[i].runs[0]], arena);
    tt_strbuf_printf(out, "</div>\n");
  }
  put_quantizers(out, s, arena);
  put_weights(out, s, arena);
}

void tt_report_html(tt_strbuf *out, const tt_study *s) {
  tt_arena *arena = tt_arena_create();
  tt_strbuf_printf(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                        "<meta name=\"color-scheme\" content=\"light dark\">\n<title>");
  tt_put_escaped(out, s->title);
  tt_strbuf_printf(out, "</title>\n");
  put_style(out);
  tt_strbuf_printf(out, "</head>\n<body>\n<main>\n<h1>");
  tt_put_escaped(out, s->title);
  tt_strbuf_printf(
      out, "</h1>\n<p>%d run%s of %d recipe%s.%s</p>\n", s->n_runs, s->n_runs == 1 ? "" : "s", s->n_groups,
      s->n_groups == 1 ? "" : "s",
      s->n_runs > s->n_groups
          ? " Values are means over seeds, ± one standard deviation; differences are paired by seed, ± their 95 % interval."
          : "");
  put_summary(out, s, arena);
  put_runs(out, s);
  tt_strbuf_printf(out, "<h2>Training</h2>\n");
  put_key(out, s);
  put_figures(out, s, training, sizeof training / sizeof *training);
  put_tracked(out, s, arena);
  tt_strbuf_printf(out, "</main>\n</body>\n</html>\n");
  tt_arena_destroy(arena);
}
