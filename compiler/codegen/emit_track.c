/* The instruments. Counting is scalar: a task counts one operand into a table of its own, which is rare work beside a
 * training step. Counts are integers until the end, so that they stay exact beyond 2^24. */
#include <math.h>
#include "compiler/codegen/int4.h"
#include "compiler/codegen/mx_lanes.h"
#include "compiler/codegen/rows.h"

enum { CODES = 8, SCALES = 256, SCALE_NAN = 255 };

/* Elements of the operand that this task looks at, as i64: they may differ. */
static cg_val task_count(cg_kernel *k) {
  int n = k->x->d->n_in;
  int64_t *count = TT_NEW_N(k->c->arena, int64_t, n);
  for (int i = 0; i < n; i++) count[i] = tt_type_count(cg_in_type(k->x, i));
  return cg_load(k->c, k->c->i64, cg_gep(k->c, k->c->i64, cg_table(k->c, count, n), k->task), 8);
}

/* This task's row of `bins` i64 counters in the workspace from `at` on, zeroed. */
static cg_val counters(cg_kernel *k, uint64_t at, int64_t bins) {
  cg_ctx *c = k->c;
  cg_val base = cg_work(k, at, (uint64_t)(k->x->d->n_in * bins) * 8);
  cg_val row = cg_gep(c, c->i64, base, cg_mul(c, k->task, cg_i64(c, bins)));
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, bins), 1, 0, NULL);
  cg_store(c, cg_i64(c, 0), cg_gep(c, c->i64, row, l.i), 8);
  cg_loop_end(&l, NULL);
  return row;
}

static void count_one(cg_ctx *c, cg_val row, cg_val bin) {
  cg_val p = cg_gep(c, c->i64, row, bin);
  cg_store(c, cg_add(c, cg_load(c, c->i64, p, 8), cg_i64(c, 1)), p, 8);
}

/* The counters as floats to row `task` of result `out`. */
static void store_counts(cg_kernel *k, cg_val row, int out, int64_t bins) {
  cg_ctx *c = k->c;
  cg_val to = cg_row(c, cg_out(k, out), k->task, bins);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), cg_i64(c, bins), 1, 0, NULL);
  cg_val n = cg_load(c, c->i64, cg_gep(c, c->i64, row, l.i), 8);
  cg_store_f32(c, LLVMBuildSIToFP(c->b, n, c->f32, ""), to, l.i);
  cg_loop_end(&l, NULL);
}

static void histogram(cg_kernel *k) {
  cg_ctx *c = k->c;
  double low = tt_node_float(k->x->g, k->x->n, TT_A_LOW), high = tt_node_float(k->x->g, k->x->n, TT_A_HIGH);
  int64_t bins = tt_node_int(k->x->g, k->x->n, TT_A_BINS);
  cg_val count = task_count(k), x = cg_operand(k, k->task), row = counters(k, 0, bins);
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 0), count, 1, 0, NULL);
  cg_val t = cg_mul(c, cg_sub(c, cg_load_f32(c, x, l.i), cg_f32(c, low)), cg_f32(c, (double)bins / (high - low)));
  cg_val bin = cg_sub(c, cg_neg(c, cg_floor(c, cg_neg(c, t))), cg_f32(c, 1)); /* ceil(t) - 1 */
  bin = cg_select(c, cg_fcmp(c, LLVMRealOGT, bin, cg_f32(c, 0)), bin, cg_f32(c, 0));
  bin = cg_min(c, bin, cg_f32(c, (double)(bins - 1)));
  count_one(c, row, LLVMBuildFPToSI(c->b, bin, c->i64, ""));
  cg_loop_end(&l, NULL);
  store_counts(k, row, 0, bins);
}

bool cg_emit_histogram(cg_node *x) {
  TT_TRY(cg_float_operands(x));
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    histogram(k);
    cg_kernel_end(k);
  }
  cg_launch(x, "", x->d->n_in);
  return true;
}

