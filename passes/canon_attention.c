/* Scaled dot-product attention becomes one `attention` on token rows, with heads addressed in place.
 *
 *   %s = matmul %q, %k {trans_b=1}       // q, k [B,H,N,d] -> [B,H,N,N]
 *   %p = softmax %s                                           %o, %lse = attention %qkv {heads=H, scale}   // [B,N,3Hd]
 *   %y = matmul %p, %v                   // -> [B,H,N,d]       %1 = reshape %o {[B,N,H,d]}
 *                                                             %2 = transpose %1 {perm=0,2,1,3}
 *
 * Constant factors anywhere between the sources and softmax are collected into scale. Where q, k, v come from is read from
 * strided views (view.h), not from an exporter's node sequence. Three layouts, the best that fits:
 *   packed    one [B,N,3Hd] value holds q, k, v side by side in each row: attention(qkv)
 *   separate  three [B,N,Hd] values: attention(q, k, v)
 *   other     [B,H,N,d] values of any origin: attention on their [B,N,Hd] transposes, made here
 * opt_views cancels the movements behind (and those of `other` where it can). Requires: opt_cse, canon_softmax_safe.
 * Softmax and scores must have no other use. Masks, biases between scores and softmax, and attention between unequal
 * numbers of tokens do not match and stay matmuls, which are as correct and train as well. */
#include "passes/match.h"
#include "passes/view.h"

/* One of q, k, v: element (b, t, h, i) is factor * root[offset + (b N + t) pitch + h d + i]. */
typedef struct operand {
  tt_value value;  /* as the matmul takes it */
  bool transposed; /* value is [.., d, N] instead of [.., N, d] */
  bool direct;     /* the formula above holds; else only value does */
  tt_value root;
  int64_t batch, tokens, heads, width, pitch, offset; /* B, N, H, d */
  double factor;
} operand;

typedef struct attention {
  operand q, k, v;
  double scale;
} attention;

/* The atoms of the leading dimensions are batch and heads, either missing where it is 1. */
static bool read_lead(const tt_view *w, operand *o) {
  tt_atom lead[TT_VIEW_ATOMS];
  const int n = tt_view_atoms(w, 0, w->rank - 2, lead);
  const int64_t per_image = o->tokens * o->pitch;
  o->batch = o->heads = 1;
  for (int i = 0; i < n; i++) {
    if (lead[i].stride == per_image && i == 0)
      o->batch = lead[i].size;
    else if (lead[i].stride == o->width && i == n - 1)
      o->heads = lead[i].size;
    else
      return false;
  }
  return true;
}

static void read_operand(const tt_graph *g, operand *o, unsigned through) {
  const tt_view w = tt_view_trace(g, o->value, TT_VIEW_SLICES | through);
  tt_atom token[TT_VIEW_ATOMS], inner[TT_VIEW_ATOMS];
  o->direct = false;
  o->factor = w.scale;
  o->root = w.root;
  o->offset = w.offset;
  if (w.rank < 3) return;
  const int t = w.rank - (o->transposed ? 1 : 2), i = w.rank - (o->transposed ? 2 : 1);
  if (tt_view_atoms(&w, t, t + 1, token) != 1 || tt_view_atoms(&w, i, i + 1, inner) != 1 || inner[0].stride != 1) return;
  o->tokens = token[0].size;
  o->pitch = token[0].stride;
  o->width = inner[0].size;
  if (!read_lead(&w, o)) return;
  const int64_t rows = o->batch * o->tokens;
  o->direct = tt_type_count(tt_typ(g, o->root)) == rows * o->pitch && o->offset + o->heads * o->width <= o->pitch;
}

/* Takes factors off the scores, down to the matmul that makes them. */
static tt_node find_scores(const tt_match *m, tt_value v, double *scale) {
  tt_value x;
  double factor;
  while (tt_match_sole(m, v) && tt_match_scaled(m->g, v, &x, &factor)) {
    *scale *= factor;
    v = x;
  }
  return tt_match_sole(m, v) ? tt_def_op(m->g, v, TT_OP_MATMUL) : TT_NONE;
}

/* n: the matmul with v. */
static bool find_attention(const tt_match *m, tt_node n, attention *a) {
  const tt_graph *g = m->g;
  const tt_value p = tt_nod(g, n)->in[0];
  const tt_value scores = tt_match_unary(g, p, TT_OP_SOFTMAX);
  a->scale = 1;
  if (scores == TT_NONE || !tt_match_sole(m, p) || tt_node_int(g, n, TT_A_TRANS_A) == 1) return false;
  const tt_node dot = find_scores(m, scores, &a->scale);
  if (dot == TT_NONE) return false;
  a->q = (operand){.value = tt_nod(g, dot)->in[0], .transposed = tt_node_int(g, dot, TT_A_TRANS_A) == 1};
  a->k = (operand){.value = tt_nod(g, dot)->in[1], .transposed = tt_node_int(g, dot, TT_A_TRANS_B) == 0};
  a->v = (operand){.value = tt_nod(g, n)->in[1], .transposed = tt_node_int(g, n, TT_A_TRANS_B) == 1};
  read_operand(g, &a->q, TT_VIEW_SCALES);
  read_operand(g, &a->k, TT_VIEW_SCALES);
  read_operand(g, &a->v, TT_VIEW_MOVES);
  return tt_typ(g, a->q.value)->dtype == TT_F32;
}

