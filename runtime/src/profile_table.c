/* The table of a profile. */
#include "profile.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_ROWS = 24, NAME = 96 };

typedef struct row {
  const trt_launch *of; /* the first launch of the row, of which it has the name */
  char name[NAME + 1];  /* as shown; a row is told apart by the whole */
  int64_t calls;
  double seconds, busy; /* of a step; thread seconds */
  double mx, f32, bytes, ideal;
  bool partial; /* has launches of nodes whose other launches are elsewhere: what they compute cannot be told apart */
} row;

/* The steps that count: the faster half. Means over them add up, and what another program did to the others is left out. */
typedef struct chosen {
  int64_t n, *step;
} chosen;

typedef struct timed {
  int64_t ns, step;
} timed;

static int by_time(const void *x, const void *y) {
  const timed *a = x, *b = y;
  return (a->ns > b->ns) - (a->ns < b->ns);
}

static chosen choose(const trt_profile *p) {
  timed *all = trt_alloc((size_t)p->done * sizeof *all);
  for (int64_t k = 0; k < p->done; k++) all[k] = (timed){p->frames[k].end - p->frames[k].run, k};
  qsort(all, (size_t)p->done, sizeof *all, by_time);
  chosen c = {.n = (p->done + 1) / 2};
  c.step = trt_alloc((size_t)c.n * sizeof *c.step);
  for (int64_t k = 0; k < c.n; k++) c.step[k] = all[k].step;
  free(all);
  return c;
}

static double mean(const chosen *c, const float *of_step) {
  double sum = 0;
  for (int64_t k = 0; k < c->n; k++) sum += (double)of_step[c->step[k]];
  return sum / (double)c->n;
}

static bool has_costs(const trt_launch *l) { return l->bytes_read + l->bytes_written > 0; }

/* A node's only launch: its costs are all its own. */
static bool alone(const trt_entry *e, int64_t i) {
  return has_costs(&e->launches[i]) && (i + 1 == (int64_t)e->n_launches || has_costs(&e->launches[i + 1]));
}

static const char *second_name(const trt_launch *l, trt_profile_by by) {
  return by == TRT_BY_NODE ? l->node : by == TRT_BY_KERNEL ? l->kernel : "";
}

/* Op, and node or kernel; a long name loses its middle, since exporters' names differ at their ends. */
static void name_of(const trt_launch *l, trt_profile_by by, char out[NAME + 1]) {
  const char *more = second_name(l, by);
  size_t op = strlen(l->op) + (*more ? 1 : 0), n = strlen(more);
  int room = op + 24 < NAME ? (int)(NAME - op) : 24;
  if ((int)n <= room) {
    snprintf(out, NAME + 1, "%s%s%s", l->op, *more ? " " : "", more);
    return;
  }
  int head = (room - 3) / 2, tail = room - 3 - head;
  snprintf(out, NAME + 1, "%.*s %.*s...%s", NAME - 25, l->op, head, more, more + n - (size_t)tail);
}

/* Seconds that the machine would take at its best: the slower of its arithmetic and its memory. */
static double ideal_seconds(const trt_peaks *peaks, const trt_launch *l) {
  if (peaks->fma <= 0 || peaks->dot <= 0 || peaks->read <= 0) return 0;
  double work = l->f32_macs / peaks->fma + l->mx_macs / peaks->dot, move = (l->bytes_read + l->bytes_written) / peaks->read;
  return work > move ? work : move;
}

static row *row_of(row *rows, int64_t *n, const trt_launch *l, trt_profile_by by) {
  for (int64_t i = 0; i < *n; i++)
    if (strcmp(rows[i].of->op, l->op) == 0 && strcmp(second_name(rows[i].of, by), second_name(l, by)) == 0) return &rows[i];
  row *r = &rows[(*n)++];
  r->of = l;
  name_of(l, by, r->name);
  return r;
}

static int slowest_first(const void *x, const void *y) {
  const row *a = x, *b = y;
  if (a->seconds != b->seconds) return a->seconds < b->seconds ? 1 : -1;
  return strcmp(a->name, b->name);
}

static row *make_rows(const trt_profile *p, const chosen *c, int64_t *n) {
  row *rows = trt_alloc((size_t)p->launches * sizeof *rows);
  *n = 0;
  for (int64_t i = 0; i < p->launches; i++) {
    const trt_launch *l = &p->entry->launches[i];
    row *r = row_of(rows, n, l, p->by);
    r->calls++;
    r->seconds += mean(c, p->seconds + i * p->steps);
    r->busy += mean(c, p->busy + i * p->steps);
    r->mx += l->mx_macs;
    r->f32 += l->f32_macs;
    r->bytes += l->bytes_read + l->bytes_written;
    r->ideal += ideal_seconds(&p->peaks, l);
    r->partial |= p->by == TRT_BY_KERNEL && !alone(p->entry, i);
  }
  qsort(rows, (size_t)*n, sizeof *rows, slowest_first);
  return rows;
}

/* ---- text ---- */

/* A number in `width` columns, or blanks where there is none. */
static void add_cell(trt_text *out, double x, int width, int digits) {
  if (x > 0)
    trt_text_add(out, " %*.*f |", width, digits, x);
  else
    trt_text_add(out, " %*s |", width, "");
}

