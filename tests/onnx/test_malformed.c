/* Models that are wrong: names, shapes, versions, sizes, and bytes cut off or flipped. Every one is a diagnostic (or, for
 * flipped bytes that still make a model, an import that holds); none is a crash. */
#include "compiler/onnx/model.h"
#include "models/models.h"
#include "tests/onnx/onnx_test.h"

static void refused(fixture *f, int64_t batch, const char *text) {
  assert_false(finish(f, batch));
  assert_said(f, text);
  stop(f);
}

static fixture two_nodes(const char *first_in, const char *second_in, const char *second_out) {
  fixture f = start();
  input(&f, "x", shape(TT_F32, 1, 4, 0, 0, 0), NULL);
  output(&f, "b");
  node(&f, "Relu", "a", first_in, "", "");
  node(&f, "Relu", second_out, second_in, "", "");
  return f;
}

static void test_names(void **state) {
  (void)state;
  fixture f = two_nodes("b", "a", "b");
  refused(&f, 0, "node 'n_a' (Relu): error: operand 0, 'b', is used before node 'n_b' makes it");
  f = two_nodes("nothing", "a", "b");
  refused(&f, 0, "operand 0, 'nothing', is defined nowhere in the model");
  f = two_nodes("x", "a", "a");
  refused(&f, 0, "'a' is defined twice");
  f = two_nodes("x", "a", "c");
  refused(&f, 0, "output 'b' is made by no node");
}

static void test_batch(void **state) {
  (void)state;
  fixture f = two_nodes("x", "a", "b");
  refused(&f, 8, "input 'x' is fixed to a batch of 4, 8 was asked for");
  f = two_nodes("x", "a", "b");
  if (!finish(&f, 4)) fail_msg("%s", said(&f));
  Onnx__TensorShapeProto *s = f.model->proto->graph->input[0]->type->tensor_type->shape;
  s->dim[0]->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
  s->dim[0]->dim_param = (char[]){"batch"};
  assert_true(import(&f, 9));
  assert_int_equal(tt_typ(f.g, f.g->inputs.data[0])->dim[0], 9);
  assert_true(import(&f, 0));
  assert_int_equal(tt_typ(f.g, f.g->inputs.data[0])->dim[0], 128);
  s->dim = (Onnx__TensorShapeProto__Dimension *[]){s->dim[0], s->dim[0]};
  s->n_dim = 2;
  assert_false(import(&f, 0));
  assert_said(&f, "dimension 1 ('batch') has no fixed size; only the first, the batch, may be open");
  f.model->proto->graph->input[0]->type->tensor_type->shape = NULL;
  assert_false(import(&f, 0));
  assert_said(&f, "has no tensor type with a shape");
  stop(&f);
}

static void test_versions(void **state) {
  (void)state;
  const int64_t bad[] = {6, 24, 1000};
  for (int i = 0; i < 3; i++) {
    fixture f = start_at(bad[i]);
    input(&f, "x", shape(TT_F32, 1, 4, 0, 0, 0), NULL);
    output(&f, "a");
    node(&f, "Relu", "a", "x", "", "");
    refused(&f, 0, "7 to 23 are known");
  }
  fixture f = start_at(16);
  input(&f, "x", shape(TT_F32, 1, 4, 0, 0, 0), NULL);
  output(&f, "a");
  node(&f, "LayerNormalization", "a", "x", "x", "");
  refused(&f, 0, "LayerNormalization as of opset 16 is not supported, opsets 17 to 23 are");
}

static void test_lying_tensor(void **state) {
  (void)state;
  const float x[4] = {0};
  fixture f = two_nodes("x", "w", "b");
  floats(&f, "w", shape(TT_F32, 1, 4, 0, 0, 0), x);
  size_t bytes;
  uint8_t *data = serialise(&f, &bytes);
  Onnx__ModelProto *m = onnx__model_proto__unpack(NULL, bytes, data);
  m->graph->initializer[0]->dims[0] = INT64_MAX / 2;
  onnx__model_proto__pack(m, data = tt_arena_alloc(f.arena, onnx__model_proto__get_packed_size(m)));
  assert_false(load_bytes(&f, data, onnx__model_proto__get_packed_size(m)));
  assert_said(&f, "tensor 'w' has an impossible dimension 0");
  m->graph->initializer[0]->dims[0] = 5;
  onnx__model_proto__pack(m, data);
  assert_false(load_bytes(&f, data, onnx__model_proto__get_packed_size(m)));
  assert_said(&f, "tensor 'w' has 16 bytes of data, its shape needs 20");
  onnx__model_proto__free_unpacked(m, NULL);
  stop(&f);
}

