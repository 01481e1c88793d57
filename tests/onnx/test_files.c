/* Tensor files both ways, and graphs out to ONNX and in again. */
#include "compiler/onnx/model.h"
#include "models/models.h"
#include "tests/onnx/onnx_test.h"

static void round_trip(fixture *f, const char *path, tt_dtype dtype, int rank) {
  tt_tensor t = tt_tensor_new(f->arena, tt_type_make(dtype, rank, (int64_t[]){2, 3, 1})), back;
  for (int64_t i = 0; i < tt_type_count(&t.type); i++) t.d[i] = dtype == TT_BOOL ? (double)(i % 2) : (double)(i - 2);
  if (!tt_tensor_write(path, "t", &t, &f->diag) || !tt_tensor_read(path, &back, f->arena, &f->diag))
    fail_msg("%s", said(f));
  assert_true(tt_type_equal(&t.type, &back.type));
  assert_memory_equal(t.d, back.d, (size_t)tt_type_count(&t.type) * sizeof *t.d);
  unlink(path);
}

static void test_round_trips(void **state) {
  (void)state;
  fixture f = start();
  const tt_dtype types[] = {TT_F32, TT_F64, TT_I32, TT_I64, TT_BOOL};
  for (int i = 0; i < 5; i++)
    for (int rank = 0; rank <= 3; rank++) {
      round_trip(&f, "/tmp/tetrac_onnx_test.npy", types[i], rank);
      round_trip(&f, "/tmp/tetrac_onnx_test.pb", types[i], rank);
    }
  stop(&f);
}

static void test_bad_tensor_files(void **state) {
  (void)state;
  fixture f = start();
  const char *path = "/tmp/tetrac_onnx_test.npy";
  tt_tensor t = tt_tensor_new(f.arena, tt_type_make(TT_F32, 1, (int64_t[]){4})), back;
  assert_true(tt_tensor_write(path, "t", &t, &f.diag));
  size_t bytes;
  char *file = tt_read_file(f.arena, path, &bytes);
  assert_true(tt_write_file(path, file, bytes - 1));
  assert_false(tt_tensor_read(path, &back, f.arena, &f.diag));
  assert_said(&f, "tetrac_onnx_test.npy: error: has another size than its shape needs");
  for (size_t n = 0; n < bytes; n++) {
    assert_true(tt_write_file(path, file, n));
    assert_false(tt_tensor_read(path, &back, f.arena, &f.diag));
  }
  memcpy(strstr(file + 10, "<f4"), "<c8", 3);
  assert_true(tt_write_file(path, file, bytes));
  assert_false(tt_tensor_read(path, &back, f.arena, &f.diag));
  unlink(path);
  assert_false(tt_tensor_read("/nonexistent.pb", &back, f.arena, &f.diag));
  assert_false(tt_tensor_write("/tmp/tensor.txt", "t", &t, &f.diag));
  stop(&f);
}

/* A model imported, exported as a graph and imported again computes the same. */
static void test_export_graph(void **state) {
  (void)state;
  fixture f = start(), again = start();
  tt_model_options o = {.image = 8, .patch = 4, .channels = 1, .classes = 3, .dim = 8, .depth = 1, .heads = 2, .seed = 3};
  uint8_t *data;
  size_t bytes;
  assert_true(tt_model_build(&o, f.arena, &data, &bytes, &f.diag));
  if (!load_bytes(&f, data, bytes) || !import(&f, 2)) fail_msg("%s", said(&f));
  assert_true(tt_onnx_export_graph(f.g, f.arena, &data, &bytes, &f.diag));
  if (!load_bytes(&again, data, bytes) || !import(&again, 0)) fail_msg("%s", said(&again));
  assert_string_equal(again.g->results.data[0].name, "logits");
  tt_tensor y = evaluate(&f, 0.0, 0.01), z = evaluate(&again, 0.0, 0.01);
  assert_values(&z, 6, y.d);
  stop(&again);
  stop(&f);
}

/* Operators without a standard form keep name and attributes in domain tetrac; updates become outputs. */
static void test_export_own_ops(void **state) {
  (void)state;
  fixture f = start();
  f.module = tt_module_create("own");
  tt_graph *g = tt_graph_create(f.module, "step");
  tt_builder b = {.g = g, .diag = &f.diag, .at = TT_NONE};
  uint32_t var =
      tt_module_add_var(f.module, (tt_var){.name = "w", .type = shape(TT_F32, 2, 2, 64, 0, 0), .copy_of = TT_NONE});
  tt_qspec q = {.on = true, .scale = TT_SCALE_CEIL, .rounding = TT_NEAREST};
  tt_attr attr = tt_attr_qspec(TT_A_Q, q);
  tt_value w = tt_graph_var(g, var), mx = tt_build1(&b, TT_OP_MX_QUANTIZE, w, 1, &attr);
  tt_value back = tt_build1(&b, TT_OP_MX_DEQUANTIZE, mx, 0, NULL);
  assert_true(back != TT_NONE);
  tt_graph_set_result(g, "seen", back);
  tt_graph_add_update(g, var, back);
  uint8_t *data;
  size_t bytes;
  assert_true(tt_onnx_export_graph(g, f.arena, &data, &bytes, &f.diag));
  Onnx__ModelProto *m = onnx__model_proto__unpack(NULL, bytes, data);
  assert_non_null(m);
  assert_string_equal(m->graph->node[0]->domain, "tetrac");
  assert_string_equal(m->graph->node[0]->op_type, "mx.quantize");
  assert_string_equal(m->graph->node[0]->attribute[0]->name, "q");
  assert_int_equal(m->graph->n_output, 2);
  assert_string_equal(m->graph->output[1]->name, "update:w");
  onnx__model_proto__free_unpacked(m, NULL);
  stop(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_round_trips),
      cmocka_unit_test(test_bad_tensor_files),
      cmocka_unit_test(test_export_graph),
      cmocka_unit_test(test_export_own_ops),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
