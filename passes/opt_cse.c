/* Merges equal constants, and nodes that compute the same: same op, operands and attributes.
 *
 *   %1 = add %a, %b                      %1 = add %a, %b
 *   %2 = add %b, %a                      %3 = mul %1, %1
 *   %3 = mul %1, %2
 *
 * Operands of commutative ops compare in any order. A stochastic node is a function of its operand rng and its attribute
 * `tensor`, so equal ones draw the same numbers and merge like others. In-place nodes are left alone: each one writes.
 * In a graph without control flow the earlier of two equal nodes dominates every use of the later one. */
#include <string.h>
#include "passes/pass.h"

typedef struct table {
  tt_graph *g;
  tt_value *same; /* by value: the value to use instead, itself where none */
  uint32_t *slot; /* open addressing: id + 1, 0 where free */
  uint32_t mask;
} table;

static uint64_t mix(uint64_t h, uint64_t x) {
  h = (h ^ x) * 0x9e3779b97f4a7c15u;
  return h ^ (h >> 29);
}

static uint64_t mix_bytes(uint64_t h, const void *data, size_t n) {
  const unsigned char *p = data;
  for (; n >= 8; n -= 8, p += 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    h = mix(h, word);
  }
  for (; n > 0; n--, p++) h = mix(h, *p);
  return h;
}

static bool attr_equal(const tt_attr *a, const tt_attr *b) {
  switch (tt_attrs[a->id].kind) {
  case TT_ATTR_INT:
  case TT_ATTR_DTYPE: return a->as.i == b->as.i;
  case TT_ATTR_FLOAT: return memcmp(&a->as.f, &b->as.f, sizeof a->as.f) == 0;
  case TT_ATTR_QSPEC: return tt_qspec_equal(a->as.q, b->as.q);
  case TT_ATTR_INTS:
  case TT_ATTR_OPS:
    return a->as.ints.n == b->as.ints.n &&
           memcmp(a->as.ints.v, b->as.ints.v, sizeof *a->as.ints.v * (size_t)a->as.ints.n) == 0;
  }
  return false;
}

static bool operands_equal(const tt_node_data *a, const tt_node_data *b) {
  if (memcmp(a->in, b->in, sizeof *a->in * (size_t)a->n_in) == 0) return true;
  return (tt_ops[a->op].flags & TT_COMM) && a->n_in == 2 && a->in[0] == b->in[1] && a->in[1] == b->in[0];
}

static bool nodes_equal(const tt_graph *g, tt_node n, tt_node other) {
  const tt_node_data *a = tt_nod(g, n), *b = tt_nod(g, other);
  if (a->op != b->op || a->n_in != b->n_in || a->n_attrs != b->n_attrs || a->n_out != b->n_out) return false;
  if (!operands_equal(a, b)) return false;
  for (int i = 0; i < a->n_attrs; i++) {
    const tt_attr *theirs = tt_node_attr(g, other, a->attrs[i].id);
    if (!theirs || !attr_equal(&a->attrs[i], theirs)) return false;
  }
  return true;
}

/* Attributes are left out: ops with equal operands that differ in attributes alone are few. */
static uint64_t node_hash(const tt_graph *g, tt_node n) {
  const tt_node_data *d = tt_nod(g, n);
  uint64_t h = mix(17, d->op);
  if ((tt_ops[d->op].flags & TT_COMM) && d->n_in == 2) return mix(h, (uint64_t)d->in[0] + d->in[1]);
  for (int i = 0; i < d->n_in; i++) h = mix(h, d->in[i]);
  return h;
}

static bool consts_equal(const tt_graph *g, tt_value v, tt_value other) {
  const tt_value_data *a = tt_val(g, v), *b = tt_val(g, other);
  return tt_type_equal(&a->type, &b->type) && memcmp(a->data, b->data, tt_type_bytes(&a->type)) == 0;
}

static uint64_t const_hash(const tt_graph *g, tt_value v) {
  const tt_value_data *d = tt_val(g, v);
  return mix_bytes(mix(23, d->type.dtype), d->data, tt_type_bytes(&d->type));
}

/* The id of an equal entry, or `id` itself after entering it. */
static uint32_t enter(table *t, uint32_t id, uint64_t hash, bool (*equal)(const tt_graph *, uint32_t, uint32_t)) {
  uint32_t i = (uint32_t)hash & t->mask;
  for (; t->slot[i] != 0; i = (i + 1) & t->mask)
    if (equal(t->g, id, t->slot[i] - 1)) return t->slot[i] - 1;
  t->slot[i] = id + 1;
  return id;
}

static void table_open(table *t, tt_graph *g, size_t entries, tt_value *same, tt_arena *arena) {
  uint32_t size = 16;
  while (size < 2 * entries) size *= 2;
  *t = (table){.g = g, .same = same, .slot = TT_NEW_N(arena, uint32_t, size), .mask = size - 1};
}

static bool merge_consts(table *t) {
  bool changed = false;
  TT_FOR_NODES(t->g, n) {
    const tt_node_data *d = tt_nod(t->g, n);
    for (int i = 0; i < d->n_in; i++) {
      const tt_value v = d->in[i];
      if (tt_val(t->g, v)->kind != TT_VALUE_CONST || t->same[v] != v) continue;
      t->same[v] = enter(t, v, const_hash(t->g, v), consts_equal);
      changed |= t->same[v] != v;
    }
  }
  return changed;
}

static bool merge_nodes(table *t) {
  bool changed = false;
  TT_FOR_NODES(t->g, n) {
    tt_node_data *d = tt_nod(t->g, n);
    for (int i = 0; i < d->n_in; i++) d->in[i] = t->same[d->in[i]];
    if (tt_ops[d->op].flags & TT_INPLACE) continue;
    const tt_node first = enter(t, n, node_hash(t->g, n), nodes_equal);
    if (first == n) continue;
    for (int i = 0; i < d->n_out; i++) t->same[d->out[i]] = tt_nod(t->g, first)->out[i];
    changed = true;
  }
  return changed;
}

tt_pass_result tt_opt_cse(tt_graph *g, tt_pass_ctx *ctx) {
  tt_value *same = TT_NEW_N(ctx->scratch, tt_value, g->values.count + 1);
  for (size_t v = 0; v < g->values.count; v++) same[v] = (tt_value)v;
  table consts, nodes;
  table_open(&consts, g, g->values.count, same, ctx->scratch);
  table_open(&nodes, g, g->nodes.count, same, ctx->scratch);
  bool changed = merge_consts(&consts);
  changed |= merge_nodes(&nodes);
  if (!changed) return TT_PASS_UNCHANGED;
  for (size_t i = 0; i < g->results.count; i++) g->results.data[i].value = same[g->results.data[i].value];
  for (size_t i = 0; i < g->updates.count; i++) g->updates.data[i].value = same[g->updates.data[i].value];
  tt_graph_sweep(g);
  return TT_PASS_CHANGED;
}
