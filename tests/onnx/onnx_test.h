/* What the ONNX tests share: models out of the writer, through a file, into the importer. */
#ifndef ONNX_TEST_H
#define ONNX_TEST_H
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "compiler/ir/eval.h"
#include "compiler/ir/verify.h"
#include "compiler/onnx/onnx.h"
#include "compiler/onnx/writer.h"

typedef struct fixture {
  tt_arena *arena;
  tt_diag diag;
  char path[64];     /* the model file */
  tt_onnx_writer *w; /* NULL once its model is finished */
  tt_onnx_model *model;
  tt_module *module;
  tt_graph *g;
  char *notes;
} fixture;

static inline fixture start_at(int64_t opset) {
  fixture f = {.arena = tt_arena_create()};
  tt_diag_init(&f.diag, NULL);
  snprintf(f.path, sizeof f.path, "/tmp/tetrac_onnx_test_%d.onnx", (int)getpid());
  f.w = tt_onnx_writer_create(f.arena, "test", opset);
  return f;
}

static inline fixture start(void) { return start_at(17); }

static inline uint8_t *serialise(fixture *f, size_t *bytes) {
  uint8_t *data;
  tt_onnx_writer_finish(f->w, &data, bytes);
  f->w = NULL;
  return data;
}

static inline void stop(fixture *f) {
  size_t bytes;
  if (f->w) serialise(f, &bytes);
  unlink(f->path);
  tt_module_destroy(f->module);
  tt_diag_free(&f->diag);
  tt_arena_destroy(f->arena);
}

static inline const char *said(const fixture *f) { return f->diag.text ? f->diag.text : ""; }

#define assert_said(f, needle)                                                                                             \
  do {                                                                                                                     \
    if (!strstr(said(f), needle)) fail_msg("expected '%s' in:\n%s", needle, said(f));                                      \
  } while (0)

/* Not tt_write_file: that waits for the disk, thousands of times here. */
static inline void put_file(const char *path, const void *data, size_t bytes) {
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(data, 1, bytes, file), bytes);
  assert_int_equal(fclose(file), 0);
}

static inline bool load_bytes(fixture *f, const void *data, size_t bytes) {
  put_file(f->path, data, bytes);
  f->model = tt_onnx_load(f->path, f->arena, &f->diag);
  return f->model != NULL;
}

static inline bool import(fixture *f, int64_t batch) {
  tt_module_destroy(f->module);
  f->module = tt_onnx_import(f->model, batch, &f->notes, &f->diag);
  if (!f->module) return false;
  f->g = tt_module_find_graph(f->module, "forward");
  assert_true(tt_verify(f->g, &f->diag));
  return true;
}

/* Finishes the writer's model and takes it all the way. */
static inline bool finish(fixture *f, int64_t batch) {
  size_t bytes;
  uint8_t *data = serialise(f, &bytes);
  return load_bytes(f, data, bytes) && import(f, batch);
}

static inline tt_type shape(tt_dtype dtype, int rank, int64_t a, int64_t b, int64_t c, int64_t d) {
  return tt_type_make(dtype, rank, (int64_t[]){a, b, c, d});
}

static inline void input(fixture *f, const char *name, tt_type type, const char *batch) {
  tt_onnx_write_input(f->w, name, &type, batch);
}
static inline void output(fixture *f, const char *name) {
  tt_type type = tt_type_scalar(TT_F32);
  tt_onnx_write_output(f->w, name, &type, NULL);
}
static inline void floats(fixture *f, const char *name, tt_type type, const float *x) {
  tt_onnx_write_initializer(f->w, name, &type, x);
}
static inline void ints(fixture *f, const char *name, int n, const int64_t *x) {
  tt_type type = n ? tt_type_make(TT_I64, 1, (int64_t[]){n}) : tt_type_scalar(TT_I64);
  tt_onnx_write_initializer(f->w, name, &type, x);
}
/* A node with up to three operands ("" ends the list), named after its output. */
static inline void node(fixture *f, const char *op, const char *out, const char *a, const char *b, const char *c) {
  const char *in[] = {a, b, c};
  tt_onnx_write_node(f->w, NULL, op, tt_arena_printf(f->arena, "n_%s", out), *c ? 3 : *b ? 2 : *a ? 1 : 0, in, 1, &out);
}

static inline int count_op(const tt_graph *g, tt_op op) {
  int n = 0;
  TT_FOR_NODES(g, i) n += tt_nod(g, i)->op == op;
  return n;
}

/* The first result with input k = first[k] + its element number * step. */
static inline tt_tensor evaluate(fixture *f, double first, double step) {
  const tt_graph *g = f->g;
  tt_tensor *in = TT_NEW_N(f->arena, tt_tensor, g->inputs.count + 1),
            *out = TT_NEW_N(f->arena, tt_tensor, g->results.count + 1);
  for (size_t k = 0; k < g->inputs.count; k++) {
    in[k] = tt_tensor_new(f->arena, *tt_typ(g, g->inputs.data[k]));
    for (int64_t i = 0; i < tt_type_count(&in[k].type); i++) in[k].d[i] = first + step * (double)i;
  }
  tt_eval_graph(g, in, NULL, out, false, f->arena);
  return out[0];
}

static inline void assert_values(const tt_tensor *t, int64_t n, const double *want) {
  assert_int_equal(tt_type_count(&t->type), n);
  for (int64_t i = 0; i < n; i++)
    if (!(fabs(t->d[i] - want[i]) <= 1e-6 * (1.0 + fabs(want[i]))))
      fail_msg("element %lld is %g, expected %g", (long long)i, t->d[i], want[i]);
}
#endif
