/* Lifetimes of values. See liveness.h. */
#include "passes/liveness.h"
#include <string.h>

uint64_t tt_buffer_align(uint64_t bytes) { return (bytes + TT_BUFFER_ALIGN - 1) / TT_BUFFER_ALIGN * TT_BUFFER_ALIGN; }

/* The storage of a node's result: its own, or an operand's. */
static tt_value storage_root(const tt_value *root, const tt_node_data *d, int k) {
  unsigned flags = tt_ops[d->op].flags;
  if ((flags & TT_INPLACE) && k < d->n_in) return root[d->in[k]];
  return (flags & TT_ALIAS) && k == 0 ? root[d->in[0]] : d->out[k];
}

static void touch(tt_liveness *l, tt_value v, int64_t at) {
  uint32_t i = l->index[v];
  if (i == TT_NONE) return;
  tt_buffer *b = &l->buffers[i];
  if (at < b->begin) b->begin = at;
  if (at > b->end) b->end = at;
}

static void add_buffer(const tt_graph *g, tt_liveness *l, tt_value v, int64_t at) {
  if (tt_val(g, v)->kind == TT_VALUE_VAR || tt_val(g, v)->kind == TT_VALUE_CONST) return;
  uint32_t i = l->index[v] = (uint32_t)l->count++;
  l->buffers[i] =
      (tt_buffer){.root = v, .begin = at, .end = at, .bytes = tt_buffer_align(tt_type_bytes(tt_typ(g, v))), .host = i};
}

tt_liveness tt_liveness_of(const tt_graph *g, tt_arena *arena) {
  size_t n_values = g->values.count;
  tt_liveness l = {.root = TT_NEW_N(arena, tt_value, n_values), .index = TT_NEW_N(arena, uint32_t, n_values),
                   .buffers = TT_NEW_N(arena, tt_buffer, n_values)};
  memset(l.index, 0xff, sizeof *l.index * n_values);
  for (size_t v = 0; v < n_values; v++) l.root[v] = tt_val(g, (tt_value)v)->kind == TT_VALUE_NODE ? TT_NONE : (tt_value)v;
  for (size_t i = 0; i < g->inputs.count; i++) add_buffer(g, &l, g->inputs.data[i], -1);
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    for (int i = 0; i < d->n_in; i++) touch(&l, d->in[i], l.n_nodes);
    for (int k = 0; k < d->n_out; k++) {
      tt_value out = d->out[k], root = l.root[out] = storage_root(l.root, d, k);
      if (root == out) add_buffer(g, &l, out, l.n_nodes);
      l.index[out] = l.index[root];
      touch(&l, out, l.n_nodes);
    }
    l.n_nodes++;
  }
  for (size_t i = 0; i < g->inputs.count; i++) touch(&l, g->inputs.data[i], l.n_nodes);
  for (size_t i = 0; i < g->results.count; i++) touch(&l, g->results.data[i].value, l.n_nodes);
  for (size_t i = 0; i < g->updates.count; i++) touch(&l, g->updates.data[i].value, l.n_nodes);
  return l;
}

/* The buffer that node d at position `at` may write its result over; TT_NONE. Only operands of the result's own count are
 * read at the result's own index: those that are broadcast are not. */
static uint32_t dying_operand(const tt_graph *g, const tt_liveness *l, const tt_node_data *d, int64_t at) {
  const tt_type *out = tt_typ(g, d->out[0]);
  for (int i = 0; i < d->n_in; i++) {
    const tt_type *in = tt_typ(g, d->in[i]);
    if (l->index[d->in[i]] == TT_NONE || in->dtype != TT_F32 || tt_type_count(in) != tt_type_count(out)) continue;
    uint32_t host = l->buffers[l->index[d->in[i]]].host;
    if (l->buffers[host].end == at) return host;
  }
  return TT_NONE;
}

void tt_liveness_share(const tt_graph *g, tt_liveness *l) {
  int64_t at = 0;
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    bool fits = (tt_ops[d->op].flags & TT_EW) && tt_typ(g, d->out[0])->dtype == TT_F32;
    uint32_t host = fits ? dying_operand(g, l, d, at) : TT_NONE;
    if (host != TT_NONE) {
      tt_buffer *guest = &l->buffers[l->index[d->out[0]]];
      guest->host = host;
      l->buffers[host].end = guest->end;
    }
    at++;
  }
}

uint64_t *tt_live_bytes(const tt_liveness *l, tt_arena *arena) {
  uint64_t *live = TT_NEW_N(arena, uint64_t, l->n_nodes + 3);
  for (size_t i = 0; i < l->count; i++) {
    const tt_buffer *b = &l->buffers[i];
    if (b->host != i) continue;
    live[b->begin + 1] += b->bytes;
    live[b->end + 2] -= b->bytes; /* modulo 2^64: the sums below are exact */
  }
  for (int64_t i = 1; i < l->n_nodes + 2; i++) live[i] += live[i - 1];
  return live;
}

int64_t tt_live_peak(const uint64_t *live, int64_t n_nodes) {
  int64_t at = -1;
  for (int64_t i = 0; i <= n_nodes; i++)
    if (live[i + 1] > live[at + 1]) at = i;
  return at;
}
