/* Entries: one function a graph, which launches the nodes' kernels in order on operands in the arena, in vars or among the
 * graph's constants. Places come from plan_memory alone; nothing here moves data but the final copies of updates that the plan
 * could not place in their var, and of results. */
#include <string.h>
#include "compiler/codegen/state.h"

static uint64_t value_offset(const tt_graph *g, const tt_value_data *v) {
  return v->kind == TT_VALUE_VAR ? g->module->var_offset.data[v->index] : v->offset;
}

/* Constants lie one after the other in a table of the entry. */
static uint64_t const_offset(cg_ctx *c, tt_value v) {
  struct cg_state *s = c->state;
  if (s->const_at[v]) return s->const_at[v] - 1;
  const tt_value_data *d = tt_val(s->g, v);
  size_t bytes = tt_type_bytes(&d->type), at = s->const_bytes.count, end = at + (bytes + TRT_ALIGN - 1) / TRT_ALIGN * TRT_ALIGN;
  tt_vec_reserve(&s->const_bytes, end);
  memset(s->const_bytes.data + at, 0, end - at);
  memcpy(s->const_bytes.data + at, d->data, bytes);
  s->const_bytes.count = end;
  s->const_at[v] = at + 1;
  return at;
}

static bool lies_in_vars(const tt_value_data *d) { return d->kind == TT_VALUE_VAR || d->space == TT_SPACE_VARS; }

bool cg_same_place(const tt_graph *g, tt_value a, tt_value b) {
  const tt_value_data *x = tt_val(g, a), *y = tt_val(g, b);
  if (x->kind == TT_VALUE_CONST || y->kind == TT_VALUE_CONST) return false;
  return lies_in_vars(x) == lies_in_vars(y) && value_offset(g, x) == value_offset(g, y);
}

cg_place cg_value_place(cg_ctx *c, tt_value v) {
  struct cg_state *s = c->state;
  const tt_value_data *d = tt_val(s->g, v);
  if (d->kind == TT_VALUE_CONST) return (cg_place){CG_CONSTS, const_offset(c, v)};
  bool in_vars = lies_in_vars(d);
  TT_ASSERT(in_vars || d->space == TT_SPACE_ARENA);
  return (cg_place){in_vars ? CG_VARS : CG_ARENA, value_offset(s->g, d)};
}

static uint64_t align_up(uint64_t n) { return (n + TRT_ALIGN - 1) / TRT_ALIGN * TRT_ALIGN; }

/* Results are read from the arena: one that is a var, a constant or lies in a var is copied behind the plan. */
static bool result_in_place(const tt_graph *g, size_t r) {
  const tt_value_data *d = tt_val(g, g->results.data[r].value);
  return d->kind != TT_VALUE_VAR && d->kind != TT_VALUE_CONST && d->space == TT_SPACE_ARENA;
}

uint64_t cg_result_offset(const tt_graph *g, size_t r) {
  if (result_in_place(g, r)) return tt_val(g, g->results.data[r].value)->offset;
  uint64_t at = align_up(g->arena_bytes);
  for (size_t i = 0; i < r; i++)
    if (!result_in_place(g, i)) at += align_up(tt_type_bytes(tt_typ(g, g->results.data[i].value)));
  return at;
}

uint64_t cg_plan_bytes(const tt_graph *g) {
  uint64_t at = align_up(g->arena_bytes);
  for (size_t i = 0; i < g->results.count; i++)
    if (!result_in_place(g, i)) at += align_up(tt_type_bytes(tt_typ(g, g->results.data[i].value)));
  return at;
}

/* A var's value is the one at the start of the step, so those copies come first; those of nodes that write into vars, last. */
static void copy_results(cg_ctx *c, bool of_nodes) {
  const tt_graph *g = c->state->g;
  for (size_t r = 0; r < g->results.count; r++) {
    tt_value v = g->results.data[r].value;
    if (result_in_place(g, r) || (tt_val(g, v)->kind == TT_VALUE_NODE) != of_nodes) continue;
    cg_place to = {CG_ARENA, cg_result_offset(g, r)};
    cg_add_move(c, to, cg_value_place(c, v), tt_type_bytes(tt_typ(g, v)));
  }
}

static bool emit_node(cg_ctx *c, tt_node n) {
  cg_node x = {c, c->state->g, n, tt_nod(c->state->g, n)};
  cg_emit_fn *emit = cg_emit_table[x.d->op];
  tt_assert_context("codegen", x.d->loc.node);
  if (!emit) {
    tt_error(c->diag, x.d->loc, "no generated code for '%s': it must be folded or lowered before code generation",
             tt_ops[x.d->op].name);
    return false;
  }
  return emit(&x);
}

static void copy_updates(cg_ctx *c) {
  const tt_graph *g = c->state->g;
  for (size_t i = 0; i < g->updates.count; i++) {
    const tt_update *u = &g->updates.data[i];
    const tt_value_data *d = tt_val(g, u->value);
    uint64_t to = g->module->var_offset.data[u->var];
    if (lies_in_vars(d) && value_offset(g, d) == to) continue;
    cg_add_move(c, (cg_place){CG_VARS, to}, cg_value_place(c, u->value), tt_type_bytes(&d->type));
  }
}

static cg_val declare_entry(cg_ctx *c, const char *symbol, bool external) {
  cg_val fn = LLVMAddFunction(c->module, symbol, LLVMFunctionType(LLVMVoidTypeInContext(c->llvm), &c->ptr, 1, false));
  if (!external) LLVMSetLinkage(fn, LLVMInternalLinkage);
  cg_function_attributes(c, fn);
  return fn;
}

cg_val cg_emit_entry(cg_ctx *c, const tt_graph *g, const char *symbol, uint64_t work_offset, bool external) {
  struct cg_state *s = c->state;
  bool ok = true;
  s->g = g;
  s->work_offset = work_offset;
  s->launches.count = s->steps.count = s->places.count = s->stepped = s->const_bytes.count = 0;
  s->const_at = TT_NEW_N(c->arena, uint64_t, g->values.count + 1);
  copy_results(c, false);
  TT_FOR_NODES(g, n) ok &= emit_node(c, n);
  tt_assert_context(NULL, NULL);
  if (!ok) return NULL;
  copy_updates(c);
  copy_results(c, true);
  cg_val fn = declare_entry(c, symbol, external);
  cg_emit_steps(c, fn);
  tt_vec_push(&s->entries, fn);
  return fn;
}
