/* What the two ways to a float32 product (gemm_f32.c, gemm_f32_tiles.c) share. */
#ifndef CG_GEMM_F32_H
#define CG_GEMM_F32_H
#include "compiler/codegen/gemm.h"

/* One chunk of the reduction of a product, inside the loop over chunks. */
typedef struct cg_f32_chunk {
  cg_ctx *c;
  const cg_gemm *d;
  cg_val scratch;
  cg_val m, n;   /* rows, columns */
  cg_val k0, kc; /* where the chunk begins, how long it is */
  cg_val after;  /* what of the reduction comes after it */
} cg_f32_chunk;

/* B that several tasks multiply by is packed once, by a launch before theirs, where A's rows are contiguous: columns [j0, j1)
 * of op(B) (j0 a multiple of 96), all of d->K deep, go to d->packed_b, with room for d->packed_cols columns: so many bytes.
 * Panels of nr = 2 or 3 vectors of columns (3 where that divides packed_cols) are [chunk][panel][k][nr], zeros past the last
 * column. */
void cg_f32_pack_b(cg_ctx *c, const cg_gemm *d, cg_val j0, cg_val j1);
uint64_t cg_f32_packed_b_bytes(const cg_ctx *c, const cg_gemm *d);
cg_val cg_f32_packed_panel(cg_ctx *c, const cg_gemm *d, cg_val j); /* the one of column j (a multiple of nr) */

/* The product of node x's operands 0 and 1 as `op`, linear or matmul, has it, where it is one of matrices whose rows follow from
 * those of A: all but the pointers, computed the way that the op by itself is (emit_matmul.c). */
cg_gemm cg_f32_rows_product(const cg_node *x, tt_op op);
/* Launches kernel "pack": all of its B, which is operand 1, to `offset` of the workspace. */
void cg_f32_launch_pack(cg_node *x, const cg_gemm *d, uint64_t offset);

/* The longest chunk, on tiles, of a product whose reduction is K. */
int64_t cg_f32_chunk_length(int64_t K);
/* What C's tile at row i, column j is added to: C itself, or before the first chunk the bias (rows 0 apart) or zeros. */
void cg_f32_source(const cg_f32_chunk *s, cg_val j, cg_val out, cg_val *src, cg_val *src_rs);

/* Packing: void pack(src, stride, kc, count, dst, apart) writes dst[(j / width) * apart + k * width + j % width] for k <
 * kc, j < count, and zeros up to the next multiple of width. */
enum { CG_PACK_SRC, CG_PACK_STRIDE, CG_PACK_KC, CG_PACK_COUNT_USED, CG_PACK_DST, CG_PACK_APART, CG_PACK_COUNT };
cg_val cg_f32_pack_rows(cg_ctx *c, int width); /* src(k, j) at src + k*stride + j */
cg_val cg_f32_pack_group(cg_ctx *c, int width, int strips); /* the same of `strips` whole strips, whatever count */
/* src(k, j) at src + j*stride + k, count <= width; dst has room for kc rounded up to W. */
cg_val cg_f32_pack_cols(cg_ctx *c, int width);
cg_val cg_f32_pack_tail(cg_ctx *c, int width); /* the same for any width */

/* Whether the target has tiles for float32 products and this one gains by them. */
bool cg_f32_on_tiles(const cg_ctx *c, const cg_gemm *d);
uint64_t cg_f32_tiles_bytes(const cg_gemm *d);
/* The chunk by either. */
void cg_f32_by_tiles(const cg_f32_chunk *s);
void cg_f32_by_vectors(const cg_f32_chunk *s);
uint64_t cg_f32_vector_bytes(const cg_gemm *d);
#endif
