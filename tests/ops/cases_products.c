/* Matrix products and linear layers: broadcast leading dimensions, all transpositions, tails in every direction. */
#include "tests/ops/sweep.h"

static tt_type matrix(int batch, int rows, int cols) {
  return batch ? sweep_f32(3, batch, rows, cols) : sweep_f32(2, rows, cols);
}

static void matmul(sweep *s, int batch_a, int batch_b, int M, int N, int K) {
  for (int t = 0; t < 4; t++) {
    tt_attr a[2] = {tt_attr_int(TT_A_TRANS_A, t & 1), tt_attr_int(TT_A_TRANS_B, t >> 1)};
    sweep_begin(s);
    sweep_in(s, t & 1 ? matrix(batch_a, K, M) : matrix(batch_a, M, K), -1, 1);
    sweep_in(s, t & 2 ? matrix(batch_b, N, K) : matrix(batch_b, K, N), -1, 1);
    sweep_op(s, TT_OP_MATMUL, 2, a, 1e-5);
  }
}

static void linear(sweep *s, tt_type x, int C, bool bias) {
  sweep_begin(s);
  sweep_in(s, x, -1, 1);
  sweep_in(s, sweep_f32(2, C, (int)tt_type_last(&x)), -1, 1);
  if (bias) sweep_in(s, sweep_f32(1, C), -1, 1);
  sweep_op(s, TT_OP_LINEAR, 0, NULL, 1e-5);
}

void sweep_products(sweep *s) {
  matmul(s, 0, 0, 7, 5, 3);
  matmul(s, 3, 3, 33, 50, 65);
  matmul(s, 0, 4, 20, 70, 19);
  matmul(s, 4, 0, 20, 70, 19);
  linear(s, sweep_f32(2, 50, 33), 10, true);
  linear(s, sweep_f32(3, 4, 49, 96), 100, true);
  linear(s, sweep_f32(3, 4, 49, 96), 288, false);
}
