/* Operators: each form an opset knows, through a file, against numbers worked out by hand. */
#include "tests/onnx/onnx_test.h"

/* x [2,3] = 0..5 through one node with a second integer operand; the graph's result. */
static fixture through(const char *op, int n, const int64_t *operand) {
  fixture f = start();
  input(&f, "x", shape(TT_F32, 2, 2, 3, 0, 0), NULL);
  output(&f, "y");
  if (operand) ints(&f, "k", n, operand);
  node(&f, op, "y", "x", operand ? "k" : "", "");
  return f;
}

static void check(fixture *f, int64_t n, const double *want) {
  if (!finish(f, 0)) fail_msg("%s", said(f));
  tt_tensor y = evaluate(f, 0.0, 1.0);
  assert_values(&y, n, want);
  stop(f);
}

static void test_reshape_forms(void **state) {
  (void)state;
  const double same[] = {0, 1, 2, 3, 4, 5};
  fixture f = through("Reshape", 2, (int64_t[]){0, -1});
  check(&f, 6, same);
  f = through("Reshape", 1, (int64_t[]){-1});
  check(&f, 6, same);
  f = through("Reshape", 2, (int64_t[]){4, -1});
  assert_false(finish(&f, 0));
  assert_said(&f, "node 'n_y' (Reshape): error: operand 0 is f32[2,3], which does not divide");
  stop(&f);
}

static void test_slice_gather_split(void **state) {
  (void)state;
  fixture f = through("Gather", 0, (int64_t[]){-1});
  tt_onnx_write_int(f.w, "axis", 1);
  check(&f, 2, (double[]){2, 5});
  f = through("Gather", 0, (int64_t[]){7});
  assert_false(finish(&f, 0));
  assert_said(&f, "index 0 is outside dimension 0, which has 2");
  stop(&f);
  f = start();
  input(&f, "x", shape(TT_F32, 2, 2, 3, 0, 0), NULL);
  output(&f, "y");
  ints(&f, "first", 1, (int64_t[]){-2});
  ints(&f, "last", 1, (int64_t[]){INT64_MAX});
  ints(&f, "axis", 1, (int64_t[]){-1});
  const char *in[] = {"x", "first", "last", "axis"}, *out = "y";
  tt_onnx_write_node(f.w, NULL, "Slice", "s", 4, in, 1, &out);
  check(&f, 4, (double[]){1, 2, 4, 5});
  f = through("Split", 2, (int64_t[]){2, 1});
  tt_onnx_write_int(f.w, "axis", 1);
  assert_false(finish(&f, 0)); // two sizes, one output
  assert_said(&f, "2 parts, but 1 outputs");
  stop(&f);
}

static void test_reductions(void **state) {
  (void)state;
  fixture f = through("ReduceMean", 0, NULL); // axes as attribute, opset 17
  tt_onnx_write_ints(f.w, "axes", 1, (int64_t[]){-1});
  tt_onnx_write_int(f.w, "keepdims", 0);
  check(&f, 2, (double[]){1, 4});
  f = through("ReduceSum", 1, (int64_t[]){0}); // as operand
  check(&f, 3, (double[]){3, 5, 7});
  f = through("ReduceMax", 0, NULL); // none: all
  check(&f, 1, (double[]){5});
}

/* The shape of a scalar has no elements; a tensor of that shape has one. */
static void test_empty_shape(void **state) {
  (void)state;
  fixture f = start();
  input(&f, "x", shape(TT_F32, 2, 1, 1, 0, 0), NULL);
  output(&f, "y");
  node(&f, "ReduceMean", "m", "x", "", "");
  tt_onnx_write_int(f.w, "keepdims", 0);
  node(&f, "Shape", "s", "m", "", "");
  node(&f, "ConstantOfShape", "zero", "s", "", "");
  node(&f, "Reshape", "r", "x", "s", "");
  node(&f, "Sub", "y", "zero", "r", "");
  if (!finish(&f, 0)) fail_msg("%s", said(&f));
  assert_int_equal(tt_typ(f.g, tt_graph_result(f.g, "y"))->rank, 0);
  tt_tensor y = evaluate(&f, 3.0, 0.0);
  assert_values(&y, 1, (double[]){-3});
  stop(&f);
}

static void test_shapes_fold(void **state) {
  (void)state;
  fixture f = start();
  input(&f, "x", shape(TT_F32, 3, 1, 4, 6, 0), "batch");
  output(&f, "y");
  ints(&f, "zero", 0, (int64_t[]){0});
  ints(&f, "axis", 1, (int64_t[]){0});
  ints(&f, "tail", 2, (int64_t[]){2, -1});
  node(&f, "Shape", "s", "x", "", "");
  node(&f, "Gather", "b", "s", "zero", "");
  node(&f, "Unsqueeze", "b1", "b", "axis", "");
  node(&f, "Concat", "dims", "b1", "tail", "");
  tt_onnx_write_int(f.w, "axis", 0);
  node(&f, "Reshape", "y", "x", "dims", "");
  if (!finish(&f, 5)) fail_msg("%s", said(&f));
  assert_int_equal(count_op(f.g, TT_OP_RESHAPE), 1);
  assert_int_equal(count_op(f.g, TT_OP_CONCAT) + count_op(f.g, TT_OP_GATHER) + count_op(f.g, TT_OP_SHAPE_OF), 0);
  const tt_type *t = tt_typ(f.g, tt_graph_result(f.g, "y"));
  assert_true(t->rank == 3 && t->dim[0] == 5 && t->dim[1] == 2 && t->dim[2] == 12);
  stop(&f);
}

