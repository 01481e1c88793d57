/* The whole linear layer's backward pass in MXFP4 is unbiased (TetraJet, equations 8 and 9): over the random bits of
 * Q3..Q6, with the forward operands quantized once and for all,
 *   E[dX] = dY . deq Q2(W),   E[dW] = dY^T . deq Q1(X),   E[db] = column sums of dY.
 * Many steps of the graph, every element's mean within 5 standard errors. */
#include "eval_case.h"

enum { N = 40, C = 24, D = 48, SEEDS = 1500, OUTPUTS = 3 }; /* X [N,D], W [C,D], dY [N,C]; no axis fills its blocks */

static const tt_qspec forward_q = {true, TT_E2M1, TT_SCALE_CEIL, TT_NEAREST, TT_DIRECT};
static const tt_qspec backward_q = {true, TT_E2M1, TT_SCALE_CEIL, TT_STOCHASTIC, TT_DOUBLE};

typedef struct layer {
  tt_arena *arena;
  tt_module *module;
  tt_graph *g;
  tt_tensor in[4]; /* X, W, dY, rng */
} layer;

static tt_value stochastic(tt_builder *b, tt_op op, tt_value x, int64_t tensor, bool transposed) {
  tt_attr attrs[3] = {tt_attr_qspec(TT_A_Q, backward_q), tt_attr_int(TT_A_TENSOR, tensor), tt_attr_int(TT_A_TRANSPOSED, 1)};
  return tt_build2(b, op, x, tt_graph_rng(b->g), transposed ? 3 : 2, attrs);
}

static void build(layer *l) {
  tt_diag diag;
  tt_diag_init(&diag, NULL);
  l->arena = tt_arena_create();
  l->module = tt_module_create("linear");
  tt_graph *g = l->g = tt_graph_create(l->module, "backward");
  tt_builder b = {.g = g, .diag = &diag, .at = TT_NONE};
  uint64_t random = 42;
  l->in[0] = random_tensor(l->arena, &random, DIMS(N, D));
  l->in[1] = random_tensor(l->arena, &random, DIMS(C, D));
  l->in[2] = random_tensor(l->arena, &random, DIMS(N, C));
  l->in[3] = make(l->arena, TT_I64, DIMS(2), VALUES(0, 0));
  tt_value x = tt_graph_add_input(g, "x", l->in[0].type), w = tt_graph_add_input(g, "w", l->in[1].type);
  tt_value dy = tt_graph_add_input(g, "dy", l->in[2].type);
  tt_attr nearest = tt_attr_qspec(TT_A_Q, forward_q);
  tt_value q1 = tt_build1(&b, TT_OP_MX_QUANTIZE, x, 1, &nearest);  /* mx[N,D] */
  tt_value q2 = tt_build1(&b, TT_OP_MX_QUANTIZE, w, 1, &nearest);  /* mx[C,D] */
  tt_value q3 = stochastic(&b, TT_OP_MX_QUANTIZE, dy, 3, false);   /* mx[N,C] */
  tt_value q4 = stochastic(&b, TT_OP_MX_REQUANTIZE, q2, 4, false); /* mx[D,C] */
  tt_value q5 = stochastic(&b, TT_OP_MX_QUANTIZE, dy, 5, true);    /* mx[C,N] */
  tt_value q6 = stochastic(&b, TT_OP_MX_REQUANTIZE, q1, 6, false); /* mx[D,N] */
  tt_graph_set_result(g, "dx", tt_build2(&b, TT_OP_MX_GEMM, q3, q4, 0, NULL));
  tt_graph_set_result(g, "dw", tt_build2(&b, TT_OP_MX_GEMM, q5, q6, 0, NULL));
  tt_graph_set_result(g, "db", tt_build1(&b, TT_OP_MX_COLSUM, q3, 0, NULL));
  tt_graph_set_result(g, "xq", tt_build1(&b, TT_OP_MX_DEQUANTIZE, q1, 0, NULL));
  tt_graph_set_result(g, "wq", tt_build1(&b, TT_OP_MX_DEQUANTIZE, q2, 0, NULL));
  if (diag.errors) fail_msg("%s", diag.text);
  tt_diag_free(&diag);
}