static bool alike(const operand *x, const operand *y) {
  return x->batch == y->batch && x->tokens == y->tokens && x->heads == y->heads && x->width == y->width;
}

static bool is_packed(const attention *a) {
  const operand *q = &a->q, *k = &a->k, *v = &a->v;
  const int64_t row = q->heads * q->width;
  return q->root == k->root && q->root == v->root && q->pitch == 3 * row && q->offset == 0 && k->offset == row &&
         v->offset == 2 * row;
}

static bool is_separate(const operand *o) { return o->direct && o->offset == 0 && o->pitch == o->heads * o->width; }

/* [B,N,pitch] */
static tt_value rows_of(tt_builder *b, const operand *o) {
  const tt_type t = tt_type_make(TT_F32, 3, (int64_t[]){o->batch, o->tokens, o->pitch});
  return tt_match_reshape(b, o->root, &t);
}

/* Fills in the sizes of an operand that is a plain [B,H,N,d] (or [B,H,d,N]) value; its factors stay where they are. */
static bool read_plain(const tt_graph *g, operand *o) {
  const tt_type *t = tt_typ(g, o->value);
  if (t->rank != 4) return false;
  o->batch = t->dim[0];
  o->heads = t->dim[1];
  o->tokens = t->dim[o->transposed ? 3 : 2];
  o->width = t->dim[o->transposed ? 2 : 3];
  o->factor = 1;
  return true;
}

/* [B,H,N,d] or [B,H,d,N] -> [B,N,Hd] */
static tt_value plain_rows(tt_builder *b, const operand *o) {
  const int64_t perm[2][4] = {{0, 2, 1, 3}, {0, 3, 1, 2}};
  const tt_attr attr = tt_attr_ints(b->g, TT_A_PERM, 4, perm[o->transposed]);
  const tt_type t = tt_type_make(TT_F32, 3, (int64_t[]){o->batch, o->tokens, o->heads * o->width});
  return tt_match_reshape(b, tt_build1(b, TT_OP_TRANSPOSE, o->value, 1, &attr), &t);
}

/* The operands of `attention` in in[0..]; their number, 0 where nothing fits. */
static int choose_operands(tt_builder *b, attention *a, tt_value *in) {
  operand *part[3] = {&a->q, &a->k, &a->v};
  const bool direct = a->q.direct && a->k.direct && a->v.direct && alike(&a->q, &a->k) && alike(&a->q, &a->v);
  if (direct && is_packed(a)) {
    in[0] = rows_of(b, &a->q);
    return 1;
  }
  const bool separate = direct && is_separate(&a->q) && is_separate(&a->k) && is_separate(&a->v);
  if (!separate)
    for (int i = 0; i < 3; i++)
      if (!read_plain(b->g, part[i])) return 0;
  if (!alike(&a->q, &a->k) || !alike(&a->q, &a->v)) return 0;
  for (int i = 0; i < 3; i++) in[i] = separate ? rows_of(b, part[i]) : plain_rows(b, part[i]);
  return 3;
}

static bool attend(tt_match *m, tt_node n) {
  attention a;
  tt_value in[3];
  if (!find_attention(m, n, &a)) return false;
  tt_builder b = tt_match_builder(m, n);
  const int n_in = choose_operands(&b, &a, in);
  if (n_in == 0) return false;
  const operand *q = &a.q;
  const tt_attr attrs[] = {tt_attr_int(TT_A_HEADS, q->heads), tt_attr_float(TT_A_SCALE, a.scale * a.q.factor * a.k.factor)};
  for (int i = 0; i < n_in; i++)
    if (in[i] == TT_NONE) return false;
  const tt_node made = tt_build(&b, TT_OP_ATTENTION, n_in, in, 2, attrs);
  if (made == TT_NONE) return false;
  const tt_type split = tt_type_make(TT_F32, 4, (int64_t[]){q->batch, q->tokens, q->heads, q->width});
  const tt_attr perm = tt_attr_ints(m->g, TT_A_PERM, 4, (int64_t[]){0, 2, 1, 3});
  tt_value y = tt_match_reshape(&b, tt_nod(m->g, made)->out[0], &split);
  y = y == TT_NONE ? y : tt_build1(&b, TT_OP_TRANSPOSE, y, 1, &perm);
  const tt_type to = *tt_typ(m->g, tt_nod(m->g, n)->out[0]);
  return tt_match_replace(m, n, tt_match_reshape(&b, y, &to));
}

tt_pass_result tt_canon_attention(tt_graph *g, tt_pass_ctx *ctx) { return tt_match_run(g, ctx, TT_OP_MATMUL, attend); }
