/* Layer normalisation. Forward: mean, then variance around it, then the output, over a row in L1. Backward: dx row by row;
 * dgamma and dbeta are summed over runs of CG_RUN rows into the workspace, then over the runs in ascending order. */
#include "compiler/codegen/rows.h"

/* The forward pass takes a few rows in step: the sums over one take several times as long to come as to make. */
typedef struct nrow {
  cg_ctx *c;
  int64_t D;
  int rows;
  cg_val x[CG_ROWS], out[CG_ROWS];       /* rows */
  cg_val mean[CG_ROWS], rstd[CG_ROWS];   /* vf */
  cg_val gamma, beta;                    /* [D] */
  cg_val dy, dgamma, dbeta;              /* the row; this run's partial sums [D] */
  cg_val mean_g, mean_gn;                /* vf */
} nrow;

static const cg_reduce_op all_sums[CG_ROWS] = {CG_SUM, CG_SUM, CG_SUM, CG_SUM};

static cg_val centred(nrow *s, int r, cg_val i, cg_val n) {
  return cg_sub(s->c, cg_cols(s->c, s->x[r], i, n), s->mean[r]);
}

static void sum_terms(void *u, cg_val i, cg_val n, cg_val *terms) {
  nrow *s = u;
  for (int r = 0; r < s->rows; r++) terms[r] = cg_cols(s->c, s->x[r], i, n);
}

static void square_terms(void *u, cg_val i, cg_val n, cg_val *terms) {
  nrow *s = u;
  for (int r = 0; r < s->rows; r++) {
    cg_val d = centred(s, r, i, n);
    terms[r] = cg_mul(s->c, d, d);
  }
}

static void normal_body(void *u, cg_val i, cg_val n) {
  nrow *s = u;
  cg_ctx *c = s->c;
  cg_val gamma = cg_cols(c, s->gamma, i, n), beta = cg_cols(c, s->beta, i, n);
  for (int r = 0; r < s->rows; r++) {
    cg_val v = cg_mul(c, centred(s, r, i, n), s->rstd[r]);
    cg_store_n(c, cg_fma(c, v, gamma, beta), cg_gep(c, c->f32, s->out[r], i), n);
  }
}

void cg_layernorm_row(const cg_row_op *o) {
  cg_ctx *c = o->k->c;
  nrow s = {.c = c, .D = o->D, .rows = o->rows, .gamma = o->in[1], .beta = o->in[2]};
  cg_val sum[CG_ROWS], mean[CG_ROWS], zero = cg_i64(c, 0), end = cg_i64(c, s.D), inv = cg_f32(c, 1.0 / (double)s.D);
  for (int r = 0; r < s.rows; r++) s.x[r] = o->from[r], s.out[r] = o->to[r];
  cg_fold(c, zero, end, s.rows, all_sums, sum_terms, &s, sum);
  for (int r = 0; r < s.rows; r++) {
    mean[r] = cg_mul(c, sum[r], inv);
    s.mean[r] = cg_splat(c, mean[r], c->W);
  }
  cg_fold(c, zero, end, s.rows, all_sums, square_terms, &s, sum);
  cg_val epsilon = cg_f32(c, tt_node_float(o->k->x->g, o->k->x->n, TT_A_EPSILON));
  for (int r = 0; r < s.rows; r++) {
    cg_val rstd = cg_rsqrt(c, cg_fma(c, sum[r], inv, epsilon)), row = cg_add(c, o->row, cg_i64(c, r));
    s.rstd[r] = cg_splat(c, rstd, c->W);
    cg_store_f32(c, mean[r], o->out[1], row);
    cg_store_f32(c, rstd, o->out[2], row);
  }
  cg_each(c, zero, end, normal_body, &s);
}

static void forward_row(cg_kernel *k, void *u, cg_val r) {
  cg_val in[3] = {NULL, cg_in(k, 1), cg_in(k, 2)}, out[3] = {NULL, cg_out(k, 1), cg_out(k, 2)};
  int64_t D = *(const int64_t *)u;
  cg_row_op o = {.k = k, .D = D, .in = in, .out = out, .row = r, .rows = 1};
  o.from[0] = cg_row(k->c, cg_in(k, 0), r, D);
  o.to[0] = cg_row(k->c, cg_out(k, 0), r, D);
  cg_layernorm_row(&o);
}

