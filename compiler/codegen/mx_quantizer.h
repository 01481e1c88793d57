/* Quantizing one row, or one tile along its columns, inside an open kernel: what every kernel that writes mx matrices shares.
 * Denormals must be kept. */
#ifndef CG_MX_QUANTIZER_H
#define CG_MX_QUANTIZER_H
#include "compiler/codegen/mx_lanes.h"

enum { CG_NEXT_ROWS = 4 };
typedef struct cg_quantizer {
  cg_ctx *c;
  tt_qspec q;
  int64_t nb;         /* blocks of an output row */
  cg_val x, ema, key; /* sources; NULL where not used */
  cg_val codes, scales;
  cg_val next[CG_NEXT_ROWS]; /* rows only: such as will be wanted soon, n_next of them, prefetched meanwhile */
  int n_next;
  cg_val sums; /* rows only: f32 [nb * 32] to which the quantized values are added, in cg_quantize_row's order, or NULL */
} cg_quantizer;

/* The quantizer that writes result `out`; `rng` is the operand of random seeds, keyed by attribute `tensor`. The source is
 * the caller's to set. */
cg_quantizer cg_quantizer_open(cg_kernel *k, tt_qspec q, int out, int rng, tt_attr_id tensor);

/* K elements of x from index `at` on, as the output's blocks from number `block` on. Of every 2 W elements those of even index
 * come first in the sums, then the others: as they are packed, and as cg_add_quantized_runs (else cg_add_runs) puts right. */
void cg_quantize_row(const cg_quantizer *z, cg_val at, cg_val block, int64_t K);
void cg_add_quantized_runs(cg_kernel *k, int64_t rows, cg_val from, int64_t width, cg_val to, int64_t D);

/* A tile of at most 32 rows x W columns to quantize along its columns. */
typedef struct cg_tile {
  cg_val x, ema; /* element (0, 0) */
  int64_t stride;
  bool prefetch;     /* the rows come from far */
  cg_val rows, cols; /* that exist; NULL: all, known from the shape */
  cg_val col, block; /* output row of column 0; block in it */
} cg_tile;
/* The buffer is a slot, see below. */
void cg_quantize_tile(const cg_quantizer *z, const cg_tile *t, cg_val slot);

/* The same in parts. A tile's codes first go to a slot, CG_SLOT vi: 4 of dwords, lowest rows first, and the scales. Slots of
 * CG_TILE_RUN blocks one below the other are stored together, because a block is no more than 16 bytes of every output row,
 * and one of its scales. They are a matrix [CG_TILE_RUN][cols / W]: cg_store_run, called after each block, stores those there
 * are with the last block of a run, and with that before `end`; tasks are whole runs. What cg_prefetch_columns brings near
 * is where the tile's columns will go, a part of them in each block; cg_stored_tiles comes after a task's last store. */
enum { CG_SLOT = 5, CG_TILE_RUN = 4 };
uint64_t cg_slots_bytes(cg_ctx *c, int64_t cols);
cg_val cg_slot(const cg_quantizer *z, cg_val slots, int64_t cols, cg_val block, cg_val col);
void cg_tile_codes(const cg_quantizer *z, const cg_tile *t, cg_val slot);
void cg_prefetch_columns(const cg_quantizer *z, const cg_tile *t);
void cg_store_run(const cg_quantizer *z, cg_val slots, int64_t cols, cg_val block, cg_val end);
void cg_stored_tiles(const cg_quantizer *z);
#endif
