/* Modules, graphs, values and nodes. */
#include "compiler/ir/graph.h"
#include <string.h>

const tt_op_info tt_ops[TT_OP_COUNT] = {
#define TT_OP(id, name, min_in, max_in, n_out, flags, ...) [TT_OP_##id] = {name, min_in, max_in, n_out, flags},
#include "compiler/ir/ops.def"
#undef TT_OP
};

const tt_attr_info tt_attrs[TT_A_COUNT] = {
#define TT_ATTR(id, name, kind) [TT_A_##id] = {name, TT_ATTR_##kind, false},
#define TT_ATTR_IMM(id, name, kind) [TT_A_##id] = {name, TT_ATTR_##kind, true},
#include "compiler/ir/attrs.def"
#undef TT_ATTR
#undef TT_ATTR_IMM
};

bool tt_op_parse(const char *name, tt_op *out) {
  for (int i = 0; i < TT_OP_COUNT; i++) {
    if (strcmp(tt_ops[i].name, name) != 0) continue;
    *out = (tt_op)i;
    return true;
  }
  return false;
}

tt_module *tt_module_create(const char *name) {
  tt_arena *arena = tt_arena_create();
  tt_module *m = TT_NEW(arena, tt_module);
  m->arena = arena;
  m->name = tt_arena_str(arena, name ? name : "");
  return m;
}

void tt_module_destroy(tt_module *m) {
  if (!m) return;
  for (size_t i = 0; i < m->graphs.count; i++) {
    tt_graph *g = m->graphs.data[i];
    tt_vec_free(&g->values);
    tt_vec_free(&g->nodes);
    tt_vec_free(&g->inputs);
    tt_vec_free(&g->results);
    tt_vec_free(&g->updates);
  }
  tt_vec_free(&m->graphs);
  tt_vec_free(&m->vars);
  tt_vec_free(&m->var_offset);
  tt_arena_destroy(m->arena);
}

uint32_t tt_module_add_var(tt_module *m, tt_var var) {
  TT_ASSERT(tt_module_find_var(m, var.name) == TT_NONE);
  tt_vec_push(&m->vars, var);
  return (uint32_t)(m->vars.count - 1);
}

uint32_t tt_module_find_var(const tt_module *m, const char *name) {
  for (size_t i = 0; i < m->vars.count; i++)
    if (strcmp(m->vars.data[i].name, name) == 0) return (uint32_t)i;
  return TT_NONE;
}

tt_graph *tt_module_find_graph(const tt_module *m, const char *name) {
  for (size_t i = 0; i < m->graphs.count; i++)
    if (strcmp(m->graphs.data[i]->name, name) == 0) return m->graphs.data[i];
  return NULL;
}

tt_graph *tt_graph_create(tt_module *m, const char *name) {
  tt_graph *g = TT_NEW(m->arena, tt_graph);
  g->name = tt_arena_str(m->arena, name);
  g->module = m;
  g->arena = m->arena;
  g->first = g->last = TT_NONE;
  tt_vec_push(&m->graphs, g);
  return g;
}

#define COPY_VEC(to, from)                                                                                                 \
  do {                                                                                                                     \
    tt_vec_reserve(to, (from)->count);                                                                                     \
    if ((from)->count) memcpy((to)->data, (from)->data, (from)->count * sizeof *(from)->data);                             \
    (to)->count = (from)->count;                                                                                           \
  } while (0)

tt_graph *tt_graph_clone(const tt_graph *g, const char *name) {
  tt_graph *c = tt_graph_create(g->module, name);
  COPY_VEC(&c->values, &g->values);
  COPY_VEC(&c->nodes, &g->nodes);
  COPY_VEC(&c->inputs, &g->inputs);
  COPY_VEC(&c->results, &g->results);
  COPY_VEC(&c->updates, &g->updates);
  c->first = g->first;
  c->last = g->last;
  c->next_tensor = g->next_tensor;
  /* Operand and attribute arrays are written in place by rewrites, so each graph has its own. */
  for (size_t i = 0; i < c->nodes.count; i++) {
    tt_node_data *n = &c->nodes.data[i];
    n->in = tt_arena_copy(c->arena, n->in, sizeof *n->in * (size_t)n->n_in);
    n->out = tt_arena_copy(c->arena, n->out, sizeof *n->out * (size_t)n->n_out);
    n->attrs = tt_arena_copy(c->arena, n->attrs, sizeof *n->attrs * (size_t)n->n_attrs);
  }
  return c;
}

