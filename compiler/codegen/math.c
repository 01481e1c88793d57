/* Vector math as polynomials, for f32 scalars and vectors. Coefficients are interpolations at Chebyshev nodes computed in
 * 60-digit arithmetic for the reduced ranges below; errors were measured against libm in double (tests/codegen/test_math.c
 * holds them to these bounds): exp 1.1 ulp, log 0.9, erf 1.8, tanh 1.4. NaN gives NaN; subnormal results of exp are
 * rounded twice where the thread keeps subnormals. */
#include "compiler/codegen/cg.h"

static cg_type int_type(cg_ctx *c, cg_val x) {
  cg_type t = LLVMTypeOf(x);
  return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? cg_vec(c, c->i32, (int)LLVMGetVectorSize(t)) : c->i32;
}

static cg_val int_like(cg_ctx *c, cg_val x, int64_t v) {
  cg_type t = LLVMTypeOf(x);
  return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? cg_splat(c, cg_i32(c, v), (int)LLVMGetVectorSize(t)) : cg_i32(c, v);
}

/* coef[0] + x (coef[1] + x (...)) */
static cg_val horner(cg_ctx *c, cg_val x, const double *coef, int n) {
  cg_val r = cg_like(c, x, coef[n - 1]);
  for (int i = n - 2; i >= 0; i--) r = cg_fma(c, r, x, cg_like(c, x, coef[i]));
  return r;
}

/* min and max with a constant that let NaN through. */
static cg_val at_most(cg_ctx *c, cg_val x, double hi) { return cg_min(c, cg_like(c, x, hi), x); }
static cg_val at_least(cg_ctx *c, cg_val x, double lo) { return cg_max(c, cg_like(c, x, lo), x); }

/* 2^e of an integer e in [-126, 127], built in the exponent field. */
static cg_val power_of_two(cg_ctx *c, cg_val e, cg_val like) {
  cg_val biased = cg_add(c, e, int_like(c, e, 127));
  return cg_bits(c, cg_shl(c, biased, int_like(c, e, 23)), LLVMTypeOf(like));
}

/* e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln 2 / 2; e^r = 1 + r + r^2 P(r). n is read from the low bits of x / ln 2 +
 * 1.5 * 2^23, and applied in two halves so that it may pass either end of the exponent range, or by the target's instruction. */
cg_val cg_exp(cg_ctx *c, cg_val x) {
  static const double P[] = {5.000000000e-01, 1.666657703e-01, 4.166655466e-02, 8.363173075e-03, 1.392617612e-03};
  const double magic = 12582912.0, ln2_hi = 0.693145751953125, ln2_lo = 1.42860682030941723212e-6;
  x = at_least(c, at_most(c, x, 89.0), -104.0);
  cg_val shifted = cg_fma(c, x, cg_like(c, x, 1.44269504088896340736), cg_like(c, x, magic));
  cg_val n = cg_sub(c, cg_bits(c, shifted, int_type(c, x)), int_like(c, x, 0x4b400000));
  cg_val nf = cg_sub(c, shifted, cg_like(c, x, magic));
  cg_val r = cg_fma(c, nf, cg_like(c, x, -ln2_hi), x);
  r = cg_fma(c, nf, cg_like(c, x, -ln2_lo), r);
  cg_val p = horner(c, r, P, 5);
  p = cg_fma(c, cg_mul(c, r, r), p, r);
  p = cg_add(c, p, cg_like(c, x, 1));
  if (c->target->scale_by_power && LLVMTypeOf(x) == c->vf) return c->target->scale_by_power(c, p, nf);
  cg_val half = cg_sra(c, n, int_like(c, x, 1));
  p = cg_mul(c, p, power_of_two(c, half, x));
  return cg_mul(c, p, power_of_two(c, cg_sub(c, n, half), x));
}

/* 2^x = 2^n 2^r, n = round(x), |r| <= 1/2; 2^r = 1 + r P(r), with float coefficients within 0.16 * 2^-24 before rounding.
 * What would be less than 2^-126 is that where the power is built in the exponent field, else less or 0. */
cg_val cg_exp2(cg_ctx *c, cg_val x) {
  static const double P[] = {6.931471880e-01, 2.402265076e-01, 5.550357114e-02,
                             9.618082557e-03, 1.339086336e-03, 1.545316295e-04};
  const double magic = 12582912.0;
  bool scales = c->target->scale_by_power && LLVMTypeOf(x) == c->vf;
  x = at_least(c, x, scales ? -256.0 : -126.0); /* the first for -inf alone, of which r would be NaN */
  cg_val shifted = cg_add(c, x, cg_like(c, x, magic)), nf = cg_sub(c, shifted, cg_like(c, x, magic));
  cg_val r = cg_sub(c, x, nf), p = cg_fma(c, r, horner(c, r, P, 6), cg_like(c, x, 1));
  if (scales) return c->target->scale_by_power(c, p, nf);
  cg_val n = cg_sub(c, cg_bits(c, shifted, int_type(c, x)), int_like(c, x, 0x4b400000));
  return cg_mul(c, p, power_of_two(c, n, x));
}