static void destroy(layer *l) {
  tt_module_destroy(l->module);
  tt_arena_destroy(l->arena);
}

/* out [rows, cols] = sum over n of a(row, n) b(n, col), operands given with their strides. */
static void product(double *out, int rows, int cols, int n, const double *a, int a_row, int a_n, const double *b, int b_n) {
  for (int i = 0; i < rows * cols; i++) {
    out[i] = 0;
    for (int k = 0; k < n; k++) out[i] += a[i / cols * a_row + k * a_n] * b[k * b_n + i % cols];
  }
}

static void expectations(const double *x, const double *w, const double *dy, double *want[OUTPUTS]) {
  product(want[0], N, D, C, dy, C, 1, w, D);
  product(want[1], C, D, N, dy, 1, C, x, D);
  for (int c = 0; c < C; c++) {
    want[2][c] = 0;
    for (int n = 0; n < N; n++) want[2][c] += dy[n * C + c];
  }
}

/* Mean of squared deviations in standard errors, about 1 where the expectation is right; the largest in *worst. */
static double deviation(const double *sum, const double *squares, const double *want, int count, double *worst) {
  double total = 0;
  for (int i = 0; i < count; i++) {
    double mean = sum[i] / SEEDS, variance = squares[i] / SEEDS - mean * mean;
    double z = fabs(mean - want[i]) / sqrt(variance / SEEDS);
    assert_true(variance > 0);
    total += z * z / count;
    *worst = fmax(*worst, z);
  }
  return total;
}

static void gradients_are_unbiased(void **state) {
  (void)state;
  static double sum[OUTPUTS][N * D], squares[OUTPUTS][N * D], expected[OUTPUTS][N * D], latent[OUTPUTS][N * D];
  static const int counts[OUTPUTS] = {N * D, C * D, C};
  layer l;
  build(&l);
  tt_tensor out[5];
  for (int seed = 0; seed < SEEDS; seed++) {
    tt_arena *scratch = tt_arena_create();
    l.in[3].d[1] = seed;
    tt_eval_graph(l.g, l.in, NULL, out, false, scratch);
    for (int k = 0; k < OUTPUTS; k++)
      for (int i = 0; i < counts[k]; i++) {
        sum[k][i] += out[k].d[i];
        squares[k][i] += out[k].d[i] * out[k].d[i];
      }
    if (seed == 0) {
      expectations(out[3].d, out[4].d, l.in[2].d, (double *[]){expected[0], expected[1], expected[2]});
      expectations(l.in[0].d, l.in[1].d, l.in[2].d, (double *[]){latent[0], latent[1], latent[2]});
    }
    tt_arena_destroy(scratch);
  }
  for (int k = 0; k < OUTPUTS; k++) {
    double worst = 0, unused = 0, chi2 = deviation(sum[k], squares[k], expected[k], counts[k], &worst);
    if (worst > 5 || chi2 > 1.5) fail_msg("output %d: worst %g standard errors, mean square %g", k, worst, chi2);
    /* Against the latent operands the same means are far off: the test can tell double quantization from direct. */
    if (k < 2) assert_true(deviation(sum[k], squares[k], latent[k], counts[k], &unused) > 5);
  }
  destroy(&l);
}

static void same_seed_and_step_give_the_same_bits(void **state) {
  (void)state;
  layer l;
  build(&l);
  tt_tensor first[5], again[5], other[5];
  l.in[3].d[1] = 7;
  tt_eval_graph(l.g, l.in, NULL, first, false, l.arena);
  tt_eval_graph(l.g, l.in, NULL, again, false, l.arena);
  l.in[3].d[1] = 8;
  tt_eval_graph(l.g, l.in, NULL, other, false, l.arena);
  assert_memory_equal(first[0].d, again[0].d, N * D * sizeof(double));
  assert_memory_not_equal(first[0].d, other[0].d, N * D * sizeof(double));
  destroy(&l);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gradients_are_unbiased),
      cmocka_unit_test(same_seed_and_step_give_the_same_bits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