static void arg_max(cg_kernel *k) {
  cg_ctx *c = k->c;
  cg_val count = task_count(k), x = cg_operand(k, k->task);
  cg_val first[2] = {cg_load_f32(c, x, cg_i64(c, 0)), cg_i64(c, 0)}, next[2];
  cg_loop l;
  cg_loop_begin(c, &l, cg_i64(c, 1), count, 1, 2, first);
  cg_val v = cg_load_f32(c, x, l.i), better = cg_fcmp(c, LLVMRealOGT, v, l.carry[0]);
  next[0] = cg_select(c, better, v, l.carry[0]);
  next[1] = cg_select(c, better, l.i, l.carry[1]);
  cg_loop_end(&l, next);
  cg_store(c, LLVMBuildTrunc(c->b, l.carry[1], c->i32, ""), cg_gep(c, c->i32, cg_out(k, 0), k->task), 4);
}

bool cg_emit_arg_max(cg_node *x) {
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    arg_max(k);
    cg_kernel_end(k);
  }
  cg_launch(x, "", x->d->n_in);
  return true;
}

/* ---- mx.census ---- */

/* Of each operand: rows, blocks of a row, elements of a row, the scales' offset, how many are E8M0, whether it is INT4. */
enum { CENSUS_FIELDS = 6 };
static cg_val census_table(cg_kernel *k) {
  int n = k->x->d->n_in;
  int64_t *rows = TT_NEW_N(k->c->arena, int64_t, CENSUS_FIELDS * n);
  for (int i = 0; i < n; i++) {
    const tt_type *t = cg_in_type(k->x, i);
    int64_t nb = tt_mx_blocks(t->dim[1]), int4 = t->format == TT_INT4;
    const int64_t row[CENSUS_FIELDS] = {
        t->dim[0], nb, t->dim[1], (int64_t)tt_mx_scale_offset(t), int4 ? 0 : t->dim[0] * nb, int4};
    for (int f = 0; f < CENSUS_FIELDS; f++) rows[CENSUS_FIELDS * i + f] = row[f];
  }
  return cg_table(k->c, rows, CENSUS_FIELDS * n);
}

/* The number of a nibble's magnitude; INT4 is in two's complement, where the unused -8 counts as 7. */
static cg_val magnitude_code(cg_ctx *c, cg_val nibble, cg_val int4) {
  cg_val mx = cg_and(c, nibble, cg_i64(c, CODES - 1)), value = cg_sub(c, cg_xor(c, nibble, cg_i64(c, 8)), cg_i64(c, 8));
  cg_val size = cg_min(c, cg_max(c, value, cg_neg(c, value)), cg_i64(c, CODES - 1));
  return cg_select(c, int4, size, mx);
}

/* The exponent of INT4's one scale takes the place of a scale byte. */
static void count_int4_scale(cg_ctx *c, cg_val scales, cg_val at, cg_val int4) {
  cg_if f;
  cg_if_begin(c, &f, int4);
  cg_val exponent = cg_and(c, cg_shr(c, cg_load(c, c->i32, at, 4), cg_i32(c, 23)), cg_i32(c, SCALES - 1));
  count_one(c, scales, LLVMBuildZExt(c->b, exponent, c->i64, ""));
  cg_if_end(&f);
}

