/* The quantizer's arithmetic on vectors.
 *
 * No logarithm, and in general no float operation: with x = 1.m * 2^(e-127) and scale byte s, |x| / S in units of the grid
 * step of its binade is the mantissa shifted right by max(0, s + base - e): a fixed-point number v with `fraction` fraction
 * bits whose whole part counts steps above the binade's offset. Rounding v to nearest even, or adding 16 random bits below
 * its whole part, gives the code; a carry into the next binade lands on the right code because codes are in order of
 * magnitude. Below the smallest binade the step stays: that is the shift. Subnormal x have no hidden bit, and that is all.
 * This is for every format and rounding; E2M1, in which steps are trained, has float forms of the same bits below. */
#include "compiler/codegen/mx_lanes.h"
#include "compiler/ir/mx.h"

typedef struct grid {
  int top;               /* exponent of the largest magnitude */
  uint32_t top_fraction; /* and its mantissa, as float32 fraction bits */
  int base;              /* exponent of the lowest binade whose numbers have their own step */
  int fraction;          /* fraction bits of v */
  int codes;             /* log2 of codes a binade */
  int doubling;          /* log2 of the factor that makes all magnitudes integers */
} grid;
static const grid grids[TT_FORMAT_COUNT] = {
    [TT_E2M1] = {.top = 2, .top_fraction = 0x400000, .base = 0, .fraction = 29, .codes = 1, .doubling = 1},
    [TT_E3M0] = {.top = 4, .top_fraction = 0, .base = -2, .fraction = 30, .codes = 0, .doubling = 2},
};

static cg_val same(cg_ctx *c, cg_val like, int64_t x) {
  return LLVMGetTypeKind(LLVMTypeOf(like)) == LLVMVectorTypeKind ? cg_vi(c, x) : cg_i32(c, x);
}

cg_val cg_mx_scale(cg_ctx *c, tt_qspec q, cg_val max_bits) {
  const grid *g = &grids[q.format];
  cg_val up = max_bits;
  if (q.scale == TT_SCALE_CEIL) up = cg_add(c, up, same(c, up, 0x7fffff - (int64_t)g->top_fraction));
  cg_val s = cg_sub(c, cg_shr(c, up, same(c, up, 23)), same(c, up, g->top));
  cg_val bad = cg_icmp(c, LLVMIntUGE, max_bits, same(c, up, 0x7f800000));
  return cg_select(c, bad, same(c, up, 255), cg_max(c, s, same(c, up, 0)));
}

/* |x| as exponent and 31-bit mantissa, hidden bit at bit 30. E3M0 gives every power of two a code, down to where float32
 * has only subnormals: there they are normalised. E2M1's scale is never that small. */
static void take_apart(cg_ctx *c, tt_qspec q, cg_val abs, cg_val *exponent, cg_val *mantissa) {
  cg_val e = cg_shr(c, abs, cg_vi(c, 23)), low = cg_icmp(c, LLVMIntEQ, e, cg_vi(c, 0));
  cg_val hidden = cg_vi(c, 0x40000000), mask = cg_vi(c, 0x3fffff80), seven = cg_vi(c, 7);
  cg_val normal = cg_or(c, cg_and(c, cg_shl(c, abs, seven), mask), hidden), sub = cg_shl(c, abs, cg_vi(c, 8));
  if (q.format == TT_E3M0) {
    cg_val lifted = cg_bits(c, cg_mul(c, cg_bits(c, abs, c->vf), cg_vf(c, 0x1p64)), c->vi);
    cg_val none = cg_icmp(c, LLVMIntEQ, abs, cg_vi(c, 0));
    sub = cg_select(c, none, cg_vi(c, 0), cg_or(c, cg_and(c, cg_shl(c, lifted, seven), mask), hidden));
    e = cg_select(c, low, cg_sub(c, cg_shr(c, lifted, cg_vi(c, 23)), cg_vi(c, 64)), e);
  }
  *exponent = e;
  *mantissa = cg_select(c, low, sub, normal);
}