bool cg_emit_layernorm(cg_node *x) { /* (x, gamma, beta) -> y, mean, rstd */
  TT_TRY(cg_float_operands(x));
  int64_t D = tt_type_last(cg_in_type(x, 0));
  cg_emit_rows(x, tt_type_rows(cg_in_type(x, 0)), D, 2, forward_row, &D);
  return true;
}

static cg_val normalised(nrow *s, cg_val i, cg_val n) { return cg_mul(s->c, centred(s, 0, i, n), s->rstd[0]); }

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
  cg_val dx = cg_mul(c, s->rstd[0], cg_fma(c, cg_neg(c, xhat), s->mean_gn, g));
  cg_store_n(c, dx, cg_gep(c, c->f32, s->out[0], i), n);
  accumulate(c, cg_mul(c, dy, xhat), s->dgamma, i, n);
  accumulate(c, dy, s->dbeta, i, n);
}

void cg_layernorm_grad_row(const cg_row_op *o) {
  cg_ctx *c = o->k->c;
  nrow s = {.c = c, .D = o->D, .dy = o->from[0], .out = {o->to[0]}, .gamma = o->in[2], .dgamma = o->sums};
  cg_val sums[2], zero = cg_i64(c, 0), end = cg_i64(c, s.D), inv = cg_f32(c, 1.0 / (double)s.D);
  TT_ASSERT(o->rows == 1);
  s.dbeta = cg_gep(c, c->f32, s.dgamma, end);
  s.x[0] = cg_row(c, o->in[1], o->row, s.D);
  s.mean[0] = cg_splat(c, cg_load_f32(c, o->in[3], o->row), c->W);
  s.rstd[0] = cg_splat(c, cg_load_f32(c, o->in[4], o->row), c->W);
  cg_fold(c, zero, end, 2, all_sums, grad_terms, &s, sums);
  s.mean_g = cg_splat(c, cg_mul(c, sums[0], inv), c->W);
  s.mean_gn = cg_splat(c, cg_mul(c, sums[1], inv), c->W);
  cg_each(c, zero, end, grad_body, &s);
}

/* Task t sums run t into work[t] = {dgamma [D], dbeta [D]}. */
static void emit_runs(cg_kernel *k, int64_t rows, int64_t D) {
  cg_ctx *c = k->c;
  cg_val in[5], sums = cg_row(c, cg_work(k, 0, cg_run_bytes(rows, 2 * D)), k->task, 2 * D);
  for (int i = 0; i < 5; i++) in[i] = cg_in(k, i);
  cg_row_op o = {.k = k, .D = D, .in = in, .rows = 1, .sums = sums};
  cg_zero_row(c, sums, 2 * D);
  cg_range r = cg_task_range(k, rows, CG_RUN);
  cg_loop l;
  cg_loop_begin(c, &l, r.begin, r.end, 1, 0, NULL);
  o.row = l.i;
  o.from[0] = cg_row(c, in[0], l.i, D);
  o.to[0] = cg_row(c, cg_out(k, 0), l.i, D);
  cg_layernorm_grad_row(&o);
  cg_loop_end(&l, NULL);
}

bool cg_emit_layernorm_grad(cg_node *x) { /* (dy, x, gamma, mean, rstd) -> dx, dgamma, dbeta */
  TT_TRY(cg_float_operands(x));
  int64_t D = tt_type_last(cg_in_type(x, 1)), rows = tt_type_rows(cg_in_type(x, 1));
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    emit_runs(k, rows, D);
    cg_kernel_end(k);
  }
  cg_launch(x, "", cg_run_count(rows));
  k = cg_kernel_begin(x, "total");
  if (k) {
    cg_val work = cg_work(k, 0, cg_run_bytes(rows, 2 * D));
    for (int i = 0; i < 2; i++)
      cg_add_runs(k, rows, cg_gep(k->c, k->c->f32, work, cg_i64(k->c, i * D)), 2 * D, cg_out(k, 1 + i), D);
    cg_kernel_end(k);
  }
  cg_launch(x, "total", 1);
  return true;
}
