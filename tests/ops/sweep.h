/* The op sweep: small graphs, generated code against the evaluator, for 1, 2 and 3 threads. A case is
 *
 *   sweep_begin(s);
 *   sweep_in(s, tt_type_make(TT_F32, 2, dims), -2, 2);      // operands of the node, uniform random
 *   sweep_op(s, TT_OP_ADD, 0, NULL, 1e-6);                  // builds the node, makes its outputs results, checks
 *
 * or, for graphs of several nodes, tt_build* on s->b, sweep_result for what to compare, sweep_check. */
#ifndef SWEEP_H
#define SWEEP_H
#include "compiler/support/vec.h"
#include "tests/ops/foreign.h"

typedef struct sweep {
  const cg_target *target;
  tt_arena *target_arena;
  const cg_target *like; /* a case that becomes the same code on this one is left to its sweep; or NULL */
  foreign *foreign; /* where cases of a target that this machine is not are run, by sweep_finish; or NULL */
  TT_VEC(struct sweep *) later;
  bool seen[TT_OP_COUNT]; /* ops that occurred in a checked graph */
  int cases, left, failures; /* of the cases those left to another sweep */
  uint64_t random;
  /* The case under construction. */
  tt_arena *arena;
  tt_diag diag;
  tt_module *module;
  tt_builder b;
  int n_in;
  tt_value in[64];
  tt_tensor data[64]; /* values of the graph's inputs */
  tt_tensor *want;    /* and of its results */
  double tolerance;
  int index;          /* in `foreign` */
} sweep;

void sweep_begin(sweep *s);
double sweep_random(sweep *s, double lo, double hi);
tt_type sweep_f32(int rank, ...); /* f32[dims as int] */
/* An input with uniform values (integers for integer types; for MX random codes and scale bytes in [lo, hi)), or with the
 * values given; appended to the op's operands. */
tt_value sweep_in(sweep *s, tt_type type, double lo, double hi);
tt_value sweep_data(sweep *s, tt_type type, const double *values);
tt_attr sweep_ints(sweep *s, tt_attr_id id, int n, ...); /* int64_t values */
void sweep_result(sweep *s, tt_value v);
/* Compares every result: |got - want| <= tolerance * (|want| + rms(want)); tolerance 0: same float32, same MX bytes. */
void sweep_check(sweep *s, double tolerance);
void sweep_op(sweep *s, tt_op op, int n_attrs, const tt_attr *attrs, double tolerance);

/* Runs and compares what was put off, and says how it went. */
void sweep_finish(sweep *s);
void sweep_all(sweep *s);

/* Cases by family. */
void sweep_elementwise(sweep *s);
void sweep_move(sweep *s);
void sweep_reduce(sweep *s);
void sweep_rows(sweep *s); /* softmax, layernorm, losses */
void sweep_attention(sweep *s);
void sweep_optimizer(sweep *s);
void sweep_products(sweep *s); /* matmul, linear */
void sweep_mx(sweep *s);       /* mx.*, bit for bit */
void sweep_int4(sweep *s);     /* mx.* of per-tensor INT4, bit for bit */
void sweep_track(sweep *s);    /* instruments */
#endif
