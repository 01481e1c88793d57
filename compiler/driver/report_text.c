/* Numbers, escaped text, and the results tables as Markdown. */
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
static double rate_w(const tt_track_row *t) { return t->total.rate_w; }
static double ratio(const tt_track_row *t) { return t->total.ratio; }
static double rate_y(const tt_track_row *t) { return t->rate_y; }

/* One figure of the runs: its name, how to read it, its unit and decimals, and the recipes with which others are compared. */
typedef struct outcome {
  const char *head;
  double (*value)(const tt_run *run);
  double unit;
  int decimals;
  const char *bases[4]; /* ends with NULL */
} outcome;

static const outcome outcomes[] = {
    {"accuracy, %", tt_run_accuracy, 100, 2, {"fp32", "microscaling", "tetrajet"}},
    {"training loss", tt_run_loss, 1, 4, {"fp32", "microscaling", "tetrajet"}},
};

/* Mean difference of runs of equal seed, with half the width of its 95 % interval; nothing beside the base itself. */
static void put_difference(tt_strbuf *out, const tt_study *s, int group, int base, const outcome *o) {
  tt_spread d = group == base ? (tt_spread){0, NAN, NAN} : tt_paired(s, group, base, o->value);
  double half = tt_spread_half_width(&d);
  if (!isfinite(d.mean)) tt_strbuf_printf(out, "  |");
  else if (!isfinite(half)) tt_strbuf_printf(out, " %+.*f |", o->decimals, o->unit * d.mean);
  else tt_strbuf_printf(out, " %+.*f ± %.*f |", o->decimals, o->unit * d.mean, o->decimals, o->unit * half);
}

static void put_outcome(tt_strbuf *out, const tt_study *s, const outcome *o, tt_arena *arena) {
  tt_strbuf_printf(out, "| recipe | runs | %s | sd |", o->head);
  for (int b = 0; o->bases[b]; b++)
    if (tt_study_find(s, o->bases[b]) >= 0) tt_strbuf_printf(out, " to %s |", o->bases[b]);
  tt_strbuf_printf(out, "\n| --- | ---: | ---: | ---: |");
  for (int b = 0; o->bases[b]; b++)
    if (tt_study_find(s, o->bases[b]) >= 0) tt_strbuf_printf(out, " ---: |");
  tt_strbuf_printf(out, "\n");
  for (int i = 0; i < s->n_groups; i++) {
    tt_spread a = tt_group_spread(s, i, o->value, arena);
    tt_strbuf_printf(out, "| %s | %d | ", s->groups[i].name, s->groups[i].n);
    tt_put_number(out, o->unit * a.mean, o->decimals);
    tt_strbuf_printf(out, " | ");
    tt_put_number(out, o->unit * a.sd, o->decimals);
    tt_strbuf_printf(out, " |");
    for (int b = 0; o->bases[b]; b++) {
      int base = tt_study_find(s, o->bases[b]);
      if (base >= 0) put_difference(out, s, i, base, o);
    }
    tt_strbuf_printf(out, "\n");
  }
}

/* r(Y) has a column only where some run has it. */
static void put_oscillation(tt_strbuf *out, const tt_study *s, tt_arena *arena) {
  bool outputs = false;
  for (int i = 0; i < s->n_groups; i++) outputs |= isfinite(last_mean(s, &s->groups[i], rate_y, arena));
  tt_strbuf_printf(out, "| recipe | r(W) | r(Q(W)) |%s mean R | R > 16, %% |\n", outputs ? " r(Y) |" : "");
  tt_strbuf_printf(out, "| --- | ---: | ---: |%s ---: | ---: |\n", outputs ? " ---: |" : "");
  for (int i = 0; i < s->n_groups; i++) {
    const tt_group *g = &s->groups[i];
    tt_strbuf_printf(out, "| %s | ", g->name);
    tt_put_number(out, last_mean(s, g, rate_w, arena), 6);
    tt_strbuf_printf(out, " | ");
    tt_put_number(out, last_mean(s, g, rate_q, arena), 5);
    tt_strbuf_printf(out, " | ");
    if (outputs) {
      tt_put_number(out, last_mean(s, g, rate_y, arena), 5);
      tt_strbuf_printf(out, " | ");
    }
    tt_put_number(out, last_mean(s, g, ratio, arena), 2);
    tt_strbuf_printf(out, " | ");
    tt_put_number(out, 100 * last_mean(s, g, oscillating, arena), 2);
    tt_strbuf_printf(out, " |\n");
  }
}

void tt_report_markdown(tt_strbuf *out, const tt_study *s) {
  tt_arena *arena = tt_arena_create();
  for (size_t i = 0; i < sizeof outcomes / sizeof *outcomes; i++) {
    put_outcome(out, s, &outcomes[i], arena);
    tt_strbuf_printf(out, "\n");
  }
  put_oscillation(out, s, arena);
  tt_arena_destroy(arena);
}
