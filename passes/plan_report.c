/* What a planned graph keeps at its peak, for people: one line for the values of one kind, that is, made by one op, of one type
 * and last read by one op. Largest first. */
#include <stdlib.h>
#include <string.h>
#include "passes/liveness.h"
#include "passes/plan_memory.h"

static const double MIB = 1 << 20;
enum { SMALL = 1000 }; /* kinds below the peak over this are added up in one line */

typedef struct kind {
  const char *made_by, *until;
  const tt_type *type;
  int values;
  uint64_t bytes;
} kind;

static const char *op_name(const tt_graph *g, tt_node n, const char *otherwise) {
  return n == TT_NONE ? otherwise : tt_ops[tt_nod(g, n)->op].name;
}

/* The nodes in execution order; TT_NONE behind the last. */
static tt_node *order_of(const tt_graph *g, int64_t n, tt_arena *arena) {
  tt_node *order = TT_NEW_N(arena, tt_node, n + 1);
  int64_t at = 0;
  TT_FOR_NODES(g, node) order[at++] = node;
  order[n] = TT_NONE;
  return order;
}

static void count(kind *kinds, size_t *n, kind x) {
  size_t i = 0;
  while (i < *n && !(strcmp(kinds[i].made_by, x.made_by) == 0 && strcmp(kinds[i].until, x.until) == 0 &&
                     tt_type_equal(kinds[i].type, x.type)))
    i++;
  if (i == *n) kinds[(*n)++] = (kind){x.made_by, x.until, x.type, 0, 0};
  kinds[i].values++;
  kinds[i].bytes += x.bytes;
}

static int by_bytes(const void *x, const void *y) {
  const kind *a = x, *b = y;
  if (a->bytes != b->bytes) return a->bytes < b->bytes ? 1 : -1;
  return strcmp(a->made_by, b->made_by);
}

/* The value that lies in a host's place at `at`: the guest that came last. */
static uint32_t *tenants(const tt_liveness *l, int64_t at, tt_arena *arena) {
  uint32_t *of = TT_NEW_N(arena, uint32_t, l->count + 1);
  for (uint32_t i = 0; i < l->count; i++)
    if (l->buffers[i].host == i || l->buffers[i].begin <= at) of[l->buffers[i].host] = i;
  return of;
}

static size_t live_kinds(const tt_graph *g, const tt_liveness *l, int64_t at, const tt_node *order, const uint32_t *tenant,
                         kind *kinds) {
  size_t n = 0;
  for (size_t i = 0; i < l->count; i++) {
    const tt_buffer *b = &l->buffers[i];
    if (at < b->begin || at > b->end || b->host != i) continue;
    const tt_value_data *v = tt_val(g, l->buffers[tenant[i]].root);
    tt_node def = v->kind == TT_VALUE_NODE ? v->def : TT_NONE;
    count(kinds, &n, (kind){op_name(g, def, "input"), op_name(g, order[b->end], "the end"), &v->type, 1, b->bytes});
  }
  if (n) qsort(kinds, n, sizeof *kinds, by_bytes);
  return n;
}

static void print_kind(tt_strbuf *out, const kind *k) {
  char type[TT_TYPE_TEXT];
  tt_type_print(k->type, type, sizeof type);
  tt_strbuf_printf(out, "%10.3f %6d  %-18s %-22s %s\n", (double)k->bytes / MIB, k->values, k->made_by, type, k->until);
}

void tt_plan_report(const tt_graph *g, tt_strbuf *out) {
  tt_arena *scratch = tt_arena_create();
  tt_liveness l = tt_liveness_of(g, scratch);
  tt_liveness_share(g, &l);
  const uint64_t *live = tt_live_bytes(&l, scratch);
  const tt_node *order = order_of(g, l.n_nodes, scratch);
  int64_t at = tt_live_peak(live, l.n_nodes);
  tt_node n = at < 0 ? TT_NONE : order[at];
  const char *where = n == TT_NONE || !tt_nod(g, n)->loc.node ? "" : tt_nod(g, n)->loc.node;
  tt_strbuf_printf(out, "graph %s: arena %.2f MiB, most live at once %.2f MiB, at %s%s%s\n", g->name,
                   (double)g->arena_bytes / MIB, (double)live[at + 1] / MIB, op_name(g, n, "its ends"), *where ? " of " : "",
                   where);
  kind *kinds = TT_NEW_N(scratch, kind, l.count + 1), rest = {0};
  size_t n_kinds = live_kinds(g, &l, at, order, tenants(&l, at, scratch), kinds);
  tt_strbuf_printf(out, "%10s %6s  %-18s %-22s %s\n", "MiB", "values", "made by", "type", "kept until");
  for (size_t i = 0; i < n_kinds; i++) {
    bool small = kinds[i].bytes < live[at + 1] / SMALL;
    if (!small) print_kind(out, &kinds[i]);
    rest.values += small ? kinds[i].values : 0;
    rest.bytes += small ? kinds[i].bytes : 0;
  }
  if (rest.values) tt_strbuf_printf(out, "%10.3f %6d  others\n", (double)rest.bytes / MIB, rest.values);
  tt_arena_destroy(scratch);
}