static tt_value add_value(tt_graph *g, tt_value_data v) {
  tt_vec_push(&g->values, v);
  return (tt_value)(g->values.count - 1);
}

tt_value tt_graph_add_input(tt_graph *g, const char *name, tt_type type) {
  tt_value v = add_value(g, (tt_value_data){.kind = TT_VALUE_INPUT, .type = type, .name = tt_arena_str(g->arena, name),
                                            .def = TT_NONE, .index = (uint32_t)g->inputs.count});
  tt_vec_push(&g->inputs, v);
  return v;
}

tt_value tt_graph_find_input(const tt_graph *g, const char *name) {
  for (size_t i = 0; i < g->inputs.count; i++)
    if (strcmp(tt_val(g, g->inputs.data[i])->name, name) == 0) return g->inputs.data[i];
  return TT_NONE;
}

tt_value tt_graph_var(tt_graph *g, uint32_t var) {
  TT_ASSERT(var < g->module->vars.count);
  for (size_t i = 0; i < g->values.count; i++)
    if (g->values.data[i].kind == TT_VALUE_VAR && g->values.data[i].index == var) return (tt_value)i;
  const tt_var *info = &g->module->vars.data[var];
  return add_value(g,
                   (tt_value_data){.kind = TT_VALUE_VAR, .type = info->type, .name = info->name, .index = var, .def = TT_NONE});
}

tt_value tt_graph_const(tt_graph *g, tt_type type, const void *data) {
  const void *copy = tt_arena_copy(g->arena, data, tt_type_bytes(&type));
  return add_value(g, (tt_value_data){.kind = TT_VALUE_CONST, .type = type, .def = TT_NONE, .data = copy});
}

tt_value tt_graph_const_f32(tt_graph *g, float x) { return tt_graph_const(g, tt_type_scalar(TT_F32), &x); }

tt_value tt_graph_rng(tt_graph *g) {
  tt_value v = tt_graph_find_input(g, "rng");
  return v != TT_NONE ? v : tt_graph_add_input(g, "rng", tt_type_make(TT_I64, 1, (int64_t[]){2}));
}

tt_value tt_graph_result(const tt_graph *g, const char *name) {
  for (size_t i = 0; i < g->results.count; i++)
    if (strcmp(g->results.data[i].name, name) == 0) return g->results.data[i].value;
  return TT_NONE;
}

void tt_graph_set_result(tt_graph *g, const char *name, tt_value v) {
  for (size_t i = 0; i < g->results.count; i++) {
    if (strcmp(g->results.data[i].name, name) != 0) continue;
    g->results.data[i].value = v;
    return;
  }
  tt_vec_push(&g->results, ((tt_result){tt_arena_str(g->arena, name), v}));
}

void tt_graph_add_update(tt_graph *g, uint32_t var, tt_value v) { tt_vec_push(&g->updates, ((tt_update){var, v})); }

static void link_before(tt_graph *g, tt_node n, tt_node at) {
  tt_node_data *d = tt_nod(g, n);
  d->next = at;
  d->prev = at == TT_NONE ? g->last : tt_nod(g, at)->prev;
  if (d->prev == TT_NONE) g->first = n;
  else tt_nod(g, d->prev)->next = n;
  if (at == TT_NONE) g->last = n;
  else tt_nod(g, at)->prev = n;
}

