/* Q-EMA in generated code against a reference that tries all codes: of the values of the grid that enclose w/S, the one
 * nearer to the moving average, which may lie anywhere. Ten million weights, every kind of average. */
#include <math.h>
#include <string.h>
#include "compiler/ir/mx.h"
#include "jit_case.h"

enum { ROWS = 256, COLS = 1056, ROUNDS = 10 };

static const double grids[TT_MX_FORMATS][8] = {{0, 0.5, 1, 1.5, 2, 3, 4, 6}, {0, 0.25, 0.5, 1, 2, 4, 8, 16}};

/* The smallest scale at which nothing in the block is beyond the grid. */
static int searched_scale(tt_format f, const float *w) {
  double max = 0, scale = 0x1p-127;
  int byte = 0;
  for (int i = 0; i < TT_MX_BLOCK; i++) max = fmax(max, fabs((double)w[i]));
  for (; max > grids[f][7] * scale; scale *= 2) byte++;
  return byte;
}

/* As signed numbers; of two grid values as near to the average the one of larger magnitude. */
static unsigned searched_code(tt_format f, float w, double S, float ema) {
  double y = (double)w / S, e = (double)ema / S, best = INFINITY;
  double below = -INFINITY, above = INFINITY;
  unsigned sign = signbit(w) ? 8 : 0, code = 0;
  for (int i = -7; i <= 7; i++) {
    double v = i < 0 ? -grids[f][-i] : grids[f][i];
    if (v <= y) below = v;
    if (v >= y && above == INFINITY) above = v;
  }
  for (unsigned i = 0; i < 8; i++) {
    double v = sign ? -grids[f][i] : grids[f][i];
    if (v != below && v != above) continue;
    double far = below == above ? 0 : fabs(e - v);
    if (far <= best) best = far, code = i; // magnitudes ascend
  }
  return code | sign;
}

static float uniform(uint32_t *r) { return (float)jit_random(r) / 8388608.0f - 1; }

/* Averages: near the weight, at the middle of two grid values, on the grid, far outside, of the other sign, equal. */
static void fill(tt_format f, float *w, float *ema, uint32_t *r) {
  for (int b = 0; b < ROWS * COLS / TT_MX_BLOCK; b++, w += TT_MX_BLOCK, ema += TT_MX_BLOCK) {
    int exponent = b % 5 == 0 ? -128 - (int)(jit_random(r) % 12) : (int)(jit_random(r) % 200) - 110;
    for (int i = 0; i < TT_MX_BLOCK; i++) w[i] = b % 13 ? ldexpf(uniform(r), exponent) : 0.0f;
    if (b % 7 == 0) w[5] = 0;
    double S = tt_mx_scale_value((uint8_t)searched_scale(f, w));
    for (int i = 0; i < TT_MX_BLOCK; i++) {
      unsigned k = jit_random(r) % 7;
      double middle = (grids[f][k] + grids[f][k + 1]) / 2 * S, sign = signbit(w[i]) ? -1 : 1;
      switch (jit_random(r) % 8) {
      case 0: ema[i] = (float)(sign * middle); break;
      case 1: ema[i] = nextafterf((float)(sign * middle), 0); break;
      case 2: ema[i] = (float)(sign * grids[f][k] * S); break;
      case 3: ema[i] = (float)(uniform(r) * 30 * S); break;
      case 4: ema[i] = -w[i]; break;
      case 5: ema[i] = w[i]; break;
      default: ema[i] = (float)((double)w[i] + uniform(r) * S); break;
      }
      if (jit_random(r) % 16 == 0) w[i] = (float)(sign * fmin(grids[f][k], (double)fabsf(w[i]) / S) * S);
    }
  }
}

static void check(tt_format f, const char *target, uint32_t *r) {
  tt_qspec q = {.on = true, .format = (uint8_t)f, .scale = TT_SCALE_CEIL, .rounding = TT_EMA};
  tt_type type = tt_type_make(TT_F32, 2, (int64_t[]){ROWS, COLS});
  tt_attr attr = tt_attr_qspec(TT_A_Q, q);
  jit_case t = jit_case_next(TT_OP_MX_QUANTIZE, 2, (tt_type[]){type, type}, 1, &attr, target);
  for (int round = 0; t.jit && round < ROUNDS; round++) {
    tt_arena *arena = tt_arena_create();
    float *w = TT_NEW_N(arena, float, ROWS *COLS), *ema = TT_NEW_N(arena, float, ROWS *COLS);
    fill(f, w, ema, r);
    tt_tensor in[2] = {tt_tensor_from_bytes(arena, type, w), tt_tensor_from_bytes(arena, type, ema)};
    tt_tensor got = jit_case_run(&t, in, 2);
    const uint8_t *scales = got.mx + tt_mx_scale_offset(&got.type);
    for (int i = 0; i < ROWS * COLS; i++) {
      int b = i / TT_MX_BLOCK, scale = searched_scale(f, w + b * TT_MX_BLOCK);
      unsigned code = got.mx[i / 2] >> 4 * (i & 1) & 15,
               want = searched_code(f, w[i], tt_mx_scale_value((uint8_t)scale), ema[i]);
      if (scales[b] != scale) fail_msg("%s: scale %d, expected %d", target, scales[b], scale);
      if (code != want)
        fail_msg("%s: w %a, ema %a, scale %d: code %u, expected %u", target, (double)w[i], (double)ema[i], scale, code,
                 want);
    }
    tt_arena_destroy(arena);
  }
  jit_case_close(&t);
}

static void ema_codes_equal_a_search(void **state) {
  (void)state;
  uint32_t r = 17;
  for (const char *const *target = jit_targets(); *target; target++)
    for (int f = 0; f < TT_MX_FORMATS; f++) check((tt_format)f, *target, &r);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(ema_codes_equal_a_search)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
