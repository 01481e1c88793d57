/* The ViT family as ONNX, written the way exporters write it (MatMul and Add for a linear layer, decomposed GELU, heads by
 * Reshape and Transpose), so that a model of our own takes the same way through the compiler as a user's.
 *
 *   images [B,C,H,W] -> Conv patch -> [B,N-1,D] -> class token in front -> + position [1,N,D]
 *   depth x:  x += proj(attention(norm1(x)));  x += fc2(gelu(fc1(norm2(x))))
 *   norm -> token 0 -> head [B,classes]
 *
 * Weights: normal of deviation 0.02 cut at two deviations, biases 0, gains 1 (DeiT); the patch convolution uniform within
 * 1/sqrt(fan in). */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "compiler/onnx/writer.h"
#include "models/init.h"
#include "models/models.h"

static const tt_model_preset presets[] = {
    {"vit", "small ViT for 28x28 grey images: patch 4, width 96, 4 blocks, 3 heads", {28, 4, 1, 10, 96, 4, 3, 0}},
    {"deit-tiny", "DeiT-Ti for ImageNet: patch 16, width 192, 12 blocks, 3 heads", {224, 16, 3, 1000, 192, 12, 3, 0}},
    {"deit-small", "DeiT-S for ImageNet: patch 16, width 384, 12 blocks, 6 heads", {224, 16, 3, 1000, 384, 12, 6, 0}},
    {"deit-base", "DeiT-B for ImageNet: patch 16, width 768, 12 blocks, 12 heads", {224, 16, 3, 1000, 768, 12, 12, 0}},
};

const tt_model_preset *tt_model_presets(int *n) {
  *n = (int)(sizeof presets / sizeof *presets);
  return presets;
}

const tt_model_preset *tt_model_preset_find(const char *name) {
  for (size_t i = 0; i < sizeof presets / sizeof *presets; i++)
    if (strcmp(presets[i].name, name) == 0) return &presets[i];
  return NULL;
}

typedef struct vit {
  const tt_model_options *o;
  tt_arena *arena;
  tt_onnx_writer *w;
  int64_t tensor; /* counts initialised tensors: their number is part of their randomness */
  int64_t tokens;
} vit;

/* ---- initializers: each returns its name ---- */

static const char *add_tensor(vit *m, const char *name, int rank, const int64_t *dim, float **data) {
  tt_type type = tt_type_make(TT_F32, rank, dim);
  *data = TT_NEW_N(m->arena, float, tt_type_count(&type));
  tt_onnx_write_initializer(m->w, name, &type, *data);
  m->tensor++;
  return name;
}

static const char *add_normal(vit *m, const char *name, int rank, const int64_t *dim) {
  float *x;
  add_tensor(m, name, rank, dim, &x);
  tt_type type = tt_type_make(TT_F32, rank, dim);
  tt_init_normal(x, tt_type_count(&type), 0.02, m->o->seed, m->tensor);
  return name;
}

static const char *add_filled(vit *m, const char *name, int64_t n, float value) {
  float *x;
  add_tensor(m, name, 1, &n, &x);
  for (int64_t i = 0; i < n; i++) x[i] = value;
  return name;
}

static const char *add_ints(vit *m, const char *name, int n, const int64_t *v) {
  tt_type type = tt_type_make(TT_I64, 1, (int64_t[]){n});
  tt_onnx_write_initializer(m->w, name, &type, tt_arena_copy(m->arena, v, (size_t)n * sizeof *v));
  return name;
}

static const char *add_int(vit *m, const char *name, int64_t v) {
  tt_type type = tt_type_scalar(TT_I64);
  tt_onnx_write_initializer(m->w, name, &type, tt_arena_copy(m->arena, &v, sizeof v));
  return name;
}

static const char *add_scalar(vit *m, const char *name, float v) {
  tt_type type = tt_type_scalar(TT_F32);
  tt_onnx_write_initializer(m->w, name, &type, tt_arena_copy(m->arena, &v, sizeof v));
  return name;
}

