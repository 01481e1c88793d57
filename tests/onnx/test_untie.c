/* Untying: which parameters come apart, under which names, and that the rewritten model still says the same. */
#include "compiler/onnx/model.h"
#include "tests/onnx/onnx_test.h"

static const float zeros[8], ones[] = {1, 1, 1, 1}, square[] = {1, 0, 0, 1};

static tt_type vec2(void) { return shape(TT_F32, 1, 2, 0, 0, 0); }

static void expect_vars(const fixture *f, int n, const char *const *names_wanted) {
  assert_int_equal(f->module->vars.count, n);
  for (int i = 0; i < n; i++)
    if (tt_module_find_var(f->module, names_wanted[i]) == TT_NONE) fail_msg("no parameter '%s'", names_wanted[i]);
}

static void test_aliases_give_names(void **state) {
  (void)state;
  fixture f = start();
  input(&f, "x", shape(TT_F32, 2, 1, 2, 0, 0), NULL);
  output(&f, "c");
  floats(&f, "b0", vec2(), ones);
  node(&f, "Identity", "b1", "b0", "", "");
  node(&f, "Identity", "b2", "b1", "", "");
  node(&f, "Add", "a", "x", "b0", "");
  node(&f, "Add", "b", "a", "b1", "");
  node(&f, "Add", "c", "b2", "b", "");
  if (!finish(&f, 0)) fail_msg("%s", said(&f));
  expect_vars(&f, 3, (const char *[]){"b0", "b1", "b2"});
  assert_non_null(strstr(f.notes, "untied 'b0': 3 parameters"));
  tt_tensor y = evaluate(&f, 0.0, 0.0);
  assert_values(&y, 2, (double[]){3, 3});
  stop(&f);
}

static void test_silent_merges(void **state) {
  (void)state;
  fixture f = start();
  input(&f, "x", shape(TT_F32, 2, 1, 2, 0, 0), NULL);
  output(&f, "c");
  floats(&f, "z", vec2(), zeros);
  node(&f, "LayerNormalization", "a", "x", "z", "z"); // gain and bias merged
  node(&f, "Add", "b", "a", "z", "");
  node(&f, "Mul", "c", "b", "b", "");
  if (!finish(&f, 0)) fail_msg("%s", said(&f));
  expect_vars(&f, 3, (const char *[]){"z", "z@n_a", "z@n_b"});
  assert_string_equal(f.module->vars.data[0].scope, "n_a");
  stop(&f);
}

static void test_square_and_matrix_stay(void **state) {
  (void)state;
  fixture f = start();
  input(&f, "x", shape(TT_F32, 2, 1, 2, 0, 0), NULL);
  output(&f, "d");
  floats(&f, "v", vec2(), ones);
  floats(&f, "w", shape(TT_F32, 2, 2, 2, 0, 0), square);
  node(&f, "Mul", "a", "v", "v", ""); // the square of one parameter
  node(&f, "Add", "b", "x", "a", "");
  node(&f, "MatMul", "c", "b", "w", "");
  node(&f, "MatMul", "d", "c", "w", "");
  if (!finish(&f, 0)) fail_msg("%s", said(&f));
  expect_vars(&f, 2, (const char *[]){"v", "w"});
  assert_non_null(strstr(f.notes, "kept 'w' tied: n_c, n_d"));
  stop(&f);
}

static void test_masks_and_scalars_are_constants(void **state) {
  (void)state;
  static const float mask[] = {0, -10000}, infinite[] = {0, -INFINITY}, one[] = {2};
  fixture f = start();
  input(&f, "x", shape(TT_F32, 2, 1, 2, 0, 0), NULL);
  output(&f, "c");
  floats(&f, "mask", vec2(), mask);
  floats(&f, "infinite", vec2(), infinite);
  floats(&f, "scale", shape(TT_F32, 1, 1, 0, 0, 0), one);
  node(&f, "Add", "a", "x", "mask", "");
  node(&f, "Add", "b", "a", "infinite", "");
  node(&f, "Mul", "c", "b", "scale", "");
  if (!finish(&f, 0)) fail_msg("%s", said(&f));
  assert_int_equal(f.module->vars.count, 0);
  stop(&f);
}

