/* Gradient norms, clipping and AdamW. One launch sums the squares of all gradients: a table says which part of which operand
 * a task takes, so that a hundred small tensors cost as much as their bytes. */
#include <math.h>
#include "compiler/codegen/rows.h"
#include "compiler/codegen/walk.h"

enum { CHUNK = 16384, FIELDS = 3 }; /* elements a task; columns of the table: operand, begin, end */

typedef struct srange {
  cg_ctx *c;
  cg_val p;
} srange;

static void square_terms(void *u, cg_val i, cg_val n, cg_val *terms) {
  srange *s = u;
  cg_val v = cg_cols(s->c, s->p, i, n);
  terms[0] = cg_mul(s->c, v, v);
}

static void sum_terms(void *u, cg_val i, cg_val n, cg_val *terms) {
  srange *s = u;
  terms[0] = cg_cols(s->c, s->p, i, n);
}

static int64_t chunks(const tt_type *t) { return (tt_type_count(t) + CHUNK - 1) / CHUNK; }

/* Row per task {operand, begin, end}; first[i] is the first task of operand i, first[n_in] their number. */
static int64_t *plan_chunks(const cg_node *x, int64_t *first) {
  int64_t n = 0;
  for (int i = 0; i < x->d->n_in; i++) {
    first[i] = n;
    n += chunks(cg_in_type(x, i));
  }
  first[x->d->n_in] = n;
  int64_t *table = TT_NEW_N(x->c->arena, int64_t, n * FIELDS + 1), *row = table;
  for (int i = 0; i < x->d->n_in; i++) {
    int64_t count = tt_type_count(cg_in_type(x, i));
    for (int64_t at = 0; at < count; at += CHUNK, row += FIELDS) {
      row[0] = i;
      row[1] = at;
      row[2] = at + CHUNK < count ? at + CHUNK : count;
    }
  }
  return table;
}

static cg_val table_at(cg_ctx *c, cg_val table, cg_val i) { return cg_load(c, c->i64, cg_gep(c, c->i64, table, i), 8); }

static void emit_squares(cg_node *x, const int64_t *table, int64_t n_tasks) {
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_ctx *c = k->c;
    cg_val rows = cg_table(c, table, n_tasks * FIELDS), at = cg_mul(c, k->task, cg_i64(c, FIELDS));
    srange s = {c, cg_operand(k, table_at(c, rows, at))};
    cg_val begin = table_at(c, rows, cg_add(c, at, cg_i64(c, 1))), end = table_at(c, rows, cg_add(c, at, cg_i64(c, 2))), sum;
    cg_fold(c, begin, end, 1, (cg_reduce_op[]){CG_SUM}, square_terms, &s, &sum);
    cg_store_f32(c, sum, cg_work(k, 0, (uint64_t)n_tasks * 4), k->task);
    cg_kernel_end(k);
  }
  cg_launch(x, "", n_tasks);
}

bool cg_emit_sumsq(cg_node *x) { /* (g...) -> [n] */
  TT_TRY(cg_float_operands(x));
  int64_t *first = TT_NEW_N(x->c->arena, int64_t, x->d->n_in + 1);
  int64_t *table = plan_chunks(x, first), n_tasks = first[x->d->n_in];
  emit_squares(x, table, n_tasks);
  cg_kernel *k = cg_kernel_begin(x, "total");
  if (k) {
    cg_ctx *c = k->c;
    cg_val starts = cg_table(c, first, x->d->n_in + 1), sum;
    srange s = {c, cg_work(k, 0, (uint64_t)n_tasks * 4)};
    cg_loop l;
    cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, x->d->n_in), 1, 0, NULL);
    cg_val begin = table_at(c, starts, l.i), end = table_at(c, starts, cg_add(c, l.i, cg_i64(c, 1)));
    cg_fold(c, begin, end, 1, (cg_reduce_op[]){CG_SUM}, sum_terms, &s, &sum);
    cg_store_f32(c, sum, cg_out(k, 0), l.i);
    cg_loop_end(&l, NULL);
    cg_kernel_end(k);
  }
  cg_launch(x, "total", 1);
  return true;
}

