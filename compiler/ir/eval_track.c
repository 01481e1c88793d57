/* Rules of the instruments. */
#include <math.h>
#include "compiler/ir/eval_rules.h"
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

/* y >= 0 in units of the scale. */
static double confidence(tt_format format, double y) {
  double below = 0, value = (double)tt_mx_code_value(format, 0);
  for (unsigned code = 0; code < 7; code++) {
    double next = (double)tt_mx_code_value(format, code + 1), above = (value + next) / 2;
    if (y <= above) return code ? fmin(y - below, above - y) / ((above - below) / 2) : (above - y) / above;
    below = above;
    value = next;
  }
  return fmin(1, (y - below) / (value - below));
}

void tt_eval_mx_confidence(tt_eval_ctx *c) {
  tt_qspec q = tt_node_qspec(c->g, c->node, TT_A_Q);
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

void tt_eval_mx_census(tt_eval_ctx *c) {
  for (int k = 0; k < c->n_in; k++) {
    const tt_type *t = &c->in[k].type;
    int64_t nb = tt_mx_blocks(t->dim[1]);
    const uint8_t *codes = c->in[k].mx, *scales = codes + tt_mx_scale_offset(t);
    for (int64_t r = 0; r < t->dim[0]; r++)
      for (int64_t i = 0; i < t->dim[1]; i++) {
        int byte = codes[(r * nb * TT_MX_BLOCK + i) / 2];
        c->out[0].d[k * 8 + ((i & 1 ? byte >> 4 : byte) & 7)]++;
      }
    for (int64_t b = 0; b < t->dim[0] * nb; b++) c->out[1].d[k * 256 + scales[b]]++;
  }
}
