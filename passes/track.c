/* See track.h. */
#include "passes/track.h"
#include "passes/grad.h"

static bool weight_of_linear(const tt_graph *g, uint32_t var) {
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    if (d->op != TT_OP_LINEAR && d->op != TT_OP_MX_GEMM) continue;
    const tt_value_data *w = tt_val(g, d->in[1]);
    if (w->kind == TT_VALUE_VAR && w->index == var) return true;
  }
  return false;
}

tt_tracked tt_find_tracked(const tt_graph *g, tt_arena *scratch) {
  const tt_module *m = g->module;
  uint32_t *vars = TT_NEW_N(scratch, uint32_t, m->vars.count);
  tt_tracked t = {.vars = vars};
  for (int pass = 0; pass < 2 && t.n == 0; pass++) {
    t.quantized = pass == 0;
    for (uint32_t i = 0; i < m->vars.count; i++) {
      if (m->vars.data[i].role != TT_VAR_PARAM) continue;
      if (pass == 0 ? tt_quantized_weight(g, i) != TT_NONE : weight_of_linear(g, i)) vars[t.n++] = i;
    }
  }
  return t;
}

uint32_t tt_track_named_var(tt_module *m, const char *name, tt_type type) {
  uint32_t var = tt_module_find_var(m, name);
  if (var != TT_NONE) return var;
  return tt_module_add_var(m, (tt_var){.name = name, .type = type, .role = TT_VAR_TRACK, .copy_of = TT_NONE});
}

uint32_t tt_track_var(tt_module *m, const char *prefix, uint32_t param) {
  return tt_track_named_var(m, tt_arena_printf(m->arena, "%s%s", prefix, m->vars.data[param].name), m->vars.data[param].type);
}

uint32_t tt_track_rate_var(tt_module *m, const tt_tracked *t) {
  return tt_track_named_var(m, "track-rate", tt_type_make(TT_F32, 2, (int64_t[]){t->quantized ? 2 : 1, t->n + 1}));
}

tt_value tt_track_sum(tt_builder *b, tt_value x, int axis) {
  if (x == TT_NONE) return TT_NONE;
  tt_attr attrs[] = {tt_attr_ints(b->g, TT_A_AXES, 1, (int64_t[]){axis}), tt_attr_int(TT_A_KEEPDIMS, 1)};
  return tt_build1(b, TT_OP_REDUCE_SUM, x, 2, attrs);
}

tt_value tt_track_with_total(tt_builder *b, tt_value x) {
  tt_attr axis = tt_attr_int(TT_A_AXIS, 0);
  return tt_build2(b, TT_OP_CONCAT, x, tt_track_sum(b, x, 0), 1, &axis);
}