bool cg_emit_clip_coef(cg_node *x) { /* (sumsq [n]) -> coef [], norm [] */
  TT_TRY(cg_float_operands(x));
  double max_norm = tt_node_float(x->g, x->n, TT_A_MAX_NORM);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_ctx *c = k->c;
    cg_val sum, one = cg_f32(c, 1), coef = one;
    srange s = {c, cg_in(k, 0)};
    cg_fold(c, cg_i64(c, 0), cg_i64(c, tt_type_count(cg_in_type(x, 0))), 1, (cg_reduce_op[]){CG_SUM}, sum_terms, &s, &sum);
    cg_val norm = cg_sqrt(c, sum);
    if (max_norm > 0) coef = cg_min(c, one, cg_div(c, cg_f32(c, max_norm), cg_add(c, norm, cg_f32(c, 1e-6))));
    cg_store(c, coef, cg_out(k, 0), 4);
    cg_store(c, norm, cg_out(k, 1), 4);
    cg_kernel_end(k);
  }
  cg_launch(x, "", 1);
  return true;
}

typedef struct adamw {
  double beta1, beta2, epsilon, decay;
  int g_at; /* operand g; the scalars stand behind it */
  bool keeps_ema;
  double ema_beta;
} adamw;

/* in: w, m, v ...; out[1], out[2]: the moments with gradient g; returns what w loses by them at rate `lr`. What depends on
 * scalars alone is the same in all lanes and is hoisted out of the loop. */
static cg_val adam_move(cg_ctx *c, const adamw *a, const cg_val *in, cg_val g, cg_val lr, cg_val *out) {
  const cg_val *scalars = in + a->g_at + 1, one = cg_vf(c, 1);
  out[1] = cg_fma(c, cg_vf(c, a->beta1), in[1], cg_mul(c, cg_vf(c, 1 - a->beta1), g));
  out[2] = cg_fma(c, cg_vf(c, a->beta2), in[2], cg_mul(c, cg_mul(c, cg_vf(c, 1 - a->beta2), g), g));
  cg_val root = cg_sqrt(c, cg_mul(c, out[2], cg_div(c, one, scalars[3])));
  return cg_div(c, cg_mul(c, out[1], cg_div(c, lr, scalars[2])), cg_add(c, root, cg_vf(c, a->epsilon)));
}

static cg_val decayed(cg_ctx *c, const adamw *a, cg_val w, cg_val lr) {
  return cg_fma(c, cg_neg(c, cg_mul(c, lr, cg_vf(c, a->decay))), w, w);
}

/* (w, m, v, [e,] g, coef, lr, bc1, bc2) -> w, m, v, [e] */
static void adamw_body(cg_ctx *c, void *u, const cg_val *in, cg_val *out) {
  const adamw *a = u;
  cg_val g = cg_mul(c, in[a->g_at], in[a->g_at + 1]), lr = in[a->g_at + 2];
  cg_val move = adam_move(c, a, in, g, lr, out);
  out[0] = cg_sub(c, decayed(c, a, in[0], lr), move);
  if (a->keeps_ema)
    out[3] = cg_fma(c, cg_vf(c, a->ema_beta), in[3], cg_mul(c, cg_vf(c, 1 - a->ema_beta), out[0]));
}

/* One elementwise pass over tensors of one shape and scalars. */
static bool emit_sweep(cg_node *x, int64_t cost, cg_walk_fn *body, void *u) {
  TT_TRY(cg_float_operands(x));
  int n_in = x->d->n_in, n_out = x->d->n_out;
  cg_walk w = cg_walk_over(cg_out_type(x, 0), cost);
  for (int i = 0; i < n_in; i++) cg_walk_in(&w, cg_in_type(x, i));
  for (int i = 0; i < n_out; i++) cg_walk_out(&w, cg_out_type(x, i));
  cg_walk_done(&w);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_val base[CG_WALK_OPS];
    for (int i = 0; i < n_in; i++) base[i] = cg_in(k, i);
    for (int i = 0; i < n_out; i++) base[n_in + i] = cg_out(k, i);
    cg_walk_emit(k, &w, base, body, u);
    cg_kernel_end(k);
  }
  cg_launch(x, "", cg_walk_tasks(&w));
  return true;
}

static adamw adamw_of(const cg_node *x, int g_at) {
  return (adamw){.beta1 = tt_node_float(x->g, x->n, TT_A_BETA1),
                 .beta2 = tt_node_float(x->g, x->n, TT_A_BETA2),
                 .epsilon = tt_node_float(x->g, x->n, TT_A_EPSILON),
                 .decay = tt_node_float(x->g, x->n, TT_A_WEIGHT_DECAY),
                 .g_at = g_at,
                 .keeps_ema = g_at == 4,
                 .ema_beta = tt_node_float(x->g, x->n, TT_A_EMA_BETA)};
}

