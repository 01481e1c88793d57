/* The constants that the compiler lays out by hand, beside the structs of trt_abi.h they must equal. */
#include <string.h>
#include <stdlib.h>
#include "compiler/codegen/program.h"
#include "compiler/codegen/state.h"
#include "jit_case.h"

typedef struct fixture {
  tt_arena *arena;
  tt_diag diag;
  cg_ctx *c;
  LLVMTargetDataRef layout;
} fixture;

static void open_module(fixture *f) {
  f->arena = tt_arena_create();
  tt_diag_init(&f->diag, stderr);
  const cg_target *t = cg_target_find("cpu", f->arena, &f->diag);
  assert_non_null(t);
  f->c = cg_open(t, f->arena, &f->diag);
  assert_non_null(f->c);
  f->layout = LLVMGetModuleDataLayout(f->c->module);
}

static void close_module(fixture *f) {
  cg_close(f->c);
  tt_diag_free(&f->diag);
  tt_arena_destroy(f->arena);
}

static uint64_t offset(const fixture *f, cg_val v, unsigned field) {
  return LLVMOffsetOfElement(f->layout, LLVMTypeOf(v), field);
}

static uint64_t value(cg_val v, unsigned field) { return LLVMConstIntGetZExtValue(LLVMGetAggregateElement(v, field)); }

static void test_tensor(void **state) {
  (void)state;
  fixture f;
  open_module(&f);
  trt_tensor t = {.name = "w", .dtype = 1, .rank = 2, .dim = {3, 4}, .offset = 5, .bytes = 6, .role = 7, .init = 8,
                  .init_offset = 9, .transposed = 10};
  cg_val v = cg_const_tensor(f.c, &t);
  assert_int_equal(LLVMABISizeOfType(f.layout, LLVMTypeOf(v)), sizeof(trt_tensor));
  static const struct {
    size_t at;
    uint64_t value;
  } want[] = {{offsetof(trt_tensor, name), 0},         {offsetof(trt_tensor, dtype), 1},
              {offsetof(trt_tensor, rank), 2},         {offsetof(trt_tensor, dim), 0},
              {offsetof(trt_tensor, offset), 5},       {offsetof(trt_tensor, bytes), 6},
              {offsetof(trt_tensor, role), 7},         {offsetof(trt_tensor, init), 8},
              {offsetof(trt_tensor, init_offset), 9},  {offsetof(trt_tensor, transposed), 10},
              {offsetof(trt_tensor, reserved), 0}};
  assert_int_equal(LLVMCountStructElementTypes(LLVMTypeOf(v)), sizeof want / sizeof want[0]);
  for (unsigned i = 0; i < sizeof want / sizeof want[0]; i++) {
    assert_int_equal(offset(&f, v, i), want[i].at);
    if (want[i].value) assert_int_equal(value(v, i), want[i].value);
  }
  cg_val dims = LLVMGetAggregateElement(v, 3);
  assert_int_equal(LLVMGetArrayLength2(LLVMTypeOf(dims)), TRT_MAX_RANK);
  assert_int_equal(value(dims, 1), 4);
  close_module(&f);
}

static void test_defaults(void **state) {
  (void)state;
  fixture f;
  open_module(&f);
  trt_defaults d = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
  cg_val v = cg_const_defaults(f.c, &d);
  static const size_t at[] = {
      offsetof(trt_defaults, lr),           offsetof(trt_defaults, min_lr),    offsetof(trt_defaults, beta1),
      offsetof(trt_defaults, beta2),        offsetof(trt_defaults, eps),       offsetof(trt_defaults, weight_decay),
      offsetof(trt_defaults, clip_norm),    offsetof(trt_defaults, label_smoothing),
      offsetof(trt_defaults, warmup_epochs), offsetof(trt_defaults, epochs),   offsetof(trt_defaults, seed),
      offsetof(trt_defaults, cosine),       offsetof(trt_defaults, calibration_steps),
      offsetof(trt_defaults, calibration_every)};
  assert_int_equal(LLVMABISizeOfType(f.layout, LLVMTypeOf(v)), sizeof(trt_defaults));
  for (unsigned i = 0; i < sizeof at / sizeof at[0]; i++) {
    LLVMBool loses;
    cg_val x = LLVMGetAggregateElement(v, i);
    double got = i < 9 ? LLVMConstRealGetDouble(x, &loses) : (double)LLVMConstIntGetSExtValue(x);
    assert_int_equal(offset(&f, v, i), at[i]);
    assert_true(got == (double)i + 1);
  }
  close_module(&f);
}

