/* The model builders: presets, determinism, refusals, and that what they write imports whole. */
#include "models/models.h"
#include "tests/onnx/onnx_test.h"

static const tt_model_options small = {
    .image = 8, .patch = 4, .channels = 2, .classes = 5, .dim = 12, .depth = 2, .heads = 3, .seed = 7};

static void test_same_seed_same_bytes(void **state) {
  (void)state;
  fixture f = start();
  uint8_t *a, *b, *c;
  size_t na, nb, nc;
  tt_model_options other = small;
  other.seed = 8;
  assert_true(tt_model_build(&small, f.arena, &a, &na, &f.diag) && tt_model_build(&small, f.arena, &b, &nb, &f.diag));
  assert_true(tt_model_build(&other, f.arena, &c, &nc, &f.diag));
  assert_int_equal(na, nb);
  assert_memory_equal(a, b, na);
  assert_true(na == nc && memcmp(a, c, na) != 0);
  stop(&f);
}

static void test_imports_whole(void **state) {
  (void)state;
  fixture f = start();
  uint8_t *data;
  size_t bytes;
  assert_true(tt_model_build(&small, f.arena, &data, &bytes, &f.diag));
  if (!load_bytes(&f, data, bytes) || !import(&f, 3)) fail_msg("%s", said(&f));
  assert_string_equal(f.notes, ""); // nothing is shared, so there is nothing to untie
  assert_int_equal(f.module->vars.count, 4 + 2 * 12 + 4);
  assert_int_equal(count_op(f.g, TT_OP_MATMUL), 2 * 6);
  assert_int_equal(count_op(f.g, TT_OP_LINEAR), 1);
  assert_int_equal(count_op(f.g, TT_OP_LAYERNORM), 5);
  assert_int_equal(count_op(f.g, TT_OP_GATHER) + count_op(f.g, TT_OP_SHAPE_OF) + count_op(f.g, TT_OP_CAST), 0);
  const tt_type *logits = tt_typ(f.g, tt_graph_result(f.g, "logits"));
  assert_true(logits->rank == 2 && logits->dim[0] == 3 && logits->dim[1] == 5);
  tt_tensor y = evaluate(&f, -1.0, 0.01);
  for (int i = 0; i < 15; i++) assert_true(isfinite(y.d[i]) && fabs(y.d[i]) < 2.0);
  stop(&f);
}

/* Deviation 0.02 cut at two: mean near 0, the cut distribution's deviation near 0.02 * 0.88, nothing outside 0.04. */
static void test_initial_weights(void **state) {
  (void)state;
  fixture f = start();
  uint8_t *data;
  size_t bytes;
  const tt_model_preset *preset = tt_model_preset_find("vit");
  assert_non_null(preset);
  assert_true(tt_model_build(&preset->options, f.arena, &data, &bytes, &f.diag));
  if (!load_bytes(&f, data, bytes) || !import(&f, 1)) fail_msg("%s", said(&f));
  const tt_var *v = &f.module->vars.data[tt_module_find_var(f.module, "blocks.0.mlp.fc1.weight")];
  const float *x = v->init;
  const int64_t n = tt_type_count(&v->type);
  double sum = 0.0, square = 0.0;
  for (int64_t i = 0; i < n; i++) {
    assert_true(fabsf(x[i]) <= 0.04f);
    sum += x[i], square += (double)x[i] * x[i];
  }
  assert_true(fabs(sum / (double)n) < 5e-4);
  assert_true(fabs(sqrt(square / (double)n) / 0.0176 - 1.0) < 0.02);
  stop(&f);
}

static void test_refusals(void **state) {
  (void)state;
  fixture f = start();
  uint8_t *data;
  size_t bytes;
  tt_model_options o = small;
  o.patch = 3, o.heads = 5;
  assert_false(tt_model_build(&o, f.arena, &data, &bytes, &f.diag));
  assert_said(&f, "--patch 3 does not divide --image 8");
  assert_said(&f, "--heads 5 does not divide --dim 12");
  o = small;
  o.depth = 0, o.classes = 1;
  assert_false(tt_model_build(&o, f.arena, &data, &bytes, &f.diag));
  assert_said(&f, "--depth is 0, it must be 1 to 256");
  assert_said(&f, "--classes is 1");
  o = small;
  o.dim = 8192, o.heads = 64, o.depth = 256;
  assert_false(tt_model_build(&o, f.arena, &data, &bytes, &f.diag));
  assert_said(&f, "million parameters");
  stop(&f);
}

static void test_presets(void **state) {
  (void)state;
  int n;
  const tt_model_preset *p = tt_model_presets(&n);
  assert_int_equal(n, 4);
  for (int i = 0; i < n; i++) assert_ptr_equal(tt_model_preset_find(p[i].name), &p[i]);
  assert_null(tt_model_preset_find("resnet"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_same_seed_same_bytes),
      cmocka_unit_test(test_imports_whole),
      cmocka_unit_test(test_initial_weights),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_presets),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
