/* MX ops, bit for bit: every format, scale rule and rounding, both orientations, rows with tails; operands of products with
 * scales from the smallest to the largest. */
#include "tests/ops/sweep.h"
#include <math.h>

/* Blocks of very different sizes, some all zero, some of single values, some on the grid itself. */
static tt_value latent(sweep *s, int rows, int cols) {
  double *v = TT_NEW_N(s->arena, double, rows *cols);
  for (int r = 0; r < rows; r++)
    for (int k = 0; k < cols; k += 32) {
      double scale = exp2(floor(sweep_random(s, -12, 12)));
      int kind = (int)sweep_random(s, 0, 6);
      for (int i = k; i < cols && i < k + 32; i++) {
        double x = sweep_random(s, -6, 6);
        if (kind == 0) x = 0;
        if (kind == 1) x = floor(x);
        if (kind == 2) x = x > 5 ? x : 0;
        v[r * cols + i] = (double)(float)(x * scale);
      }
    }
  return sweep_data(s, sweep_f32(2, rows, cols), v);
}

static void second_operand(sweep *s, tt_rounding rounding, int rows, int cols) {
  if (rounding == TT_STOCHASTIC) sweep_data(s, tt_type_make(TT_I64, 1, (int64_t[]){2}), (double[]){12345, 678});
  if (rounding == TT_EMA) latent(s, rows, cols);
}

static void quantize(sweep *s, tt_qspec q, int rows, int cols) {
  for (int transposed = 0; transposed < 2; transposed++) {
    tt_attr a[3] = {tt_attr_qspec(TT_A_Q, q), tt_attr_int(TT_A_TRANSPOSED, transposed), tt_attr_int(TT_A_TENSOR, 7)};
    sweep_begin(s);
    latent(s, rows, cols);
    second_operand(s, (tt_rounding)q.rounding, rows, cols);
    sweep_op(s, TT_OP_MX_QUANTIZE, 3, a, 0);
  }
}

/* Ema rounding that begins at step 678: just before it, and from it on. */
static void begins_at_a_step(sweep *s, int rows, int cols) {
  tt_qspec q = {true, TT_E2M1, TT_SCALE_CEIL, TT_EMA, TT_DIRECT};
  for (int i = 0; i < 4; i++) {
    tt_attr a[3] = {tt_attr_qspec(TT_A_Q, q), tt_attr_int(TT_A_TRANSPOSED, i / 2), tt_attr_int(TT_A_FROM, i % 2 ? 678 : 679)};
    sweep_begin(s);
    latent(s, rows, cols);
    second_operand(s, TT_EMA, rows, cols);
    second_operand(s, TT_STOCHASTIC, rows, cols);
    sweep_op(s, TT_OP_MX_QUANTIZE, 3, a, 0);
  }
}

/* Scales near each other, as those of a tensor are, or far apart. */
static void requantize(sweep *s, tt_qspec q, int rows, int cols, int first_scale, int last_scale) {
  if (q.rounding == TT_EMA) return; /* of latent weights only */
  for (int from = 0; from < TT_MX_FORMATS; from++) {
    tt_attr a[2] = {tt_attr_qspec(TT_A_Q, q), tt_attr_int(TT_A_TENSOR, 3)};
    sweep_begin(s);
    sweep_in(s, tt_type_mx((tt_format)from, rows, cols), first_scale, last_scale);
    second_operand(s, (tt_rounding)q.rounding, rows, cols);
    sweep_op(s, TT_OP_MX_REQUANTIZE, 2, a, 0);
  }
}

static void quantizers(sweep *s) {
  for (int f = 0; f < TT_MX_FORMATS; f++)
    for (int scale = 0; scale < TT_MX_SCALES; scale++)
      for (int rounding = 0; rounding < TT_ROUNDING_COUNT; rounding++) {
        tt_qspec q = {true, (uint8_t)f, (uint8_t)scale, (uint8_t)rounding, TT_DIRECT};
        quantize(s, q, 40, 33);
        quantize(s, q, 64, 96);
        quantize(s, q, 5, 200);
        requantize(s, q, 40, 70, 90, 150);
        requantize(s, q, 96, 64, 122, 127);
      }
}

