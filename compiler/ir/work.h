/* What a node costs, by the op table's `work` column: multiply-adds of its products. */
#ifndef TT_WORK_H
#define TT_WORK_H
#include "compiler/ir/graph.h"

typedef struct tt_work {
  double mx, f32; /* multiply-adds in 4-bit and in float32 arithmetic */
} tt_work;
tt_work tt_node_work(const tt_graph *g, tt_node n);
#endif
