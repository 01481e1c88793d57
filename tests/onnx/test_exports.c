/* Real exports of torch and transformers, where they lie beside the checkout (a user's clone has none: skipped). */
#include "tests/onnx/onnx_test.h"

#define MODELS TETRAC_SOURCE_DIR "/../shared/models/"

typedef struct expected {
  const char *file;
  int64_t batch;         /* 0: as the file fixes it */
  int params, shape_ops; /* parameters after untying; shape arithmetic left in the graph */
  const char *params_named[4];
} expected;

static const expected exports[] = {
    {"timm_vit_fmnist_ts17.onnx", 4, 56, 0, {"blocks.3.norm2.bias", "norm.weight", "cls_token", "onnx::MatMul_446"}},
    {"timm_vit_fmnist_dy18.onnx", 0, 55, 0, {"expand", "blocks.0.norm1.bias@node_linear_1", "pos_embed", "val_295"}},
    {"hf_vit_dy18.onnx", 0, 70, 0, {"expand", "m.classifier.weight", "val_310", NULL}},
    {"timm_swin_dy18.onnx", 0, 0, 0, {"head.fc.weight", "patch_embed.norm.bias@node_linear_1", NULL, NULL}},
    {"hf_llama_dy18.onnx", 0, 0, 1, {"m.model.embed_tokens.weight", NULL, NULL, NULL}},
};

static int shape_ops(const tt_graph *g) {
  return count_op(g, TT_OP_SHAPE_OF) + count_op(g, TT_OP_GATHER) + count_op(g, TT_OP_CAST) + count_op(g, TT_OP_EQUAL);
}

static void check_image(fixture *f) {
  tt_onnx_image image;
  if (!tt_onnx_image_build(f->model, f->module, f->arena, &image, &f->diag)) fail_msg("%s", said(f));
  assert_int_equal(image.n_patches, f->module->vars.count);
  for (int i = 0; i < image.n_patches; i++) {
    const tt_onnx_patch *p = &image.patches[i];
    assert_true(p->offset + p->bytes <= image.bytes);
    assert_memory_equal(image.data + p->offset, f->module->vars.data[p->var].init, p->bytes);
  }
  fixture again = start();
  size_t vars = f->module->vars.count;
  if (!load_bytes(&again, image.data, image.bytes) || !import(&again, 0)) fail_msg("%s", said(&again));
  assert_int_equal(again.module->vars.count, vars);
  assert_string_equal(again.notes, ""); // nothing left to untie
  stop(&again);
}

static void check_export(const expected *e) {
  char *path = malloc(sizeof MODELS + strlen(e->file));
  snprintf(path, sizeof MODELS + strlen(e->file), "%s%s", MODELS, e->file);
  if (access(path, R_OK) != 0) {
    print_message("%s is not here\n", path);
    free(path);
    skip();
  }
  fixture f = start();
  f.model = tt_onnx_load(path, f.arena, &f.diag);
  free(path);
  if (!f.model || !import(&f, e->batch)) fail_msg("%s", said(&f));
  if (e->params) assert_int_equal(f.module->vars.count, e->params);
  assert_int_equal(shape_ops(f.g), e->shape_ops);
  for (int i = 0; i < 4; i++)
    if (e->params_named[i] && tt_module_find_var(f.module, e->params_named[i]) == TT_NONE)
      fail_msg("no '%s'", e->params_named[i]);
  check_image(&f);
  stop(&f);
}

static void test_ts17(void **state) { (void)state, check_export(&exports[0]); }
static void test_dy18(void **state) { (void)state, check_export(&exports[1]); }
static void test_hf_vit(void **state) { (void)state, check_export(&exports[2]); }
static void test_swin(void **state) { (void)state, check_export(&exports[3]); }
static void test_llama(void **state) { (void)state, check_export(&exports[4]); }

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_ts17), cmocka_unit_test(test_dy18),
                                     cmocka_unit_test(test_hf_vit), cmocka_unit_test(test_swin),
                                     cmocka_unit_test(test_llama)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