/* NaN, infinities, subnormals, the largest float: the scale byte says what became of the block. */
static void extremes(sweep *s) {
  double v[8 * 64];
  for (int i = 0; i < 8 * 64; i++) v[i] = (double)(float)sweep_random(s, -1, 1);
  v[3] = (double)NAN;
  v[64 + 40] = (double)INFINITY;
  v[2 * 64 + 1] = 3.4028234663852886e38;
  for (int i = 0; i < 32; i++) {
    v[3 * 64 + i] = 0x1p-149 * i;
    v[4 * 64 + i] = i % 2 ? 0.0 : -0.0;
    v[5 * 64 + i] *= 0x1p-126;
  }
  for (int rounding = 0; rounding < 2; rounding++) {
    tt_qspec q = {true, TT_E2M1, TT_SCALE_CEIL, (uint8_t)rounding, TT_DIRECT};
    tt_attr a[2] = {tt_attr_qspec(TT_A_Q, q), tt_attr_int(TT_A_TENSOR, 9)};
    sweep_begin(s);
    sweep_data(s, sweep_f32(2, 8, 64), v);
    second_operand(s, (tt_rounding)rounding, 8, 64);
    sweep_op(s, TT_OP_MX_QUANTIZE, 2, a, 0);
  }
}

static void gemm(sweep *s, int M, int N, int K, bool bias, double lo, double hi) {
  sweep_begin(s);
  sweep_in(s, tt_type_mx(TT_E2M1, M, K), lo, hi);
  sweep_in(s, tt_type_mx(TT_E2M1, N, K), lo, hi);
  if (bias) sweep_in(s, sweep_f32(1, N), -1, 1);
  sweep_op(s, TT_OP_MX_GEMM, 0, NULL, 0);
}

static void columns(sweep *s, tt_format format, int rows, int cols) {
  sweep_begin(s);
  sweep_in(s, tt_type_mx(format, rows, cols), 0, 200);
  sweep_op(s, TT_OP_MX_DEQUANTIZE, 0, NULL, 0);
  sweep_begin(s);
  sweep_in(s, tt_type_mx(format, rows, cols), 110, 140);
  sweep_op(s, TT_OP_MX_COLSUM, 0, NULL, 1e-5);
}

/* Steps that the evaluator computes with the very bits; tests/codegen has the others. */
static void fused(sweep *s, int rows, int cols) {
  static const int64_t of[] = {TT_OP_ADD, TT_OP_RELU, TT_OP_MUL};
  for (int steps = 0; steps < 4; steps++) {
    tt_qspec q = {true, TT_E2M1, TT_SCALE_CEIL, TT_STOCHASTIC, TT_DIRECT};
    tt_attr a[6] = {tt_attr_qspec(TT_A_Q, q), tt_attr_int(TT_A_TENSOR, 7), tt_attr_qspec(TT_A_QT, q),
                    tt_attr_int(TT_A_TENSOR_T, 8)};
    sweep_begin(s);
    a[4] = tt_attr_ints(s->b.g, TT_A_OF, steps, of);
    a[5] = tt_attr_ints(s->b.g, TT_A_KEEP, steps, (int64_t[]){1, 0, 1});
    latent(s, rows, cols);
    if (steps > 0) latent(s, rows, cols);
    if (steps > 2) sweep_in(s, sweep_f32(2, rows, cols), 2, 2);
    second_operand(s, TT_STOCHASTIC, rows, cols);
    sweep_op(s, TT_OP_MX_FUSED, 6, a, 0);
  }
}