static void census(cg_kernel *k) {
  cg_ctx *c = k->c;
  cg_val field[CENSUS_FIELDS], a = cg_operand(k, k->task);
  cg_val table = cg_gep(c, c->i64, census_table(k), cg_mul(c, k->task, cg_i64(c, CENSUS_FIELDS)));
  for (int f = 0; f < CENSUS_FIELDS; f++) field[f] = cg_load(c, c->i64, cg_addr(c, c->i64, table, f), 8);
  cg_val int4 = cg_icmp(c, LLVMIntNE, field[5], cg_i64(c, 0));
  uint64_t after = ((uint64_t)(k->x->d->n_in * CODES) * 8 + 63) / 64 * 64;
  cg_val codes = counters(k, 0, CODES), scales = counters(k, after, SCALES);
  cg_loop r, i, b;
  cg_loop_begin(c, &r, cg_i64(c, 0), field[0], 1, 0, NULL);
  cg_val row = cg_gep_bytes(c, a, cg_mul(c, cg_mul(c, r.i, field[1]), cg_i64(c, TT_MX_BLOCK / 2)));
  cg_loop_begin(c, &i, cg_i64(c, 0), field[2], 1, 0, NULL);
  cg_val byte = LLVMBuildZExt(c->b, cg_load(c, c->i8, cg_gep_bytes(c, row, cg_shr(c, i.i, cg_i64(c, 1))), 1), c->i64, "");
  cg_val nibble = cg_shr(c, byte, cg_mul(c, cg_and(c, i.i, cg_i64(c, 1)), cg_i64(c, 4)));
  count_one(c, codes, magnitude_code(c, cg_and(c, nibble, cg_i64(c, 15)), int4));
  cg_loop_end(&i, NULL);
  cg_loop_end(&r, NULL);
  count_int4_scale(c, scales, cg_gep_bytes(c, a, field[3]), int4);
  cg_loop_begin(c, &b, cg_i64(c, 0), field[4], 1, 0, NULL);
  cg_val scale = cg_load(c, c->i8, cg_gep_bytes(c, cg_gep_bytes(c, a, field[3]), b.i), 1);
  count_one(c, scales, LLVMBuildZExt(c->b, scale, c->i64, ""));
  cg_loop_end(&b, NULL);
  store_counts(k, codes, 0, CODES);
  store_counts(k, scales, 1, SCALES);
}

bool cg_emit_mx_census(cg_node *x) {
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    census(k);
    cg_kernel_end(k);
  }
  cg_launch(x, "", x->d->n_in);
  return true;
}

/* ---- mx.confidence ---- */

/* The ends of the cells of y = |x| / S: cell i lies between cut[i] and cut[i + 1], its greatest distance is half[i]. The
 * lowest reaches as far below zero; the highest has its greatest distance at Qmax. */
typedef struct cells {
  double cut[9], half[8];
} cells;

static cells cells_of(tt_format format) {
  static const double values[TT_FORMAT_COUNT][8] = {
      {0, 0.5, 1, 1.5, 2, 3, 4, 6}, {0, 0.25, 0.5, 1, 2, 4, 8, 16}, {0, 1, 2, 3, 4, 5, 6, 7}};
  const double *v = values[format];
  cells z;
  for (int i = 1; i < 8; i++) z.cut[i] = (v[i - 1] + v[i]) / 2;
  z.cut[0] = -z.cut[1];
  z.cut[8] = 2 * v[7] - z.cut[7];
  for (int i = 0; i < 8; i++) z.half[i] = (z.cut[i + 1] - z.cut[i]) / 2;
  return z;
}

/* Outside its own cell a distance is negative, so the largest over all cells is the one that counts. NaN stays NaN, which
 * comparisons drop. */
static cg_val confidence(cg_ctx *c, const cells *z, cg_val y) {
  cg_val best = NULL;
  for (int i = 0; i < 8; i++) {
    cg_val d = cg_sub(c, y, cg_vf(c, z->cut[i]));
    if (i < 7) d = cg_min(c, d, cg_sub(c, cg_vf(c, z->cut[i + 1]), y));
    d = cg_mul(c, d, cg_vf(c, 1 / z->half[i]));
    best = best ? cg_max(c, best, d) : d;
  }
  return cg_select(c, cg_fcmp(c, LLVMRealUNO, y, y), y, cg_min(c, best, cg_vf(c, 1)));
}

/* The block of n (NULL: 32) elements from index `at` on. */
static void confidence_block(cg_kernel *k, const cells *z, cg_val at, cg_val n) {
  cg_ctx *c = k->c;
  tt_qspec q = tt_node_qspec(k->x->g, k->x->n, TT_A_Q);
  cg_val bits[16], left[16], max = cg_vi(c, 0);
  int count = TT_MX_BLOCK / c->W;
  for (int v = 0; v < count; v++) {
    left[v] = n ? cg_sub(c, n, cg_i64(c, v * c->W)) : NULL;
    cg_val x = cg_load_n(c, cg_addr(c, c->f32, cg_gep(c, c->f32, cg_in(k, 0), at), v * c->W), left[v], cg_vf(c, 0));
    bits[v] = cg_and(c, cg_bits(c, x, c->vi), cg_vi(c, 0x7fffffff));
    max = cg_max(c, max, bits[v]);
  }
  char name[48];
  snprintf(name, sizeof name, "llvm.vector.reduce.umax.v%di32", c->W);
  cg_val scale = cg_splat(c, cg_mx_scale(c, q, cg_call(c, name, c->i32, 1, &max)), c->W);
  cg_val inverse = cg_bits(c, cg_shl(c, cg_sub(c, cg_vi(c, 254), scale), cg_vi(c, 23)), c->vf);
  inverse = cg_select(c, cg_icmp(c, LLVMIntEQ, scale, cg_vi(c, SCALE_NAN)), cg_vf(c, (double)NAN), inverse);
  for (int v = 0; v < count; v++) {
    cg_val y = cg_mul(c, cg_bits(c, bits[v], c->vf), inverse);
    cg_store_n(c, confidence(c, z, y), cg_addr(c, c->f32, cg_gep(c, c->f32, cg_out(k, 0), at), v * c->W), left[v]);
  }
}

