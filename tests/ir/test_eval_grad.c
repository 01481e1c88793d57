/* The gradient ops against central differences of their forward rules: for L = sum(weight * forward(x)) in double,
 * (L(x + h) - L(x - h)) / 2h agrees with the analytic gradient to about h^2 and 1e-16 / h. */
#include "eval_case.h"

static const double step = 1e-5, tolerance = 2e-9;
static tt_arena *arena;
static uint64_t random_state = 123;

static int setup(void **state) {
  (void)state;
  arena = tt_arena_create();
  return 0;
}

static int teardown(void **state) {
  (void)state;
  tt_arena_destroy(arena);
  return 0;
}

static tt_tensor draw(int rank, const int64_t *dim) { return random_tensor(arena, &random_state, rank, dim); }

typedef struct forward {
  tt_op op;
  int n_in, n_attrs;
  tt_tensor *in;
  const tt_attr *attrs;
  const tt_tensor *weight; /* of output 0 */
} forward;

static double loss(const forward *f) {
  tt_tensor out[TT_MAX_OUT];
  tt_arena *outer = arena; /* thousands of evaluations: each in memory of its own */
  arena = tt_arena_create();
  run_op(arena, f->op, f->n_in, f->in, f->n_attrs, f->attrs, out);
  double sum = 0;
  for (int64_t i = 0; i < tt_type_count(&out[0].type); i++) sum += f->weight->d[i] * out[0].d[i];
  tt_arena_destroy(arena);
  arena = outer;
  return sum;
}

/* Every element of the gradient of operand `which`. */
static void expect_gradient(const forward *f, int which, const tt_tensor *gradient) {
  assert_true(tt_type_equal(&gradient->type, &f->in[which].type));
  double *x = f->in[which].d;
  for (int64_t i = 0; i < tt_type_count(&gradient->type); i++) {
    double here = x[i];
    x[i] = here + step;
    double above = loss(f);
    x[i] = here - step;
    double below = loss(f);
    x[i] = here;
    double slope = (above - below) / (2 * step);
    if (!(fabs(slope - gradient->d[i]) < tolerance * (1 + fabs(slope))))
      fail_msg("%s operand %d element %lld: %.12g, by differences %.12g", tt_ops[f->op].name, which, (long long)i,
               gradient->d[i], slope);
  }
}

static void gelu_grad(void **state) {
  (void)state;
  tt_tensor x = draw(DIMS(40)), dy = draw(DIMS(40)), dx;
  for (int i = 0; i < 40; i++) x.d[i] = (i - 20) * 0.31;
  for (int form = 0; form < 2; form++) {
    tt_attr attr = tt_attr_int(TT_A_TANH, form);
    run_op(arena, TT_OP_GELU_GRAD, 2, (tt_tensor[]){dy, x}, 1, &attr, &dx);
    expect_gradient(&(forward){TT_OP_GELU, 1, 1, &x, &attr, &dy}, 0, &dx);
  }
}

static void softmax_grad(void **state) {
  (void)state;
  tt_tensor x = draw(DIMS(3, 2, 7)), dy = draw(DIMS(3, 2, 7)), y, dx;
  run_op(arena, TT_OP_SOFTMAX, 1, &x, 0, NULL, &y);
  run_op(arena, TT_OP_SOFTMAX_GRAD, 2, (tt_tensor[]){dy, y}, 0, NULL, &dx);
  expect_gradient(&(forward){TT_OP_SOFTMAX, 1, 0, &x, NULL, &dy}, 0, &dx);
}

static void layernorm_grad(void **state) {
  (void)state;
  tt_tensor in[3] = {draw(DIMS(2, 3, 9)), draw(DIMS(9)), draw(DIMS(9))}, dy = draw(DIMS(2, 3, 9)), out[3], gradient[3];
  tt_attr attr = tt_attr_float(TT_A_EPSILON, 1e-3);
  run_op(arena, TT_OP_LAYERNORM, 3, in, 1, &attr, out);
  run_op(arena, TT_OP_LAYERNORM_GRAD, 5, (tt_tensor[]){dy, in[0], in[1], out[1], out[2]}, 0, NULL, gradient);
  for (int i = 0; i < 3; i++) expect_gradient(&(forward){TT_OP_LAYERNORM, 3, 1, in, &attr, &dy}, i, &gradient[i]);
}

