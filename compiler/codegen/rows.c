/* See rows.h. */
#include "compiler/codegen/rows.h"

cg_val cg_load_f32(cg_ctx *c, cg_val p, cg_val i) { return cg_load(c, c->f32, cg_gep(c, c->f32, p, i), 4); }
void cg_store_f32(cg_ctx *c, cg_val v, cg_val p, cg_val i) { cg_store(c, v, cg_gep(c, c->f32, p, i), 4); }
cg_val cg_row(cg_ctx *c, cg_val p, cg_val r, int64_t D) { return cg_gep(c, c->f32, p, cg_mul(c, r, cg_i64(c, D))); }
cg_val cg_cols(cg_ctx *c, cg_val row, cg_val i, cg_val n) {
  return cg_load_n(c, cg_gep(c, c->f32, row, i), n, cg_vf(c, 0));
}

typedef struct row_pair {
  cg_ctx *c;
  cg_val from, to;
  cg_val a; /* vf: the maximum, or the factor */
} row_pair;

static void max_terms(void *u, cg_val i, cg_val n, cg_val *terms) {
  row_pair *r = u;
  terms[0] = cg_cols(r->c, r->from, i, n);
}

static void exp_terms(void *u, cg_val i, cg_val n, cg_val *terms) {
  row_pair *r = u;
  terms[0] = cg_exp(r->c, cg_sub(r->c, cg_cols(r->c, r->from, i, n), r->a));
  cg_store_n(r->c, terms[0], cg_gep(r->c, r->c->f32, r->to, i), n);
}

cg_val cg_row_exp(cg_ctx *c, cg_val from, cg_val to, cg_val n, cg_val *max) {
  row_pair r = {.c = c, .from = from, .to = to};
  cg_val zero = cg_i64(c, 0), sum;
  cg_fold(c, zero, n, 1, (cg_reduce_op[]){CG_MAX}, max_terms, &r, max);
  r.a = cg_splat(c, *max, c->W);
  cg_fold(c, zero, n, 1, (cg_reduce_op[]){CG_SUM}, exp_terms, &r, &sum);
  return sum;
}

static void scale_body(void *u, cg_val i, cg_val n) {
  row_pair *r = u;
  cg_val v = cg_mul(r->c, cg_cols(r->c, r->to, i, n), r->a);
  cg_store_n(r->c, v, cg_gep(r->c, r->c->f32, r->to, i), n);
}

void cg_row_scale(cg_ctx *c, cg_val x, cg_val n, cg_val factor) {
  row_pair r = {.c = c, .to = x, .a = cg_splat(c, factor, c->W)};
  cg_each(c, cg_i64(c, 0), n, scale_body, &r);
}

void cg_emit_rows(cg_node *x, int64_t rows, int64_t D, int64_t cost, cg_row_fn *row, void *u) {
  int64_t grain = cg_grain(rows, D * cost, 1);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_range r = cg_task_range(k, rows, grain);
    cg_loop l;
    cg_loop_begin(k->c, &l, r.begin, r.end, 1, 0, NULL);
    row(k, u, l.i);
    cg_loop_end(&l, NULL);
    cg_kernel_end(k);
  }
  cg_launch(x, "", (rows + grain - 1) / grain);
}

int64_t cg_run_count(int64_t rows) { return (rows + CG_RUN - 1) / CG_RUN; }
uint64_t cg_run_bytes(int64_t rows, int64_t width) { return (uint64_t)(cg_run_count(rows) * width) * sizeof(float); }

typedef struct run_sums {
  cg_ctx *c;
  int64_t runs, width;
  cg_val from, to;
} run_sums;

static void zero_body(void *u, cg_val i, cg_val n) {
  run_sums *s = u;
  cg_store_n(s->c, cg_vf(s->c, 0), cg_gep(s->c, s->c->f32, s->to, i), n);
}

void cg_zero_row(cg_ctx *c, cg_val row, int64_t n) {
  run_sums s = {.c = c, .to = row};
  cg_each(c, cg_i64(c, 0), cg_i64(c, n), zero_body, &s);
}

static void add_body(void *u, cg_val i, cg_val n) {
  run_sums *s = u;
  cg_ctx *c = s->c;
  cg_val sum = cg_vf(c, 0);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, s->runs), 1, 1, &sum);
  sum = cg_add(c, l.carry[0], cg_cols(c, cg_row(c, s->from, l.i, s->width), i, n));
  cg_loop_end(&l, &sum);
  cg_store_n(c, l.carry[0], cg_gep(c, c->f32, s->to, i), n);
}

void cg_add_runs(cg_kernel *k, int64_t rows, cg_val from, int64_t width, cg_val to, int64_t D) {
  run_sums s = {k->c, cg_run_count(rows), width, from, to};
  cg_each(k->c, cg_i64(k->c, 0), cg_i64(k->c, D), add_body, &s);
}
