/* Generated quantizers against a second reading of NUMERICS 1 to 3 that shares no code and no method with compiler/ir/mx.c:
 * scales by trying all, codes by counting the thresholds that a value has passed. Each of the six quantizers' kernels meets
 * ten million values under each setting: every tie with both its neighbours at every scale, saturation, subnormal values
 * and scales, blocks of zeros, of NaN and infinity. (Rounding by a moving average: test_mx_ema.c.) */
#include <math.h>
#include <string.h>
#include "jit_case.h"

enum { ROWS = 1000, COLS = 1000, BLOCKS = 32, PADDED = 32 * BLOCKS, ROUNDS = 10, SEED = 5, TENSOR = 77, NAN_SCALE = 255 };

/* The matrix to make is always [ROWS, COLS] in 31 whole blocks a row and a tail. */
typedef enum { ALONG, ACROSS, AGAIN } layout;
static const struct {
  layout kind;
  const char *what;
} quantizers[] = {
    {ALONG, "Q1, Q2, Q3: mx.quantize along rows"},
    {ACROSS, "Q5, and Q4, Q6 of unquantized operands: mx.quantize across rows"},
    {AGAIN, "Q4, Q6 under double quantization: mx.requantize"},
};

/* ---- the reference ---- */

typedef struct grid {
  double value[8], middle[7]; /* by code; between a code and the next */
  double power;               /* the largest power of two */
} grid;
static grid grids[TT_MX_FORMATS] = {{.value = {0, 0.5, 1, 1.5, 2, 3, 4, 6}, .power = 4},
                                      {.value = {0, 0.25, 0.5, 1, 2, 4, 8, 16}, .power = 16}};
static double power[255]; /* of the scale bytes */

static void make_tables(void) {
  power[127] = 1;
  for (int i = 128; i < 255; i++) power[i] = 2 * power[i - 1];
  for (int i = 126; i >= 0; i--) power[i] = power[i + 1] / 2;
  for (int f = 0; f < TT_MX_FORMATS; f++)
    for (int i = 0; i < 7; i++) grids[f].middle[i] = (grids[f].value[i] + grids[f].value[i + 1]) / 2;
}

/* ceil: how many scales are too small for the largest value. floor: the last at which it reaches the largest power of two. */
static int scale_of(const grid *g, tt_scale_rule rule, const float *x, int n) {
  double max = 0;
  for (int i = 0; i < n; i++) {
    double a = fabs((double)x[i]);
    if (!isfinite(a)) return NAN_SCALE;
    if (a > max) max = a;
  }
  int small = 0, reached = 0;
  for (int i = 0; i < 255 && rule == TT_SCALE_CEIL; i++) small += power[i] * g->value[7] < max;
  for (int i = 0; i < 255 && rule == TT_SCALE_FLOOR; i++) reached += power[i] * g->power <= max;
  return rule == TT_SCALE_CEIL ? small : reached ? reached - 1 : 0;
}

/* What was met, so that a run proves what it claims. */
typedef struct census {
  long ties[7], saturated, zero_blocks, nan_blocks, values;
  bool scale[256];
} census;

static unsigned nearest(const grid *g, double y, census *met) {
  unsigned code = 0;
  for (unsigned i = 0; i < 7; i++) {
    bool tie = y == g->middle[i];
    met->ties[i] += tie;
    code += y > g->middle[i] || (tie && i % 2);
  }
  return code;
}

/* Up with as many of 65,536 equal chances as the way from the lower neighbour has whole parts. */
static unsigned stochastic(const grid *g, double y, unsigned bits) {
  unsigned lo = 0;
  for (int i = 1; i < 8; i++) lo += y >= g->value[i];
  if (lo == 7) return 7;
  double part = (y - g->value[lo]) / (g->value[lo + 1] - g->value[lo]);
  return lo + (bits + (unsigned)(part * 65536) >= 65536);
}

static uint64_t scrambled(uint64_t z) {
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}