/* A class token stored for each sample of a fixed batch is one parameter. */
static void test_expanded_token(void **state) {
  (void)state;
  static const float token[] = {1, 2, 1, 2, 1, 2};
  fixture f = start();
  input(&f, "x", shape(TT_F32, 3, 3, 1, 2, 0), NULL);
  output(&f, "y");
  floats(&f, "token", shape(TT_F32, 3, 3, 1, 2, 0), token);
  node(&f, "Concat", "y", "token", "x", "");
  tt_onnx_write_int(f.w, "axis", 1);
  if (!finish(&f, 0)) fail_msg("%s", said(&f));
  expect_vars(&f, 1, (const char *[]){"token"});
  assert_int_equal(f.module->vars.data[0].type.dim[0], 1);
  tt_tensor y = evaluate(&f, 5.0, 0.0);
  assert_values(&y, 12, (double[]){1, 2, 5, 5, 1, 2, 5, 5, 1, 2, 5, 5});
  stop(&f);
}

/* The image is a model again: importing it gives the same parameters, and their bytes lie where the patches say. */
static void test_image_round_trip(void **state) {
  (void)state;
  static const float b[] = {3, 4};
  fixture f = start(), again = start();
  input(&f, "x", shape(TT_F32, 2, 1, 2, 0, 0), "batch");
  output(&f, "b");
  floats(&f, "b0", vec2(), b);
  node(&f, "Add", "a", "x", "b0", "");
  node(&f, "Add", "b", "a", "b0", "");
  if (!finish(&f, 2)) fail_msg("%s", said(&f));
  tt_onnx_image image;
  assert_true(tt_onnx_image_build(f.model, f.module, f.arena, &image, &f.diag));
  assert_int_equal(image.n_patches, 2);
  for (int i = 0; i < image.n_patches; i++) {
    assert_int_equal(image.patches[i].bytes, sizeof b);
    assert_memory_equal(image.data + image.patches[i].offset, b, sizeof b);
    float trained[] = {10.0f * (float)(i + 1), 0};
    memcpy(image.data + image.patches[i].offset, trained, sizeof trained);
  }
  if (!load_bytes(&again, image.data, image.bytes) || !import(&again, 1)) fail_msg("%s", said(&again));
  expect_vars(&again, 2, (const char *[]){"b0", "b0@n_b"});
  tt_tensor y = evaluate(&again, 1.0, 0.0);
  assert_values(&y, 2, (double[]){31, 1});
  stop(&again);
  stop(&f);
}

static void test_external_data(void **state) {
  (void)state;
  const char *data_path = "/tmp/tetrac_onnx_test_external.bin";
  static const float x[] = {7, 8, 9};
  fixture f = start();
  assert_true(tt_write_file(data_path, x, sizeof x));
  Onnx__StringStringEntryProto location, offset;
  Onnx__StringStringEntryProto *entries[] = {&location, &offset};
  onnx__string_string_entry_proto__init(&location);
  onnx__string_string_entry_proto__init(&offset);
  location.key = (char[]){"location"}, offset.key = (char[]){"offset"};
  tt_onnx_model m = {.arena = f.arena, .path = f.path};
  const struct {
    const char *where, *at;
    bool good;
  } cases[] = {{"tetrac_onnx_test_external.bin", "4", true},
               {"tetrac_onnx_test_external.bin", "8", false},
               {"tetrac_onnx_test_external.bin", "-4", false},
               {"/tmp/tetrac_onnx_test_external.bin", "4", false},
               {"../etc/passwd", "0", false},
               {"nowhere.bin", "0", false}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    tt_type type = vec2();
    Onnx__TensorProto *t = onnx_tensor_make(f.arena, "w", &type, NULL);
    t->has_raw_data = 0, t->raw_data.len = 0;
    t->n_external_data = 2, t->external_data = entries;
    location.value = tt_arena_str(f.arena, cases[i].where), offset.value = tt_arena_str(f.arena, cases[i].at);
    assert_int_equal(onnx_tensor_load_external(&m, t, &f.diag), cases[i].good);
    if (cases[i].good) assert_memory_equal(t->raw_data.data, x + 1, 2 * sizeof *x);
  }
  assert_said(&f, "is not in the model's folder");
  assert_said(&f, "cut short or of another model");
  unlink(data_path);
  stop(&f);
}

