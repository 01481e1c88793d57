/* Gives every value its place: vars and the arena are laid out once, before any code is generated, so that a step never
 * allocates.
 *
 *   before:  spaces unset
 *   after:   value.space/offset, graph.arena_bytes, module.var_offset/vars_bytes
 *
 * Values that alias (reshape) or are written in place form one buffer. A buffer of the arena lives from its first
 * definition to its last use; inputs are live from the start, and inputs and results to the end, as the runtime fills and
 * reads them. Buffers are placed largest first, each into the smallest gap that fits between those already placed which
 * live at the same time. Runs last: any later change of the graph undoes the plan. */
#include "passes/pass.h"
#include "passes/plan_memory.h"
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

static uint64_t align_up(uint64_t x) { return (x + ALIGN - 1) / ALIGN * ALIGN; }

/* Live range in positions of the execution order, both ends included: operands of a node must not share storage with its
 * results. -1: before the first node. */
typedef struct buffer {
  tt_value root;
  int64_t begin, end;
  uint64_t bytes, offset;
} buffer;

typedef struct liveness {
  tt_value *root;  /* per value: the one whose storage it has; TT_NONE: unused */
  buffer *buffers; /* of the arena, in order of definition */
  size_t count;
} liveness;

/* The storage of a node's result: its own, or an operand's. */
static tt_value storage_root(const tt_value *root, const tt_node_data *d, int k) {
  unsigned flags = tt_ops[d->op].flags;
  if ((flags & TT_INPLACE) && k < d->n_in) return root[d->in[k]];
  return (flags & TT_ALIAS) && k == 0 ? root[d->in[0]] : d->out[k];
}

static void touch(liveness *l, const uint32_t *index, tt_value v, int64_t at) {
  tt_value r = l->root[v];
  if (index[r] == TT_NONE) return;
  buffer *b = &l->buffers[index[r]];
  if (at < b->begin) b->begin = at;
  if (at > b->end) b->end = at;
}

static void add_buffer(const tt_graph *g, liveness *l, uint32_t *index, tt_value v, int64_t at) {
  if (tt_val(g, v)->kind == TT_VALUE_VAR || tt_val(g, v)->kind == TT_VALUE_CONST) return;
  index[v] = (uint32_t)l->count;
  l->buffers[l->count++] = (buffer){.root = v, .begin = at, .end = at, .bytes = align_up(tt_type_bytes(tt_typ(g, v)))};
}

static liveness find_liveness(const tt_graph *g, tt_arena *scratch) {
  size_t n_values = g->values.count;
  liveness l = {TT_NEW_N(scratch, tt_value, n_values), TT_NEW_N(scratch, buffer, n_values), 0};
  uint32_t *index = TT_NEW_N(scratch, uint32_t, n_values);
  memset(index, 0xff, sizeof *index * n_values);
  for (size_t v = 0; v < n_values; v++) l.root[v] = tt_val(g, (tt_value)v)->kind == TT_VALUE_NODE ? TT_NONE : (tt_value)v;
  for (size_t i = 0; i < g->inputs.count; i++) add_buffer(g, &l, index, g->inputs.data[i], -1);
  int64_t at = 0;
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    for (int i = 0; i < d->n_in; i++) touch(&l, index, d->in[i], at);
    for (int k = 0; k < d->n_out; k++) {
      l.root[d->out[k]] = storage_root(l.root, d, k);
      if (l.root[d->out[k]] == d->out[k]) add_buffer(g, &l, index, d->out[k], at);
      touch(&l, index, d->out[k], at);
    }
    at++;
  }
  for (size_t i = 0; i < g->inputs.count; i++) touch(&l, index, g->inputs.data[i], at);
  for (size_t i = 0; i < g->results.count; i++) touch(&l, index, g->results.data[i].value, at);
  for (size_t i = 0; i < g->updates.count; i++) touch(&l, index, g->updates.data[i].value, at);
  return l;
}

static int by_size(const void *x, const void *y) {
  const buffer *a = *(buffer *const *)x, *b = *(buffer *const *)y;
  if (a->bytes != b->bytes) return a->bytes < b->bytes ? 1 : -1;
  if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
  return a->root < b->root ? -1 : 1;
}

