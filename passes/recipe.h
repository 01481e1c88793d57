/* Recipes: how to quantize, train and lay out. Plain ini files in passes/recipes/, every key overridable by
 * "section.key=value". A file may begin with [recipe] base = NAME|FILE: then it states only what differs from that recipe.
 * Unknown keys, values out of range and combinations that do not fit together are refused by name. */
#ifndef TT_RECIPE_H
#define TT_RECIPE_H
#include "compiler/ir/qspec.h"
#include "compiler/support/arena.h"
#include "compiler/support/diag.h"
#include "compiler/support/strbuf.h"

typedef enum { TT_LAYERS_NONE, TT_LAYERS_BLOCK, TT_LAYERS_ALL, TT_LAYERS_PATTERN } tt_layers;
/* What is done about weights that oscillate between two 4-bit values (NUMERICS 6). */
typedef enum { TT_CONTROL_NONE, TT_CONTROL_EMA, TT_CONTROL_DAMPEN, TT_CONTROL_FREEZE, TT_CONTROL_RAMP } tt_control;

/* What the backward makes again instead of keeping it (passes/recompute.c). No choice changes a bit of any result. */
typedef enum { TT_RECOMPUTE_NONE, TT_RECOMPUTE_CHEAP, TT_RECOMPUTE_MOST, TT_RECOMPUTE_ALL } tt_recompute_level;

typedef struct tt_recipe {
  const char *name;
  const char *summary;
  tt_layers layers;         /* [layers] select = none | block-linears | all-linears | pattern */
  const char *layers_pattern; /* [layers] pattern = comma list of glob patterns over layer names, for select = pattern */
  const char *layers_skip;  /* [layers] skip = comma list of glob patterns over layer names */
  int64_t first_blocks, last_blocks; /* [layers] blocks at either end that stay in float32 */
  int64_t mx_block;         /* [mx] block: elements that share a scale; only 32 exists */
  tt_control control;       /* [oscillation] */
  double ema_beta;          /* W_ema <- beta W_ema + (1 - beta) W, every step */
  double dampen_lambda;     /* adds lambda |W - Q(W)|^2 to the loss */
  double freeze_threshold;  /* turns (changes against the last one's direction) a step, averaged, above which one freezes */
  double freeze_momentum;   /* share of the newest step in that average and in that of Q(w), to which one is frozen */
  int64_t ema_from;         /* step from which on ema rounding is used */
  double ramp_k1;           /* periods are ramp_k2 * floor(R / ramp_k1) + 1 steps */
  int64_t ramp_k2, ramp_t0; /* ramp_t0: steps of a calibration */
  int64_t ramp_every;       /* steps from one calibration to the next; 0: an epoch */
  tt_qspec q[6];            /* [q1] .. [q6]: format, scale, rounding, source; or enabled = no */
  double lr, min_lr;        /* [optimizer] rate at the end of warm-up, and of a cosine schedule's last step */
  double beta1, beta2, eps, weight_decay; /* AdamW's; the decay is times the rate */
  double clip_norm;         /* of all gradients together; 0: not clipped */
  double warmup_epochs;     /* the rate rises linearly, step by step */
  bool cosine;              /* schedule = cosine | constant */
  bool decay_1d;            /* decay-all = no: biases, norms, tokens and position embeddings are excluded */
  double label_smoothing;   /* [loss] smoothing */
  bool soft_labels;         /* [loss] labels = hard | soft */
  int64_t epochs, seed;     /* [train] what a trainer does unless told otherwise */
  int64_t track_block;      /* [track] block = last | N: whose output tracking follows; 0: last, 1: first */
  tt_recompute_level recompute; /* [memory] recompute = none | cheap | most | all */
  double memory_goal; /* [memory] goal: share of a step's memory without recomputation at which it may stop; 0: never */
} tt_recipe;

/* Loads a recipe by name (from `dir`) or by path (anything with a '/' or ending in .ini), then applies `sets` ("key=value").
 * Strings live in arena. NULL after diagnostics. */
tt_recipe *tt_recipe_load(const char *name_or_path, const char *dir, int n_sets, const char *const *sets, tt_arena *arena,
                          tt_diag *diag);
void tt_recipe_defaults(tt_recipe *r); /* fp32: no quantizer, AdamW at its usual settings */
void tt_recipe_print(const tt_recipe *r, tt_strbuf *out); /* the effective recipe as ini text, every key */
/* Sorted names of the .ini files of `dir`; count in *n. */
const char *const *tt_recipe_list(const char *dir, tt_arena *arena, int *n);
#endif