/* The moving average decides: 1 where x is between two grid values and ema is not below their middle, else 0. */
static cg_val ema_up(cg_ctx *c, const grid *g, cg_val bits, cg_val scale, cg_val ema, cg_val v, cg_val lost,
                     cg_val binade) {
  cg_val rest = cg_or(c, cg_and(c, v, cg_vi(c, ((int64_t)1 << g->fraction) - 1)), lost);
  cg_val sign = cg_and(c, bits, cg_vi(c, INT64_C(0x80000000)));
  cg_val inverse = cg_bits(c, cg_shl(c, cg_sub(c, cg_vi(c, 254), scale), cg_vi(c, 23)), c->vf);
  cg_val e = cg_mul(c, cg_bits(c, cg_xor(c, ema, sign), c->vf), inverse);
  cg_val step = cg_bits(c, cg_shl(c, cg_add(c, binade, cg_vi(c, 127 + g->base - g->codes)), cg_vi(c, 23)), c->vf);
  cg_val whole = LLVMBuildSIToFP(c->b, cg_shr(c, v, cg_vi(c, g->fraction)), c->vf, "");
  cg_val below = cg_fcmp(c, LLVMRealOLT, e, cg_mul(c, cg_add(c, whole, cg_vf(c, 0.5)), step));
  cg_val up = cg_and(c, cg_icmp(c, LLVMIntNE, rest, cg_vi(c, 0)), LLVMBuildNot(c->b, below, ""));
  return LLVMBuildZExt(c->b, up, c->vi, "");
}

/* The same for E2M1 in half the operations, with y = |x| / S as a float, which is exact or far below the grid. Its binade
 * [2^e, 2^(e+1)), not below [1, 2), has step 2^(e-1). To nearest: adding 1.5 * 2^22 * 2^e rounds y to steps and leaves
 * their count in the low bits. Stochastic: y in 65536ths of a step is an integer to which the random bits are added. A
 * binade's first code is 2 e more than its first count: with the exponent field at bit 1 that is one addition modulo 8;
 * constants make it come out, and the saturated y <= 6 keeps it from wrapping. */
static cg_val e2m1_codes(cg_ctx *c, tt_qspec q, cg_val bits, cg_val scale, cg_val random) {
  cg_val inverse = cg_bits(c, cg_shl(c, cg_sub(c, cg_vi(c, 254), scale), cg_vi(c, 23)), c->vf), count, first;
  cg_val y = cg_mul(c, cg_bits(c, cg_and(c, bits, cg_vi(c, 0x7fffffff)), c->vf), inverse);
  y = cg_min(c, y, cg_vf(c, 6));
  cg_val binade = cg_max(c, cg_and(c, cg_bits(c, y, c->vi), cg_vi(c, 0x7f800000)), cg_vi(c, 0x3f800000));
  if (q.rounding == TT_STOCHASTIC) {
    cg_val units = cg_sub(c, cg_vi(c, INT64_C(271) << 23), binade); /* 65536 / step */
    cg_val fixed = LLVMBuildFPToSI(c->b, cg_mul(c, y, cg_bits(c, units, c->vf)), c->vi, "");
    count = cg_shr(c, cg_add(c, fixed, random), cg_vi(c, 16));
    first = cg_sub(c, cg_vi(c, 544), cg_shr(c, units, cg_vi(c, 22)));
  } else {
    cg_val magic = cg_add(c, binade, cg_vi(c, (INT64_C(22) << 23) + 0x400002));
    count = cg_bits(c, cg_add(c, y, cg_bits(c, magic, c->vf)), c->vi);
    first = cg_shr(c, binade, cg_vi(c, 22));
  }
  cg_val magnitude = cg_and(c, cg_add(c, count, first), cg_vi(c, 7));
  return cg_or(c, magnitude, cg_and(c, cg_shr(c, bits, cg_vi(c, 28)), cg_vi(c, 8)));
}