/* The 16 bits of an element, counted over the padded matrix; arithmetic modulo 2^32 by remainders. */
static unsigned bits_of(uint64_t key, uint64_t element) {
  const uint64_t M = UINT64_C(1) << 32;
  uint64_t h = (element / 2 % M) ^ key % M;
  h = (h ^ h / 65536) * 0x7feb352d % M;
  h = (h + key / M) % M;
  h = (h ^ h / 32768) * 0x846ca68b % M;
  h ^= h / 65536;
  return (unsigned)(element % 2 ? h / 65536 : h % 65536);
}

/* x [ROWS,COLS] -> its codes, two a byte, and behind them the scales. */
static void quantize(tt_qspec q, const float *x, int64_t step, uint8_t *out, census *met) {
  const grid *g = &grids[q.format];
  uint64_t key = scrambled(scrambled(scrambled(SEED) + (uint64_t)step) + TENSOR);
  uint8_t *scales = out + ROWS * PADDED / 2;
  memset(out, 0, ROWS * PADDED / 2);
  for (int b = 0; b < ROWS * BLOCKS; b++) {
    int from = b % BLOCKS * 32, n = COLS - from < 32 ? COLS - from : 32;
    const float *v = x + b / BLOCKS * COLS + from;
    int scale = scale_of(g, q.scale, v, n), zeros = 0;
    scales[b] = (uint8_t)scale;
    met->scale[scale] = true;
    met->nan_blocks += scale == NAN_SCALE;
    met->values += n;
    for (int i = 0; i < n && scale != NAN_SCALE; i++) {
      double y = fabs((double)v[i]) / power[scale];
      int e = b * 32 + i;
      unsigned code = q.rounding == TT_NEAREST ? nearest(g, y, met) : stochastic(g, y, bits_of(key, (uint64_t)e));
      zeros += y == 0;
      met->saturated += y > g->value[7];
      out[e / 2] |= (uint8_t)((code | (signbit(v[i]) ? 8 : 0)) << (e % 2 ? 4 : 0));
    }
    met->zero_blocks += zeros == n;
  }
}

/* ---- the values ---- */

static uint32_t random_bits(uint64_t *r) {
  *r = *r * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(*r >> 32);
}

static float from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static float bounded(double x) {
  float f = (float)x;
  return isfinite(f) ? f : from_bits(0x7f7fffff);
}

/* All middles and what lies to either side of them, at a scale that the first value enforces. */
static void fill_ties(const grid *g, tt_scale_rule rule, float *x, int n, int scale, uint64_t *r) {
  for (int i = 1; i < n; i++) {
    float middle = bounded(g->middle[i % 7] * power[scale]);
    x[i] = i < 8 ? middle : i < 15 ? nextafterf(middle, 0) : i < 22 ? nextafterf(middle, INFINITY) : -middle;
    if (random_bits(r) & 1) x[i] = -x[i];
    if (!isfinite(x[i])) x[i] = 0;
  }
  x[0] = bounded((rule == TT_SCALE_CEIL ? g->value[7] : g->power) * power[scale]);
}

/* Grid points, and under floor scales values beyond the last of them. */
static void fill_grid(const grid *g, tt_scale_rule rule, float *x, int n, int scale, uint64_t *r) {
  double beyond = rule == TT_SCALE_CEIL ? g->value[7] : 2 * g->power;
  for (int i = 0; i < n; i++) {
    uint32_t bits = random_bits(r);
    double y = bits % 4 ? g->value[bits / 4 % 8] : (double)(bits >> 8) / (1 << 24) * beyond;
    x[i] = bounded((bits & 32 ? -y : y) * power[scale]);
  }
}

/* Any mantissa, exponents within 8 of a middle one; below it, the float's subnormals. */
static void fill_random(float *x, int n, uint64_t *r) {
  uint32_t base = random_bits(r) % 247;
  for (int i = 0; i < n; i++) {
    uint32_t bits = random_bits(r);
    x[i] = from_bits((bits & 0x807fffff) | (base + (random_bits(r) & 7)) << 23);
  }
}

