/* One quantizer's setting: what a recipe says of each of Q1..Q6 and what mx.* ops carry as attribute. Text form, as in
 * .ttir and in recipes: "off" or "e2m1:ceil:nearest" or "e2m1:ceil:stochastic:double" or "int4:tensor:nearest". */
#ifndef TT_QSPEC_H
#define TT_QSPEC_H
#include <stdbool.h>
#include <stddef.h>
#include "compiler/ir/types.h"

/* NUMERICS 2; TENSOR: one float32 scale for the whole tensor, max |x| / 7 (NUMERICS 9), which is INT4's and no other's. */
typedef enum { TT_SCALE_CEIL, TT_SCALE_FLOOR, TT_MX_SCALES, TT_SCALE_TENSOR = TT_MX_SCALES, TT_SCALE_COUNT } tt_scale_rule;
typedef enum { TT_NEAREST, TT_STOCHASTIC, TT_EMA, TT_ROUNDING_COUNT } tt_rounding;    /* NUMERICS 3 */
typedef enum { TT_DIRECT, TT_DOUBLE, TT_SOURCE_COUNT } tt_source; /* Q4, Q6: from the latent tensor, or from Q2(W), Q1(X) */

typedef struct tt_qspec {
  bool on;
  uint8_t format;   /* tt_format */
  uint8_t scale;    /* tt_scale_rule */
  uint8_t rounding; /* tt_rounding */
  uint8_t source;   /* tt_source; means nothing for Q1, Q2, Q3, Q5 */
} tt_qspec;

bool tt_qspec_equal(tt_qspec a, tt_qspec b);
char *tt_qspec_print(tt_qspec q, char *buf, size_t n); /* 64 bytes suffice; ":double" only where source is double */
bool tt_qspec_parse(const char *s, tt_qspec *out);
/* NULL, or what in an enabled quantizer does not go together: a block scale with INT4, say. */
const char *tt_qspec_fault(tt_qspec q);
#endif
