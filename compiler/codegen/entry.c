/* Entries: one function a graph, which resolves every operand to an address (arena, vars or a constant of the module) and
 * launches the nodes' kernels in order. Addresses come from plan_memory alone; nothing here moves data but the final copies
 * of updates that the plan could not place in their var. */
#include <string.h>
#include "compiler/codegen/state.h"

static uint64_t value_offset(const tt_graph *g, const tt_value_data *v) {
  return v->kind == TT_VALUE_VAR ? g->module->var_offset.data[v->index] : v->offset;
}

static cg_val const_global(cg_ctx *c, tt_value v) {
  struct cg_state *s = c->state;
  if (s->consts[v]) return s->consts[v];
  const tt_value_data *d = tt_val(s->g, v);
  size_t bytes = tt_type_bytes(&d->type);
  cg_val init = LLVMConstStringInContext2(c->llvm, d->data, bytes, true);
  cg_val global = LLVMAddGlobal(c->module, LLVMTypeOf(init), "const");
  LLVMSetInitializer(global, init);
  LLVMSetLinkage(global, LLVMInternalLinkage);
  LLVMSetGlobalConstant(global, true);
  LLVMSetAlignment(global, TRT_ALIGN);
  return s->consts[v] = global;
}

static bool lies_in_vars(const tt_value_data *d) { return d->kind == TT_VALUE_VAR || d->space == TT_SPACE_VARS; }

bool cg_same_place(const tt_graph *g, tt_value a, tt_value b) {
  const tt_value_data *x = tt_val(g, a), *y = tt_val(g, b);
  if (x->kind == TT_VALUE_CONST || y->kind == TT_VALUE_CONST) return false;
  return lies_in_vars(x) == lies_in_vars(y) && value_offset(g, x) == value_offset(g, y);
}

cg_val cg_value_address(cg_ctx *c, tt_value v) {
  struct cg_state *s = c->state;
  const tt_value_data *d = tt_val(s->g, v);
  if (d->kind == TT_VALUE_CONST) return const_global(c, v);
  bool in_vars = lies_in_vars(d);
  TT_ASSERT(in_vars || d->space == TT_SPACE_ARENA);
  cg_val offset = cg_i64(c, (int64_t)value_offset(s->g, d));
  return LLVMBuildInBoundsGEP2(s->eb, c->i8, in_vars ? s->vars : s->arena, &offset, 1, "");
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
    cg_val offset = cg_i64(c, (int64_t)cg_result_offset(g, r));
    cg_val dst = LLVMBuildInBoundsGEP2(c->state->eb, c->i8, c->state->arena, &offset, 1, "");
    LLVMBuildMemCpy(c->state->eb, dst, TRT_ALIGN, cg_value_address(c, v), TRT_ALIGN,
                    cg_i64(c, (int64_t)tt_type_bytes(tt_typ(g, v))));
  }
}

static cg_val entry_load(cg_ctx *c, cg_type step_type, cg_val step, unsigned field) {
  return LLVMBuildLoad2(c->state->eb, c->ptr, LLVMBuildStructGEP2(c->state->eb, step_type, step, field, ""), "");
}

/* The arrays that trt_kargs points to are one stack block an entry, refilled before each launch. */
static void open_entry(cg_ctx *c, const char *symbol, bool external) {
  struct cg_state *s = c->state;
  int most = 0;
  TT_FOR_NODES(s->g, n) {
    const tt_node_data *d = tt_nod(s->g, n);
    if (d->n_in + d->n_out > most) most = d->n_in + d->n_out;
  }
  cg_type step_type = c->state->kargs_type; /* two pointers, too */
  s->entry_fn = LLVMAddFunction(c->module, symbol, LLVMFunctionType(LLVMVoidTypeInContext(c->llvm), &c->ptr, 1, false));
  if (!external) LLVMSetLinkage(s->entry_fn, LLVMInternalLinkage);
  cg_function_attributes(c, s->entry_fn);
  LLVMPositionBuilderAtEnd(s->eb, LLVMAppendBasicBlockInContext(c->llvm, s->entry_fn, "entry"));
  cg_val step = LLVMGetParam(s->entry_fn, 0);
  s->vars = entry_load(c, step_type, step, 0);
  s->arena = entry_load(c, step_type, step, 1);
  s->bufs = LLVMBuildAlloca(s->eb, LLVMArrayType2(c->ptr, (uint64_t)most + 1), "bufs");
  s->imms = LLVMBuildAlloca(s->eb, LLVMArrayType2(c->i64, (uint64_t)cg_imm_count()), "imms");
  s->kargs = LLVMBuildAlloca(s->eb, s->kargs_type, "args");
  LLVMBuildStore(s->eb, s->bufs, LLVMBuildStructGEP2(s->eb, s->kargs_type, s->kargs, 0, ""));
  LLVMBuildStore(s->eb, s->imms, LLVMBuildStructGEP2(s->eb, s->kargs_type, s->kargs, 1, ""));
  cg_val zero = LLVMConstNull(LLVMArrayType2(c->i64, (uint64_t)cg_imm_count()));
  LLVMBuildStore(s->eb, zero, s->imms);
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
    cg_val offset = cg_i64(c, (int64_t)to);
    cg_val dst = LLVMBuildInBoundsGEP2(c->state->eb, c->i8, c->state->vars, &offset, 1, "");
    LLVMBuildMemCpy(c->state->eb, dst, TRT_ALIGN, cg_value_address(c, u->value), TRT_ALIGN,
                    cg_i64(c, (int64_t)tt_type_bytes(&d->type)));
  }
}

cg_val cg_emit_entry(cg_ctx *c, const tt_graph *g, const char *symbol, uint64_t work_offset, bool external) {
  struct cg_state *s = c->state;
  bool ok = true;
  s->g = g;
  s->work_offset = work_offset;
  s->launches.count = 0;
  s->consts = TT_NEW_N(c->arena, cg_val, g->values.count + 1);
  open_entry(c, symbol, external);
  copy_results(c, false);
  TT_FOR_NODES(g, n) ok &= emit_node(c, n);
  tt_assert_context(NULL, NULL);
  if (ok) copy_updates(c);
  if (ok) copy_results(c, true);
  LLVMBuildRetVoid(s->eb);
  return ok ? s->entry_fn : NULL;
}
