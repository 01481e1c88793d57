/* Graphs as Graphviz text: one box a node, quantized values drawn heavier. */
#include "compiler/driver/dot.h"
#include <string.h>

enum { LONG = 2000 }; /* nodes that edges pass by, all together: more than in a forward graph of twelve blocks */

static void escaped(tt_strbuf *out, const char *s) {
  for (; *s; s++) {
    if (strchr("\"\\{}<>|", *s)) tt_strbuf_append(out, "\\", 1);
    tt_strbuf_append(out, s, 1);
  }
}

static const char *color(const tt_graph *g, tt_node n) {
  const tt_node_data *d = tt_nod(g, n);
  if (strncmp(tt_ops[d->op].name, "mx.", 3) == 0) return "#cfe8ff";
  if (tt_ops[d->op].flags & TT_INPLACE) return "#ffe2c8";
  if (tt_ops[d->op].flags & TT_ALIAS) return "#f2f2f2";
  return "#ffffff";
}

static void edge(const tt_graph *g, tt_value v, tt_node to, tt_strbuf *out) {
  const tt_value_data *d = tt_val(g, v);
  char type[TT_TYPE_TEXT];
  tt_type_print(&d->type, type, sizeof type);
  if (d->kind == TT_VALUE_CONST) return;
  if (d->kind == TT_VALUE_NODE) tt_strbuf_printf(out, "  n%u -> n%u", d->def, to);
  else tt_strbuf_printf(out, "  v%u -> n%u", v, to);
  tt_strbuf_printf(out, " [label=\"%s\"%s];\n", type, d->type.dtype == TT_MX ? ", penwidth=2.5, color=\"#1f6fb2\"" : "");
}

/* What the forward half keeps for the backward one are edges across the whole drawing, each of which Graphviz bends around all
 * between: minutes for a training step of two blocks. Limits and straight lines make that a second. */
static const char *limits(const tt_graph *g) {
  int64_t *position = TT_NEW_N(g->arena, int64_t, g->nodes.count), at = 0, span = 0;
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    position[n] = at++;
    for (int i = 0; i < d->n_in; i++) {
      const tt_value_data *v = tt_val(g, d->in[i]);
      if (v->kind == TT_VALUE_NODE) span += position[n] - position[v->def];
    }
  }
  return span > LONG ? "  graph [splines=line, nslimit=0.2, nslimit1=0.2, mclimit=0.1];\n" : "";
}

void tt_dot_graph(const tt_graph *g, tt_strbuf *out) {
  tt_strbuf_printf(out, "digraph \"%s\" {\n%s  node [shape=box, style=filled, fontname=\"sans-serif\", fontsize=10];\n"
                        "  edge [fontname=\"sans-serif\", fontsize=8];\n", g->name, limits(g));
  uint32_t *uses = tt_graph_use_counts(g);
  for (tt_value v = 0; v < g->values.count; v++) {
    const tt_value_data *d = tt_val(g, v);
    if (!uses[v] || (d->kind != TT_VALUE_VAR && d->kind != TT_VALUE_INPUT)) continue;
    tt_strbuf_printf(out, "  v%u [shape=%s, fillcolor=\"%s\", label=\"", v, d->kind == TT_VALUE_VAR ? "cylinder" : "ellipse",
                     d->kind == TT_VALUE_VAR ? "#e6f4d7" : "#fff6c2");
    escaped(out, d->name ? d->name : "");
    tt_strbuf_printf(out, "\"];\n");
  }
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    tt_strbuf_printf(out, "  n%u [fillcolor=\"%s\", tooltip=\"", n, color(g, n));
    escaped(out, d->loc.node ? d->loc.node : "");
    tt_strbuf_printf(out, "\", label=\"%s\"];\n", tt_ops[d->op].name);
    for (int i = 0; i < d->n_in; i++) edge(g, d->in[i], n, out);
  }
  for (size_t i = 0; i < g->results.count; i++) {
    const tt_value_data *d = tt_val(g, g->results.data[i].value);
    if (d->kind != TT_VALUE_NODE) continue;
    tt_strbuf_printf(out, "  r%zu [shape=ellipse, fillcolor=\"#ffd6d6\", label=\"", i);
    escaped(out, g->results.data[i].name);
    tt_strbuf_printf(out, "\"];\n  n%u -> r%zu;\n", d->def, i);
  }
  tt_strbuf_printf(out, "}\n");
}
