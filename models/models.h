/* Model builders behind `tetrac new`: Vision Transformers as ONNX files, initialised and ready to compile. */
#ifndef TT_MODELS_H
#define TT_MODELS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "compiler/support/arena.h"
#include "compiler/support/diag.h"

typedef struct tt_model_options {
  int64_t image;    /* side of the square input */
  int64_t patch;    /* side of a patch; divides image */
  int64_t channels; /* of the input */
  int64_t classes;
  int64_t dim;   /* width; the MLP is 4 * dim wide */
  int64_t depth; /* transformer blocks */
  int64_t heads; /* divides dim */
  int64_t seed;  /* of the initial weights: same options and seed, same bytes, on every machine */
} tt_model_options;

typedef struct tt_model_preset {
  const char *name; /* as in `tetrac new NAME` */
  const char *summary;
  tt_model_options options;
} tt_model_preset;
const tt_model_preset *tt_model_presets(int *n);
const tt_model_preset *tt_model_preset_find(const char *name); /* NULL where absent */

/* A ViT (Dosovitskiy et al. 2020, as in DeiT, Touvron et al. 2020): patch embedding, class token, position embedding,
 * pre-norm blocks, final norm, linear head on the class token. Opset 17, input "images" [batch,C,H,W], output "logits"
 * [batch,classes]. The serialised model lies in the arena. False after diagnostics that name each option out of range. */
bool tt_model_build(const tt_model_options *o, tt_arena *arena, uint8_t **data, size_t *bytes, tt_diag *diag);
#endif
