/* A convolution whose windows tile the image is a linear layer on patches.
 *
 *   %1 = conv %x, @w [D,C,p,q], @b                     // [B,C,H,W] -> [B,D,h,w], stride = kernel = (p,q)
 *
 *   %1 = reshape %x {[B,C,h,p,w,q]}
 *   %2 = transpose %1 {perm=0,2,4,1,3,5}               // [B,h,w,C,p,q]
 *   %3 = reshape %2 {[B,hw,Cpq]}
 *   %4 = linear %3, @w, @b                             // @w now [D,Cpq], the same bytes -> [B,hw,D]
 *   %5 = transpose %4 {perm=0,2,1}                     // [B,D,hw]
 *   %6 = reshape %5 {[B,D,h,w]}
 *
 * opt_views then cancels %5 and %6 against what models put behind. Rows and columns of the image beyond the last whole
 * patch, which the convolution does not see, are sliced off. A kernel that other nodes use is reshaped in the graph.
 * Other convolutions stay, and code generation reports them. */
#include "passes/match.h"

typedef struct patches {
  int64_t batch, channels, rows, cols; /* image, in patches */
  int64_t p, q, dim;                   /* patch height and width, output channels */
} patches;

static bool ints_all(const tt_graph *g, tt_node n, tt_attr_id id, int64_t want) {
  const tt_attr *a = tt_node_attr(g, n, id);
  for (int i = 0; a && i < a->as.ints.n; i++)
    if (a->as.ints.v[i] != want) return false;
  return true;
}

static bool find_patches(const tt_graph *g, tt_node n, patches *out) {
  const tt_node_data *d = tt_nod(g, n);
  const tt_type *x = tt_typ(g, d->in[0]), *w = tt_typ(g, d->in[1]), *y = tt_typ(g, d->out[0]);
  const tt_attr *strides = tt_node_attr(g, n, TT_A_STRIDES);
  if (x->rank != 4 || w->rank != 4 || tt_node_int(g, n, TT_A_GROUP) > 1) return false;
  if (!ints_all(g, n, TT_A_PADS, 0) || !ints_all(g, n, TT_A_DILATIONS, 1)) return false;
  for (int i = 0; i < 2; i++)
    if ((strides ? strides->as.ints.v[i] : 1) != w->dim[2 + i]) return false;
  *out = (patches){.batch = x->dim[0],
                   .channels = x->dim[1],
                   .rows = y->dim[2],
                   .cols = y->dim[3],
                   .p = w->dim[2],
                   .q = w->dim[3],
                   .dim = w->dim[0]};
  return true;
}

static tt_value reshape_to(tt_builder *b, tt_value x, int rank, const int64_t *dim) {
  const tt_type to = tt_type_make(TT_F32, rank, dim);
  return tt_match_reshape(b, x, &to);
}

static tt_value transpose(tt_builder *b, tt_value x, int rank, const int64_t *perm) {
  const tt_attr attr = tt_attr_ints(b->g, TT_A_PERM, rank, perm);
  return tt_build1(b, TT_OP_TRANSPOSE, x, 1, &attr);
}

/* [B,C,H,W] -> [B,C,h p,w q] */
static tt_value crop(tt_builder *b, tt_value x, const patches *s) {
  const int64_t starts[4] = {0}, steps[4] = {1, 1, 1, 1};
  const int64_t ends[4] = {s->batch, s->channels, s->rows * s->p, s->cols * s->q};
  const tt_type *t = tt_typ(b->g, x);
  if (t->dim[2] == ends[2] && t->dim[3] == ends[3]) return x;
  const tt_attr attrs[] = {tt_attr_ints(b->g, TT_A_STARTS, 4, starts), tt_attr_ints(b->g, TT_A_ENDS, 4, ends),
                           tt_attr_ints(b->g, TT_A_STEPS, 4, steps)};
  return tt_build1(b, TT_OP_SLICE, x, 3, attrs);
}

/* [D,C,p,q] -> [D,Cpq], in the parameter itself where this convolution alone uses it. */
static tt_value flat_weight(tt_match *m, tt_builder *b, tt_value w, const patches *s) {
  const tt_type flat = tt_type_make(TT_F32, 2, (int64_t[]){s->dim, s->channels * s->p * s->q});
  if (!tt_match_owned_var(m, w) || !tt_match_sole(m, w)) return tt_match_reshape(b, w, &flat);
  tt_match_retype_var(m->g, w, flat);
  return w;
}

static bool embed(tt_match *m, tt_node n) {
  patches s;
  if (!find_patches(m->g, n, &s)) return false;
  const tt_node_data d = *tt_nod(m->g, n);
  tt_builder b = tt_match_builder(m, n);
  tt_value x = crop(&b, d.in[0], &s);
  x = reshape_to(&b, x, 6, (int64_t[]){s.batch, s.channels, s.rows, s.p, s.cols, s.q});
  x = transpose(&b, x, 6, (int64_t[]){0, 2, 4, 1, 3, 5});
  x = reshape_to(&b, x, 3, (int64_t[]){s.batch, s.rows * s.cols, s.channels * s.p * s.q});
  const tt_value w = flat_weight(m, &b, d.in[1], &s);
  x = d.n_in == 3 ? tt_build3(&b, TT_OP_LINEAR, x, w, d.in[2], 0, NULL) : tt_build2(&b, TT_OP_LINEAR, x, w, 0, NULL);
  x = transpose(&b, x, 3, (int64_t[]){0, 2, 1});
  x = reshape_to(&b, x, 4, (int64_t[]){s.batch, s.dim, s.rows, s.cols});
  return tt_match_replace(m, n, x);
}

tt_pass_result tt_canon_patch_embed(tt_graph *g, tt_pass_ctx *ctx) { return tt_match_run(g, ctx, TT_OP_CONV, embed); }
