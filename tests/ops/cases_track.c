/* The instruments: histograms with values on the ends of bins, ties of the largest, tails of blocks. */
#include <math.h>
#include "tests/ops/sweep.h"

static void histogram(sweep *s, double low, double high, int bins) {
  tt_attr a[3] = {tt_attr_float(TT_A_LOW, low), tt_attr_float(TT_A_HIGH, high), tt_attr_int(TT_A_BINS, bins)};
  double ends[9] = {low, high, low - 1, high + 1, (low + high) / 2, -1e30, 1e30, 0, -0.0};
  sweep_begin(s);
  sweep_in(s, sweep_f32(2, 70, 33), low - 0.5, high + 0.5);
  sweep_data(s, sweep_f32(1, 9), ends);
  sweep_in(s, sweep_f32(0), low, high);
  sweep_op(s, TT_OP_HISTOGRAM, 3, a, 0);
}

static void arg_max(sweep *s) {
  double ties[5] = {-3, -1, -2, -1, -1};
  sweep_begin(s);
  sweep_in(s, sweep_f32(2, 40, 33), -1, 1);
  sweep_data(s, sweep_f32(1, 5), ties);
  sweep_in(s, sweep_f32(0), -1, 1);
  sweep_op(s, TT_OP_ARG_MAX, 0, NULL, 0);
}

/* `special`, NaN or Inf, in some blocks (0: none): where it is, nothing is known. */
static void confidence(sweep *s, tt_format format, tt_scale_rule scale, int rows, int cols, double special) {
  tt_qspec q = {true, (uint8_t)format, (uint8_t)scale, TT_NEAREST, TT_DIRECT};
  tt_attr a = tt_attr_qspec(TT_A_Q, q);
  double *v = TT_NEW_N(s->target_arena, double, rows * cols);
  for (int i = 0; i < rows * cols; i++) {
    double x = sweep_random(s, -6, 6);
    if (i % 5 == 0) x = floor(x * 4) / 4; /* grid values and thresholds among them */
    v[i] = (double)(float)(i / 64 % 7 == 0 ? 0 : ldexp(x, i / cols % 40 - 20));
  }
  if (special) v[rows * cols - 1] = NAN, v[3 * cols + 1] = special, v[5 * cols] = -special;
  sweep_begin(s);
  sweep_data(s, sweep_f32(2, rows, cols), v);
  sweep_op(s, TT_OP_MX_CONFIDENCE, 1, &a, 1e-6);
}

void sweep_track(sweep *s) {
  histogram(s, 0, 1, 20);
  histogram(s, 0, 32, 2);
  histogram(s, -3, 5, 1);
  arg_max(s);
  for (int f = 0; f < TT_MX_FORMATS; f++)
    for (int scale = 0; scale < TT_MX_SCALES; scale++) {
      confidence(s, (tt_format)f, (tt_scale_rule)scale, 40, 33, 0);
      confidence(s, (tt_format)f, (tt_scale_rule)scale, 64, 96, 0);
      confidence(s, (tt_format)f, (tt_scale_rule)scale, 7, 65, NAN);
      confidence(s, (tt_format)f, (tt_scale_rule)scale, 7, 65, INFINITY);
    }
  sweep_begin(s);
  sweep_in(s, tt_type_mx(TT_E2M1, 7, 40), 90, 150);
  sweep_in(s, tt_type_mx(TT_E3M0, 64, 33), 0, 256);
  sweep_op(s, TT_OP_MX_CENSUS, 0, NULL, 0);
}