/* ---- nodes: named by path, one output named after the node; returns the output's name ---- */

static const char *add_node(vit *m, const char *op, const char *path, int n_in, const char *const *in) {
  const char *out = tt_arena_printf(m->arena, "%s_output_0", path);
  tt_onnx_write_node(m->w, NULL, op, path, n_in, in, 1, &out);
  return out;
}

static const char *node1(vit *m, const char *op, const char *path, const char *x) { return add_node(m, op, path, 1, &x); }
static const char *node2(vit *m, const char *op, const char *path, const char *x, const char *y) {
  return add_node(m, op, path, 2, (const char *[]){x, y});
}

#define PATH(...) tt_arena_printf(m->arena, __VA_ARGS__)

/* x [..,in] -> [..,out]; `at` like blocks/0/attn/qkv */
static const char *add_linear(vit *m, const char *x, const char *at, const char *param, int64_t in, int64_t out) {
  const char *w = add_normal(m, PATH("%s.weight", param), 2, (int64_t[]){in, out});
  const char *b = add_filled(m, PATH("%s.bias", param), out, 0.0f);
  return node2(m, "Add", PATH("/%s/Add", at), node2(m, "MatMul", PATH("/%s/MatMul", at), x, w), b);
}

static const char *add_norm(vit *m, const char *x, const char *at, const char *param) {
  const char *g = add_filled(m, PATH("%s.weight", param), m->o->dim, 1.0f);
  const char *b = add_filled(m, PATH("%s.bias", param), m->o->dim, 0.0f);
  const char *y = add_node(m, "LayerNormalization", PATH("/%s/LayerNormalization", at), 3, (const char *[]){x, g, b});
  tt_onnx_write_int(m->w, "axis", -1);
  tt_onnx_write_float(m->w, "epsilon", 1e-6);
  return y;
}

/* x/2 (1 + erf(x / sqrt 2)), in the five nodes that torch exports */
static const char *add_gelu(vit *m, const char *x, const char *at) {
  const char *e = node1(m, "Erf", PATH("/%s/Erf", at), node2(m, "Div", PATH("/%s/Div", at), x, "sqrt_two"));
  const char *y = node2(m, "Mul", PATH("/%s/Mul", at), x, node2(m, "Add", PATH("/%s/Add", at), e, "one"));
  return node2(m, "Mul", PATH("/%s/Mul_1", at), y, "half");
}

static const char *transposed(vit *m, const char *path, const char *x, int rank, const int64_t *perm) {
  const char *y = node1(m, "Transpose", path, x);
  tt_onnx_write_ints(m->w, "perm", rank, perm);
  return y;
}

static const char *taken(vit *m, const char *path, const char *x, const char *index, int64_t axis) {
  const char *y = node2(m, "Gather", path, x, index);
  tt_onnx_write_int(m->w, "axis", axis);
  return y;
}

/* x [B,N,D] -> [B,N,D] */
static const char *add_attention(vit *m, const char *x, const char *at, const char *param) {
  int64_t d = m->o->dim;
  const char *qkv = add_linear(m, x, PATH("%s/qkv", at), PATH("%s.qkv", param), d, 3 * d);
  qkv = node2(m, "Reshape", PATH("/%s/Reshape", at), qkv, "qkv_shape");               // [B,N,3,H,d]
  qkv = transposed(m, PATH("/%s/Transpose", at), qkv, 5, (int64_t[]){2, 0, 3, 1, 4}); // [3,B,H,N,d]
  const char *q = taken(m, PATH("/%s/Gather", at), qkv, "index_0", 0);                // [B,H,N,d]
  const char *k = taken(m, PATH("/%s/Gather_1", at), qkv, "index_1", 0);
  const char *v = taken(m, PATH("/%s/Gather_2", at), qkv, "index_2", 0);
  q = node2(m, "Mul", PATH("/%s/Mul", at), q, "attention_scale");
  k = transposed(m, PATH("/%s/Transpose_1", at), k, 4, (int64_t[]){0, 1, 3, 2}); // [B,H,d,N]
  const char *p = node1(m, "Softmax", PATH("/%s/Softmax", at), node2(m, "MatMul", PATH("/%s/MatMul", at), q, k));
  tt_onnx_write_int(m->w, "axis", -1);
  const char *o = node2(m, "MatMul", PATH("/%s/MatMul_1", at), p, v);            // [B,H,N,d]
  o = transposed(m, PATH("/%s/Transpose_2", at), o, 4, (int64_t[]){0, 2, 1, 3}); // [B,N,H,d]
  o = node2(m, "Reshape", PATH("/%s/Reshape_1", at), o, "tokens_shape");         // [B,N,D]
  return add_linear(m, o, PATH("%s/proj", at), PATH("%s.proj", param), d, d);
}