tt_node tt_build(tt_builder *b, tt_op op, int n_in, const tt_value *in, int n_attrs, const tt_attr *attrs) {
  tt_graph *g = b->g;
  tt_type types[TT_MAX_OUT];
  int n_out = 0;
  tt_loc loc = b->loc;
  if (!loc.op) loc.op = tt_ops[op].name;
  for (int i = 0; i < n_in; i++)
    if (in[i] == TT_NONE) return TT_NONE;
  if (!tt_infer(g, op, n_in, in, n_attrs, attrs, types, &n_out, loc, b->diag)) return TT_NONE;
  tt_vec_push(&g->nodes, ((tt_node_data){.op = op, .n_in = n_in, .n_out = n_out, .n_attrs = n_attrs, .loc = b->loc}));
  tt_node n = (tt_node)(g->nodes.count - 1);
  tt_node_data *d = tt_nod(g, n);
  d->in = tt_arena_copy(g->arena, in, sizeof *in * (size_t)n_in);
  d->out = TT_NEW_N(g->arena, tt_value, n_out);
  d->attrs = tt_arena_copy(g->arena, attrs, sizeof *attrs * (size_t)n_attrs);
  for (int i = 0; i < n_out; i++)
    d->out[i] = add_value(g, (tt_value_data){.kind = TT_VALUE_NODE, .type = types[i], .index = (uint32_t)i, .def = n});
  link_before(g, n, b->at);
  return n;
}

static tt_value first_out(tt_builder *b, tt_node n) { return n == TT_NONE ? TT_NONE : tt_nod(b->g, n)->out[0]; }

tt_value tt_build1(tt_builder *b, tt_op op, tt_value x, int n_attrs, const tt_attr *attrs) {
  return first_out(b, tt_build(b, op, 1, &x, n_attrs, attrs));
}

tt_value tt_build2(tt_builder *b, tt_op op, tt_value x, tt_value y, int n_attrs, const tt_attr *attrs) {
  return first_out(b, tt_build(b, op, 2, (tt_value[]){x, y}, n_attrs, attrs));
}

tt_value tt_build3(tt_builder *b, tt_op op, tt_value x, tt_value y, tt_value z, int n_attrs, const tt_attr *attrs) {
  return first_out(b, tt_build(b, op, 3, (tt_value[]){x, y, z}, n_attrs, attrs));
}

tt_attr tt_attr_int(tt_attr_id id, int64_t i) { return (tt_attr){.id = id, .as.i = i}; }
tt_attr tt_attr_float(tt_attr_id id, double f) { return (tt_attr){.id = id, .as.f = f}; }
tt_attr tt_attr_qspec(tt_attr_id id, tt_qspec q) { return (tt_attr){.id = id, .as.q = q}; }

tt_attr tt_attr_ints(tt_graph *g, tt_attr_id id, int n, const int64_t *v) {
  return (tt_attr){.id = id, .as.ints = {n, tt_arena_copy(g->arena, v, sizeof *v * (size_t)n)}};
}

tt_node tt_def_op(const tt_graph *g, tt_value v, tt_op op) {
  const tt_value_data *d = tt_val(g, v);
  return d->kind == TT_VALUE_NODE && tt_nod(g, d->def)->op == op ? d->def : TT_NONE;
}

const tt_attr *tt_node_attr(const tt_graph *g, tt_node n, tt_attr_id id) {
  const tt_node_data *d = tt_nod(g, n);
  for (int i = 0; i < d->n_attrs; i++)
    if (d->attrs[i].id == id) return &d->attrs[i];
  return NULL;
}

int64_t tt_node_int(const tt_graph *g, tt_node n, tt_attr_id id) {
  const tt_attr *a = tt_node_attr(g, n, id);
  return a ? a->as.i : 0;
}

double tt_node_float(const tt_graph *g, tt_node n, tt_attr_id id) {
  const tt_attr *a = tt_node_attr(g, n, id);
  return a ? a->as.f : 0;
}

tt_qspec tt_node_qspec(const tt_graph *g, tt_node n, tt_attr_id id) {
  const tt_attr *a = tt_node_attr(g, n, id);
  return a ? a->as.q : (tt_qspec){0};
}

