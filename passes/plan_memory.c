/* Gives every value its place: vars and the arena are laid out once, before any code is generated, so that a step never
 * allocates.
 *
 *   before:  spaces unset
 *   after:   value.space/offset, graph.arena_bytes, module.var_offset/vars_bytes
 *
 * Values that alias (reshape) or are written in place form one buffer. A buffer of the arena lives from its first
 * definition to its last use; inputs are live from the start, and inputs and results to the end, as the runtime fills and
 * reads them. The result of an elementwise node takes the place of an operand that ends there (residual sums, gelu_grad over
 * its dy). Buffers are placed largest first, each into the smallest gap that fits between those already placed which live at
 * the same time. Runs last: any later change of the graph undoes the plan. */
#include "passes/liveness.h"
#include "passes/pass.h"
#include "passes/plan_memory.h"
#include <stdlib.h>
#include <string.h>

static int by_size(const void *x, const void *y) {
  const tt_buffer *a = *(tt_buffer *const *)x, *b = *(tt_buffer *const *)y;
  if (a->bytes != b->bytes) return a->bytes < b->bytes ? 1 : -1;
  if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
  return a->root < b->root ? -1 : 1;
}

/* The smallest gap that holds b between its neighbours in `placed`, which is sorted by offset. */
static uint64_t best_offset(const tt_buffer *b, tt_buffer *const *placed, size_t n) {
  uint64_t end = 0, best = 0, best_gap = UINT64_MAX;
  for (size_t i = 0; i < n; i++) {
    const tt_buffer *p = placed[i];
    if (!tt_live_together(b, p)) continue;
    if (p->offset > end && p->offset - end >= b->bytes && p->offset - end < best_gap) {
      best_gap = p->offset - end;
      best = end;
    }
    if (p->offset + p->bytes > end) end = p->offset + p->bytes;
  }
  return best_gap == UINT64_MAX ? end : best;
}

/* Offsets of all buffers; returns the bytes of the arena. */
static uint64_t place(tt_liveness *l, tt_arena *scratch) {
  tt_buffer **order = TT_NEW_N(scratch, tt_buffer *, l->count), **placed = TT_NEW_N(scratch, tt_buffer *, l->count);
  uint64_t total = 0;
  size_t n = 0;
  for (uint32_t i = 0; i < l->count; i++)
    if (l->buffers[i].host == i) order[n++] = &l->buffers[i];
  if (n) qsort(order, n, sizeof *order, by_size);
  for (size_t i = 0; i < n; i++) {
    tt_buffer *b = order[i];
    b->offset = best_offset(b, placed, i);
    size_t k = i;
    for (; k > 0 && placed[k - 1]->offset > b->offset; k--) placed[k] = placed[k - 1];
    placed[k] = b;
    if (b->offset + b->bytes > total) total = b->offset + b->bytes;
  }
  for (size_t i = 0; i < l->count; i++) l->buffers[i].offset = l->buffers[l->buffers[i].host].offset;
  return total;
}

/* Appends the vars that have no place yet, so a var keeps its offset when a later graph adds optimizer state. */
static void place_vars(tt_module *m) {
  while (m->var_offset.count < m->vars.count) {
    const tt_var *var = &m->vars.data[m->var_offset.count];
    tt_vec_push(&m->var_offset, m->vars_bytes);
    m->vars_bytes += tt_buffer_align(tt_type_bytes(&var->type));
  }
}

/* A constant has no address that a value could share: its reshape becomes a constant itself. */
static bool fold_constant_aliases(tt_graph *g) {
  bool changed = false;
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    if (!(tt_ops[d->op].flags & TT_ALIAS) || tt_val(g, d->in[0])->kind != TT_VALUE_CONST) continue;
    tt_value out = d->out[0];
    tt_graph_replace(g, out, tt_graph_const(g, *tt_typ(g, out), tt_const_data(g, d->in[0])));
    tt_node_remove(g, n);
    changed = true;
  }
  return changed;
}

/* True where v's storage is a var's or a constant's, also through aliases. */
static bool outside_arena(const tt_graph *g, tt_value v) {
  for (;;) {
    const tt_value_data *d = tt_val(g, v);
    if (d->kind != TT_VALUE_NODE) return d->kind != TT_VALUE_INPUT;
    if (!(tt_ops[tt_nod(g, d->def)->op].flags & TT_ALIAS)) return false;
    v = tt_nod(g, d->def)->in[0];
  }
}

