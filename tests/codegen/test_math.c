/* The vector math of generated code against libm in double: every 1511th float of the whole range, both signs, and every 29th
 * where the polynomials work. The bounds are those that math.c states. */
#include <math.h>
#include <string.h>
#include "jit_case.h"

enum { N = 1 << 20 };

typedef double reference(double);

static float float_of(uint32_t bits) {
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

/* Distance in units of the last place of f32 at `want`; results below the smallest normal count as flushed. */
static double ulps(double got, double want) {
  if (isnan(want)) return isnan(got) ? 0 : INFINITY;
  if (fabs(want) > 3.4028235677973366e38)
    return isinf(got) && signbit(got) == signbit(want) ? 0 : fabs(got) > 3.4e38 ? 0 : INFINITY;
  int e;
  frexp(want, &e);
  double ulp = ldexp(1, (e < -125 ? -125 : e) - 24);
  return fabs(got - want) / (fabs(want) < 0x1p-126 ? 0x1p-126 : ulp);
}

static double worst;
static float worst_at;

static void run(jit_case *t, tt_tensor *x, reference *f) {
  tt_tensor y = jit_case_run(t, x, 1);
  for (int i = 0; i < N; i++) {
    double e = ulps(y.d[i], f(x->d[i]));
    if (e <= worst) continue;
    worst = e;
    worst_at = (float)x->d[i];
  }
}

/* Bit patterns first, first + step, ... in batches of N, both signs. */
static void scan(jit_case *t, reference *f, uint32_t first, uint32_t last, uint32_t step) {
  tt_tensor x = tt_tensor_new(t->arena, t->type);
  for (uint64_t at = first; at < last;) {
    for (int i = 0; i < N; i += 2, at += at < last ? step : 0) {
      x.d[i] = (double)float_of((uint32_t)at);
      x.d[i + 1] = -x.d[i];
    }
    run(t, &x, f);
  }
}

static uint32_t bits_of(float f) {
  uint32_t b;
  memcpy(&b, &f, sizeof b);
  return b;
}

static void check(tt_op op, reference *f, float dense_from, float dense_to, double bound) {
  for (const char *const *target = jit_targets(); *target; target++) {
    int64_t n = N;
    tt_type type = tt_type_make(TT_F32, 1, &n);
    worst = 0;
    jit_case t = jit_case_next(op, 1, &type, 0, NULL, *target);
    if (!t.jit) {
      jit_case_close(&t);
      continue;
    }
    scan(&t, f, 0x00800000, 0x7f800001, 1511); /* from the smallest normal to infinity */
    scan(&t, f, bits_of(dense_from), bits_of(dense_to), 29);
    jit_case_close(&t);
    print_message("%s on %s: %.3f ulp at %.9g\n", tt_ops[op].name, *target, worst, (double)worst_at);
    assert_true(worst <= bound);
  }
}

static void test_exp(void **state) { (void)state, check(TT_OP_EXP, exp, 0.01f, 89, 1.1); }
static void test_log(void **state) { (void)state, check(TT_OP_LOG, log, 0.3f, 3, 0.9); }
static void test_erf(void **state) { (void)state, check(TT_OP_ERF, erf, 0.1f, 4.5f, 1.8); }
static void test_tanh(void **state) { (void)state, check(TT_OP_TANH, tanh, 0.1f, 10, 1.4); }

static double phi_of(double x) { return 0.5 * erfc(-x / sqrt(2)); }
static double slope_of(double x) { return phi_of(x) + x * exp(-0.5 * x * x) / sqrt(2 * acos(-1)); }

/* GELU and its slope are held to absolute bounds, which piecewise.c states, here of y and (GELU) of y / x: from -9 to 9. */
static void check_gelu(tt_op op, reference *f, double bound) {
  for (const char *const *target = jit_targets(); *target; target++) {
    int64_t n = N;
    tt_type type = tt_type_make(TT_F32, 1, &n), types[2] = {type, type};
    bool slope = op == TT_OP_GELU_GRAD;
    jit_case t = jit_case_open(op, slope ? 2 : 1, types, 0, NULL, *target);
    tt_tensor in[2] = {tt_tensor_new(t.arena, type), tt_tensor_new(t.arena, type)}, *x = &in[slope];
    worst = 0;
    for (int i = 0; i < N; i++) in[0].d[i] = 1, x->d[i] = (double)(float)(9.0 * (2 * i - N) / N);
    tt_tensor y = jit_case_run(&t, in, 1);
    for (int i = 0; i < N; i++) {
      double at = x->d[i], ulp = fabs(y.d[i]) * 0x1p-24, e = slope ? y.d[i] - f(at) : (fabs(y.d[i] - at * f(at)) - ulp) / at;
      if (fabs(e) > worst) worst = fabs(e), worst_at = (float)at;
    }
    jit_case_close(&t);
    print_message("%s on %s: %.3g at %.9g\n", tt_ops[op].name, *target, worst, (double)worst_at);
    assert_true(worst <= bound);
  }
}

static void test_gelu(void **state) { (void)state, check_gelu(TT_OP_GELU, phi_of, 7e-8); }
static void test_gelu_slope(void **state) { (void)state, check_gelu(TT_OP_GELU_GRAD, slope_of, 1.7e-7); }

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_exp),  cmocka_unit_test(test_log),
                                     cmocka_unit_test(test_erf),  cmocka_unit_test(test_tanh),
                                     cmocka_unit_test(test_gelu), cmocka_unit_test(test_gelu_slope)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