/* A local function called twice: its body appears twice, with the call's operands, results and attribute. */
static void test_local_function(void **state) {
  (void)state;
  fixture f = start();
  input(&f, "x", shape(TT_F32, 2, 2, 3, 0, 0), NULL);
  output(&f, "y");
  const char *in = "x", *mid = "m", *out = "y";
  tt_onnx_write_node(f.w, "mine", "Sum", "first", 1, &in, 1, &mid);
  tt_onnx_write_int(f.w, "axis", 1);
  tt_onnx_write_node(f.w, "mine", "Sum", "second", 1, &mid, 1, &out);
  tt_onnx_write_int(f.w, "axis", 0);
  size_t bytes;
  uint8_t *data = serialise(&f, &bytes);
  Onnx__ModelProto *m = onnx__model_proto__unpack(NULL, bytes, data);
  Onnx__FunctionProto fun, *functions[] = {&fun};
  Onnx__NodeProto soft, keep, *body[] = {&soft, &keep};
  Onnx__AttributeProto axis, *attributes[] = {&axis};
  onnx__function_proto__init(&fun), onnx__node_proto__init(&soft), onnx__node_proto__init(&keep),
      onnx__attribute_proto__init(&axis);
  axis.name = (char[]){"axis"}, axis.ref_attr_name = (char[]){"axis"};
  soft.op_type = (char[]){"Softmax"}, soft.n_input = 1, soft.input = (char *[]){(char[]){"a"}};
  soft.n_output = 1, soft.output = (char *[]){(char[]){"t"}}, soft.n_attribute = 1, soft.attribute = attributes;
  keep.op_type = (char[]){"Relu"}, keep.n_input = 1, keep.input = soft.output, keep.n_output = 1,
  keep.output = (char *[]){(char[]){"b"}};
  fun.name = (char[]){"Sum"}, fun.domain = (char[]){"mine"}, fun.n_node = 2, fun.node = body;
  fun.n_input = 1, fun.input = soft.input, fun.n_output = 1, fun.output = keep.output;
  m->n_functions = 1, m->functions = functions;
  bytes = onnx__model_proto__get_packed_size(m);
  onnx__model_proto__pack(m, data = tt_arena_alloc(f.arena, bytes));
  m->n_functions = 0, m->functions = NULL;
  onnx__model_proto__free_unpacked(m, NULL);
  if (!load_bytes(&f, data, bytes) || !import(&f, 0)) fail_msg("%s", said(&f));
  assert_int_equal(count_op(f.g, TT_OP_SOFTMAX), 2);
  tt_tensor y = evaluate(&f, 0.0, 1.0); // both rows have the same softmax, so along the other axis all are 1/2
  assert_values(&y, 6, (double[]){0.5, 0.5, 0.5, 0.5, 0.5, 0.5});
  stop(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_aliases_give_names),     cmocka_unit_test(test_silent_merges),
      cmocka_unit_test(test_square_and_matrix_stay), cmocka_unit_test(test_masks_and_scalars_are_constants),
      cmocka_unit_test(test_expanded_token),         cmocka_unit_test(test_image_round_trip),
      cmocka_unit_test(test_external_data),          cmocka_unit_test(test_local_function),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
