/* Where the values of a graph lie in time: which of them are one buffer, and from which node to which it is needed. Shared by
 * what plans memory, what saves some and what reports it. Everything is in the given arena. */
#ifndef TT_LIVENESS_H
#define TT_LIVENESS_H
#include "compiler/ir/graph.h"

/* Positions count nodes in execution order, both ends included, so that operands of a node share no storage with its
 * results. -1: before the first node; the number of nodes: behind the last. */
typedef struct tt_buffer {
  tt_value root;
  int64_t begin, end;
  uint64_t bytes, offset; /* bytes: whole units of TT_BUFFER_ALIGN */
  uint32_t host;          /* the buffer whose place this one takes; itself where it has its own */
} tt_buffer;
enum { TT_BUFFER_ALIGN = 64 };

typedef struct tt_liveness {
  tt_value *root;     /* per value: the one whose storage it has (aliases, in-place results); TT_NONE: unused */
  uint32_t *index;    /* per value: the buffer of its root; TT_NONE: not in the arena */
  tt_buffer *buffers; /* of the arena, in order of definition */
  size_t count;
  int64_t n_nodes;
} tt_liveness;

uint64_t tt_buffer_align(uint64_t bytes);
/* Inputs are live from the start; inputs, results and updates to the end, as the runtime fills and reads them. */
tt_liveness tt_liveness_of(const tt_graph *g, tt_arena *arena);
/* Lets the result of an elementwise node take the place of an operand of its size that ends there: element i is read before it
 * is written. The host then lives as long as its guest. */
void tt_liveness_share(const tt_graph *g, tt_liveness *l);
static inline bool tt_live_together(const tt_buffer *a, const tt_buffer *b) { return a->begin <= b->end && b->begin <= a->end; }
/* [n_nodes + 2]: bytes live at position i - 1, each host counted once. */
uint64_t *tt_live_bytes(const tt_liveness *l, tt_arena *arena);
/* The first position where most is live. */
int64_t tt_live_peak(const uint64_t *live, int64_t n_nodes);
#endif