static void test_other_files(void **state) {
  (void)state;
  const struct {
    const char *bytes;
    size_t n;
    const char *text;
  } files[] = {
      {"", 0, "the file is empty"},
      {"\x7f"
       "ELF\x02\x01\x01",
       7, "not an ONNX model"},
      {"not a model, only words\n", 24, "not an ONNX model"},
      {"\x08\x08", 2, "it has no graph"},
      {"\x08\x08\x3a\x00", 4, "it names no operator set"},
      {"\x08\x08\x3a\xff\xff\xff\xff\x0f", 8, "at byte 2 a field of ModelProto.graph is cut short"},
  };
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    fixture f = start();
    assert_false(load_bytes(&f, files[i].bytes, files[i].n));
    assert_said(&f, files[i].text);
    stop(&f);
  }
  fixture f = start();
  assert_null(tt_onnx_load("/nonexistent/model.onnx", f.arena, &f.diag));
  assert_said(&f, "/nonexistent/model.onnx: error: cannot read the model");
  stop(&f);
}

/* Messages inside messages without end: protobuf-c alone would exhaust the stack. */
static void test_deep_nesting(void **state) {
  (void)state;
  enum { LEVELS = 20000 };
  // GraphProto.node(1) > NodeProto.attribute(5) > AttributeProto.g(6) > GraphProto ..., built inside out
  static const uint8_t tags[] = {0x0a, 0x2a, 0x32};
  fixture f = start();
  size_t cap = LEVELS * 6 + 16, at = cap, n = 0;
  uint8_t *bytes = tt_arena_alloc(f.arena, cap);
  for (int i = LEVELS; i >= 0; i--) {
    uint8_t length[5];
    int k = 0;
    for (size_t v = n; k == 0 || v; v >>= 7) length[k++] = (uint8_t)((v & 0x7f) | (v >> 7 ? 0x80 : 0));
    at -= (size_t)k;
    memcpy(bytes + at, length, (size_t)k);
    bytes[--at] = i == 0 ? 0x3a : tags[(i - 1) % 3];
    n += (size_t)k + 1;
  }
  assert_false(load_bytes(&f, bytes + at, n));
  assert_said(&f, "is nested too deeply");
  stop(&f);
}

static uint8_t *small_vit(fixture *f, size_t *bytes) {
  uint8_t *data;
  tt_model_options o = {.image = 8, .patch = 4, .channels = 1, .classes = 3, .dim = 8, .depth = 1, .heads = 2, .seed = 1};
  assert_true(tt_model_build(&o, f->arena, &data, bytes, &f->diag));
  return data;
}

static void test_truncated(void **state) {
  (void)state;
  fixture f = start();
  size_t bytes;
  uint8_t *data = small_vit(&f, &bytes);
  for (size_t n = 0; n < bytes; n += n < 64 ? 1 : 97) {
    fixture cut = start();
    if (load_bytes(&cut, data, n) && import(&cut, 1)) fail_msg("the first %zu of %zu bytes made a model", n, bytes);
    assert_true(cut.diag.errors > 0);
    stop(&cut);
  }
  stop(&f);
}

static uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  return x ^ (x >> 27);
}

static void test_flipped_bytes(void **state) {
  (void)state;
  fixture f = start();
  size_t bytes;
  uint8_t *data = small_vit(&f, &bytes);
  const char *wanted = getenv("TETRAC_FUZZ_ROUNDS");
  const uint64_t rounds = wanted ? strtoull(wanted, NULL, 10) : 1500;
  for (uint64_t round = 1; round <= rounds; round++) {
    fixture bad = start();
    uint8_t *copy = tt_arena_copy(bad.arena, data, bytes);
    for (uint64_t k = 0; k < 1 + round % 3; k++)
      copy[mix(round * 7919 + k * 104729) % bytes] ^= (uint8_t)(1u << (mix(round + k) % 8));
    bool good = load_bytes(&bad, copy, bytes) && import(&bad, 2);
    if (!good && bad.diag.errors == 0) fail_msg("round %llu failed without a word", (unsigned long long)round);
    stop(&bad);
  }
  stop(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_names),        cmocka_unit_test(test_batch),         cmocka_unit_test(test_versions),
      cmocka_unit_test(test_lying_tensor), cmocka_unit_test(test_other_files),   cmocka_unit_test(test_deep_nesting),
      cmocka_unit_test(test_truncated),    cmocka_unit_test(test_flipped_bytes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
