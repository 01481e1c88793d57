/* Layer normalisation. Forward: mean, then variance around it, then the output, over a row in L1. Backward: dx row by row;
 * dgamma and dbeta are summed by each task over its rows into the workspace, then over tasks in ascending order. */
#include "compiler/codegen/rows.h"

typedef struct nrow {
  cg_ctx *c;
  int64_t D;
  double epsilon;
  cg_val x, dy, out;               /* rows */
  cg_val gamma, beta;              /* [D] */
  cg_val dgamma, dbeta;            /* this task's partial sums [D] */
  cg_val mean, rstd, mean_g, mean_gn; /* vf */
} nrow;

static void sum_terms(void *u, cg_val i, cg_val n, cg_val *terms) {
  nrow *s = u;
  terms[0] = cg_cols(s->c, s->x, i, n);
}

static void square_terms(void *u, cg_val i, cg_val n, cg_val *terms) {
  nrow *s = u;
  cg_val d = cg_sub(s->c, cg_cols(s->c, s->x, i, n), s->mean);
  terms[0] = cg_mul(s->c, d, d);
}

static void normal_body(void *u, cg_val i, cg_val n) {
  nrow *s = u;
  cg_ctx *c = s->c;
  cg_val v = cg_mul(c, cg_sub(c, cg_cols(c, s->x, i, n), s->mean), s->rstd);
  v = cg_fma(c, v, cg_cols(c, s->gamma, i, n), cg_cols(c, s->beta, i, n));
  cg_store_n(c, v, cg_gep(c, c->f32, s->out, i), n);
}

static void forward_row(cg_kernel *k, void *u, cg_val r) {
  cg_ctx *c = k->c;
  nrow s = *(nrow *)u;
  cg_val sum, zero = cg_i64(c, 0), end = cg_i64(c, s.D), inv = cg_f32(c, 1.0 / (double)s.D);
  s.c = c;
  s.x = cg_row(c, cg_in(k, 0), r, s.D);
  s.out = cg_row(c, cg_out(k, 0), r, s.D);
  s.gamma = cg_in(k, 1);
  s.beta = cg_in(k, 2);
  cg_fold(c, zero, end, 1, (cg_reduce_op[]){CG_SUM}, sum_terms, &s, &sum);
  cg_val mean = cg_mul(c, sum, inv);
  s.mean = cg_splat(c, mean, c->W);
  cg_fold(c, zero, end, 1, (cg_reduce_op[]){CG_SUM}, square_terms, &s, &sum);
  cg_val rstd = cg_rsqrt(c, cg_fma(c, sum, inv, cg_f32(c, s.epsilon)));
  s.rstd = cg_splat(c, rstd, c->W);
  cg_each(c, zero, end, normal_body, &s);
  cg_store_f32(c, mean, cg_out(k, 1), r);
  cg_store_f32(c, rstd, cg_out(k, 2), r);
}

bool cg_emit_layernorm(cg_node *x) { /* (x, gamma, beta) -> y, mean, rstd */
  TT_TRY(cg_float_operands(x));
  nrow s = {.D = tt_type_last(cg_in_type(x, 0)), .epsilon = tt_node_float(x->g, x->n, TT_A_EPSILON)};
  cg_emit_rows(x, tt_type_rows(cg_in_type(x, 0)), s.D, 2, forward_row, &s);
  return true;
}

static cg_val normalised(nrow *s, cg_val i, cg_val n) {
  return cg_mul(s->c, cg_sub(s->c, cg_cols(s->c, s->x, i, n), s->mean), s->rstd);
}

/* g = dy gamma: sums of g and of g times the normalised x. */
static void grad_terms(void *u, cg_val i, cg_val n, cg_val *terms) {
  nrow *s = u;
  terms[0] = cg_mul(s->c, cg_cols(s->c, s->dy, i, n), cg_cols(s->c, s->gamma, i, n));
  terms[1] = cg_mul(s->c, terms[0], normalised(s, i, n));
}

static void accumulate(cg_ctx *c, cg_val v, cg_val p, cg_val i, cg_val n) {
  cg_store_n(c, cg_add(c, cg_cols(c, p, i, n), v), cg_gep(c, c->f32, p, i), n);
}

/* dx = rstd (g - mean(g) - xhat mean(g xhat)); dgamma += dy xhat; dbeta += dy. */
static void grad_body(void *u, cg_val i, cg_val n) {
  nrow *s = u;
  cg_ctx *c = s->c;
  cg_val dy = cg_cols(c, s->dy, i, n), xhat = normalised(s, i, n);
  cg_val g = cg_sub(c, cg_mul(c, dy, cg_cols(c, s->gamma, i, n)), s->mean_g);
  cg_val dx = cg_mul(c, s->rstd, cg_fma(c, cg_neg(c, xhat), s->mean_gn, g));
  cg_store_n(c, dx, cg_gep(c, c->f32, s->out, i), n);
  accumulate(c, cg_mul(c, dy, xhat), s->dgamma, i, n);
  accumulate(c, dy, s->dbeta, i, n);
}