static void fill_block(tt_qspec q, float *x, int n, int block, uint64_t *r) {
  const grid *g = &grids[q.format];
  int scale = block / 8 % 255;
  switch (block % 8) {
  case 0: fill_ties(g, (tt_scale_rule)q.scale, x, n, scale, r); return;
  case 1: fill_grid(g, (tt_scale_rule)q.scale, x, n, scale, r); return;
  case 2:
    for (int i = 0; i < n; i++) x[i] = from_bits(random_bits(r) & 0x800fffff); /* subnormal */
    return;
  case 3:
    for (int i = 0; i < n; i++) x[i] = block % 16 == 3 ? from_bits(random_bits(r) & 0x80000000) : bounded(power[block % 9]);
    return;
  default: fill_random(x, n, r);
  }
  if (block % 64 == 7) x[random_bits(r) % (unsigned)n] = block % 128 == 7 ? NAN : -INFINITY;
}

static void fill(tt_qspec q, float *x, int round, uint64_t *r) {
  for (int b = 0; b < ROWS * BLOCKS; b++) {
    int from = b % BLOCKS * 32, n = COLS - from < 32 ? COLS - from : 32;
    fill_block(q, x + b / BLOCKS * COLS + from, n, b + round * 4001, r);
  }
}

static void transpose(const float *x, float *to) {
  for (int i = 0; i < ROWS; i++)
    for (int k = 0; k < COLS; k++) to[k * ROWS + i] = x[i * COLS + k];
}

/* What a packed [COLS,ROWS] matrix of random codes holds, as x [ROWS,COLS]. Scales differ by little along x's rows, where the
 * blocks to be made lie. */
static void fill_packed(uint8_t *mx, float *x, uint64_t *r) {
  uint8_t *scales = mx + COLS * PADDED / 2;
  memset(mx, 0, COLS * PADDED / 2);
  for (int b = 0; b < COLS * BLOCKS; b++) {
    int k = b / BLOCKS, from = b % BLOCKS * 32, n = ROWS - from < 32 ? ROWS - from : 32;
    int base = (k / 32 * 37 + b % BLOCKS * 11) % 256;
    uint32_t spread = random_bits(r) % 6;
    scales[b] = (uint8_t)(base == NAN_SCALE ? base : base + (int)spread > 254 ? 254 : base + (int)spread);
    for (int i = 0; i < n; i++) {
      unsigned code = (k / 32 + b % BLOCKS) % 9 ? random_bits(r) >> 28 : random_bits(r) >> 28 & 8; /* zeros of both signs */
      double v = grids[TT_E2M1].value[code & 7];
      mx[(b * 32 + i) / 2] |= (uint8_t)(code << (i % 2 ? 4 : 0));
      v = scales[b] == NAN_SCALE ? NAN : v * power[scales[b]];
      x[(from + i) * COLS + k] = (float)(code & 8 ? -v : v);
    }
  }
}

/* ---- the comparison ---- */

typedef struct run {
  tt_qspec q;
  layout kind;
  jit_case jit[JIT_TARGETS];
  int n_targets;
} run;

static run open_run(tt_qspec q, layout kind) {
  run t = {.q = q, .kind = kind};
  tt_type in[2] = {kind == AGAIN ? tt_type_mx(TT_E2M1, COLS, ROWS) : tt_type_make(TT_F32, 2, (int64_t[]){ROWS, COLS}),
                   tt_type_make(TT_I64, 1, (int64_t[]){2})};
  if (kind == ACROSS) in[0] = tt_type_make(TT_F32, 2, (int64_t[]){COLS, ROWS});
  tt_attr attrs[3] = {tt_attr_qspec(TT_A_Q, q)};
  int n = 1, random = q.rounding == TT_STOCHASTIC;
  if (kind == ACROSS) attrs[n++] = tt_attr_int(TT_A_TRANSPOSED, 1);
  if (random) attrs[n++] = tt_attr_int(TT_A_TENSOR, TENSOR);
  for (const char *const *target = jit_targets(); *target; target++)
    t.jit[t.n_targets++] =
        jit_case_next(kind == AGAIN ? TT_OP_MX_REQUANTIZE : TT_OP_MX_QUANTIZE, 1 + random, in, n, attrs, *target);
  return t;
}