cg_val cg_mx_codes(cg_ctx *c, tt_qspec q, cg_val bits, cg_val scale, cg_val random, cg_val ema) {
  const grid *g = &grids[q.format];
  if (q.format == TT_E2M1 && q.rounding != TT_EMA) {
    cg_val code = e2m1_codes(c, q, bits, scale, random);
    return cg_select(c, cg_icmp(c, LLVMIntEQ, scale, cg_vi(c, 255)), cg_vi(c, 0), code);
  }
  cg_val e, mantissa, n, zero = cg_vi(c, 0);
  take_apart(c, q, cg_and(c, bits, cg_vi(c, 0x7fffffff)), &e, &mantissa);
  cg_val distance = cg_sub(c, cg_add(c, scale, cg_vi(c, g->base)), e), shift = cg_max(c, distance, zero);
  cg_val v = cg_shr(c, mantissa, cg_min(c, shift, cg_vi(c, 31)));
  cg_val binade = cg_sub(c, shift, distance), offset = cg_shl(c, binade, cg_vi(c, g->codes));
  if (q.rounding == TT_STOCHASTIC) {
    n = cg_shr(c, cg_add(c, cg_shr(c, v, cg_vi(c, g->fraction - 16)), random), cg_vi(c, 16));
  } else if (q.rounding == TT_EMA) {
    cg_val lost = cg_select(c, cg_icmp(c, LLVMIntSGT, shift, cg_vi(c, 7)), mantissa, zero);
    n = cg_add(c, cg_shr(c, v, cg_vi(c, g->fraction)), ema_up(c, g, bits, scale, ema, v, lost, binade));
  } else {
    cg_val low = cg_shr(c, v, cg_vi(c, g->fraction)), odd = cg_and(c, g->codes ? low : cg_add(c, low, offset), cg_vi(c, 1));
    cg_val half = cg_vi(c, ((int64_t)1 << (g->fraction - 1)) - 1);
    n = cg_shr(c, cg_add(c, cg_add(c, v, half), odd), cg_vi(c, g->fraction));
  }
  cg_val code = cg_min(c, cg_add(c, n, offset), cg_vi(c, 7));
  code = cg_or(c, code, cg_and(c, cg_shr(c, bits, cg_vi(c, 28)), cg_vi(c, 8)));
  return cg_select(c, cg_icmp(c, LLVMIntEQ, scale, cg_vi(c, 255)), zero, code);
}

static bool stochastic_e2m1(const cg_ctx *c, tt_qspec q) {
  return q.format == TT_E2M1 && q.rounding == TT_STOCHASTIC && c->target->fma_toward_zero;
}
static bool nearest_e2m1(tt_qspec q) { return q.format == TT_E2M1 && q.rounding == TT_NEAREST; }

int cg_mx_factors(const cg_ctx *c, tt_qspec q) { return stochastic_e2m1(c, q) ? 2 : nearest_e2m1(q) ? 3 : 0; }

/* 2^(127 - scale), a half and a quarter of it to nearest; a quarter and an eighth stochastic. Subnormal where the scale is
 * the largest. */
cg_mx_scaled cg_mx_scaled_by(cg_ctx *c, tt_qspec q, cg_val scale) {
  cg_mx_scaled s = {.scale = scale};
  int n = cg_mx_factors(c, q);
  if (n == 0) return s;
  cg_val inverse = cg_bits(c, cg_shl(c, cg_sub(c, cg_vi(c, 254), scale), cg_vi(c, 23)), c->vf);
  s.factor[0] = stochastic_e2m1(c, q) ? cg_mul(c, inverse, cg_vf(c, 0.25)) : inverse;
  for (int i = 1; i < n; i++) s.factor[i] = cg_mul(c, s.factor[i - 1], cg_vf(c, 0.5));
  return s;
}

static cg_val signed_nibbles(cg_ctx *c, cg_val magnitude, cg_val bits) {
  return cg_choose_bits(c, INT64_C(0x80000000), bits, magnitude);
}

/* With y = |x| / S: the larger of (1 + y) / 8, cut off and not rounded, and y / 4 is a float whose bits count half binades from
 * that of 1/8 on, a multiple of 8, as codes are counted: below y = 1 as in fixed point, above by the float format itself. So
 * these 3 bits and the 22 below are the code and its fraction, of which 16 take part and may carry. */