static bool live_together(const buffer *a, const buffer *b) { return a->begin <= b->end && b->begin <= a->end; }

/* The smallest gap that holds b between its neighbours in `placed`, which is sorted by offset. */
static uint64_t best_offset(const buffer *b, buffer *const *placed, size_t n) {
  uint64_t end = 0, best = 0, best_gap = UINT64_MAX;
  for (size_t i = 0; i < n; i++) {
    const buffer *p = placed[i];
    if (!live_together(b, p)) continue;
    if (p->offset > end && p->offset - end >= b->bytes && p->offset - end < best_gap) {
      best_gap = p->offset - end;
      best = end;
    }
    if (p->offset + p->bytes > end) end = p->offset + p->bytes;
  }
  return best_gap == UINT64_MAX ? end : best;
}

/* Offsets of all buffers; returns the bytes of the arena. */
static uint64_t place(liveness *l, tt_arena *scratch) {
  buffer **order = TT_NEW_N(scratch, buffer *, l->count), **placed = TT_NEW_N(scratch, buffer *, l->count);
  for (size_t i = 0; i < l->count; i++) order[i] = &l->buffers[i];
  if (l->count) qsort(order, l->count, sizeof *order, by_size);
  uint64_t total = 0;
  for (size_t i = 0; i < l->count; i++) {
    buffer *b = order[i];
    b->offset = best_offset(b, placed, i);
    size_t k = i;
    for (; k > 0 && placed[k - 1]->offset > b->offset; k--) placed[k] = placed[k - 1];
    placed[k] = b;
    if (b->offset + b->bytes > total) total = b->offset + b->bytes;
  }
  return total;
}

/* Appends the vars that have no place yet, so a var keeps its offset when a later graph adds optimizer state. */
static void place_vars(tt_module *m) {
  while (m->var_offset.count < m->vars.count) {
    const tt_var *var = &m->vars.data[m->var_offset.count];
    tt_vec_push(&m->var_offset, m->vars_bytes);
    m->vars_bytes += align_up(tt_type_bytes(&var->type));
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

static void write_plan(tt_graph *g, const liveness *l) {
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
  liveness l = find_liveness(g, ctx->scratch);
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

/* Written a second time and otherwise than the planner: every pair is compared. */
static void check_overlaps(const tt_graph *g, const liveness *l, tt_diag *diag) {
  for (size_t i = 0; i < l->count; i++) {
    const buffer *a = &l->buffers[i];
    uint64_t a_at = tt_val(g, a->root)->offset, a_end = a_at + tt_type_bytes(tt_typ(g, a->root));
    if (a_at % ALIGN || a_end > g->arena_bytes) complain(g, diag, a->root, "is misaligned or outside the arena");
    for (size_t k = 0; k < i; k++) {
      const buffer *b = &l->buffers[k];
      uint64_t b_at = tt_val(g, b->root)->offset, b_end = b_at + tt_type_bytes(tt_typ(g, b->root));
      if (live_together(a, b) && a_at < b_end && b_at < a_end) complain(g, diag, a->root, "shares bytes with a live value");
    }
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
  liveness l = find_liveness(g, scratch);
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
  liveness l = find_liveness(g, scratch);
  uint64_t total = 0;
  for (size_t i = 0; i < l.count; i++) total += l.buffers[i].bytes;
  tt_arena_destroy(scratch);
  return total;
}

uint64_t tt_plan_peak_bytes(const tt_graph *g) {
  tt_arena *scratch = tt_arena_create();
  liveness l = find_liveness(g, scratch);
  uint64_t peak = 0;
  for (size_t i = 0; i < l.count; i++) { /* the peak is reached where some buffer begins */
    uint64_t live = 0;
    for (size_t k = 0; k < l.count; k++)
      if (l.buffers[k].begin <= l.buffers[i].begin && l.buffers[i].begin <= l.buffers[k].end) live += l.buffers[k].bytes;
    if (live > peak) peak = live;
  }
  tt_arena_destroy(scratch);
  return peak;
}