static void test_launch_and_probe(void **state) {
  (void)state;
  fixture f;
  open_module(&f);
  trt_launch l = {"n", "o", "k", 3, 4, 5, 6};
  cg_val v = cg_const_launch(f.c, &l), p = cg_const_probe(f.c, "p", LLVMConstNull(f.c->ptr), 2);
  static const size_t at[] = {offsetof(trt_launch, node),         offsetof(trt_launch, op),
                              offsetof(trt_launch, kernel),       offsetof(trt_launch, mx_macs),
                              offsetof(trt_launch, f32_macs),     offsetof(trt_launch, bytes_read),
                              offsetof(trt_launch, bytes_written)};
  static const size_t probe_at[] = {offsetof(trt_probe, name), offsetof(trt_probe, kernel), offsetof(trt_probe, work)};
  LLVMBool loses;
  assert_int_equal(LLVMABISizeOfType(f.layout, LLVMTypeOf(v)), sizeof(trt_launch));
  assert_int_equal(LLVMABISizeOfType(f.layout, LLVMTypeOf(p)), sizeof(trt_probe));
  for (unsigned i = 0; i < sizeof at / sizeof at[0]; i++) {
    assert_int_equal(offset(&f, v, i), at[i]);
    if (i >= 3) assert_true(LLVMConstRealGetDouble(LLVMGetAggregateElement(v, i), &loses) == i);
  }
  for (unsigned i = 0; i < sizeof probe_at / sizeof probe_at[0]; i++) assert_int_equal(offset(&f, p, i), probe_at[i]);
  close_module(&f);
}

static tt_module *small_module(void) {
  static const float ones[6] = {1, 1, 1, 1, 1, 1};
  int64_t dim[2] = {2, 3};
  tt_module *m = tt_module_create("small.onnx");
  tt_type type = tt_type_make(TT_F32, 2, dim);
  tt_module_add_var(m, (tt_var){.name = "w", .type = type, .init = ones, .copy_of = TT_NONE});
  tt_module_add_var(m, (tt_var){.name = "w.ema", .type = type, .role = TT_VAR_STATE, .copy_of = 0});
  tt_graph *g = tt_graph_create(m, "eval");
  tt_value x = tt_graph_add_input(g, "images", type), w = tt_graph_var(g, 0);
  static tt_diag diag;
  tt_builder b = {.g = g, .diag = &diag, .at = TT_NONE};
  tt_graph_set_result(g, "logits", tt_build2(&b, TT_OP_ADD, x, w, 0, NULL));
  tt_graph_set_result(g, "weights", w); /* a result that is a var */
  m->vars_bytes = 128;
  tt_vec_push(&m->var_offset, 0);
  tt_vec_push(&m->var_offset, 64);
  place_values(g);
  return m;
}

static const char *const entry_names[] = {"eval"};

/* They run, on each thread's scratch, and read what they say they read. */
static void check_probes(const trt_program *p) {
  static const char *const names[] = {"fma", "dot", "read"};
  assert_int_equal(p->n_probes, 3);
  for (int i = 0; i < 3; i++) {
    assert_string_equal(p->probes[i].name, names[i]);
    size_t bytes = 2 * (size_t)p->probes[2].work;
    void *memory = aligned_alloc(64, bytes), *bufs[] = {memory};
    assert_non_null(memory);
    memset(memory, 1, bytes);
    trt_parallel(&(trt_kargs){bufs, NULL}, p->probes[i].kernel, 2);
    free(memory);
  }
}