static cg_val stochastic_nibbles(cg_ctx *c, tt_qspec q, const cg_mx_scaled *s, cg_val bits, cg_val random) {
  cg_val x = cg_bits(c, cg_and(c, bits, cg_vi(c, 0x7fffffff)), c->vf);
  cg_val y = cg_max(c, cg_mul(c, x, s->factor[0]), c->target->fma_toward_zero(c, x, s->factor[1], cg_vf(c, 0.125)));
  if (q.scale == TT_SCALE_FLOOR) y = cg_min(c, y, cg_vf(c, 1.5)); /* else |x| <= 6 S */
  return signed_nibbles(c, cg_shl(c, cg_add(c, cg_bits(c, y, c->vi), random), cg_vi(c, 6)), bits);
}

/* The code is y in steps of 1/2, y in steps of 1 and 2 more, or y in steps of 2 and 4 more, whichever is least. Each is rounded by
 * the addition to 1.5 * 2^22, whose last place is a half: to even codes, as all that is added is even. */
static cg_val nearest_nibbles(cg_ctx *c, tt_qspec q, const cg_mx_scaled *s, cg_val bits) {
  cg_val x = cg_bits(c, cg_and(c, bits, cg_vi(c, 0x7fffffff)), c->vf);
  const double magic = 6291456.0;
  cg_val n = cg_fma(c, x, s->factor[0], cg_vf(c, magic));
  n = cg_min(c, n, cg_fma(c, x, s->factor[1], cg_vf(c, magic + 1)));
  n = cg_min(c, n, cg_fma(c, x, s->factor[2], cg_vf(c, magic + 2)));
  if (q.scale == TT_SCALE_FLOOR) n = cg_min(c, n, cg_vf(c, magic + 3.5));
  return signed_nibbles(c, cg_shl(c, cg_bits(c, n, c->vi), cg_vi(c, 28)), bits);
}

cg_val cg_mx_nibbles(cg_ctx *c, tt_qspec q, const cg_mx_scaled *s, cg_val bits, cg_val random, cg_val ema) {
  if (stochastic_e2m1(c, q)) return stochastic_nibbles(c, q, s, bits, random);
  if (nearest_e2m1(q)) return nearest_nibbles(c, q, s, bits);
  return cg_shl(c, cg_mx_codes(c, q, bits, s->scale, random, ema), cg_vi(c, 28));
}

/* splitmix64's finalizer. */
static cg_val mix64(cg_ctx *c, cg_val z) {
  z = cg_mul(c, cg_xor(c, z, cg_shr(c, z, cg_i64(c, 30))), cg_i64(c, (int64_t)UINT64_C(0xbf58476d1ce4e5b9)));
  z = cg_mul(c, cg_xor(c, z, cg_shr(c, z, cg_i64(c, 27))), cg_i64(c, (int64_t)UINT64_C(0x94d049bb133111eb)));
  return cg_xor(c, z, cg_shr(c, z, cg_i64(c, 31)));
}

cg_val cg_rng_key(cg_ctx *c, cg_val seed, cg_val step, cg_val tensor) {
  return mix64(c, cg_add(c, mix64(c, cg_add(c, mix64(c, seed), step)), tensor));
}

enum { RNG_FIRST = 0x7feb352d, RNG_RUN = 16 };

static cg_val half_key(cg_ctx *c, cg_val key, int half, cg_type type) {
  cg_val k = LLVMBuildTrunc(c->b, cg_shr(c, key, cg_i64(c, 32 * half)), c->i32, "");
  return type == c->vi ? cg_splat(c, k, c->W) : k;
}

/* Up to the first multiplication. Bits 16 and up take no part in what a counter's lower 4 bits are mixed into, and those are
 * still found where they were, though perhaps inverted. */
static cg_val rng_mixed(cg_ctx *c, cg_val key, cg_val counters) {
  cg_val h = cg_xor(c, counters, half_key(c, key, 0, LLVMTypeOf(counters)));
  return cg_xor(c, h, cg_shr(c, h, same(c, h, 16)));
}