/* A product in front, its bias there or not. */
static void fused_product(sweep *s, int M, int N, int K, bool bias) {
  static const int64_t of[] = {TT_OP_MX_GEMM, TT_OP_RELU};
  tt_qspec q = {true, TT_E2M1, TT_SCALE_CEIL, TT_NEAREST, TT_DIRECT};
  sweep_begin(s);
  tt_attr a[4] = {tt_attr_qspec(TT_A_Q, q), tt_attr_qspec(TT_A_QT, q), tt_attr_ints(s->b.g, TT_A_OF, 2, of)};
  a[3] = tt_attr_ints(s->b.g, TT_A_KEEP, 2, (int64_t[]){bias, !bias});
  sweep_in(s, tt_type_mx(TT_E2M1, M, K), 110, 130);
  sweep_in(s, tt_type_mx(TT_E2M1, N, K), 110, 130);
  if (bias) sweep_in(s, sweep_f32(1, N), -1, 1);
  sweep_op(s, TT_OP_MX_FUSED, 4, a, 0);
}

/* A float32 product in front: linear with a bias, kept, or a matmul, with sums over the rows of what comes out. */
static void fused_floats(sweep *s, int M, int N, int K, bool linear) {
  sweep_begin(s);
  tt_attr a[5] = {tt_attr_ints(s->b.g, TT_A_OF, 3, (int64_t[]){linear ? TT_OP_LINEAR : TT_OP_MATMUL, TT_OP_ADD, TT_OP_RELU}),
                  tt_attr_ints(s->b.g, TT_A_KEEP, 3, (int64_t[]){linear, 0, 1}), tt_attr_int(TT_A_COLSUM, !linear),
                  tt_attr_int(TT_A_TRANS_A, 0), tt_attr_int(TT_A_TRANS_B, 0)};
  sweep_in(s, sweep_f32(2, M, K), -1, 1);
  sweep_in(s, linear ? sweep_f32(2, N, K) : sweep_f32(2, K, N), -1, 1);
  if (linear) sweep_in(s, sweep_f32(1, N), -1, 1);
  sweep_in(s, sweep_f32(2, M, N), -1, 1);
  sweep_op(s, TT_OP_MX_FUSED, linear ? 3 : 5, a, 1e-5);
}

/* A product with nothing behind it but the sums over its rows. */
static void lone_product(sweep *s, tt_op op, int M, int N, int K) {
  bool mx = op == TT_OP_MX_GEMM;
  sweep_begin(s);
  tt_attr a[5] = {tt_attr_ints(s->b.g, TT_A_OF, 1, (int64_t[]){op}), tt_attr_ints(s->b.g, TT_A_KEEP, 1, (int64_t[]){1}),
                  tt_attr_int(TT_A_COLSUM, 1), tt_attr_int(TT_A_TRANS_A, 0), tt_attr_int(TT_A_TRANS_B, 1)};
  sweep_in(s, mx ? tt_type_mx(TT_E2M1, M, K) : sweep_f32(2, M, K), mx ? 110 : -1, mx ? 130 : 1);
  sweep_in(s, mx ? tt_type_mx(TT_E2M1, N, K) : sweep_f32(2, N, K), mx ? 110 : -1, mx ? 130 : 1);
  sweep_op(s, TT_OP_MX_FUSED, op == TT_OP_MATMUL ? 5 : 3, a, 1e-5);
}

void sweep_mx(sweep *s) {
  quantizers(s);
  begins_at_a_step(s, 40, 70);
  extremes(s);
  fused(s, 40, 33);
  fused(s, 300, 64);
  fused_product(s, 40, 33, 70, true);
  fused_product(s, 300, 512, 64, false);
  fused_floats(s, 40, 33, 70, true);
  fused_floats(s, 300, 576, 20, false);
  fused_floats(s, 40, 33, 70, false);
  lone_product(s, TT_OP_LINEAR, 300, 45, 20);
  lone_product(s, TT_OP_MATMUL, 40, 320, 20);
  lone_product(s, TT_OP_MX_GEMM, 300, 512, 64);
  for (int f = 0; f < TT_MX_FORMATS; f++) {
    columns(s, (tt_format)f, 7, 40);
    columns(s, (tt_format)f, 300, 192);
  }
  gemm(s, 5, 7, 33, true, 120, 134);
  gemm(s, 50, 100, 192, true, 100, 150);
  gemm(s, 96, 64, 4200, false, 120, 134);
  gemm(s, 33, 65, 96, true, 0, 20);    /* subnormal products */
  gemm(s, 33, 65, 96, false, 0, 256);  /* anything, NaN scales among it */
}