void tt_node_set_attr(tt_graph *g, tt_node n, tt_attr attr) {
  tt_node_data *d = tt_nod(g, n);
  for (int i = 0; i < d->n_attrs; i++) {
    if (d->attrs[i].id != attr.id) continue;
    d->attrs[i] = attr;
    return;
  }
  tt_attr *grown = TT_NEW_N(g->arena, tt_attr, d->n_attrs + 1);
  if (d->n_attrs) memcpy(grown, d->attrs, sizeof *grown * (size_t)d->n_attrs);
  grown[d->n_attrs++] = attr;
  d->attrs = grown;
}

void tt_graph_replace(tt_graph *g, tt_value old_value, tt_value new_value) {
  TT_FOR_NODES(g, n) {
    tt_node_data *d = tt_nod(g, n);
    for (int i = 0; i < d->n_in; i++)
      if (d->in[i] == old_value) d->in[i] = new_value;
  }
  for (size_t i = 0; i < g->results.count; i++)
    if (g->results.data[i].value == old_value) g->results.data[i].value = new_value;
  for (size_t i = 0; i < g->updates.count; i++)
    if (g->updates.data[i].value == old_value) g->updates.data[i].value = new_value;
}

void tt_node_remove(tt_graph *g, tt_node n) {
  tt_node_data *d = tt_nod(g, n);
  TT_ASSERT(!d->dead);
  if (d->prev == TT_NONE) g->first = d->next;
  else tt_nod(g, d->prev)->next = d->next;
  if (d->next == TT_NONE) g->last = d->prev;
  else tt_nod(g, d->next)->prev = d->prev;
  /* prev and next are kept: a loop that stands on this node can still step on. */
  d->dead = true;
}

uint32_t *tt_graph_use_counts(const tt_graph *g) {
  uint32_t *uses = TT_NEW_N(g->arena, uint32_t, g->values.count);
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    for (int i = 0; i < d->n_in; i++) uses[d->in[i]]++;
  }
  for (size_t i = 0; i < g->results.count; i++) uses[g->results.data[i].value]++;
  for (size_t i = 0; i < g->updates.count; i++) uses[g->updates.data[i].value]++;
  return uses;
}

int tt_graph_sweep(tt_graph *g) {
  uint32_t *uses = tt_graph_use_counts(g);
  int removed = 0;
  TT_FOR_NODES_REVERSE(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    uint32_t used = 0;
    for (int i = 0; i < d->n_out; i++) used += uses[d->out[i]];
    if (used) continue;
    for (int i = 0; i < d->n_in; i++) uses[d->in[i]]--;
    tt_node_remove(g, n);
    removed++;
  }
  return removed;
}

const void *tt_const_data(const tt_graph *g, tt_value v) {
  const tt_value_data *d = tt_val(g, v);
  return d->kind == TT_VALUE_CONST ? d->data : NULL;
}

static double const_element(const tt_value_data *d, int64_t i) {
  switch ((tt_dtype)d->type.dtype) {
  case TT_F32: return (double)((const float *)d->data)[i];
  case TT_F64: return ((const double *)d->data)[i];
  case TT_I32: return (double)((const int32_t *)d->data)[i];
  case TT_I64: return (double)((const int64_t *)d->data)[i];
  case TT_BOOL: return (double)((const uint8_t *)d->data)[i];
  case TT_MX:
  case TT_DTYPE_COUNT: break;
  }
  TT_ASSERT(!"numeric constant");
  return 0;
}

bool tt_const_splat(const tt_graph *g, tt_value v, double *x) {
  const tt_value_data *d = tt_val(g, v);
  if (d->kind != TT_VALUE_CONST || d->type.dtype == TT_MX) return false;
  int64_t count = tt_type_count(&d->type);
  if (count == 0) return false;
  double first = const_element(d, 0);
  for (int64_t i = 1; i < count; i++)
    if (const_element(d, i) != first) return false;
  *x = first;
  return true;
}
