/* Walking several strided tensors in step: the one loop nest behind elementwise ops, broadcasting, slices and copies.
 * Every operand is seen through the dimensions of the iteration, with a stride (in elements; 0 broadcasts) for each; adjacent
 * dimensions that all operands agree on are merged, so that a plain add is one long vector loop and a row vector over a
 * matrix is two loops, without either being written down. */
#ifndef CG_WALK_H
#define CG_WALK_H
#include "compiler/codegen/cg.h"

enum { CG_WALK_IN = 11, CG_WALK_OUT = 5, CG_WALK_OPS = CG_WALK_IN + CG_WALK_OUT };

typedef struct cg_walk {
  int rank;
  int64_t dim[TT_MAX_RANK];
  int n_in, n_out;                             /* operands: inputs, then outputs */
  int64_t stride[CG_WALK_OPS][TT_MAX_RANK];    /* 0 broadcasts, inputs only */
  int64_t offset[CG_WALK_OPS];                 /* elements from the operand's pointer */
  int64_t cost;                                /* per element, see cg_grain */
} cg_walk;

/* A walk over the elements of `shape`. */
cg_walk cg_walk_over(const tt_type *shape, int64_t cost);
/* Adds a row-major operand of type t, broadcast to the walk's shape (NumPy rules); inputs before outputs. */
void cg_walk_in(cg_walk *w, const tt_type *t);
void cg_walk_out(cg_walk *w, const tt_type *t);
/* Operands at other strides (one a dimension of the walk, in elements) from element `offset` on. */
void cg_walk_in_strided(cg_walk *w, const int64_t *stride, int64_t offset);
void cg_walk_out_strided(cg_walk *w, const int64_t *stride, int64_t offset);
/* Merges dimensions; call once, after all operands. */
void cg_walk_done(cg_walk *w);
int64_t cg_walk_tasks(const cg_walk *w);
/* Emits the task k->task. base: pointers of the operands. body computes out[] (vf) from in[] (vf). */
typedef void cg_walk_fn(cg_ctx *c, void *u, const cg_val *in, cg_val *out);
void cg_walk_emit(cg_kernel *k, const cg_walk *w, const cg_val *base, cg_walk_fn *body, void *u);
#endif
