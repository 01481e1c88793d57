/* The blocks of a transformer, recognised by structure and not by name: a branch leaves the residual stream and comes back to
 * it in an add. A branch with an attention opens a new block, the branches behind it belong to the same; in a model without
 * attention every branch is a block. The patch embedding lies before every branch, the classifier after. */
#ifndef TT_BLOCKS_H
#define TT_BLOCKS_H
#include "passes/pass.h"

typedef struct tt_blocks {
  int *of;          /* per node: which block a linear layer lies in; -1: none, or no linear layer */
  tt_value *output; /* per block: the stream behind its last branch; of a last one only the tokens that are read (opt_slices) */
  int count;
  bool attention; /* the model has any */
} tt_blocks;
/* In scratch memory. Knows linear layers before lower_mx and after it. */
tt_blocks tt_find_blocks(const tt_graph *g, tt_arena *scratch);
#endif
