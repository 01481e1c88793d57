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

void tt_report_markdown(tt_strbuf *out, const tt_study *s) {
  int base[2] = {tt_study_find(s, "fp32"), tt_study_find(s, "microscaling")};
  tt_strbuf_printf(out, "| recipe | runs | accuracy, %% | sd | to fp32 | to microscaling | R > 16, %% | r(Q(W)) |\n"
                        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
  tt_arena *arena = tt_arena_create();
  for (int i = 0; i < s->n_groups; i++) {
    const tt_group *g = &s->groups[i];
    double *acc = TT_NEW_N(arena, double, g->n), *osc = TT_NEW_N(arena, double, g->n), *rate = TT_NEW_N(arena, double, g->n);
    for (int k = 0; k < g->n; k++) {
      const tt_track_row *t = tt_run_last_track(&s->runs[g->runs[k]]);
      acc[k] = tt_run_accuracy(&s->runs[g->runs[k]]);
      osc[k] = t ? t->total.oscillating : NAN;
      rate[k] = t ? t->total.rate_q : NAN;
    }
    tt_spread a = tt_spread_of(g->n, acc);
    tt_strbuf_printf(out, "| %s | %d | ", g->name, g->n);
    tt_put_number(out, 100 * a.mean, 2);
    tt_strbuf_printf(out, " | ");
    tt_put_number(out, 100 * a.sd, 2);
    tt_strbuf_printf(out, " |");
    for (int b = 0; b < 2; b++) put_difference(out, s, i, base[b]);
    tt_strbuf_printf(out, " ");
    tt_put_number(out, 100 * tt_spread_of(g->n, osc).mean, 2);
    tt_strbuf_printf(out, " | ");
    tt_put_number(out, tt_spread_of(g->n, rate).mean, 5);
    tt_strbuf_printf(out, " |\n");
  }
  tt_arena_destroy(arena);
}
