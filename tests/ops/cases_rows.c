/* Softmax, layernorm, losses, with their gradients. */
#include "tests/ops/sweep.h"

static const int sizes[][2] = {{1, 1}, {3, 10}, {5, 16}, {40, 49}, {130, 197}, {65, 384}};
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

static void softmaxes(sweep *s) {
  for (int i = 0; i < N_SIZES; i++) {
    tt_type t = sweep_f32(3, 2, sizes[i][0], sizes[i][1]);
    sweep_begin(s);
    sweep_in(s, t, -30, 30);
    sweep_op(s, TT_OP_SOFTMAX, 0, NULL, 2e-6);
    sweep_begin(s);
    sweep_in(s, t, -1, 1);
    sweep_in(s, t, 0, 1);
    sweep_op(s, TT_OP_SOFTMAX_GRAD, 0, NULL, 1e-5);
  }
}

static void norms(sweep *s) {
  for (int i = 1; i < N_SIZES; i++) {
    tt_type t = sweep_f32(3, 2, sizes[i][0], sizes[i][1]), d = sweep_f32(1, sizes[i][1]), r = sweep_f32(1, 2 * sizes[i][0]);
    tt_attr epsilon = tt_attr_float(TT_A_EPSILON, 1e-5);
    sweep_begin(s);
    sweep_in(s, t, -1, 3);
    sweep_in(s, d, -2, 2);
    sweep_in(s, d, -2, 2);
    sweep_op(s, TT_OP_LAYERNORM, 1, &epsilon, 2e-5);
    sweep_begin(s);
    sweep_in(s, t, -1, 1);
    sweep_in(s, t, -1, 3);
    sweep_in(s, d, -2, 2);
    sweep_in(s, r, 0.8, 1.2);
    sweep_in(s, r, 0.5, 2);
    sweep_op(s, TT_OP_LAYERNORM_GRAD, 0, NULL, 2e-5);
  }
}

static tt_type labels(bool hard, int B, int C) {
  return hard ? tt_type_make(TT_I32, 1, (int64_t[]){B}) : sweep_f32(2, B, C);
}

static void losses(sweep *s, bool hard, double smoothing) {
  tt_attr a = tt_attr_float(TT_A_SMOOTHING, smoothing);
  for (int i = 0; i < N_SIZES; i++) {
    int B = sizes[i][0], C = sizes[i][1];
    double lo = hard ? -1 : 0, hi = hard ? C + 1 : 1; /* hard labels a little out of range, too */
    sweep_begin(s);
    sweep_in(s, sweep_f32(2, B, C), -10, 10);
    sweep_in(s, labels(hard, B, C), lo, hi);
    sweep_op(s, TT_OP_XENT, 1, &a, 1e-5);
    sweep_begin(s);
    sweep_in(s, sweep_f32(1, B), -1, 1);
    sweep_in(s, sweep_f32(2, B, C), -10, 10);
    sweep_in(s, labels(hard, B, C), lo, hi);
    sweep_op(s, TT_OP_XENT_GRAD, 1, &a, 1e-5);
    sweep_begin(s);
    sweep_in(s, sweep_f32(2, B, C), -10, 10);
    sweep_in(s, labels(hard, B, C), lo, hi);
    sweep_op(s, TT_OP_CORRECT, 0, NULL, 0);
  }
}

/* Equal maxima: the lowest index counts. */
static void ties(sweep *s) {
  enum { C = 40 };
  double logits[3 * C] = {0};
  logits[17] = logits[18] = logits[37] = 5;
  logits[C + 39] = 1;
  sweep_begin(s);
  sweep_data(s, sweep_f32(2, 3, C), logits);
  sweep_data(s, tt_type_make(TT_I32, 1, (int64_t[]){3}), (double[]){17, 39, 0});
  sweep_op(s, TT_OP_CORRECT, 0, NULL, 0);
}

void sweep_rows(sweep *s) {
  softmaxes(s);
  norms(s);
  for (int hard = 0; hard < 2; hard++)
    for (int smooth = 0; smooth < 2; smooth++) losses(s, hard, 0.1 * smooth);
  ties(s);
}
