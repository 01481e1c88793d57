/* Random graphs of the ops that the forward pipeline rewrites: whatever meets, every pass keeps the meaning, verifies and
 * is idempotent. Operands are drawn with a bias to recent values, so that patterns touch, overlap and share parts. */
#include <stdio.h>
#include "tests/passes/pass_test.h"

enum { ROUNDS = 300, STEPS = 24 };

typedef struct pool {
  bench t;
  uint64_t seed, draws;
  int n;
  tt_value v[3 * STEPS];
} pool;

static uint64_t draw(pool *p, uint64_t below) {
  return (uint64_t)((noise(p->seed, p->draws++) + 1) * 0.5 * (double)below) % below;
}

static tt_value any(pool *p) {
  const uint64_t back = draw(p, 3) ? draw(p, p->n < 4 ? (uint64_t)p->n : 4) : draw(p, (uint64_t)p->n);
  return p->v[p->n - 1 - (int)back];
}

static tt_value some_number(pool *p) {
  const double of[] = {0, 1, 2, 0.5, 1.25, -1};
  return number(&p->t, of[draw(p, 6)]);
}

static tt_value some_reshape(pool *p, tt_value x) {
  const int64_t to[][5] = {{2, 6, 4}, {2, 3, 2, 4}, {12, 4}, {2, 4, 6}, {1, 4, 12}, {2, 2, 3, 4}, {48, 1}, {2, 1, 6, 4}};
  const int rank[] = {3, 4, 2, 3, 3, 4, 2, 4};
  const uint64_t i = draw(p, 8);
  return reshape(&p->t, x, rank[i], to[i]);
}

static tt_value some_transpose(pool *p, tt_value x) {
  const int rank = tt_typ(p->t.g, x)->rank;
  int64_t perm[TT_MAX_RANK];
  for (int i = 0; i < rank; i++) perm[i] = i;
  for (int i = rank - 1; i > 0; i--) {
    const int64_t j = (int64_t)draw(p, (uint64_t)i + 1), swap = perm[i];
    perm[i] = perm[j];
    perm[j] = swap;
  }
  return transpose(&p->t, x, rank, perm);
}

static tt_value some_linear(pool *p, tt_value x) {
  const int64_t width = tt_type_last(tt_typ(p->t.g, x));
  char name[32];
  snprintf(name, sizeof name, "w%d", (int)p->t.m->vars.count);
  const tt_attr trans = tt_attr_int(TT_A_TRANS_B, (int64_t)draw(p, 2));
  const tt_value w = param(&p->t, name, DIMS(width, width));
  const tt_value y = tt_build2(at_end(&p->t), TT_OP_MATMUL, x, w, 1, &trans);
  if (draw(p, 4) == 0) return tt_build2(at_end(&p->t), TT_OP_MATMUL, y, w, 0, NULL);
  snprintf(name, sizeof name, "b%d", (int)p->t.m->vars.count);
  const tt_value b = param(&p->t, name, 1, &width);
  return draw(p, 2) ? op2(&p->t, TT_OP_ADD, y, b) : op2(&p->t, TT_OP_ADD, b, y);
}

static tt_value some_gelu(pool *p, tt_value x) {
  const tt_value gate =
      op2(&p->t, TT_OP_ADD, op1(&p->t, TT_OP_ERF, op2(&p->t, TT_OP_DIV, x, number(&p->t, sqrt(2)))), number(&p->t, 1));
  const tt_value half = draw(p, 2) ? number(&p->t, 0.5) : some_number(p);
  return draw(p, 2) ? op2(&p->t, TT_OP_MUL, x, op2(&p->t, TT_OP_MUL, half, gate))
                    : op2(&p->t, TT_OP_MUL, op2(&p->t, TT_OP_MUL, gate, x), half);
}

/* softmax(c x x^T) x over the last two dimensions, with x itself or something near it as value */
static tt_value some_attention(pool *p, tt_value x) {
  const int64_t last = tt_typ(p->t.g, x)->rank;
  int64_t perm[TT_MAX_RANK];
  for (int i = 0; i < last; i++) perm[i] = i;
  perm[last - 1] = last - 2;
  perm[last - 2] = last - 1;
  const tt_value y = any(p);
  const tt_value other = tt_type_equal(tt_typ(p->t.g, x), tt_typ(p->t.g, y)) ? y : x;
  const tt_value s = op2(&p->t, TT_OP_MATMUL, x, transpose(&p->t, other, (int)last, perm));
  const tt_value q = op1(&p->t, TT_OP_SOFTMAX, op2(&p->t, TT_OP_MUL, s, some_number(p)));
  return op2(&p->t, TT_OP_MATMUL, q, other);
}

static tt_value step(pool *p) {
  const tt_value x = any(p), y = any(p);
  switch (draw(p, 10)) {
  case 0: return op1(&p->t, TT_OP_TANH, x);
  case 1: return op2(&p->t, draw(p, 2) ? TT_OP_MUL : TT_OP_ADD, x, some_number(p));
  case 2: return op2(&p->t, TT_OP_ADD, x, tt_type_equal(tt_typ(p->t.g, x), tt_typ(p->t.g, y)) ? y : x);
  case 3:
  case 4: return some_reshape(p, x);
  case 5:
  case 6: return some_transpose(p, x);
  case 7: return op1(&p->t, TT_OP_TANH, some_linear(p, x));
  case 8: return some_gelu(p, x);
  default: return some_attention(p, x);
  }
}

static void any_graph(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < ROUNDS; seed++) {
    pool p = {.t = bench_open(), .seed = seed, .n = 1};
    p.v[0] = input(&p.t, "x", DIMS(2, 6, 4));
    for (int i = 0; i < STEPS; i++) p.v[p.n++] = step(&p);
    result(&p.t, "y", op1(&p.t, TT_OP_TANH, p.v[p.n - 1]));
    result(&p.t, "z", op1(&p.t, TT_OP_TANH, any(&p)));
    for (int i = 0; i < tt_pipelines[0].count; i++) {
      const char *name = tt_pipelines[0].passes[i];
      if (strcmp(name, "lower_mx") != 0) check_meaning(&p.t, name);
    }
    bench_close(&p.t);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(any_graph)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