static cg_val rng_multiplied(cg_ctx *c, cg_val key, cg_val h) {
  return cg_add(c, cg_mul(c, h, same(c, h, RNG_FIRST)), half_key(c, key, 1, LLVMTypeOf(h)));
}

/* All but the last step. */
static cg_val rng_last_product(cg_ctx *c, cg_val begun) {
  cg_val h = cg_xor(c, begun, cg_shr(c, begun, cg_vi(c, 15)));
  return cg_mul(c, h, cg_vi(c, INT64_C(0x846ca68b)));
}

cg_val cg_rng_end(cg_ctx *c, cg_val begun) {
  cg_val h = rng_last_product(c, begun);
  return cg_xor(c, h, cg_shr(c, h, cg_vi(c, 16)));
}

cg_val cg_rng_words(cg_ctx *c, cg_val key, cg_val counters) {
  return cg_rng_end(c, rng_multiplied(c, key, rng_mixed(c, key, counters)));
}

/* RNG_FIRST (a ^ i) at [a][i]. */
static cg_val run_table(cg_ctx *c) {
  static const char name[] = "cg.rng_run";
  cg_val g = LLVMGetNamedGlobal(c->module, name), item[RNG_RUN * RNG_RUN];
  if (g) return g;
  for (int i = 0; i < RNG_RUN * RNG_RUN; i++)
    item[i] = cg_i32(c, (int32_t)((uint32_t)RNG_FIRST * (uint32_t)(i / RNG_RUN ^ i % RNG_RUN)));
  g = LLVMAddGlobal(c->module, LLVMArrayType2(c->i32, RNG_RUN * RNG_RUN), name);
  LLVMSetInitializer(g, LLVMConstArray2(c->i32, item, RNG_RUN * RNG_RUN));
  LLVMSetGlobalConstant(g, 1);
  LLVMSetLinkage(g, LLVMPrivateLinkage);
  LLVMSetAlignment(g, 64);
  return g;
}

/* What the run shares is multiplied once, what is left are multiples of small numbers from a table. */
cg_val cg_rng_begin(cg_ctx *c, cg_val key, cg_val first, int from) {
  cg_val h = rng_mixed(c, key, first), low = cg_and(c, h, cg_i32(c, RNG_RUN - 1));
  cg_val all = rng_multiplied(c, key, cg_and(c, h, cg_i32(c, -RNG_RUN))), row = LLVMBuildZExt(c->b, low, c->i64, "");
  cg_val p = cg_addr(c, c->i32, cg_gep(c, c->i32, run_table(c), cg_mul(c, row, cg_i64(c, RNG_RUN))), from);
  return cg_add(c, cg_splat(c, all, c->W), cg_load(c, c->vi, p, 4));
}

/* An exclusive or with a power of two adds it where h lacks it and subtracts it elsewhere; so it does with the multiples. */
static cg_val rng_step(cg_ctx *c, cg_val h, int bit) {
  cg_val is = cg_icmp(c, LLVMIntEQ, cg_and(c, h, cg_vi(c, 1 << bit)), cg_vi(c, 0));
  uint32_t up = (uint32_t)RNG_FIRST << bit;
  return cg_select(c, is, cg_vi(c, (int32_t)up), cg_vi(c, (int32_t)(0 - up)));
}

cg_rng_runs cg_rng_begin_runs(cg_ctx *c, cg_val key, cg_val first) {
  cg_val h = rng_mixed(c, key, first), four = rng_step(c, h, 2), eight = rng_step(c, h, 3);
  cg_rng_runs r = {.step = {rng_step(c, h, 0), rng_step(c, h, 1)}};
  r.begun[0] = rng_multiplied(c, key, h);
  r.begun[1] = cg_add(c, r.begun[0], four);
  r.begun[2] = cg_add(c, r.begun[0], eight);
  r.begun[3] = cg_add(c, r.begun[1], eight);
  return r;
}

