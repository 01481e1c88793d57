/* Text form of quantizer settings: "off" or FORMAT:SCALE:ROUNDING[:SOURCE]. */
#include <stdio.h>
#include <string.h>
#include "compiler/ir/qspec.h"

static const char *const formats[TT_FORMAT_COUNT] = {"e2m1", "e3m0", "int4"};
static const char *const scales[TT_SCALE_COUNT] = {"ceil", "floor", "tensor"};
static const char *const roundings[TT_ROUNDING_COUNT] = {"nearest", "stochastic", "ema"};
static const char *const sources[TT_SOURCE_COUNT] = {"direct", "double"};

/* Two quantizers that are off are equal, whatever else they say. */
bool tt_qspec_equal(tt_qspec a, tt_qspec b) {
  if (!a.on || !b.on) return a.on == b.on;
  return a.format == b.format && a.scale == b.scale && a.rounding == b.rounding && a.source == b.source;
}

char *tt_qspec_print(tt_qspec q, char *buf, size_t n) {
  if (!q.on)
    snprintf(buf, n, "off");
  else
    snprintf(buf, n, "%s:%s:%s%s", formats[q.format], scales[q.scale], roundings[q.rounding],
             q.source == TT_DOUBLE ? ":double" : "");
  return buf;
}

/* Takes one word up to ':' or the end off *s; the ':' goes with it, so a trailing one leaves an empty word to refuse. */
static bool take(const char **s, const char *const *names, int count, uint8_t *out) {
  size_t len = strcspn(*s, ":");
  for (int i = 0; i < count; i++) {
    if (strlen(names[i]) != len || memcmp(names[i], *s, len) != 0) continue;
    *out = (uint8_t)i;
    *s += len;
    return true;
  }
  return false;
}

static bool colon(const char **s) {
  if (**s != ':') return false;
  ++*s;
  return true;
}

bool tt_qspec_parse(const char *s, tt_qspec *out) {
  tt_qspec q = {.on = false};
  if (strcmp(s, "off") != 0) {
    q.on = true;
    if (!take(&s, formats, TT_FORMAT_COUNT, &q.format) || !colon(&s)) return false;
    if (!take(&s, scales, TT_SCALE_COUNT, &q.scale) || !colon(&s)) return false;
    if (!take(&s, roundings, TT_ROUNDING_COUNT, &q.rounding)) return false;
    if (*s && (!colon(&s) || !take(&s, sources, TT_SOURCE_COUNT, &q.source) || *s)) return false;
  }
  *out = q;
  return true;
}

const char *tt_qspec_fault(tt_qspec q) {
  bool int4 = q.format == TT_INT4, tensor = q.scale == TT_SCALE_TENSOR;
  if (int4 && !tensor) return "INT4 has one scale for the whole tensor, max |x| / 7: its scale is tensor, not ceil or floor";
  if (tensor && !int4)
    return "only INT4 has one scale for the whole tensor: E2M1 and E3M0 have one a block, by the rule ceil or floor";
  if (int4 && q.rounding == TT_EMA) return "INT4 is rounded to nearest or stochastically: Q-EMA belongs to MXFP4";
  return NULL;
}
