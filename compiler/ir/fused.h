/* The parts of an mx.fused node (ops.def), read from its attributes once for every layer that needs them. */
#ifndef TT_FUSED_H
#define TT_FUSED_H
#include "compiler/ir/graph.h"

enum { TT_FUSED_STEPS = 4 };

typedef struct tt_fused_step {
  tt_op op;
  bool keep;     /* result 0 is a result of the node */
  int in, n_in;  /* operands, without the one that the step before hands on */
  int out, n_out; /* results, result 0 where kept included */
} tt_fused_step;

typedef struct tt_fused {
  int n_steps;
  bool lead;     /* step 0 is a product, of all the rows that the others and the quantizers take */
  bool mx;       /* of mx matrices, else of float32 ones */
  int lead_cols; /* the dimension of its operand 1 that its columns are */
  tt_fused_step step[TT_FUSED_STEPS];
  tt_qspec q, q_t;
  int rng;                 /* operand, -1 where nothing is stochastic */
  int out_q, out_t, colsum; /* results, -1 where absent; colsum is of floats where nothing is quantized */
  int n_in, n_out;
} tt_fused;

/* NULL, or what is wrong with the attributes. `n_in` operands tell whether a product has its optional one. */
const char *tt_fused_read(int n_attrs, const tt_attr *attrs, int n_in, tt_fused *f);
/* The same of a node that verifies. */
tt_fused tt_fused_of(const tt_graph *g, tt_node n);
/* Whether n, a product of float32 matrices, can be step 0: each row of its result follows from one of operand 0. */
bool tt_fused_leads(const tt_graph *g, tt_node n);
/* What the quantizers read: f32, a product's result or of operand 0's shape. */
tt_type tt_fused_type(const tt_graph *g, const tt_fused *f, const tt_value *in);
#endif