/* v turned to the left, which as a shift, or as what comes to one once bits are masked, LLVM makes part of a second
 * multiplication. */
static cg_val turn_left(cg_ctx *c, cg_val v, int places) {
  char name[32];
  snprintf(name, sizeof name, "llvm.fshl.v%di32", c->W);
  cg_val args[3] = {v, v, cg_vi(c, places)};
  return cg_call(c, name, c->vi, 3, args);
}

/* The last step, h ^ h >> 16, changes the low half alone. The bits go where the fraction's 16 are: from bit 6 on, or 0. */
void cg_mx_random(cg_ctx *c, tt_qspec q, cg_val begun, cg_val *even, cg_val *odd) {
  int at = stochastic_e2m1(c, q) ? 6 : 0;
  int64_t mask = INT64_C(0xffff) << at;
  cg_val h = rng_last_product(c, begun), high = cg_shr(c, h, cg_vi(c, 16 - at));
  *odd = cg_and(c, high, cg_vi(c, mask));
  *even = cg_masked_xor(c, mask, at ? turn_left(c, h, at) : h, high);
}

/* 2^(scale - 127 - doubling), which may be subnormal. */
cg_val cg_mx_factor(cg_ctx *c, tt_format format, cg_val scale) {
  cg_val down = same(c, scale, grids[format].doubling);
  cg_val normal = cg_shl(c, cg_sub(c, scale, down), same(c, scale, 23));
  cg_val places = cg_max(c, cg_sub(c, down, scale), same(c, scale, 0));
  cg_val sub = cg_shr(c, same(c, scale, 0x400000), places);
  cg_val bits = cg_select(c, cg_icmp(c, LLVMIntSGT, scale, down), normal, sub);
  bits = cg_select(c, cg_icmp(c, LLVMIntEQ, scale, same(c, scale, 255)), same(c, scale, 0x7fc00000), bits);
  return cg_bits(c, bits, LLVMTypeOf(scale) == c->vi ? c->vf : c->f32);
}

/* Integers of magnitudes: 0 1 2 3 4 6 8 12, or 0 1 2 4 8 16 32 64; the sign is put on last so that -0 keeps it. */
cg_val cg_mx_values(cg_ctx *c, tt_format format, cg_val codes, cg_val factor) {
  cg_val m = cg_and(c, codes, cg_vi(c, 7)), integer;
  if (format == TT_E2M1) {
    cg_val last = cg_icmp(c, LLVMIntEQ, m, cg_vi(c, 7));
    cg_val steep = cg_max(c, cg_sub(c, m, cg_vi(c, 4)), cg_vi(c, 0));
    integer = cg_add(c, cg_add(c, m, steep), cg_select(c, last, cg_vi(c, 2), cg_vi(c, 0)));
  } else {
    integer = cg_shr(c, cg_shl(c, cg_vi(c, 1), m), cg_vi(c, 1));
  }
  cg_val magnitude = cg_mul(c, LLVMBuildSIToFP(c->b, integer, c->vf, ""), factor);
  cg_val sign = cg_shl(c, cg_and(c, codes, cg_vi(c, 8)), cg_vi(c, 28));
  return cg_bits(c, cg_or(c, cg_bits(c, magnitude, c->vi), sign), c->vf);
}

cg_val cg_mx_unpack(cg_ctx *c, cg_val packed, int first) {
  cg_type bytes = LLVMTypeOf(packed);
  cg_val low = cg_and(c, packed, cg_splat(c, LLVMConstInt(c->i8, 15, false), 16));
  cg_val high = cg_shr(c, packed, cg_splat(c, LLVMConstInt(c->i8, 4, false), 16)), lanes[64];
  TT_ASSERT(LLVMGetVectorSize(bytes) == 16);
  for (int i = 0; i < c->W; i++) lanes[i] = cg_i32(c, (first + i) / 2 + (first + i) % 2 * 16);
  cg_val mixed = LLVMBuildShuffleVector(c->b, low, high, LLVMConstVector(lanes, (unsigned)c->W), "");
  return LLVMBuildZExt(c->b, mixed, c->vi, "");
}
