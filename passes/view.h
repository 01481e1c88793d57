/* Strided views: what a chain of reshapes, transposes and slices does to addresses, whatever nodes an exporter spelled it
 * with.
 *
 * Element (i0, i1, ...) of the viewed value is element offset + sum over atoms (index * stride) of the root, which is read
 * as row-major memory. A dimension of the value is made of zero or more atoms, outermost first: a dimension of size 1 of
 * none, one that a reshape has joined from a transposed value of several. Atoms are as few as can be (neighbours that one
 * stride can walk are one atom), so two chains that move data alike have equal views. */
#ifndef TT_VIEW_H
#define TT_VIEW_H
#include "compiler/ir/graph.h"

typedef struct tt_atom {
  int64_t size, stride; /* size > 1; elements of the root */
} tt_atom;

enum { TT_VIEW_ATOMS = 16, TT_VIEW_CHAIN = 24 };
enum { TT_VIEW_MOVES = 0, TT_VIEW_SLICES = 1, TT_VIEW_SCALES = 2 }; /* what to look through besides reshape, transpose */

typedef struct tt_view {
  tt_value root;
  int64_t offset;
  double scale; /* value = scale * view of root; 1 unless TT_VIEW_SCALES */
  int rank, n;
  int first[TT_MAX_RANK + 1]; /* dimension i has the atoms first[i] .. first[i+1] */
  tt_atom atom[TT_VIEW_ATOMS];
  int reshapes, transposes; /* nodes between root and value */
} tt_view;

/* Traces v back as far as a view can say; at worst root is v itself. */
tt_view tt_view_trace(const tt_graph *g, tt_value v, unsigned through);
/* The atoms of dimensions [begin, end), neighbours joined across dimensions where one stride walks them; returns how many.
 */
int tt_view_atoms(const tt_view *w, int begin, int end, tt_atom *out);
#endif
