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

/* Codes to nearest or stochastic, and what cg_mx_values makes of them. */
cg_val cg_mx_codes_values(cg_ctx *c, tt_qspec q, cg_val bits, cg_val scale, cg_val random, cg_val factor, cg_val *values);

/* tt_rng_key at run time (i64), and the words of mx.h's generator for counters c (vi). */
cg_val cg_rng_key(cg_ctx *c, cg_val seed, cg_val step, cg_val tensor);
cg_val cg_rng_words(cg_ctx *c, cg_val key, cg_val counters);

/* The float that integers of codes (see cg_mx_values) are multiplied by: scalar, from an i32 scale; NaN from 255. */
cg_val cg_mx_factor(cg_ctx *c, tt_format format, cg_val scale);
/* Values of codes 0..15 (vi) times factor (vf). Needs denormals kept. */
cg_val cg_mx_values(cg_ctx *c, tt_format format, cg_val codes, cg_val factor);
/* A block's codes from its 16 bytes: W of them from element `first` on, as vi. */
cg_val cg_mx_unpack(cg_ctx *c, cg_val packed, int first); /* packed: <16 x i8> */
#endif
