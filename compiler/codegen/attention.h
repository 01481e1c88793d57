/* Attention's two ways, by vectors (emit_attention.c) and on a unit for tiles of bfloat16 (emit_attention_tiles.c). */
#ifndef CG_ATTENTION_H
#define CG_ATTENTION_H
#include "compiler/codegen/cg.h"

typedef struct cg_attn {
  cg_ctx *c;
  cg_kernel *k;
  int64_t B, N, H, d;
  int64_t Q;                  /* tokens that ask, the first ones */
  int64_t row;                /* floats between tokens of q, k, v */
  int64_t ld;                 /* floats between rows of a tile */
  double scale;
  uint64_t tile_at[2], sums_at, gemm_at; /* scratch */
  cg_val q, key, v, dq, dk, dv, o, d_o, lse; /* this head's first element; o, d_o: H*d between tokens, of which they have Q */
} cg_attn;

/* Whether the target and the shape are for tiles; then each head, in a kernel that has called cg_whole_tiles. */
bool cg_attn_on_tiles(const cg_attn *a);
void cg_attn_tiles_forward(cg_attn *a);
void cg_attn_tiles_backward(cg_attn *a);
#endif
