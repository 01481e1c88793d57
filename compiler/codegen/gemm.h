/* Shared by the matrix-product emitters: functions that several kernels of a module call (micro kernels, packing), each
 * emitted once under its name, and the cutting of a product into tasks. */
#ifndef CG_GEMM_H
#define CG_GEMM_H
#include "compiler/codegen/cg.h"

/* A function of the module that kernels share: void name(params). */
typedef struct cg_shared {
  cg_ctx *c;
  cg_val fn;
  LLVMBasicBlockRef back; /* where the builder was */
} cg_shared;
/* True where the function is new and its body must follow, closed by cg_shared_end. */
bool cg_shared_begin(cg_ctx *c, cg_shared *s, const char *name, int n, const cg_type *types);
void cg_shared_end(cg_shared *s);
cg_val cg_shared_arg(const cg_shared *s, int i);
void cg_shared_call(cg_ctx *c, cg_val fn, int n, cg_val *args);

cg_val cg_gep_bytes(cg_ctx *c, cg_val base, cg_val offset);
cg_val cg_addr(cg_ctx *c, cg_type elem, cg_val base, int64_t index); /* constant index */
/* The same address, which the optimizer cannot follow: what is there stays in memory and is loaded again. */
cg_val cg_opaque(cg_ctx *c, cg_val p);

/* A constant row of zeros, CG_ZEROS floats. */
enum { CG_ZEROS = 64 };
cg_val cg_zeros(cg_ctx *c);

/* Asks for the cache line at p, which will be read or written soon. */
void cg_prefetch(cg_ctx *c, cg_val p);
void cg_prefetch_l2(cg_ctx *c, cg_val p); /* not so soon */
void cg_prefetch_write(cg_ctx *c, cg_val p);

/* Transposes n x n (n a power of two) lanes held in n vectors of n lanes. */
void cg_transpose(cg_ctx *c, cg_val *rows, int n);

/* Cuts [M,N] into a grid of tasks by shape alone, tiles of at least min_rows x min_cols where M and N allow, of whole
 * multiples of row_align (which divides 240) rows. */
typedef struct cg_tiling {
  int64_t rows, cols;     /* of a task */
  int64_t n_rows, n_cols; /* tasks down and across */
} cg_tiling;
cg_tiling cg_tile_product(int64_t M, int64_t N, int64_t K, int64_t min_rows, int64_t min_cols,
                           int64_t row_align);
#endif
