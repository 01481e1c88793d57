/* Kernels over the rows of matrices [rows, D]: what softmax, layernorm and the losses share. */
#ifndef CG_ROWS_H
#define CG_ROWS_H
#include "compiler/codegen/cg.h"

/* f32 element i (i64) of p, and storing one. */
cg_val cg_load_f32(cg_ctx *c, cg_val p, cg_val i);
void cg_store_f32(cg_ctx *c, cg_val v, cg_val p, cg_val i);
/* Row r of a matrix of D columns. */
cg_val cg_row(cg_ctx *c, cg_val p, cg_val r, int64_t D);
/* vf at column i of a row, n lanes. */
cg_val cg_cols(cg_ctx *c, cg_val row, cg_val i, cg_val n);

/* to[0..n) = exp(from - max), max being from's maximum, which goes to *max; returns the sum. to may be from. Then x *= factor. */
cg_val cg_row_exp(cg_ctx *c, cg_val from, cg_val to, cg_val n, cg_val *max);
void cg_row_scale(cg_ctx *c, cg_val x, cg_val n, cg_val factor);

/* Emits kernel "" with `row` called for each row, and launches it over all rows; cost is per element. */
typedef void cg_row_fn(cg_kernel *k, void *u, cg_val r);
void cg_emit_rows(cg_node *x, int64_t rows, int64_t D, int64_t cost, cg_row_fn *row, void *u);
/* Sums over rows: each run of CG_RUN rows by itself into the workspace, [runs][width] floats, then the runs in ascending order.
 * That order is a matter of the shape alone, whichever kernel makes the runs' sums. */
enum { CG_RUN = 128 };
int64_t cg_run_count(int64_t rows);
uint64_t cg_run_bytes(int64_t rows, int64_t width);
void cg_zero_row(cg_ctx *c, cg_val row, int64_t n);
/* to[0..D) = sums over the runs of from[run * width + 0..D). */
void cg_add_runs(cg_kernel *k, int64_t rows, cg_val from, int64_t width, cg_val to, int64_t D);

/* An op on one row, or on a few that follow each other, in a kernel of its own or as a step of mx.fused: attributes are those
 * of the open kernel's node. */
enum { CG_ROWS = 4 };
typedef struct cg_row_op {
  cg_kernel *k;
  tt_op op;
  int64_t D;              /* elements of a row */
  int64_t n;              /* of which these are computed; all but elementwise ops need the whole row */
  cg_val row;             /* its number */
  int rows;               /* how many there are, at most CG_ROWS; only layernorm takes more than one */
  cg_val from[CG_ROWS], to[CG_ROWS]; /* the rows (the part) of operand 0 and of result 0, which may be the same memory */
  const cg_val *in, *out; /* the other operands and results, from 1 on; of an elementwise op where column 0 of the part is */
  cg_val sums;            /* [n][D], where the n results behind the first are sums over rows: this run's so far */
} cg_row_op;
void cg_elementwise_row(const cg_row_op *o);
void cg_layernorm_row(const cg_row_op *o);
void cg_layernorm_grad_row(const cg_row_op *o);
#endif
