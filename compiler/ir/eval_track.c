/* Rules of the instruments. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "compiler/ir/eval_rules.h"
#include "compiler/ir/int4.h"
#include "compiler/ir/mx.h"

void tt_eval_histogram(tt_eval_ctx *c) {
  double low = tt_eval_float(c, TT_A_LOW), high = tt_eval_float(c, TT_A_HIGH);
  int64_t bins = tt_eval_int(c, TT_A_BINS);
  for (int k = 0; k < c->n_in; k++) {
    int64_t n = tt_type_count(&c->in[k].type);
    for (int64_t i = 0; i < n; i++) {
      double bin = ceil((c->in[k].d[i] - low) * ((double)bins / (high - low))) - 1;
      if (!(bin > 0)) bin = 0;
      if (bin > (double)(bins - 1)) bin = (double)(bins - 1);
      c->out[0].d[k * bins + (int64_t)bin]++;
    }
  }
}

void tt_eval_arg_max(tt_eval_ctx *c) {
  for (int k = 0; k < c->n_in; k++) {
    int64_t n = tt_type_count(&c->in[k].type), best = 0;
    for (int64_t i = 1; i < n; i++)
      if (c->in[k].d[i] > c->in[k].d[best]) best = i;
    c->out[0].d[k] = (double)best;
  }
}

/* y >= 0 in units of the scale, or NaN. */
static double confidence(tt_format format, double y) {
  double below = 0, value = 0;
  if (isnan(y)) return y;
  for (unsigned code = 0; code < 7; code++) {
    double next = format == TT_INT4 ? code + 1 : (double)tt_mx_code_value(format, code + 1), above = (value + next) / 2;
    if (y <= above) return code ? fmin(y - below, above - y) / ((above - below) / 2) : (above - y) / above;
    below = above;
    value = next;
  }
  return fmin(1, (y - below) / (value - below));
}

/* One scale for all of x: thresholds lie half way between whole numbers. */
static void int4_confidence(tt_eval_ctx *c) {
  int64_t n = tt_type_count(&c->in[0].type);
  const double *x = c->in[0].d;
  float max = 0;
  for (int64_t i = 0; i < n && !isnan(max); i++) max = isnan(x[i]) ? NAN : fmaxf(max, fabsf((float)x[i]));
  const double scale = (double)tt_int4_scale(max);
  for (int64_t i = 0; i < n; i++) c->out[0].d[i] = confidence(TT_INT4, fabs(x[i]) / scale);
}

void tt_eval_mx_confidence(tt_eval_ctx *c) {
  tt_qspec q = tt_node_qspec(c->g, c->node, TT_A_Q);
  if (q.format == TT_INT4) {
    int4_confidence(c);
    return;
  }
  int64_t K = tt_type_last(&c->in[0].type), rows = tt_type_rows(&c->in[0].type);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t k = 0; k < K; k += TT_MX_BLOCK) {
      const double *x = c->in[0].d + r * K + k;
      int64_t n = K - k < TT_MX_BLOCK ? K - k : TT_MX_BLOCK;
      float max = 0;
      for (int64_t i = 0; i < n; i++) max = isnan(x[i]) ? NAN : fabsf((float)x[i]) > max ? fabsf((float)x[i]) : max;
      uint8_t scale = tt_mx_scale((tt_format)q.format, (tt_scale_rule)q.scale, max);
      for (int64_t i = 0; i < n; i++)
        c->out[0].d[r * K + k + i] = confidence((tt_format)q.format, fabs(x[i]) / tt_mx_scale_value(scale));
    }
}

/* Magnitude code of a nibble: its number without the sign, 7 for INT4's unused -8. */
static int magnitude_code(tt_format format, int nibble) {
  if (format != TT_INT4) return nibble & 7;
  int value = abs(tt_int4_value((unsigned)nibble));
  return value > 7 ? 7 : value;
}

void tt_eval_mx_census(tt_eval_ctx *c) {
  for (int k = 0; k < c->n_in; k++) {
    const tt_type *t = &c->in[k].type;
    int64_t nb = tt_mx_blocks(t->dim[1]);
    const uint8_t *codes = c->in[k].mx, *scales = codes + tt_mx_scale_offset(t);
    for (int64_t r = 0; r < t->dim[0]; r++)
      for (int64_t i = 0; i < t->dim[1]; i++) {
        int byte = codes[(r * nb * TT_MX_BLOCK + i) / 2];
        c->out[0].d[k * 8 + magnitude_code((tt_format)t->format, (i & 1 ? byte >> 4 : byte) & 15)]++;
      }
    if (t->format == TT_INT4) {
      uint32_t bits; /* of the one scale, whose exponent takes the place of a scale byte */
      memcpy(&bits, scales, sizeof bits);
      c->out[1].d[k * 256 + (bits >> 23 & 255)]++;
      continue;
    }
    for (int64_t b = 0; b < t->dim[0] * nb; b++) c->out[1].d[k * 256 + scales[b]]++;
  }
}