/* A result is read from the arena, so one that is a var or a constant is copied there (expand to its own shape). */
static bool copy_outside_results(tt_graph *g, tt_diag *diag, bool *changed) {
  tt_builder b = {.g = g, .diag = diag, .at = TT_NONE, .loc = {.file = g->module->name, .node = "result"}};
  for (size_t i = 0; i < g->results.count; i++) {
    tt_value v = g->results.data[i].value;
    if (!outside_arena(g, v)) continue;
    tt_type t = *tt_typ(g, v);
    tt_attr shape = tt_attr_ints(g, TT_A_SHAPE, t.rank, t.dim);
    tt_value copy = tt_build1(&b, TT_OP_EXPAND, v, 1, &shape);
    TT_TRY(copy != TT_NONE);
    g->results.data[i].value = copy;
    *changed = true;
  }
  return true;
}

static void write_plan(tt_graph *g, const tt_liveness *l) {
  for (size_t v = 0; v < g->values.count; v++) tt_val(g, (tt_value)v)->space = TT_SPACE_NONE;
  for (size_t i = 0; i < l->count; i++) {
    tt_value_data *root = tt_val(g, l->buffers[i].root);
    root->space = TT_SPACE_ARENA;
    root->offset = l->buffers[i].offset;
  }
  for (size_t v = 0; v < g->values.count; v++) {
    tt_value_data *d = tt_val(g, (tt_value)v);
    if (l->root[v] == TT_NONE) continue;
    const tt_value_data *root = tt_val(g, l->root[v]);
    d->space = root->kind == TT_VALUE_VAR ? TT_SPACE_VARS : root->kind == TT_VALUE_CONST ? TT_SPACE_CONST : TT_SPACE_ARENA;
    d->offset = d->space == TT_SPACE_VARS ? g->module->var_offset.data[root->index] : root->offset;
  }
}

tt_pass_result tt_plan_memory(tt_graph *g, tt_pass_ctx *ctx) {
  bool changed = fold_constant_aliases(g);
  if (!copy_outside_results(g, ctx->diag, &changed)) return TT_PASS_FAILED;
  place_vars(g->module);
  tt_liveness l = tt_liveness_of(g, ctx->scratch);
  tt_liveness_share(g, &l);
  g->arena_bytes = place(&l, ctx->scratch);
  write_plan(g, &l);
  return TT_PASS_CHANGED;
}

static void complain(const tt_graph *g, tt_diag *diag, tt_value v, const char *what) {
  tt_loc loc = {.file = g->module->name};
  const tt_value_data *d = tt_val(g, v);
  if (d->kind == TT_VALUE_NODE) loc = tt_nod(g, d->def)->loc;
  tt_error(diag, loc, "memory plan of graph '%s': value %u %s", g->name, v, what);
}

/* A result may lie exactly where an operand of its elementwise node lay that nobody reads any more. */
static bool takes_place(const tt_graph *g, const tt_liveness *l, const tt_buffer *guest, const tt_buffer *host) {
  const tt_value_data *d = tt_val(g, guest->root), *from = tt_val(g, host->root);
  if (d->kind != TT_VALUE_NODE || from->kind == TT_VALUE_INPUT || guest->begin != host->end) return false;
  const tt_node_data *n = tt_nod(g, d->def);
  bool reads = false;
  for (int i = 0; i < n->n_in; i++)
    reads |= l->root[n->in[i]] == host->root && tt_type_count(tt_typ(g, n->in[i])) == tt_type_count(&d->type);
  return reads && (tt_ops[n->op].flags & TT_EW) && d->offset == from->offset && d->type.dtype == from->type.dtype;
}

static void check_pair(const tt_graph *g, const tt_liveness *l, const tt_buffer *a, const tt_buffer *b, tt_diag *diag) {
  const tt_value_data *x = tt_val(g, a->root), *y = tt_val(g, b->root);
  bool apart = x->offset + tt_type_bytes(&x->type) <= y->offset || y->offset + tt_type_bytes(&y->type) <= x->offset;
  if (apart || !tt_live_together(a, b) || takes_place(g, l, a, b) || takes_place(g, l, b, a)) return;
  complain(g, diag, a->root, "shares bytes with a live value");
}

