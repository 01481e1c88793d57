/* ONNX in and out, through the packaged schema (libonnx-dev's onnx.proto compiled by protoc-c). */
#ifndef TT_ONNX_H
#define TT_ONNX_H
#include "compiler/ir/graph.h"
#include "compiler/support/strbuf.h"

/* A loaded model file. It outlives import: export rewrites it. */
typedef struct tt_onnx_model tt_onnx_model;
/* NULL after a diagnostic (not ONNX, cut short, claims beyond the file, external data missing...). Memory: arena. */
tt_onnx_model *tt_onnx_load(const char *path, tt_arena *arena, tt_diag *diag);
/* Whether the first input's first dimension is symbolic, so that import will bind it. */
bool tt_onnx_has_open_batch(const tt_onnx_model *model);
/* Builds module "forward": graph inputs in order, results named by the model's outputs (the first is also "logits" in the
 * trainer), parameters as vars. `batch` > 0 binds every symbolic first dimension, 0 takes 128 for symbolic ones; a fixed
 * batch that differs from a given one is an error. Constant subgraphs (Shape chains) are folded while importing.
 * Parameters that exporters merged are untied (see README.md); notes about what was untied and what was kept
 * are returned as text in *notes (may be NULL), in the model's arena, as are the parameters' initial bytes: the model must
 * outlive the module. All unsupported ops and attributes are reported in one run. NULL on error. */
tt_module *tt_onnx_import(tt_onnx_model *model, int64_t batch, char **notes, tt_diag *diag);

/* A complete model whose parameter initializers are raw float32 at known places; untied parameters have become initializers
 * of their own. patches[i] belongs to module var patches[i].var. Call it after the passes that change vars' layout. */
typedef struct tt_onnx_patch {
  uint32_t var;
  uint64_t offset, bytes;
} tt_onnx_patch;
typedef struct tt_onnx_image {
  uint8_t *data;
  size_t bytes;
  tt_onnx_patch *patches;
  int n_patches;
} tt_onnx_image;
bool tt_onnx_image_build(tt_onnx_model *model, const tt_module *module, tt_arena *arena, tt_onnx_image *out, tt_diag *diag);

/* Rewritten graphs as ONNX for viewers: standard ops where they exist, domain "tetrac" for the others. */
bool tt_onnx_export_graph(const tt_graph *g, tt_arena *arena, uint8_t **data, size_t *bytes, tt_diag *diag);

/* TensorProto and .npy files, chosen by extension (.pb, .npy). */
#include "compiler/ir/eval.h"
bool tt_tensor_read(const char *path, tt_tensor *out, tt_arena *arena, tt_diag *diag);
bool tt_tensor_write(const char *path, const char *name, const tt_tensor *t, tt_diag *diag);
#endif