static const char *add_block(vit *m, const char *x, int64_t i) {
  const char *at = PATH("blocks/%lld", (long long)i), *param = PATH("blocks.%lld", (long long)i);
  int64_t d = m->o->dim;
  const char *h = add_norm(m, x, PATH("%s/norm1", at), PATH("%s.norm1", param));
  h = add_attention(m, h, PATH("%s/attn", at), PATH("%s.attn", param));
  x = node2(m, "Add", PATH("/%s/Add", at), x, h);
  h = add_norm(m, x, PATH("%s/norm2", at), PATH("%s.norm2", param));
  h = add_linear(m, h, PATH("%s/mlp/fc1", at), PATH("%s.mlp.fc1", param), d, 4 * d);
  h = add_gelu(m, h, PATH("%s/mlp/act", at));
  h = add_linear(m, h, PATH("%s/mlp/fc2", at), PATH("%s.mlp.fc2", param), 4 * d, d);
  return node2(m, "Add", PATH("/%s/Add_1", at), x, h);
}

/* images [B,C,H,W] -> [B,N,D] */
static const char *add_embedding(vit *m) {
  const tt_model_options *o = m->o;
  float *w;
  int64_t fan_in = o->channels * o->patch * o->patch;
  add_tensor(m, "patch_embed.proj.weight", 4, (int64_t[]){o->dim, o->channels, o->patch, o->patch}, &w);
  tt_init_uniform(w, o->dim * fan_in, 1.0 / sqrt((double)fan_in), o->seed, m->tensor);
  add_filled(m, "patch_embed.proj.bias", o->dim, 0.0f);
  const char *x = add_node(m, "Conv", "/patch_embed/proj/Conv", 3,
                           (const char *[]){"images", "patch_embed.proj.weight", "patch_embed.proj.bias"});
  tt_onnx_write_ints(m->w, "kernel_shape", 2, (int64_t[]){o->patch, o->patch});
  tt_onnx_write_ints(m->w, "strides", 2, (int64_t[]){o->patch, o->patch});
  x = node2(m, "Reshape", "/patch_embed/Reshape", x, "patches_shape");     // [B,D,N-1]
  x = transposed(m, "/patch_embed/Transpose", x, 3, (int64_t[]){0, 2, 1}); // [B,N-1,D]
  const char *batch = node1(m, "Shape", "/Shape", x);
  tt_onnx_write_int(m->w, "start", 0);
  tt_onnx_write_int(m->w, "end", 1);
  const char *shape = node2(m, "Concat", "/Concat", batch, "token_shape");
  tt_onnx_write_int(m->w, "axis", 0);
  add_normal(m, "cls_token", 3, (int64_t[]){1, 1, o->dim});
  x = node2(m, "Concat", "/Concat_1", node2(m, "Expand", "/Expand", "cls_token", shape), x);
  tt_onnx_write_int(m->w, "axis", 1);
  add_normal(m, "pos_embed", 3, (int64_t[]){1, m->tokens, o->dim});
  return node2(m, "Add", "/Add", x, "pos_embed");
}

