/* The pieces of an MX matrix product; emit_mx.c puts them together. See gemm_mx.c for the layouts. */
#ifndef CG_GEMM_MX_H
#define CG_GEMM_MX_H
#include "compiler/codegen/gemm.h"

enum { CG_MX_SIDE = 16, CG_MX_TALL = 48 }; /* of a tile unit's tiles; rows of a tall tile, made of them */

/* What is fixed of a product's decoded form. */
typedef struct cg_mx_shape {
  int64_t nb;     /* blocks along K of the packed operands */
  int64_t chunk;  /* blocks decoded at a time, even */
  int64_t rows;   /* of A decoded at a time, at most */
  int mr, nr;     /* register tile */
  int room_a, room_b; /* bits by which codes may be shifted up */
  int offset;     /* added to A's integers, which makes them unsigned where the target's dot product wants that */
  uint8_t fa, fb; /* formats */
  bool stream;    /* C, written once, is too large for the caches, and its rows are aligned */
  bool narrow;    /* a block's dot product is summed in 16 bits */
  bool once;      /* one chunk is all of K */
  bool equal;     /* all chunks have as many pairs */
} cg_mx_shape;
enum { CG_MX_SEGMENT = 4096 / TT_MX_BLOCK }; /* blocks after which sums are added to those before (NUMERICS 5) */
cg_mx_shape cg_mx_shape_of(const cg_ctx *c, int64_t nb, int64_t chunk, int64_t rows, uint8_t fa, uint8_t fb);

/* Three places. A chunk of rows of A: codes u8 [rows][chunk*32], scales f32 and raw i32 [rows][scale_stride], range i32
 * [tiles][4], with a tile unit also scales of pairs, f32 [rows/16][chunk/2][16]. A chunk of a panel of nr columns of B. What
 * a task needs besides. Byte offsets from the beginning of each, and how long they are, in whole cache lines. */
typedef struct cg_mx_layout {
  int64_t scale_stride; /* of a row of A's scales: a gap of W lanes before each */
  int64_t a_codes, a_scales, a_raw, a_shift, a_range, a_pair_scales, a_bytes;
  int64_t b_codes, b_init, b_pair, b_raw, b_range, b_bytes;
  int64_t sums, tall_sums, tall_dots, bytes;
} cg_mx_layout;
/* A range says of a tile's rows, or of the panel: the smallest and the largest raw scale, and for each pair of blocks (bit
 * 2j of pair j) whether somewhere its two scales differ. */
enum { CG_MX_RANGE_MIN, CG_MX_RANGE_MAX, CG_MX_RANGE_UNEQUAL, CG_MX_RANGE_SIZE = 4 };
cg_mx_layout cg_mx_layout_of(const cg_ctx *c, const cg_mx_shape *s);

/* Shared functions (see cg_shared_begin). Counts and indices are i64; a, b and work are where the three places begin. */
cg_val cg_mx_decode_a(cg_ctx *c, const cg_mx_shape *s); /* (codes, scales, n_blocks, rows, a): from the chunk's first block */
cg_val cg_mx_decode_b(cg_ctx *c, const cg_mx_shape *s); /* (codes, scales, n_blocks, cols, b) */
/* (n_blocks, a, b, work, out, out_rs, src, src_rs, bias, rows, cols): all rows of A times the panel; adds the chunk's pairs
 * to src, then bias, into out. */
cg_val cg_mx_panel(cg_ctx *c, const cg_mx_shape *s);
/* (n_blocks, a, b, work, row, unequal, out, out_rs, src, src_rs, bias, rows, cols): up to CG_MX_TALL rows from `row` on, on
 * the target's tile unit; out and src at that row, scales all in the fast range, `unequal` as in a range. */
cg_val cg_mx_tall(cg_ctx *c, const cg_mx_shape *s);
/* (n_blocks, a, b, work, row, out, out_rs, src, src_rs, bias, rows, cols): any number of rows from `row` on, a multiple of
 * 16, all of whose pairs share their scales; `pairs` is how many there are in a row, 0 if that is not known. */
cg_val cg_mx_pipe(cg_ctx *c, const cg_mx_shape *s, int64_t pairs);

/* Scale byte of 1; a code times 2^bits is an integer, bits for both operands together. */
enum { CG_MX_ONE = 127 };
int cg_mx_integer(uint8_t format, int code);
/* By how many bits codes may be shifted up to share the scale of the other block of their pair. */
int cg_mx_shift_a(const cg_mx_shape *s);
int cg_mx_shift_b(const cg_mx_shape *s);
int cg_mx_code_bits(const cg_mx_shape *s);
void cg_mx_name(char *name, size_t n, const char *what, const cg_mx_shape *s);
#endif
