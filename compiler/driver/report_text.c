/* Numbers, escaped text, and the results table as Markdown. */
#include <math.h>
#include "compiler/driver/report.h"

void tt_put_number(tt_strbuf *out, double x, int decimals) {
  if (isfinite(x)) tt_strbuf_printf(out, "%.*f", decimals, x);
  else tt_strbuf_printf(out, "–");
}

void tt_put_escaped(tt_strbuf *out, const char *text) {
  for (const char *p = text; *p; p++) {
    switch (*p) {
    case '<': tt_strbuf_printf(out, "&lt;"); break;
    case '>': tt_strbuf_printf(out, "&gt;"); break;
    case '&': tt_strbuf_printf(out, "&amp;"); break;
    case '"': tt_strbuf_printf(out, "&quot;"); break;
    default: tt_strbuf_append(out, p, 1);
    }
  }
}

static void put_difference(tt_strbuf *out, const tt_study *s, int group, int base) {
  tt_spread d = group == base || base < 0 ? (tt_spread){0, NAN, NAN} : tt_paired(s, group, base, tt_run_accuracy);
  double half = tt_spread_half_width(&d);
  if (!isfinite(d.mean)) tt_strbuf_printf(out, "  |");
  else if (!isfinite(half)) tt_strbuf_printf(out, " %+.2f |", 100 * d.mean);
  else tt_strbuf_printf(out, " %+.2f ± %.2f |", 100 * d.mean, 100 * half);
}

/* The mean of a group's last tracked figures. */
static double last_mean(const tt_study *s, const tt_group *g, double (*value)(const tt_track_row *), tt_arena *arena) {
  double *x = TT_NEW_N(arena, double, g->n);
  for (int k = 0; k < g->n; k++) {
    const tt_track_row *t = tt_run_last_track(&s->runs[g->runs[k]]);
    x[k] = t ? value(t) : NAN;
  }
  return tt_spread_of(g->n, x).mean;
}

static double oscillating(const tt_track_row *t) { return t->total.oscillating; }
static double rate_q(const tt_track_row *t) { return t->total.rate_q; }
static double rate_y(const tt_track_row *t) { return t->rate_y; }

static void put_group(tt_strbuf *out, const tt_study *s, int i, bool outputs, tt_arena *arena) {
  int base[2] = {tt_study_find(s, "fp32"), tt_study_find(s, "microscaling")};
  const tt_group *g = &s->groups[i];
  double *acc = TT_NEW_N(arena, double, g->n);
  for (int k = 0; k < g->n; k++) acc[k] = tt_run_accuracy(&s->runs[g->runs[k]]);
  tt_spread a = tt_spread_of(g->n, acc);
  tt_strbuf_printf(out, "| %s | %d | ", g->name, g->n);
  tt_put_number(out, 100 * a.mean, 2);
  tt_strbuf_printf(out, " | ");
  tt_put_number(out, 100 * a.sd, 2);
  tt_strbuf_printf(out, " |");
  for (int b = 0; b < 2; b++) put_difference(out, s, i, base[b]);
  tt_strbuf_printf(out, " ");
  tt_put_number(out, 100 * last_mean(s, g, oscillating, arena), 2);
  tt_strbuf_printf(out, " | ");
  tt_put_number(out, last_mean(s, g, rate_q, arena), 5);
  if (outputs) {
    tt_strbuf_printf(out, " | ");
    tt_put_number(out, last_mean(s, g, rate_y, arena), 5);
  }
  tt_strbuf_printf(out, " |\n");
}

/* r(Y) has a column only where some run has it: runs tracked by earlier trainers have not. */
void tt_report_markdown(tt_strbuf *out, const tt_study *s) {
  tt_arena *arena = tt_arena_create();
  bool outputs = false;
  for (int i = 0; i < s->n_groups; i++) outputs |= isfinite(last_mean(s, &s->groups[i], rate_y, arena));
  tt_strbuf_printf(out, "| recipe | runs | accuracy, %% | sd | to fp32 | to microscaling | R > 16, %% | r(Q(W)) |%s\n", outputs ? " r(Y) |" : "");
  tt_strbuf_printf(out, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |%s\n", outputs ? " ---: |" : "");
  for (int i = 0; i < s->n_groups; i++) put_group(out, s, i, outputs, arena);
  tt_arena_destroy(arena);
}