static void expect_same(const run *t, int target, const uint8_t *want, const tt_tensor *got, const float *x, int which) {
  if (memcmp(want, got->mx, tt_type_bytes(&got->type)) == 0) return;
  const uint8_t *scales[2] = {want + ROWS * PADDED / 2, got->mx + ROWS * PADDED / 2};
  char text[64];
  for (int e = 0; e < ROWS * PADDED; e++) {
    unsigned a = want[e / 2] >> 4 * (e & 1) & 15, b = got->mx[e / 2] >> 4 * (e & 1) & 15;
    if (a == b && scales[0][e / 32] == scales[1][e / 32]) continue;
    fail_msg("%s, %s, %s: row %d, column %d, value %a: code %u at scale %d, expected %u at %d", quantizers[which].what,
             tt_qspec_print(t->q, text, sizeof text), jit_targets()[target], e / PADDED, e % PADDED,
             (double)x[e / PADDED * COLS + e % PADDED], b, scales[1][e / 32], a, scales[0][e / 32]);
  }
}

static void one_round(run *t, int which, int round, census *met, uint64_t *r) {
  static float x[ROWS * COLS], turned[ROWS * COLS];
  static uint8_t want[ROWS * PADDED / 2 + ROWS * BLOCKS], packed[COLS * PADDED / 2 + COLS * BLOCKS];
  tt_arena *arena = tt_arena_create();
  tt_tensor in[2] = {{.type = t->jit[0].g->values.data[0].type},
                     tt_tensor_from_bytes(arena, tt_type_make(TT_I64, 1, (int64_t[]){2}), (int64_t[]){SEED, round})};
  if (t->kind == AGAIN) {
    fill_packed(packed, x, r);
    in[0].mx = packed;
  } else {
    fill(t->q, x, round, r);
    transpose(x, turned);
    in[0] = tt_tensor_from_bytes(arena, in[0].type, t->kind == ACROSS ? turned : x);
  }
  quantize(t->q, x, round, want, met);
  for (int i = 0; i < t->n_targets; i++) {
    if (!t->jit[i].jit) continue;
    tt_tensor got = jit_case_run(&t->jit[i], in, 1);
    expect_same(t, i, want, &got, x, which);
  }
  tt_arena_destroy(arena);
}

/* Requantizing meets no middles of E2M1 and no saturation: what it reads is on that grid already. */
static void check_census(const run *t, const census *met) {
  int scales = 0;
  for (int i = 0; i < 255; i++) scales += met->scale[i];
  assert_true(met->values >= 10000000 && met->zero_blocks > 1000 && met->nan_blocks > 1000 && met->scale[0]);
  assert_true(scales >= 250);
  if (t->kind == AGAIN) return;
  for (int i = 0; i < 7 && t->q.rounding == TT_NEAREST; i++) assert_true(met->ties[i] > 10000);
  assert_true((met->saturated > 10000) == (t->q.scale == TT_SCALE_FLOOR && t->q.format == TT_E2M1) || t->q.format == TT_E3M0);
}

static void quantizers_equal_the_reference(void **state) {
  (void)state;
  uint64_t r = 23;
  make_tables();
  for (int which = 0; which < (int)(sizeof quantizers / sizeof *quantizers); which++)
    for (int i = 0; i < TT_MX_FORMATS * TT_MX_SCALES * 2; i++) {
      tt_qspec q = {.on = true, .format = i & 1, .scale = i >> 1 & 1, .rounding = i >> 2 ? TT_STOCHASTIC : TT_NEAREST};
      run t = open_run(q, quantizers[which].kind);
      census met = {0};
      for (int round = 0; round < ROUNDS; round++) one_round(&t, which, round, &met, &r);
      check_census(&t, &met);
      for (int k = 0; k < t.n_targets; k++) jit_case_close(&t.jit[k]);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(quantizers_equal_the_reference)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
