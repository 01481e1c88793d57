/* Attention with packed and separate operands, one block of queries and several, of all tokens and of the first, with rows that
 * are a whole number of vectors and not. The backward is swept behind its forward, so that lse is what it must be. */
#include <math.h>
#include "tests/ops/sweep.h"

static void of_queries(sweep *s, int B, int Q, int N, int H, int d, bool packed) {
  tt_attr a[] = {tt_attr_int(TT_A_HEADS, H), tt_attr_float(TT_A_SCALE, 2 / sqrt(d)), tt_attr_int(TT_A_QUERIES, Q)};
  int n = packed ? 1 : 3, n_attrs = Q < N ? 3 : 2;
  sweep_begin(s);
  for (int i = 0; i < n; i++) sweep_in(s, sweep_f32(3, B, N, (packed ? 3 : 1) * H * d), -1.5, 1.5);
  tt_value d_o = sweep_in(s, sweep_f32(3, B, Q, H * d), -1, 1);
  tt_node forward = tt_build(&s->b, TT_OP_ATTENTION, n, s->in, n_attrs, a);
  tt_value in[5] = {d_o, tt_nod(s->b.g, forward)->out[1], s->in[0], s->in[1], s->in[2]};
  tt_node backward = tt_build(&s->b, TT_OP_ATTENTION_GRAD, 2 + n, in, n_attrs, a);
  for (int i = 0; i < 2; i++) sweep_result(s, tt_nod(s->b.g, forward)->out[i]);
  for (int i = 0; i < n; i++) sweep_result(s, tt_nod(s->b.g, backward)->out[i]);
  sweep_check(s, 2e-5);
}

static void attention(sweep *s, int B, int N, int H, int d, bool packed) { of_queries(s, B, N, N, H, d, packed); }

void sweep_attention(sweep *s) {
  for (int packed = 0; packed < 2; packed++) {
    attention(s, 2, 5, 3, 8, packed);
    attention(s, 2, 50, 3, 32, packed);
    attention(s, 1, 17, 2, 20, packed);
    attention(s, 1, 300, 1, 16, packed);
    of_queries(s, 2, 1, 50, 3, 16, packed);
    of_queries(s, 1, 270, 300, 1, 16, packed);
    of_queries(s, 1, 270, 280, 1, 6, packed);
  }
  attention(s, 1, 197, 2, 64, true);
  of_queries(s, 60, 108, 111, 1, 64, true); /* gradients large enough to go past the caches, reduced in unequal chunks */
  of_queries(s, 30, 20, 211, 1, 64, true); /* in three, of keys */
  of_queries(s, 1, 590, 600, 1, 80, false);
  of_queries(s, 2, 40, 50, 3, 32, true);
  attention(s, 1, 33, 2, 16, true);
  attention(s, 1, 45, 2, 80, false);
  attention(s, 1, 256, 1, 32, true);
  attention(s, 3, 1, 1, 4, true);
}
