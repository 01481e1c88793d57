/* MX quantization of vectors, lane by lane: scale bytes, codes, random bits and back. Every function equals tt_mx_* of
 * compiler/ir/mx.h bit for bit. Values travel as float32 bits in vi (<W x i32>); scales as i32 0..255. */
#ifndef CG_MX_LANES_H
#define CG_MX_LANES_H
#include "compiler/codegen/gemm.h"

/* Scale byte from the bits of max |x|, scalar i32 or vi. */
cg_val cg_mx_scale(cg_ctx *c, tt_qspec q, cg_val max_bits);
/* Codes 0..15 of x. scale is a vi; random (TT_STOCHASTIC) a vi of 16-bit numbers, ema (TT_EMA) the bits of the moving
 * average. */
cg_val cg_mx_codes(cg_ctx *c, tt_qspec q, cg_val bits, cg_val scale, cg_val random, cg_val ema);

/* The same for many elements of equal scale, codes in the upper 4 bits of the lanes: nothing is said of the bits below, and of
 * all where the scale is 255. */
enum { CG_SCALED_FACTORS = 3 };
int cg_mx_factors(const cg_ctx *c, tt_qspec q); /* how many of them a format and rounding need */
typedef struct cg_mx_scaled {
  cg_val scale;                     /* vi */
  cg_val factor[CG_SCALED_FACTORS]; /* vf: what codes are multiplied by */
} cg_mx_scaled;
cg_mx_scaled cg_mx_scaled_by(cg_ctx *c, tt_qspec q, cg_val scale);
/* random: as cg_mx_random makes it. */
cg_val cg_mx_nibbles(cg_ctx *c, tt_qspec q, const cg_mx_scaled *s, cg_val bits, cg_val random, cg_val ema);

/* tt_rng_key at run time (i64), and the words of mx.h's generator for counters c (vi). */
cg_val cg_rng_key(cg_ctx *c, cg_val seed, cg_val step, cg_val tensor);
cg_val cg_rng_words(cg_ctx *c, cg_val key, cg_val counters);
/* The same for runs of 16 counters, the first a multiple of 16, with the first of the two multiplications left out: what
 * follows it (begun, vi). Either W counters of a run that begins with `first` (i32), from number `from` on; or a run in each
 * lane, whose counter i has begun[i / 4], plus step[0] where i has bit 0, plus step[1] where it has bit 1. */
cg_val cg_rng_begin(cg_ctx *c, cg_val key, cg_val first, int from);
typedef struct cg_rng_runs {
  cg_val begun[4], step[2];
} cg_rng_runs;
cg_rng_runs cg_rng_begin_runs(cg_ctx *c, cg_val key, cg_val first /* vi */);
cg_val cg_rng_end(cg_ctx *c, cg_val begun); /* the words */
/* Instead of the word its halves, the random bits of elements 2 c and 2 c + 1, as cg_mx_nibbles wants them. */
void cg_mx_random(cg_ctx *c, tt_qspec q, cg_val begun, cg_val *even, cg_val *odd);

/* The float that integers of codes (see cg_mx_values) are multiplied by: from an i32 or vi of scales; NaN from 255. */
cg_val cg_mx_factor(cg_ctx *c, tt_format format, cg_val scale);
/* Values of codes 0..15 (vi) times factor (vf). Needs denormals kept. */
cg_val cg_mx_values(cg_ctx *c, tt_format format, cg_val codes, cg_val factor);
/* A block's codes from its 16 bytes: W of them from element `first` on, as vi. */
cg_val cg_mx_unpack(cg_ctx *c, cg_val packed, int first); /* packed: <16 x i8> */
#endif
