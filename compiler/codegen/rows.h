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
#endif
