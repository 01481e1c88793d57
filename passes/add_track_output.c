/* Makes the forward graph into the entry that follows a block's output on a fixed input (NUMERICS 7).
 *
 *   before:  the forward graph
 *   after:   input weight []; with y the output of the block that the recipe names (track.block)
 *              track-rate-y = (1 - weight) * track-rate-y + weight * |y - track-y| / |track-y|,   track-y = y
 *            result rate_y [1], the new track-rate-y
 *
 * A forward pass costs a good part of a step, so it runs only now and then, in two consecutive steps: weight 0 takes a first
 * look, weight 1/k makes the second look of pair k of a window the k-th of the mean. Nothing stays of what lies behind the
 * block. A model without blocks has no results. Requires nothing, and knows both forms of a forward; breaks its results. */
#include "passes/blocks.h"
#include "passes/track.h"

/* The output to follow; TT_NONE, with a diagnostic or not. */
static tt_value chosen_output(const tt_graph *g, tt_pass_ctx *ctx) {
  tt_blocks b = tt_find_blocks(g, ctx->scratch);
  int64_t block = ctx->recipe->track_block;
  if (block > b.count)
    tt_error(ctx->diag, (tt_loc){.file = g->module->name}, "track.block = %lld, but the model has %d block%s; %s",
             (long long)block, b.count, b.count == 1 ? "" : "s",
             b.count ? "name one of them, or last" : "leave the setting out");
  if (b.count == 0 || block > b.count) return TT_NONE;
  return b.output[block ? block - 1 : b.count - 1];
}

static tt_value element(tt_builder *b, tt_value x, int64_t i) {
  tt_graph *g = b->g;
  tt_attr attrs[] = {tt_attr_ints(g, TT_A_STARTS, 1, (int64_t[]){i}), tt_attr_ints(g, TT_A_ENDS, 1, (int64_t[]){i + 1}),
                     tt_attr_ints(g, TT_A_STEPS, 1, (int64_t[]){1})};
  return tt_build1(b, TT_OP_SLICE, x, 3, attrs);
}

/* |y - last| / |last|. At a first look `last` may be zeros; a move over nothing counts as finite, and weight 0 drops it. */
static tt_value relative_move(tt_builder *b, tt_value y, tt_value last) {
  tt_value in[2] = {tt_build2(b, TT_OP_SUB, y, last, 0, NULL), last};
  if (in[0] == TT_NONE) return TT_NONE;
  tt_node n = tt_build(b, TT_OP_SUMSQ, 2, in, 0, NULL);
  if (n == TT_NONE) return TT_NONE;
  tt_value sums = tt_nod(b->g, n)->out[0]; // [2]
  tt_value norm = tt_build2(b, TT_OP_MAX, element(b, sums, 1), tt_graph_const_f32(b->g, 1e-20f), 0, NULL);
  return tt_build1(b, TT_OP_SQRT, tt_build2(b, TT_OP_DIV, element(b, sums, 0), norm, 0, NULL), 0, NULL);
}

tt_pass_result tt_add_track_output(tt_graph *g, tt_pass_ctx *ctx) {
  int before = ctx->diag->errors;
  tt_value y = chosen_output(g, ctx);
  if (ctx->diag->errors != before) return TT_PASS_FAILED;
  g->results.count = 0;
  if (y == TT_NONE) return TT_PASS_CHANGED;
  tt_builder b = {.g = g, .diag = ctx->diag, .at = TT_NONE, .loc = {.file = g->module->name, .node = "track"}};
  uint32_t last = tt_track_named_var(g->module, "track-y", *tt_typ(g, y));
  uint32_t mean = tt_track_named_var(g->module, "track-rate-y", tt_type_make(TT_F32, 1, (int64_t[]){1}));
  tt_value weight = tt_graph_add_input(g, "weight", tt_type_scalar(TT_F32));
  tt_value now = tt_build2(&b, TT_OP_MUL, weight, relative_move(&b, y, tt_graph_var(g, last)), 0, NULL);
  tt_value rest = tt_build2(&b, TT_OP_SUB, tt_graph_const_f32(g, 1), weight, 0, NULL);
  rest = tt_build2(&b, TT_OP_MUL, rest, tt_graph_var(g, mean), 0, NULL);
  tt_value rate = tt_build2(&b, TT_OP_ADD, rest, now, 0, NULL);
  if (rate == TT_NONE) return TT_PASS_FAILED;
  tt_graph_add_update(g, last, y);
  tt_graph_add_update(g, mean, rate);
  tt_graph_set_result(g, "rate_y", rate);
  return TT_PASS_CHANGED;
}
