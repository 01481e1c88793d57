/* Adds the training loss to a classifier: softmax cross-entropy, its mean over the batch.
 *
 *   before:  one input; results {logits or the model's first output, ...}
 *   after:   inputs images, labels; results {loss [], losses [B], logits [B,C]}, the model's other outputs dropped
 *
 * The runtime fills inputs by these names, whatever the model calls its own.
 * A model that ends in a softmax is trained on what goes into it: the loss applies its own. */
#include "passes/pass.h"
#include <string.h>

static bool refuse_logits(tt_graph *g, tt_pass_ctx *ctx, tt_value v) {
  char type[TT_TYPE_TEXT];
  tt_error(ctx->diag, (tt_loc){.file = g->module->name},
           "the first output has type %s; a classifier's logits f32[batch,classes] are needed to train",
           tt_type_print(tt_typ(g, v), type, sizeof type));
  return false;
}

/* The logits as [B,C]: dimensions of 1 besides batch and classes are dropped. */
static bool find_logits(tt_builder *b, tt_pass_ctx *ctx, int64_t batch, tt_value *out) {
  tt_graph *g = b->g;
  tt_value v = tt_graph_result(g, "logits");
  if (v == TT_NONE && g->results.count) v = g->results.data[0].value;
  if (v == TT_NONE) {
    tt_error(ctx->diag, (tt_loc){.file = g->module->name}, "the model has no output to train on");
    return false;
  }
  tt_node softmax = tt_def_op(g, v, TT_OP_SOFTMAX);
  if (softmax != TT_NONE) v = tt_nod(g, softmax)->in[0];
  tt_type t = *tt_typ(g, v);
  if (t.dtype != TT_F32 || t.rank < 2 || t.dim[0] != batch) return refuse_logits(g, ctx, v);
  int64_t shape[2] = {t.dim[0], 1};
  for (int i = 1; i < t.rank; i++) {
    if (t.dim[i] != 1 && shape[1] != 1) return refuse_logits(g, ctx, v);
    if (t.dim[i] != 1) shape[1] = t.dim[i];
  }
  if (shape[1] < 2) return refuse_logits(g, ctx, v);
  tt_attr attr = tt_attr_ints(g, TT_A_SHAPE, 2, shape);
  *out = t.rank == 2 ? v : tt_build1(b, TT_OP_RESHAPE, v, 1, &attr);
  return *out != TT_NONE;
}

/* Gives the model's one input the name that the runtime knows; *batch is its first dimension. */
static bool name_images(tt_graph *g, tt_pass_ctx *ctx, int64_t *batch) {
  tt_value images = TT_NONE;
  int n = 0;
  for (size_t i = 0; i < g->inputs.count; i++) {
    if (strcmp(tt_val(g, g->inputs.data[i])->name, "rng") == 0) continue; // of stochastic forward quantizers
    images = g->inputs.data[i];
    n++;
  }
  const tt_loc loc = {.file = g->module->name};
  if (n != 1) {
    tt_error(ctx->diag, loc, "the model has %d inputs; a trainer feeds one, a batch of images", n);
    return false;
  }
  const tt_value_data *d = tt_val(g, images);
  if (d->type.dtype != TT_F32 || d->type.rank < 2) {
    char type[TT_TYPE_TEXT];
    tt_error(ctx->diag, loc, "input '%s' is %s; a trainer feeds a batch of images in float32", d->name,
             tt_type_print(&d->type, type, sizeof type));
    return false;
  }
  tt_val(g, images)->name = "images";
  *batch = tt_typ(g, images)->dim[0];
  return true;
}

tt_pass_result tt_add_loss(tt_graph *g, tt_pass_ctx *ctx) {
  tt_builder b = {.g = g, .diag = ctx->diag, .at = TT_NONE, .loc = {.file = g->module->name, .node = "loss"}};
  tt_value logits;
  int64_t batch;
  if (!name_images(g, ctx, &batch) || !find_logits(&b, ctx, batch, &logits)) return TT_PASS_FAILED;
  const tt_type t = *tt_typ(g, logits);
  tt_type label_type = ctx->recipe->soft_labels ? t : tt_type_make(TT_I32, 1, t.dim);
  tt_value labels = tt_graph_add_input(g, "labels", label_type);
  tt_attr smoothing = tt_attr_float(TT_A_SMOOTHING, ctx->recipe->label_smoothing);
  tt_value losses = tt_build2(&b, TT_OP_XENT, logits, labels, 1, &smoothing); // [B]
  tt_attr attrs[] = {tt_attr_ints(g, TT_A_AXES, 1, (int64_t[]){0}), tt_attr_int(TT_A_KEEPDIMS, 0)};
  tt_value loss = tt_build1(&b, TT_OP_REDUCE_MEAN, losses, 2, attrs);
  if (loss == TT_NONE) return TT_PASS_FAILED;
  g->results.count = 0;
  tt_graph_set_result(g, "loss", loss);
  tt_graph_set_result(g, "losses", losses);
  tt_graph_set_result(g, "logits", logits);
  tt_graph_sweep(g);
  return TT_PASS_CHANGED;
}