static void confidence_rows(cg_kernel *k, int64_t rows, int64_t K, int64_t grain) {
  cg_ctx *c = k->c;
  cells z = cells_of((tt_format)tt_node_qspec(k->x->g, k->x->n, TT_A_Q).format);
  cg_range r = cg_task_range(k, rows, grain);
  int64_t whole = K / TT_MX_BLOCK * TT_MX_BLOCK;
  cg_loop row, b;
  cg_loop_begin(c, &row, r.begin, r.end, 1, 0, NULL);
  cg_val at = cg_mul(c, row.i, cg_i64(c, K));
  cg_loop_begin(c, &b, cg_i64(c, 0), cg_i64(c, whole), TT_MX_BLOCK, 0, NULL);
  confidence_block(k, &z, cg_add(c, at, b.i), NULL);
  cg_loop_end(&b, NULL);
  if (whole < K) confidence_block(k, &z, cg_add(c, at, cg_i64(c, whole)), cg_i64(c, K - whole));
  cg_loop_end(&row, NULL);
}

typedef struct int4_elements {
  cg_kernel *k;
  cells z;
  cg_val scale; /* vf */
} int4_elements;

static void int4_confidence_body(void *u, cg_val i, cg_val n) {
  int4_elements *e = u;
  cg_ctx *c = e->k->c;
  cg_val y = cg_div(c, cg_abs(c, cg_load_n(c, cg_gep(c, c->f32, cg_in(e->k, 0), i), n, cg_vf(c, 0))), e->scale);
  cg_store_n(c, confidence(c, &e->z, y), cg_gep(c, c->f32, cg_out(e->k, 0), i), n);
}

/* INT4's scale is the whole tensor's, so its largest element comes first. */
static bool int4_confidence(cg_node *x) {
  int64_t n = tt_type_count(cg_in_type(x, 0)), grain = cg_grain(n, 1, 64);
  cg_int4_launch_max(x);
  cg_kernel *k = cg_kernel_begin(x, "confidence");
  if (k) {
    cg_val saved = k->c->target->denormals_keep(k->c);
    int4_elements e = {.k = k, .z = cells_of(TT_INT4), .scale = cg_splat(k->c, cg_int4_scale(k), k->c->W)};
    cg_range r = cg_task_range(k, n, grain);
    cg_each(k->c, r.begin, r.end, int4_confidence_body, &e);
    k->c->target->denormals_restore(k->c, saved);
    cg_kernel_end(k);
  }
  cg_launch(x, "confidence", (n + grain - 1) / grain);
  return true;
}

bool cg_emit_mx_confidence(cg_node *x) {
  const tt_type *t = cg_in_type(x, 0);
  if (tt_node_qspec(x->g, x->n, TT_A_Q).format == TT_INT4) return int4_confidence(x);
  int64_t rows = tt_type_rows(t), K = tt_type_last(t), grain = cg_grain(rows, K, 1);
  cg_kernel *k = cg_kernel_begin(x, "");
  if (k) {
    cg_val saved = k->c->target->denormals_keep(k->c);
    confidence_rows(k, rows, K, grain);
    k->c->target->denormals_restore(k->c, saved);
    cg_kernel_end(k);
  }
  cg_launch(x, "", (rows + grain - 1) / grain);
  return true;
}