static void attention_grad(void **state) {
  (void)state;
  tt_attr attrs[2] = {tt_attr_int(TT_A_HEADS, 2), tt_attr_float(TT_A_SCALE, 0.6)};
  tt_tensor qkv[3] = {draw(DIMS(2, 5, 6)), draw(DIMS(2, 5, 6)), draw(DIMS(2, 5, 6))}, d_o = draw(DIMS(2, 5, 6));
  tt_tensor out[2], gradient[3];
  run_op(arena, TT_OP_ATTENTION, 3, qkv, 2, attrs, out);
  tt_tensor in[5] = {d_o, out[1], qkv[0], qkv[1], qkv[2]};
  run_op(arena, TT_OP_ATTENTION_GRAD, 5, in, 2, attrs, gradient);
  for (int i = 0; i < 3; i++) expect_gradient(&(forward){TT_OP_ATTENTION, 3, 2, qkv, attrs, &d_o}, i, &gradient[i]);
}

static void attention_grad_of_packed_operand(void **state) {
  (void)state;
  tt_attr attrs[2] = {tt_attr_int(TT_A_HEADS, 3), tt_attr_float(TT_A_SCALE, 0.7)};
  tt_tensor qkv = draw(DIMS(1, 4, 18)), d_o = draw(DIMS(1, 4, 6)), out[2], gradient;
  run_op(arena, TT_OP_ATTENTION, 1, &qkv, 2, attrs, out);
  run_op(arena, TT_OP_ATTENTION_GRAD, 3, (tt_tensor[]){d_o, out[1], qkv}, 2, attrs, &gradient);
  expect_gradient(&(forward){TT_OP_ATTENTION, 1, 2, &qkv, attrs, &d_o}, 0, &gradient);
}

static void attention_grad_of_first_tokens(void **state) {
  (void)state;
  tt_attr attrs[] = {tt_attr_int(TT_A_HEADS, 3), tt_attr_float(TT_A_SCALE, 0.7), tt_attr_int(TT_A_QUERIES, 2)};
  tt_tensor qkv = draw(DIMS(2, 4, 18)), d_o = draw(DIMS(2, 2, 6)), out[2], gradient;
  run_op(arena, TT_OP_ATTENTION, 1, &qkv, 3, attrs, out);
  run_op(arena, TT_OP_ATTENTION_GRAD, 3, (tt_tensor[]){d_o, out[1], qkv}, 3, attrs, &gradient);
  expect_gradient(&(forward){TT_OP_ATTENTION, 1, 3, &qkv, attrs, &d_o}, 0, &gradient);
}

static void xent_grad(void **state) {
  (void)state;
  tt_tensor hard = make(arena, TT_I32, DIMS(3), VALUES(0, 4, 2)), soft = draw(DIMS(3, 5)), dlosses = draw(DIMS(3));
  for (int64_t i = 0; i < 15; i++) soft.d[i] = fabs(soft.d[i]); /* rows that do not sum to 1 */
  for (int kind = 0; kind < 4; kind++) {
    tt_tensor in[2] = {draw(DIMS(3, 5)), kind & 1 ? soft : hard}, dlogits;
    tt_attr attr = tt_attr_float(TT_A_SMOOTHING, kind & 2 ? 0.1 : 0);
    run_op(arena, TT_OP_XENT_GRAD, 3, (tt_tensor[]){dlosses, in[0], in[1]}, 1, &attr, &dlogits);
    expect_gradient(&(forward){TT_OP_XENT, 2, 1, in, &attr, &dlosses}, 0, &dlogits);
  }
}

static void slice_grad(void **state) {
  (void)state;
  tt_tensor x = draw(DIMS(3, 7)), dy = draw(DIMS(2, 3)), dx;
  tt_attr attrs[3] = {INTS(TT_A_STARTS, 1, 1), INTS(TT_A_STEPS, 1, 2), INTS(TT_A_ENDS, 3, 7)};
  run_op(arena, TT_OP_SLICE_GRAD, 1, &dy, 3, (tt_attr[]){attrs[0], attrs[1], INTS(TT_A_SHAPE, 3, 7)}, &dx);
  expect_gradient(&(forward){TT_OP_SLICE, 1, 3, &x, attrs, &dy}, 0, &dx);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gelu_grad),
      cmocka_unit_test(softmax_grad),
      cmocka_unit_test(layernorm_grad),
      cmocka_unit_test(attention_grad),
      cmocka_unit_test(xent_grad),
      cmocka_unit_test(attention_grad_of_packed_operand),
      cmocka_unit_test(attention_grad_of_first_tokens),
      cmocka_unit_test(slice_grad),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
