/* Per-tensor INT4, bit for bit: both roundings and orientations, rows with tails, tensors larger than a task, extremes. */
#include <math.h>
#include "tests/ops/sweep.h"

static const tt_rounding roundings[] = {TT_NEAREST, TT_STOCHASTIC};

static tt_attr spec(tt_rounding rounding) {
  return tt_attr_qspec(TT_A_Q, (tt_qspec){true, TT_INT4, TT_SCALE_TENSOR, (uint8_t)rounding, TT_DIRECT});
}

static void random_numbers(sweep *s, tt_rounding rounding) {
  if (rounding == TT_STOCHASTIC) sweep_data(s, tt_type_make(TT_I64, 1, (int64_t[]){2}), (double[]){12345, 678});
}

/* A largest magnitude of 7 * step, so that ties are exact; values between and on grid points, zeros of both signs. */
static double *latent(sweep *s, int rows, int cols, double step) {
  double *v = TT_NEW_N(s->arena, double, rows *cols);
  for (int i = 0; i < rows * cols; i++) {
    double x = sweep_random(s, -7, 7);
    if (i % 3 == 0) x = floor(x * 2) / 2;
    if (i % 50 == 0) x = i % 100 ? -0.0 : 0;
    v[i] = (double)(float)(x * step);
  }
  v[rows * cols / 2] = -7 * step;
  return v;
}

/* Rows to nearest and columns stochastically, or all four ways. */
static void quantize_data(sweep *s, int rows, int cols, const double *v, bool all) {
  for (int i = 0; i < 4; i += all ? 1 : 3) {
    tt_attr a[3] = {spec(roundings[i % 2]), tt_attr_int(TT_A_TRANSPOSED, i / 2), tt_attr_int(TT_A_TENSOR, 7)};
    double *copy = TT_NEW_N(s->target_arena, double, rows *cols);
    for (int k = 0; k < rows * cols; k++) copy[k] = v[k];
    sweep_begin(s);
    sweep_data(s, sweep_f32(2, rows, cols), copy);
    random_numbers(s, roundings[i % 2]);
    sweep_op(s, TT_OP_MX_QUANTIZE, 3, a, 0);
  }
}

static void quantize(sweep *s, int rows, int cols, double step) {
  sweep_begin(s);
  double *v = latent(s, rows, cols, step), *kept = TT_NEW_N(s->target_arena, double, rows *cols);
  for (int i = 0; i < rows * cols; i++) kept[i] = v[i];
  quantize_data(s, rows, cols, kept, true);
}

static void extremes(sweep *s) {
  static const double one[] = {0,        NAN,       INFINITY,   -INFINITY, 3.4028234663852886e38,
                               0x1p-149, -0x1p-130, 0x1.8p-126, 0x1p-124};
  for (size_t k = 0; k < sizeof one / sizeof *one; k++) {
    double v[40 * 35];
    for (int i = 0; i < 40 * 35; i++)
      v[i] = k == 0 ? 0 : (double)(float)(sweep_random(s, -1, 1) * (k > 4 ? fabs(one[k]) : 1));
    v[777] = one[k];
    quantize_data(s, 40, 35, v, false);
  }
}

static void packed(sweep *s, int rows, int cols, double lo, double hi) {
  tt_type type = tt_type_mx(TT_INT4, rows, cols);
  for (int i = 0; i < 2; i++) {
    tt_attr a[2] = {spec(roundings[i]), tt_attr_int(TT_A_TENSOR, 3)};
    sweep_begin(s);
    sweep_in(s, type, lo, hi);
    random_numbers(s, roundings[i]);
    sweep_op(s, TT_OP_MX_REQUANTIZE, 2, a, 0);
  }
  sweep_begin(s);
  sweep_in(s, type, lo, hi);
  sweep_op(s, TT_OP_MX_DEQUANTIZE, 0, NULL, 0);
  sweep_begin(s);
  sweep_in(s, type, lo, hi);
  sweep_op(s, TT_OP_MX_COLSUM, 0, NULL, 0);
}

static void gemm(sweep *s, int M, int N, int K, bool bias, double lo, double hi) {
  sweep_begin(s);
  sweep_in(s, tt_type_mx(TT_INT4, M, K), lo, hi);
  sweep_in(s, tt_type_mx(TT_INT4, N, K), lo, hi);
  if (bias) sweep_in(s, sweep_f32(1, N), -1, 1);
  sweep_op(s, TT_OP_MX_GEMM, 0, NULL, 0);
}

static void instruments(sweep *s) {
  tt_attr q = spec(TT_NEAREST);
  sweep_begin(s);
  double *v = latent(s, 70, 33, 0.37);
  sweep_data(s, sweep_f32(2, 70, 33), v);
  sweep_op(s, TT_OP_MX_CONFIDENCE, 1, &q, 1e-6);
  for (int i = 0; i < 2; i++) { /* one NaN or Inf: the scale is NaN and nothing is known */
    sweep_begin(s);
    v[777] = i ? -INFINITY : NAN;
    sweep_data(s, sweep_f32(2, 70, 33), v);
    sweep_op(s, TT_OP_MX_CONFIDENCE, 1, &q, 1e-6);
  }
  sweep_begin(s);
  sweep_in(s, tt_type_mx(TT_INT4, 7, 40), 90, 150);
  sweep_in(s, tt_type_mx(TT_E2M1, 7, 40), 90, 150);
  sweep_in(s, tt_type_mx(TT_INT4, 33, 64), 0, 256);
  sweep_op(s, TT_OP_MX_CENSUS, 0, NULL, 0);
}

void sweep_int4(sweep *s) {
  quantize(s, 40, 33, 0.25);
  quantize(s, 64, 96, 0.1);
  quantize(s, 5, 200, 3e-20);
  quantize(s, 150, 200, 0x1p-120);
  extremes(s);
  packed(s, 7, 40, 90, 150);
  packed(s, 300, 192, 100, 140);
  packed(s, 40, 70, 0, 30);
  gemm(s, 5, 7, 33, true, 120, 134);
  gemm(s, 50, 100, 192, true, 100, 150);
  gemm(s, 96, 64, 4200, false, 120, 134);
  gemm(s, 33, 65, 96, true, 0, 80);   /* subnormal results, scales whose product is 0 */
  gemm(s, 33, 65, 96, false, 0, 256); /* anything, NaN among it */
  instruments(s);
}
