/* Graphs as Graphviz text (`tetrac inspect --format dot`). */
#ifndef TT_DOT_H
#define TT_DOT_H
#include "compiler/ir/graph.h"
#include "compiler/support/strbuf.h"
void tt_dot_graph(const tt_graph *g, tt_strbuf *out);
#endif