static void add_constants(vit *m) {
  const tt_model_options *o = m->o;
  int64_t width = o->dim / o->heads;
  add_ints(m, "patches_shape", 3, (int64_t[]){0, o->dim, m->tokens - 1});
  add_ints(m, "token_shape", 2, (int64_t[]){1, o->dim});
  add_ints(m, "qkv_shape", 5, (int64_t[]){0, m->tokens, 3, o->heads, width});
  add_ints(m, "tokens_shape", 3, (int64_t[]){0, m->tokens, o->dim});
  for (int i = 0; i < 3; i++) add_int(m, PATH("index_%d", i), i);
  add_scalar(m, "attention_scale", (float)(1.0 / sqrt((double)width)));
  add_scalar(m, "sqrt_two", (float)sqrt(2.0));
  add_scalar(m, "one", 1.0f);
  add_scalar(m, "half", 0.5f);
}

/* The head on the class token, as one Gemm whose weights are [classes, dim]. */
static void add_head(vit *m, const char *x) {
  const tt_model_options *o = m->o;
  x = taken(m, "/Gather", add_norm(m, x, "norm", "norm"), "index_0", 1);
  add_normal(m, "head.weight", 2, (int64_t[]){o->classes, o->dim});
  add_filled(m, "head.bias", o->classes, 0.0f);
  const char *out = "logits";
  tt_onnx_write_node(m->w, NULL, "Gemm", "/head/Gemm", 3, (const char *[]){x, "head.weight", "head.bias"}, 1, &out);
  tt_onnx_write_int(m->w, "transB", 1);
}

static bool in_range(tt_diag *diag, const char *option, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return true;
  tt_error(diag, (tt_loc){0}, "--%s is %lld, it must be %lld to %lld", option, (long long)value, (long long)low,
           (long long)high);
  return false;
}

static bool divides(tt_diag *diag, const char *part, int64_t value, const char *whole, int64_t of) {
  if (of % value == 0) return true;
  tt_error(diag, (tt_loc){0}, "--%s %lld does not divide --%s %lld", part, (long long)value, whole, (long long)of);
  return false;
}

static bool check_options(const tt_model_options *o, tt_diag *diag) {
  bool ok = in_range(diag, "image", o->image, 1, 4096);
  ok &= in_range(diag, "patch", o->patch, 1, 512);
  ok &= in_range(diag, "channels", o->channels, 1, 64);
  ok &= in_range(diag, "classes", o->classes, 2, 1 << 20);
  ok &= in_range(diag, "dim", o->dim, 1, 8192);
  ok &= in_range(diag, "depth", o->depth, 1, 256);
  ok &= in_range(diag, "heads", o->heads, 1, 256);
  if (!ok) return false;
  ok &= divides(diag, "patch", o->patch, "image", o->image);
  ok &= divides(diag, "heads", o->heads, "dim", o->dim);
  int64_t side = o->image / o->patch;
  double params =
      12.0 * (double)o->depth * (double)o->dim * (double)o->dim + (double)(o->classes + side * side) * (double)o->dim;
  if (ok && params > 4.5e8) {
    tt_error(diag, (tt_loc){0},
             "the model would have %.0f million parameters; an ONNX file holds 450 million: make it smaller", params / 1e6);
    return false;
  }
  return ok;
}

bool tt_model_build(const tt_model_options *o, tt_arena *arena, uint8_t **data, size_t *bytes, tt_diag *diag) {
  TT_TRY(check_options(o, diag));
  int64_t side = o->image / o->patch;
  vit model = {.o = o, .arena = arena, .tokens = side * side + 1}, *m = &model;
  m->w = tt_onnx_writer_create(arena, "vit", 17);
  tt_type images = tt_type_make(TT_F32, 4, (int64_t[]){1, o->channels, o->image, o->image});
  tt_type logits = tt_type_make(TT_F32, 2, (int64_t[]){1, o->classes});
  tt_onnx_write_input(m->w, "images", &images, "batch");
  tt_onnx_write_output(m->w, "logits", &logits, "batch");
  add_constants(m);
  const char *x = add_embedding(m);
  for (int64_t i = 0; i < o->depth; i++) x = add_block(m, x, i);
  add_head(m, x);
  tt_onnx_writer_finish(m->w, data, bytes);
  return true;
}