static void add_row(trt_text *out, const row *r, int name_width, double step, int64_t threads) {
  double flops = r->partial ? 0 : 2e-9 * (r->mx + r->f32) / r->seconds;
  trt_text_add(out, "| %-*s | %5" PRId64 " | %9.3f | %5.1f |", name_width, r->name, r->calls, 1e3 * r->seconds,
               100 * r->seconds / step);
  add_cell(out, flops, 7, 1);
  add_cell(out, r->partial ? 0 : 1e-9 * r->bytes / r->seconds, 6, 1);
  add_cell(out, r->partial ? 0 : 100 * r->ideal / r->seconds, 8, 0);
  add_cell(out, 100 * r->busy / (r->seconds * (double)threads), 4, 0);
  trt_text_add(out, "\n");
}

static void add_rows(trt_text *out, const row *rows, int64_t n, int64_t most, double step, const trt_profile *p) {
  static const char *const kinds[] = {"op", "op and node", "kernel"};
  int width = (int)strlen("between launches");
  double launches = 0;
  for (int64_t i = 0; i < n; i++) {
    int length = (int)strlen(rows[i].name);
    if (i < most && length > width) width = length;
    launches += rows[i].seconds;
  }
  trt_text_add(out, "| %-*s | calls |   ms/step |     %% | GFLOP/s |   GB/s | roofline | busy |\n", width, kinds[p->by]);
  trt_text_add(out, "|:%.*s-|------:|----------:|------:|--------:|-------:|---------:|-----:|\n", width,
               "------------------------------------------------------------------------------------------------");
  for (int64_t i = 0; i < n && i < most; i++) add_row(out, &rows[i], width, step, p->threads);
  if (n > most)
    trt_text_add(out, "| ... %-*" PRId64 " | %5s | %9s | %5s | %7s | %6s | %8s | %4s |\n", width - 4, n - most, "", "", "", "",
                 "", "", "");
  double rest = step > launches ? step - launches : 0;
  trt_text_add(out, "| %-*s | %5s | %9.3f | %5.1f | %7s | %6s | %8s | %4s |\n", width, "between launches", "", 1e3 * rest,
               100 * rest / step, "", "", "", "");
}

typedef struct step_time {
  double load, run;
} step_time;

static step_time time_of_step(const trt_profile *p, const chosen *c) {
  step_time t = {0};
  for (int64_t k = 0; k < c->n; k++) {
    const trt_frame *f = &p->frames[c->step[k]];
    t.load += 1e-9 * (double)(f->run - f->begin) / (double)c->n;
    t.run += 1e-9 * (double)(f->end - f->run) / (double)c->n;
  }
  return t;
}

static void add_summary(trt_text *out, const trt_profile *p, const row *rows, int64_t n, step_time t) {
  double mx = 0, f32 = 0, ideal = 0;
  for (int64_t i = 0; i < n; i++) {
    mx += rows[i].mx;
    f32 += rows[i].f32;
    ideal += rows[i].ideal;
  }
  trt_text_add(out,
               "%s: step %.3f ms (mean of the faster half of %" PRId64 "), batch loaded in %.3f ms, %" PRId64
               " launches, %" PRId64 " threads, %.1f GFLOP a step (%.0f %% in 4 bits), %.1f GFLOP/s\n",
               p->program->model, 1e3 * t.run, p->done, 1e3 * t.load, p->launches, p->threads, 2e-9 * (mx + f32),
               mx + f32 > 0 ? 100 * mx / (mx + f32) : 0, 2e-9 * (mx + f32) / t.run);
  if (ideal <= 0) return;
  trt_text_add(out,
               "at most, measured, with the target's fastest instructions: float32 %.1f GFLOP/s, 8-bit dot product %.1f "
               "GFLOP/s, memory read %.1f GB/s; at that the step would take %.3f ms\n",
               2e-9 * p->peaks.fma, 2e-9 * p->peaks.dot, 1e-9 * p->peaks.read, 1e3 * ideal);
}

static const char legend[] =
    "\nTimes are means over the faster half of the steps. GFLOP/s: two a multiply-add of matrix products, nothing else is\n"
    "counted. GB/s: each operand and each result once. roofline: the time that the peaks above would allow (the slower of\n"
    "arithmetic and memory) in percent of the time taken: a product in 4 bits is held against the fastest 8-bit dot product\n"
    "that the target has (its tile unit, if it has one), whichever its kernel uses, and one in float32 likewise. Above 100\n"
    "where operands come from a cache and not from memory.\n"
    "busy: the threads' time in tasks, in percent of the launches' time on all threads.\n";

void trt_profile_table(const trt_profile *p, trt_text *all, trt_text *head) {
  int64_t n;
  chosen c = choose(p);
  row *rows = make_rows(p, &c, &n);
  step_time t = time_of_step(p, &c);
  trt_text_add(all, "# Profile\n\n");
  add_summary(all, p, rows, n, t);
  trt_text_add(all, "target: %s\n\n", p->program->target);
  add_rows(all, rows, n, n, t.run, p);
  trt_text_add(all, "%s", legend);
  add_summary(head, p, rows, n, t);
  add_rows(head, rows, n, HEAD_ROWS, t.run, p);
  free(rows);
  free(c.step);
}