static void gemm(double alpha, double beta, bool trans_b, bool linear, const double *want) {
  static const float w[] = {1, 2, 3, 4, 5, 6}, c[] = {10, 20};
  fixture f = start();
  input(&f, "x", shape(TT_F32, 2, 1, 3, 0, 0), NULL);
  output(&f, "y");
  floats(&f, "w", trans_b ? shape(TT_F32, 2, 2, 3, 0, 0) : shape(TT_F32, 2, 3, 2, 0, 0), w);
  floats(&f, "c", shape(TT_F32, 1, 2, 0, 0, 0), c);
  node(&f, "Gemm", "y", "x", "w", "c");
  tt_onnx_write_float(f.w, "alpha", alpha);
  tt_onnx_write_float(f.w, "beta", beta);
  tt_onnx_write_int(f.w, "transB", trans_b);
  if (!finish(&f, 0)) fail_msg("%s", said(&f));
  assert_int_equal(count_op(f.g, TT_OP_LINEAR), linear);
  tt_tensor y = evaluate(&f, 1.0, 1.0); // x = 1 2 3
  assert_values(&y, 2, want);
  stop(&f);
}

static void test_gemm(void **state) {
  (void)state;
  gemm(1, 1, true, true, (double[]){24, 52});
  gemm(1, 1, false, false, (double[]){32, 48});
  gemm(2, 0.5, true, false, (double[]){33, 74});
  gemm(1, 0, true, false, (double[]){14, 32});
}

static void test_softmax_axis(void **state) {
  (void)state;
  fixture f = through("Softmax", 0, NULL);
  tt_onnx_write_int(f.w, "axis", 0);
  double low = 1.0 / (1.0 + exp(3.0));
  check(&f, 6, (double[]){low, low, low, 1 - low, 1 - low, 1 - low});
}

/* Before opset 13 softmax covers everything from its axis (1) on: [2,3] as two rows of three, [1,2,3] as one of six. */
static void test_softmax_flat(void **state) {
  (void)state;
  fixture f = start_at(11);
  input(&f, "x", shape(TT_F32, 3, 1, 2, 3, 0), NULL);
  output(&f, "y");
  node(&f, "Softmax", "y", "x", "", "");
  double want[6], sum = 0.0;
  for (int i = 0; i < 6; i++) sum += want[i] = exp((double)i);
  for (int i = 0; i < 6; i++) want[i] /= sum;
  check(&f, 6, want);
}

static void test_layernorm(void **state) {
  (void)state;
  static const float gain[] = {1, 2, 3};
  fixture f = start();
  input(&f, "x", shape(TT_F32, 2, 2, 3, 0, 0), NULL);
  output(&f, "y");
  floats(&f, "g", shape(TT_F32, 1, 3, 0, 0, 0), gain);
  node(&f, "LayerNormalization", "y", "x", "g", "");
  tt_onnx_write_float(f.w, "epsilon", 0.0);
  double r = sqrt(1.5);
  check(&f, 6, (double[]){-r, 0, 3 * r, -r, 0, 3 * r});
}

static void test_attention_23(void **state) {
  (void)state;
  fixture f = start_at(23);
  input(&f, "x", shape(TT_F32, 4, 1, 2, 3, 2), NULL); // [B,H,N,d]
  output(&f, "y");
  node(&f, "Attention", "y", "x", "x", "x");
  tt_onnx_write_float(f.w, "scale", 0.0); // all scores equal: the mean of v over the tokens
  check(&f, 12, (double[]){2, 3, 2, 3, 2, 3, 8, 9, 8, 9, 8, 9});
}

static void test_all_faults_at_once(void **state) {
  (void)state;
  fixture f = start();
  input(&f, "x", shape(TT_F32, 2, 2, 3, 0, 0), NULL);
  output(&f, "c");
  node(&f, "Einsum", "a", "x", "", "");
  node(&f, "LSTM", "b", "a", "", "");
  node(&f, "Softmax", "c", "b", "", "");
  tt_onnx_write_int(f.w, "temperature", 2);
  tt_onnx_write_float(f.w, "axis", 1.0);
  assert_false(finish(&f, 0));
  assert_said(&f, "node 'n_a' (Einsum): error: the operator Einsum (domain ai.onnx, opset 17) is not supported");
  assert_said(&f, "node 'n_b' (LSTM)");
  assert_said(&f, "node 'n_c' (Softmax): error: attribute 'temperature' is not supported");
  assert_said(&f, "attribute 'axis' has the wrong type");
  assert_int_equal(f.diag.errors, 4);
  stop(&f);
}

static void test_data_dependent_shape(void **state) {
  (void)state;
  fixture f = start();
  input(&f, "x", shape(TT_F32, 2, 2, 3, 0, 0), NULL);
  input(&f, "dims", shape(TT_I64, 1, 2, 0, 0, 0), NULL);
  output(&f, "y");
  node(&f, "Reshape", "y", "x", "dims", "");
  assert_false(finish(&f, 0));
  assert_said(&f, "operand 1, 'dims', must be known when compiling, but depends on the model's input");
  stop(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_reshape_forms),      cmocka_unit_test(test_slice_gather_split),
      cmocka_unit_test(test_reductions),         cmocka_unit_test(test_shapes_fold),
      cmocka_unit_test(test_empty_shape),        cmocka_unit_test(test_gemm),
      cmocka_unit_test(test_softmax_axis),       cmocka_unit_test(test_softmax_flat),
      cmocka_unit_test(test_layernorm),          cmocka_unit_test(test_attention_23),
      cmocka_unit_test(test_all_faults_at_once), cmocka_unit_test(test_data_dependent_shape),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
