/* Quantizing one row, or one tile along its columns, inside an open kernel: what every kernel that writes mx matrices shares.
 * Denormals must be kept. */
#ifndef CG_MX_QUANTIZER_H
#define CG_MX_QUANTIZER_H
#include "compiler/codegen/mx_lanes.h"

typedef struct cg_quantizer {
  cg_ctx *c;
  tt_qspec q;
  int64_t nb;         /* blocks of an output row */
  cg_val x, ema, key; /* sources; NULL where not used */
  cg_val codes, scales;
  cg_val sums; /* rows only: f32 [nb * 32] to which the quantized values are added, or NULL */
} cg_quantizer;

/* The quantizer that writes result `out`; `rng` is the operand of random seeds, keyed by attribute `tensor`. The source is
 * the caller's to set. */
cg_quantizer cg_quantizer_open(cg_kernel *k, tt_qspec q, int out, int rng, tt_attr_id tensor);

/* K elements of x from index `at` on, as the output's blocks from number `block` on. */
void cg_quantize_row(const cg_quantizer *z, cg_val at, cg_val block, int64_t K);

/* A tile of at most 32 rows x W columns to quantize along its columns. */
typedef struct cg_tile {
  cg_val x, ema; /* element (0, 0) */
  int64_t stride;
  bool prefetch;     /* the rows come from far */
  cg_val rows, cols; /* that exist; NULL: all, known from the shape */
  cg_val col, block; /* output row of column 0; block in it */
} cg_tile;
/* The buffer holds [5][W] i32. */
void cg_quantize_tile(const cg_quantizer *z, const cg_tile *t, cg_val buffer);
#endif