/* The whole program, linked in memory and read back through the C structs. */
static void check_program(const trt_program *p) {
  assert_int_equal(p->abi_version, TRT_ABI_VERSION);
  assert_string_equal(p->model, "small.onnx");
  assert_string_equal(p->recipe, "recipe");
  assert_string_equal(p->info, "{}");
  assert_int_equal(p->fingerprint, 77);
  assert_int_equal(p->batch, 2);
  assert_int_equal(p->n_vars, 2);
  assert_int_equal(p->vars[0].init, TRT_INIT_IMAGE);
  assert_int_equal(p->vars[0].init_offset, 8);
  assert_int_equal(p->vars[1].init, TRT_INIT_COPY);
  assert_int_equal(p->n_patches, 1);
  assert_int_equal(p->patches[0].bytes, 24);
  assert_int_equal(p->image_bytes, 32);
  assert_int_equal(p->image[31], 31);
  assert_true(p->defaults.lr == 0.5 && p->defaults.cosine == 1);
  assert_int_equal(p->n_entries, 1);
  const trt_entry *e = &p->entries[0];
  assert_string_equal(e->name, "eval");
  assert_int_equal(e->n_inputs, 1);
  assert_string_equal(e->inputs[0].name, "images");
  assert_int_equal(e->n_outputs, 2);
  assert_int_equal(e->n_launches, 1);
  assert_string_equal(e->launches[0].op, "add");
  assert_string_equal(e->launches[0].node, "");
  assert_true(e->plan_bytes > 0 && e->plan_bytes + p->work_bytes <= p->arena_bytes);
  assert_int_equal(e->saved_bytes, 5);
  assert_true(e->launches[0].bytes_read == 48 && e->launches[0].bytes_written == 24);
  uint8_t *memory = aligned_alloc(64, 4096);
  assert_true(p->vars_bytes + p->arena_bytes <= 4096);
  trt_step step = {memory, memory + 128};
  float *w = (float *)memory, *x = (float *)(step.arena + e->inputs[0].offset);
  for (int i = 0; i < 6; i++) w[i] = (float)i, x[i] = 10;
  assert_true(trt_threads_init(2, p->scratch_bytes));
  e->fn(&step);
  assert_true(((float *)(step.arena + e->outputs[0].offset))[4] == 14);
  assert_true(((float *)(step.arena + e->outputs[1].offset))[4] == 4);
  free(memory);
  check_probes(p);
}

static void test_program(void **state) {
  (void)state;
  tt_arena *arena = tt_arena_create();
  tt_diag diag;
  tt_diag_init(&diag, stderr);
  uint8_t image[32];
  cg_output out = {0};
  for (int i = 0; i < 32; i++) image[i] = (uint8_t)i;
  trt_patch patch = {.var = 0, .offset = 8, .bytes = 24};
  tt_module *m = small_module();
  cg_program p = {.module = m,
                  .entries = entry_names,
                  .n_entries = 1,
                  .saved_bytes = (uint64_t[]){5},
                  .recipe_text = "recipe",
                  .info_json = "{}",
                  .image = image,
                  .image_bytes = 32,
                  .patches = &patch,
                  .n_patches = 1,
                  .batch = 2,
                  .fingerprint = 77};
  p.defaults.lr = 0.5;
  p.defaults.cosine = 1;
  const cg_target *t = cg_target_find("cpu", arena, &diag);
  assert_true(cg_emit_program(&p, t, CG_OBJ, &out, arena, &diag));
  void *handle = NULL;
  check_program(cg_load_symbol(out.files[0].data, out.files[0].bytes, "tetrac_program", &handle, &diag));
  cg_unload(handle);
  const cg_format texts[] = {CG_LLVM, CG_ASM};
  for (int i = 0; i < 2; i++) {
    assert_true(cg_emit_program(&p, t, texts[i], &out, arena, &diag));
    assert_non_null(strstr((char *)out.files[0].data, "tetrac_program"));
  }
  tt_module_destroy(m);
  tt_diag_free(&diag);
  tt_arena_destroy(arena);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_tensor), cmocka_unit_test(test_defaults),
                                     cmocka_unit_test(test_launch_and_probe), cmocka_unit_test(test_program)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
