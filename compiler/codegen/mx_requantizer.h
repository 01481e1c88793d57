/* Requantizing packed E2M1 blocks along the other axis without making floats of them, inside an open kernel: 32 rows x 64
 * columns at a time. Equal to dequantizing and quantizing, bit for bit. */
#ifndef CG_MX_REQUANTIZER_H
#define CG_MX_REQUANTIZER_H
#include "compiler/codegen/mx_quantizer.h"

/* Whether the target and the shape have it: at least two blocks a row, an even number of columns. */
bool cg_requantizer_fits(cg_ctx *c, const tt_type *from, tt_qspec q);

/* Bytes of scratch it works in, from `scratch_at` on. */
enum { CG_REQUANTIZER_SCRATCH = 2048 };

/* Result block `block` of 64 columns, blocks `first` and the next of a source row. z->x is the packed source; rows: how
 * many of 32 exist, NULL for all. Returns an i1: whether the scales are too far apart for bytes, and nothing was done. */
typedef struct cg_requantizer {
  const cg_quantizer *z;
  const tt_type *from;
  cg_val block, first, rows;
  cg_val next_block, next_first; /* of the tile after this one */
  cg_val scratch;
} cg_requantizer;
cg_val cg_requantize_scan(cg_requantizer *r);
/* Then, where it is false, writes codes and scales of the columns. */
void cg_requantize_columns(const cg_requantizer *r);
#endif