bool cg_emit_adamw(cg_node *x) {
  adamw a = adamw_of(x, 3);
  return emit_sweep(x, 4, adamw_body, &a);
}

bool cg_emit_adamw_ema(cg_node *x) {
  adamw a = adamw_of(x, 4);
  return emit_sweep(x, 5, adamw_body, &a);
}

/* (w, m, v, sum, count, period, g, coef, lr, bc1, bc2) -> w, m, v, sum, count. Counts are whole numbers far below 2^24, for
 * which count - n floor(count / n) is exact. */
static void adamw_ramp_body(cg_ctx *c, void *u, const cg_val *in, cg_val *out) {
  const adamw *a = u;
  cg_val zero = cg_vf(c, 0), one = cg_vf(c, 1), lr = in[8], g = cg_mul(c, in[6], in[7]);
  cg_val finite = cg_fcmp(c, LLVMRealOLT, cg_abs(c, g), cg_vf(c, INFINITY));
  cg_val sum = cg_add(c, in[3], cg_select(c, finite, g, zero)), count = cg_add(c, in[4], one);
  cg_val n = cg_max(c, in[5], one), whole = cg_floor(c, cg_div(c, count, n));
  cg_val due = cg_fcmp(c, LLVMRealOEQ, cg_fma(c, cg_neg(c, n), whole, count), zero);
  cg_val kept = decayed(c, a, in[0], lr);
  cg_val move = adam_move(c, a, in, cg_div(c, sum, count), cg_mul(c, lr, count), out);
  out[0] = cg_select(c, due, cg_sub(c, kept, move), kept);
  for (int i = 1; i < 3; i++) out[i] = cg_select(c, due, out[i], in[i]);
  out[3] = cg_select(c, due, zero, sum);
  out[4] = cg_select(c, due, zero, count);
}

bool cg_emit_adamw_ramp(cg_node *x) {
  adamw a = adamw_of(x, 6);
  return emit_sweep(x, 9, adamw_ramp_body, &a);
}

typedef struct freeze {
  double threshold, momentum;
} freeze;

/* (w, last, mean, rate, mark, q) -> w, last, mean, rate, mark; see ops.def. */
static void freeze_body(cg_ctx *c, void *u, const cg_val *in, cg_val *out) {
  const freeze *f = u;
  enum { NEW, UNCHANGED, UP, DOWN, FROZEN };
  cg_val w = in[0], mean = in[2], rate = in[3], mark = in[4], q = in[5], zero = cg_vf(c, 0);
  cg_val is_new = cg_fcmp(c, LLVMRealOEQ, mark, cg_vf(c, NEW)), was_frozen = cg_fcmp(c, LLVMRealOEQ, mark, cg_vf(c, FROZEN));
  cg_val change = cg_select(c, is_new, zero, cg_sub(c, q, in[1]));
  cg_val up = cg_fcmp(c, LLVMRealOGT, change, zero), down = cg_fcmp(c, LLVMRealOLT, change, zero);
  cg_val turn = cg_or(c, cg_and(c, up, cg_fcmp(c, LLVMRealOEQ, mark, cg_vf(c, DOWN))),
                      cg_and(c, down, cg_fcmp(c, LLVMRealOEQ, mark, cg_vf(c, UP))));
  cg_val keep = cg_vf(c, 1 - f->momentum), momentum = cg_vf(c, f->momentum);
  cg_val new_rate = cg_fma(c, keep, rate, cg_select(c, turn, momentum, zero));
  cg_val new_mean = cg_select(c, is_new, q, cg_fma(c, keep, mean, cg_mul(c, momentum, q)));
  out[3] = cg_select(c, was_frozen, rate, new_rate);
  out[2] = cg_select(c, was_frozen, mean, new_mean);
  cg_val frozen = cg_or(c, was_frozen, cg_fcmp(c, LLVMRealOGT, new_rate, cg_vf(c, f->threshold)));
  cg_val moved = cg_select(c, up, cg_vf(c, UP), cg_select(c, down, cg_vf(c, DOWN), mark));
  out[4] = cg_select(c, frozen, cg_vf(c, FROZEN), cg_select(c, is_new, cg_vf(c, UNCHANGED), moved));
  out[0] = cg_select(c, frozen, out[2], w);
  out[1] = q;
}

bool cg_emit_freeze(cg_node *x) {
  freeze f = {tt_node_float(x->g, x->n, TT_A_THRESHOLD), tt_node_float(x->g, x->n, TT_A_MOMENTUM)};
  return emit_sweep(x, 4, freeze_body, &f);
}