static void backward_row(cg_kernel *k, nrow *s, cg_val r) {
  cg_ctx *c = k->c;
  cg_val sums[2], zero = cg_i64(c, 0), end = cg_i64(c, s->D), inv = cg_f32(c, 1.0 / (double)s->D);
  s->dy = cg_row(c, cg_in(k, 0), r, s->D);
  s->x = cg_row(c, cg_in(k, 1), r, s->D);
  s->out = cg_row(c, cg_out(k, 0), r, s->D);
  s->mean = cg_splat(c, cg_load_f32(c, cg_in(k, 3), r), c->W);
  s->rstd = cg_splat(c, cg_load_f32(c, cg_in(k, 4), r), c->W);
  cg_fold(c, zero, end, 2, (cg_reduce_op[]){CG_SUM, CG_SUM}, grad_terms, s, sums);
  s->mean_g = cg_splat(c, cg_mul(c, sums[0], inv), c->W);
  s->mean_gn = cg_splat(c, cg_mul(c, sums[1], inv), c->W);
  cg_each(c, zero, end, grad_body, s);
}

static void zero_body(void *u, cg_val i, cg_val n) {
  nrow *s = u;
  cg_store_n(s->c, cg_vf(s->c, 0), cg_gep(s->c, s->c->f32, s->dgamma, i), n);
}

/* Task t sums its rows into work[t] = {dgamma [D], dbeta [D]}. */
static void emit_rows_pass(cg_node *x, nrow *s, int64_t rows, int64_t grain, int64_t n_tasks) {
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_ctx *c = s->c = k->c;
    cg_val work = cg_work(k, 0, (uint64_t)(n_tasks * 2 * s->D) * 4);
    s->gamma = cg_in(k, 2);
    s->dgamma = cg_row(c, work, k->task, 2 * s->D);
    s->dbeta = cg_gep(c, c->f32, s->dgamma, cg_i64(c, s->D));
    cg_each(c, cg_i64(c, 0), cg_i64(c, 2 * s->D), zero_body, s);
    cg_range r = cg_task_range(k, rows, grain);
    cg_loop l;
    cg_loop_begin(c, &l, r.begin, r.end, 1, 0, NULL);
    backward_row(k, s, l.i);
    cg_loop_end(&l, NULL);
    cg_kernel_end(k);
  }
  cg_launch(x, "", n_tasks);
}

typedef struct total {
  cg_ctx *c;
  int64_t D, n_tasks;
  cg_val from, to; /* first task's sums, output */
} total;

static void total_body(void *u, cg_val i, cg_val n) {
  total *t = u;
  cg_ctx *c = t->c;
  cg_val sum = cg_vf(c, 0);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, t->n_tasks), 1, 1, &sum);
  sum = cg_add(c, l.carry[0], cg_cols(c, cg_row(c, t->from, l.i, 2 * t->D), i, n));
  cg_loop_end(&l, &sum);
  cg_store_n(c, l.carry[0], cg_gep(c, c->f32, t->to, i), n);
}

static void emit_total_pass(cg_node *x, int64_t D, int64_t n_tasks) {
  cg_kernel *k = cg_kernel_begin(x, "total");
  if (k) {
    cg_ctx *c = k->c;
    cg_val work = cg_work(k, 0, (uint64_t)(n_tasks * 2 * D) * 4);
    for (int part = 0; part < 2; part++) {
      total t = {c, D, n_tasks, cg_gep(c, c->f32, work, cg_i64(c, part * D)), cg_out(k, 1 + part)};
      cg_each(c, cg_i64(c, 0), cg_i64(c, D), total_body, &t);
    }
    cg_kernel_end(k);
  }
  cg_launch(x, "total", 1);
}

bool cg_emit_layernorm_grad(cg_node *x) { /* (dy, x, gamma, mean, rstd) -> dx, dgamma, dbeta */
  TT_TRY(cg_float_operands(x));
  nrow s = {.D = tt_type_last(cg_in_type(x, 1))};
  int64_t rows = tt_type_rows(cg_in_type(x, 1)), grain = cg_grain(rows, 3 * s.D, 1);
  int64_t n_tasks = (rows + grain - 1) / grain;
  emit_rows_pass(x, &s, rows, grain, n_tasks);
  emit_total_pass(x, s.D, n_tasks);
  return true;
}
