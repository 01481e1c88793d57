/* The normal distribution function and the slope of GELU: by polynomials piece by piece where a target looks 32 floats up in
 * registers, else by exponentials.
 *
 * Both go from 0 to 1 and are flat outside of [-6.3, 5.9]. The line is cut at (i + 1/2) WIDTH into pieces i = -16 .. 15; the
 * first is 0, the last 1, and each between is the interpolation at the Chebyshev nodes of its interval. i is read from the
 * low bits of x / WIDTH + 1.5 * 2^23, whose lowest 5 are an index by themselves; x - i WIDTH is exact. At most 7e-8 from the
 * true value of the distribution function, and 1.6e-7 of the slope (tests/codegen/test_math.c). NaN gives NaN. */
#include <math.h>
#include "compiler/codegen/cg.h"

enum { PIECES = CG_TABLE_FLOATS, TERMS = 6 };
static const double WIDTH = 13.0 / 32, PI = 3.14159265358979323846, ROOT_HALF = 0.70710678118654752440;
static const double INV_SQRT_2PI = 0.39894228040143267794;

typedef double curve(double x);
static double normal_cdf(double x) { return 0.5 * erfc(-x * ROOT_HALF); }
static double gelu_slope(double x) { return normal_cdf(x) + x * INV_SQRT_2PI * exp(-0.5 * x * x); }

/* coef[] of the polynomial in x - center that equals f at the nodes: Newton's divided differences, multiplied out. */
static void interpolate(curve *f, double center, double *coef) {
  double node[TERMS], d[TERMS];
  for (int k = 0; k < TERMS; k++) {
    node[k] = cos(PI * (2 * k + 1) / (2 * TERMS)) * WIDTH / 2;
    d[k] = f(center + node[k]);
    coef[k] = 0;
  }
  for (int j = 1; j < TERMS; j++)
    for (int k = TERMS - 1; k >= j; k--) d[k] = (d[k] - d[k - 1]) / (node[k] - node[k - j]);
  for (int k = TERMS - 1; k >= 0; k--) {
    for (int m = TERMS - 1; m > 0; m--) coef[m] = coef[m - 1] - coef[m] * node[k];
    coef[0] = d[k] - coef[0] * node[k];
  }
}

static cg_val piecewise(cg_ctx *c, curve *f, cg_val x) {
  float table[TERMS][PIECES];
  for (int i = -PIECES / 2; i < PIECES / 2; i++) {
    double coef[TERMS] = {i > 0}; /* the flat ends */
    if (i > -PIECES / 2 && i < PIECES / 2 - 1) interpolate(f, i * WIDTH, coef);
    for (int k = 0; k < TERMS; k++) table[k][i & (PIECES - 1)] = (float)coef[k];
  }
  const double magic = 12582912.0;
  x = cg_min(c, cg_vf(c, (PIECES / 2 - 1) * WIDTH), x); /* in this order both let NaN through */
  x = cg_max(c, cg_vf(c, -PIECES / 2 * WIDTH), x);
  cg_val shifted = cg_fma(c, x, cg_vf(c, 1 / WIDTH), cg_vf(c, magic)), index = cg_bits(c, shifted, c->vi);
  cg_val rest = cg_fma(c, cg_sub(c, shifted, cg_vf(c, magic)), cg_vf(c, -WIDTH), x);
  cg_val y = c->target->pick(c, table[TERMS - 1], index);
  for (int k = TERMS - 2; k >= 0; k--) y = cg_fma(c, y, rest, c->target->pick(c, table[k], index));
  return y;
}

static bool can_pick(cg_ctx *c, cg_val x) { return c->target->pick && LLVMTypeOf(x) == c->vf; }

/* Phi(-a) = e^(log(1/2) + a Q(a)) for a = |x| <= 6 (beyond, less than 1e-9: taken as 0), and 1 - Phi(-a) on the other side. At
 * most 6e-8 from the true value. Coefficients of Q as those of math.c. */
cg_val cg_normal_cdf(cg_ctx *c, cg_val x) {
  static const double Q[] = {-0.69314718055994531,
                             -7.978845763e-01, -3.183092790e-01, -3.633906601e-02, 4.788062457e-03,
                             3.628420053e-05,  -2.214250879e-04, 6.553106444e-05,  -1.106328142e-05,
                             1.163190063e-06,  -7.082147358e-08, 1.910104927e-09};
  if (can_pick(c, x)) return piecewise(c, normal_cdf, x);
  cg_val a = cg_abs(c, x), zero = cg_like(c, x, 0), p = cg_like(c, x, Q[11]);
  for (int i = 10; i >= 0; i--) p = cg_fma(c, p, a, cg_like(c, x, Q[i]));
  cg_val tail = cg_exp(c, p);
  tail = cg_select(c, cg_fcmp(c, LLVMRealOGT, a, cg_like(c, x, 6)), zero, tail);
  return cg_select(c, cg_fcmp(c, LLVMRealOLT, x, zero), tail, cg_sub(c, cg_like(c, x, 1), tail));
}

/* d/dx x Phi(x) = Phi(x) + x phi(x) */
cg_val cg_gelu_slope(cg_ctx *c, cg_val x) {
  if (can_pick(c, x)) return piecewise(c, gelu_slope, x);
  cg_val e = cg_exp(c, cg_mul(c, cg_mul(c, x, x), cg_like(c, x, -0.5)));
  return cg_fma(c, x, cg_mul(c, e, cg_like(c, x, INV_SQRT_2PI)), cg_normal_cdf(c, x));
}