/* Written a second time and otherwise than the planner: every pair is compared. */
static void check_overlaps(const tt_graph *g, const tt_liveness *l, tt_diag *diag) {
  for (size_t i = 0; i < l->count; i++) {
    const tt_buffer *a = &l->buffers[i];
    uint64_t at = tt_val(g, a->root)->offset;
    if (at % TT_BUFFER_ALIGN || at + tt_type_bytes(tt_typ(g, a->root)) > g->arena_bytes)
      complain(g, diag, a->root, "is misaligned or outside the arena");
    for (size_t k = 0; k < i; k++) check_pair(g, l, a, &l->buffers[k], diag);
  }
}

/* An in-place node ends its operand: what reads the old value later reads the wrong bytes. */
static void check_in_place(const tt_graph *g, tt_arena *scratch, tt_diag *diag) {
  bool *dead = TT_NEW_N(scratch, bool, g->values.count);
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    for (int i = 0; i < d->n_in; i++)
      if (dead[d->in[i]]) complain(g, diag, d->in[i], "is read after it was overwritten");
    for (int k = 0; (tt_ops[d->op].flags & TT_INPLACE) && k < d->n_out && k < d->n_in; k++) dead[d->in[k]] = true;
  }
}

bool tt_plan_check(const tt_graph *g, tt_diag *diag) {
  int before = diag->errors;
  tt_arena *scratch = tt_arena_create();
  tt_liveness l = tt_liveness_of(g, scratch);
  for (size_t v = 0; v < g->values.count; v++) {
    if (l.root[v] == TT_NONE || l.root[v] == v) continue;
    const tt_value_data *d = tt_val(g, (tt_value)v), *root = tt_val(g, l.root[v]);
    bool in_var = root->kind == TT_VALUE_VAR;
    uint64_t want = in_var ? g->module->var_offset.data[root->index] : root->offset;
    if (d->offset != want || d->space != (in_var ? TT_SPACE_VARS : root->space))
      complain(g, diag, (tt_value)v, "has left its operand");
  }
  check_overlaps(g, &l, diag);
  check_in_place(g, scratch, diag);
  tt_arena_destroy(scratch);
  return diag->errors == before;
}

uint64_t tt_plan_unshared_bytes(const tt_graph *g) {
  tt_arena *scratch = tt_arena_create();
  tt_liveness l = tt_liveness_of(g, scratch);
  uint64_t total = 0;
  for (size_t i = 0; i < l.count; i++) total += l.buffers[i].bytes;
  tt_arena_destroy(scratch);
  return total;
}

uint64_t tt_plan_peak_bytes(const tt_graph *g) {
  tt_arena *scratch = tt_arena_create();
  tt_liveness l = tt_liveness_of(g, scratch);
  tt_liveness_share(g, &l);
  const uint64_t *live = tt_live_bytes(&l, scratch);
  uint64_t peak = live[tt_live_peak(live, l.n_nodes) + 1];
  tt_arena_destroy(scratch);
  return peak;
}

/* Position of the node that makes the result `loss`; -1: there is none. */
static int64_t position_of_loss(const tt_graph *g) {
  tt_node loss = TT_NONE;
  int64_t at = 0;
  for (size_t i = 0; i < g->results.count; i++) {
    const tt_value_data *v = tt_val(g, g->results.data[i].value);
    if (strcmp(g->results.data[i].name, "loss") == 0 && v->kind == TT_VALUE_NODE) loss = v->def;
  }
  TT_FOR_NODES(g, n) {
    if (n == loss) return at;
    at++;
  }
  return -1;
}

uint64_t tt_plan_saved_bytes(const tt_graph *g) {
  tt_arena *scratch = tt_arena_create();
  tt_liveness l = tt_liveness_of(g, scratch);
  tt_liveness_share(g, &l);
  int64_t loss = position_of_loss(g);
  uint64_t saved = 0;
  for (size_t i = 0; i < l.count; i++) {
    const tt_buffer *b = &l.buffers[i];
    if (b->host == i && b->begin <= loss && b->end > loss && b->end < l.n_nodes) saved += b->bytes;
  }
  tt_arena_destroy(scratch);
  return saved;
}
