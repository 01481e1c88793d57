/* Tiles of a product of two mx matrices inside an open kernel: what mx.gemm and the product of an mx.fused share. */
#ifndef CG_MX_PRODUCT_H
#define CG_MX_PRODUCT_H
#include "compiler/codegen/gemm_mx.h"

/* C[M,N] = A[M,K] B[N,K]^T (+ bias[N]), the kernel's operands 0, 1 and 2. */
typedef struct cg_product {
  cg_kernel *k;
  int64_t M, N, nb, n_segments;
  int64_t tile_rows, tile_cols; /* at most */
  bool bias;
  cg_mx_shape s;
  cg_mx_layout l;
  bool share_a, share_b;       /* decoded once for all tasks, by a launch before theirs */
  uint64_t work_at;            /* where in the workspace, the caller's to set if not 0 */
  cg_val work, sums;           /* scratch: a task's own; where there are several segments, one's [tile_rows][tile_cols] */
  cg_val a, b;                 /* the chunk's decoded operands, in scratch or, if shared, in the workspace */
  cg_val i, j, rows, cols;     /* the tile of C under way */
  cg_val out;                  /* where its first element goes; rows are `stride` floats apart */
  int64_t stride;
  int64_t span;                /* columns after which `ready` is called, 0: never */
  void (*ready)(void *user, cg_val col, cg_val cols); /* emits what is to be done with columns [col, col + cols) of the tile */
  void *user;
  bool again;                  /* every span of columns goes to where the first one went */
  cg_val saved;                /* the float mode outside */
  cg_val segment, last, k0, n; /* blocks: end of the segment, start and length of the chunk */
} cg_product;

/* The product of the node's operands, with tiles of at most rows x cols. */
cg_product cg_product_of(const cg_node *x, int64_t rows, int64_t cols, bool bias);
uint64_t cg_product_scratch(const cg_product *p); /* bytes */
/* Launches the decoding of what tasks share into the workspace, where cg_product_open then expects it. */
void cg_product_launch(const cg_product *p, cg_node *x);
void cg_product_open(cg_product *p, cg_kernel *k, uint64_t scratch_at);
/* Whether spans of columns are finished one after the other: where all of K is decoded at a time. */
bool cg_product_spans(const cg_product *p);
/* One tile; i, j, rows, cols, out and stride are the caller's to set. Keeps denormals while it runs, but not in `ready`. */
void cg_product_tile(cg_product *p);
#endif