/* x = 2^e m, m in [sqrt(1/2), sqrt(2)); log m = f - f^2/2 + f^3 Q(f), f = m - 1. Subnormals are scaled up first. */
cg_val cg_log(cg_ctx *c, cg_val x) {
  static const double Q[] = {3.333333118e-01,  -2.499999696e-01, 2.000071575e-01,  -1.666780232e-01, 1.424905765e-01,
                             -1.242568733e-01, 1.168541992e-01,  -1.147973385e-01, 6.971611471e-02};
  const int64_t root_half = 0x3f3504f3;
  const double ln2_hi = 0.693145751953125, ln2_lo = 1.42860682030941723212e-6;
  cg_val tiny = cg_fcmp(c, LLVMRealOLT, x, cg_like(c, x, 0x1p-126));
  cg_val scaled = cg_select(c, tiny, cg_mul(c, x, cg_like(c, x, 0x1p23)), x);
  cg_val i = cg_sub(c, cg_bits(c, scaled, int_type(c, x)), int_like(c, x, root_half));
  cg_val e = LLVMBuildSIToFP(c->b, cg_sra(c, i, int_like(c, x, 23)), LLVMTypeOf(x), "");
  e = cg_sub(c, e, cg_select(c, tiny, cg_like(c, x, 23), cg_like(c, x, 0)));
  cg_val m = cg_add(c, cg_and(c, i, int_like(c, x, 0x7fffff)), int_like(c, x, root_half));
  cg_val f = cg_sub(c, cg_bits(c, m, LLVMTypeOf(x)), cg_like(c, x, 1));
  cg_val f2 = cg_mul(c, f, f);
  cg_val r = cg_mul(c, cg_mul(c, f2, f), horner(c, f, Q, 9));
  r = cg_fma(c, e, cg_like(c, x, ln2_lo), r);
  r = cg_fma(c, f2, cg_like(c, x, -0.5), r);
  r = cg_fma(c, e, cg_like(c, x, ln2_hi), cg_add(c, f, r));
  cg_val inf = cg_like(c, x, __builtin_inf());
  cg_val zero = cg_like(c, x, 0);
  r = cg_select(c, cg_fcmp(c, LLVMRealOEQ, x, zero), cg_neg(c, inf), r);
  r = cg_select(c, cg_fcmp(c, LLVMRealOLT, x, zero), cg_like(c, x, __builtin_nan("")), r);
  cg_val plain = cg_fcmp(c, LLVMRealOLT, x, inf);
  return cg_select(c, plain, r, x);
}

/* |x| with x's sign put on it. */
static cg_val with_sign(cg_ctx *c, cg_val magnitude, cg_val x) {
  cg_val sign = cg_and(c, cg_bits(c, x, int_type(c, x)), int_like(c, x, INT64_C(-2147483648)));
  return cg_bits(c, cg_or(c, cg_bits(c, magnitude, int_type(c, x)), sign), LLVMTypeOf(x));
}

/* |x| < 1: x + x P(x^2). Else 1 - e^L(|x|), L a polynomial of log(erfc) around 2.5; erfc(4) is below half an ulp of 1. */
cg_val cg_erf(cg_ctx *c, cg_val x) {
  static const double P[] = {1.283791671e-01,  -3.761263847e-01, 1.128378250e-01, -2.686543073e-02,
                             5.221031808e-03, -8.484080406e-04, 1.126595903e-04, -9.667044571e-06};
  static const double L[] = {-7.806815277e+00, -5.352680749e+00, -9.438936446e-01, -1.085811294e-02, 2.165169871e-03,
                             -4.207916506e-04, 7.738760363e-05,  -1.292569587e-05, 1.615581148e-06,  -7.582681970e-08};
  cg_val a = cg_abs(c, x);
  cg_val near = cg_fma(c, x, horner(c, cg_mul(c, x, x), P, 8), x);
  cg_val u = cg_sub(c, at_most(c, a, 4.0), cg_like(c, x, 2.5));
  cg_val far = cg_sub(c, cg_like(c, x, 1), cg_exp(c, horner(c, u, L, 10)));
  return cg_select(c, cg_fcmp(c, LLVMRealOLT, a, cg_like(c, x, 1)), near, with_sign(c, far, x));
}

/* |x| < 0.625: x + x^3 P(x^2). Else 1 - 2 / (e^(2|x|) + 1). */
cg_val cg_tanh(cg_ctx *c, cg_val x) {
  static const double P[] = {-3.333333315e-01, 1.333330015e-01, -5.395846163e-02,
                             2.176250291e-02,  -8.323187058e-03, 2.269501684e-03};
  cg_val a = cg_abs(c, x), x2 = cg_mul(c, x, x), one = cg_like(c, x, 1);
  cg_val near = cg_fma(c, cg_mul(c, x2, x), horner(c, x2, P, 6), x);
  cg_val e = cg_exp(c, cg_add(c, a, a));
  cg_val far = cg_sub(c, one, cg_div(c, cg_like(c, x, 2), cg_add(c, e, one)));
  return cg_select(c, cg_fcmp(c, LLVMRealOLT, a, cg_like(c, x, 0.625)), near, with_sign(c, far, x));
}
