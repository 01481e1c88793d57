/* Attention's ways: by vectors in strips of queries (attention_strips.c), by vectors for any shape (emit_attention.c), and on a
 * unit for tiles of bfloat16 (emit_attention_tiles.c). */
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
  cg_val next, next_o;        /* floats from there to the next head's, of q, k, v and of o, d_o */
} cg_attn;

/* Whether the target and the shape are for tiles; then each head, in a kernel that has called cg_whole_tiles. */
bool cg_attn_on_tiles(const cg_attn *a);
void cg_attn_tiles_forward(cg_attn *a);
void cg_attn_tiles_backward(cg_attn *a);

/* Whether the shape is for strips; then each head. */
bool cg_attn_in_strips(const cg_attn *a);
void cg_attn_strips_forward(cg_attn *a);
void cg_attn_strips_backward(cg_attn *a);

/* The parts of strips, functions that kernels share (attention_kernels.c). */

/* Calls body for n pieces of one size from `first` on, in a loop where there are several; and for pieces of [0, total) of at
 * most `most`, their sizes as equal as can be: two sizes, the greater first. */
typedef void cg_piece_fn(void *u, cg_val first, int64_t size);
void cg_run_of_pieces(cg_ctx *c, int64_t first, int64_t n, int64_t size, cg_piece_fn *body, void *u);
void cg_each_piece(cg_ctx *c, int64_t total, int64_t most, cg_piece_fn *body, void *u);

/* Vectors of queries in a strip at most. */
int cg_strip_vectors(const cg_ctx *c);

/* panel[k][j] = scale from(j, k) for k < d and j < vectors * W; columns past `count` (i64, > 0) repeat the last one. */
typedef struct cg_strip_turn {
  cg_val from, count, panel;
  int64_t row; /* floats between rows of from */
  int64_t d;
  int vectors;
  double scale;
} cg_strip_turn;
void cg_strip_turn_rows(cg_ctx *c, const cg_strip_turn *t);

/* s = sum over k < d of a[i][k] panel[k][j], i < N, j < vectors * W, and what becomes of it. */
typedef enum {
  CG_SCORES_MAX,   /* out[i][j] = s, column[j] = max(column[j], s) */
  CG_SCORES_POWER, /* out[i][j] = 2^(s - column[0][j] - column[1][j]), the latter being what rounding left of the former */
  CG_SCORES_DOT    /* out[i][j] = s, column[j] += s other[i][j] */
} cg_scores_kind;
typedef struct cg_ahead { /* rows that will be read soon, of which row i is asked for beside row i of a */
  cg_val p;
  int64_t row;
} cg_ahead;
enum { CG_AHEAD = 3 };
typedef struct cg_scores {
  cg_scores_kind kind;
  cg_val a, panel, column, out;
  cg_val other; /* NULL but for products with it */
  int64_t N, d, a_row, out_row; /* out_row: other's as well */
  int vectors;
  cg_ahead ahead[CG_AHEAD]; /* as many as have p */
  int64_t ahead_lines;      /* cache lines of each row */
} cg_scores;
void cg_strip_scores(cg_ctx *c, const cg_scores *s);

/* A matrix [N][d] as a mix reads it: panels of columns, each [N][width]; or just as it lies, if rows of d floats so many apart
 * fill all sets of a cache. */
bool cg_mix_in_place(const cg_ctx *c, int64_t row, int64_t d);
void cg_mix_pack(cg_ctx *c, cg_val from, int64_t row, int64_t N, int64_t d, cg_val to);

/* out[m][j] (=, +=) factor[m] * sum over k < K of a(m, k) b[k][j], m < M, j < d; b packed, of `b_rows` rows, or in place, rows
 * b_row apart (0: packed). a(m, k) is at a + m * a_rs + k * a_cs, one of which is 1. */
typedef struct cg_mix {
  cg_val a, b, out;
  cg_val factor; /* NULL: 1 */
  int64_t M, K, d, b_rows, b_row, a_rs, a_cs, out_row;
  bool accumulate;
  cg_val partial; /* if not NULL: [M][d] of scratch, and out, whose rows begin at multiples of a vector, is written once, past
                     the caches; not with accumulate */
} cg_mix;
void cg_strip_mix(cg_ctx *c, const cg_mix *m);
#endif
