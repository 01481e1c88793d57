/* Gives every trained parameter an initializer of its own.
 *
 * Exporters merge equal tensors: at the time of export all LayerNorm gains are 1 and all biases 0, so they become one
 * initializer with many users, by Identity aliases (TorchScript) or silently (dynamo). Trained together they would be
 * another model. They also expand a class token to the batch and store the copies. The model is rewritten here, before
 * import, so that import, export and any other reader of the rewritten model see the same parameters:
 *
 *   before                                   after
 *   b1: Identity(b0)                         initializers b0, b1 and b0@norm3, equal values
 *   norm1(x, g, b0) norm2(y, g, b1)          norm1(x, g, b0) norm2(y, g@norm2, b1) norm3(z, g@norm3, b0@norm3)
 *   norm3(z, g, b0)
 *   cat(token [2,1,D], ...)  batch 2         cat(Expand(token [1,1,D], [2,1,D]), ...)
 *
 * Untied are vectors (rank 1) and vector-like parameters (rank >= 3 with leading dimension 1: tokens, position embeddings).
 * Matrices with several users stay tied, as do several elementwise operands of one node: that is how weights are shared on
 * purpose. Requires names checked (check.c). */
#include <math.h>
#include <string.h>
#include "compiler/onnx/model.h"

typedef struct use {
  uint32_t node, input;
  const char *alias; /* name it was used under: an Identity's, or the initializer's own */
} use;
typedef TT_VEC(use) use_list;

typedef struct untie {
  tt_onnx_model *m;
  Onnx__GraphProto *g;
  names root;      /* value name -> index of the initializer it stands for, aliases included */
  names taken;     /* every value name of the graph, to invent new ones */
  use_list *uses;  /* of each initializer */
  bool *drop_node; /* aliases that are gone */
  bool *drop_init;
  TT_VEC(Onnx__TensorProto *) made; /* new initializers */
  tt_strbuf notes;
} untie;

static const float *floats_of(const Onnx__TensorProto *t) {
  return t->has_raw_data && t->raw_data.len ? (const float *)(const void *)t->raw_data.data : t->float_data;
}

static int64_t count_of(const Onnx__TensorProto *t) {
  int64_t n = 1;
  for (size_t i = 0; i < t->n_dims; i++) n *= t->dims[i];
  return n;
}

/* An attention mask: infinite elements, or 0 and one hugely negative number. Nothing to train. */
static bool is_mask(const float *x, int64_t n) {
  const uint32_t exponent = 0x7f800000;
  uint32_t finite = 1;
  for (int64_t i = 0; i < n; i++) { // all of them, by vectors: a model is mostly weights
    uint32_t bits;
    memcpy(&bits, x + i, sizeof bits); // raw data need not be aligned
    finite &= (bits & exponent) != exponent;
  }
  float low = 0.0f;
  for (int64_t i = 0; finite && i < n; i++) {
    float v;
    memcpy(&v, x + i, sizeof v);
    if (v == 0.0f) continue;
    if (low == 0.0f) low = v;
    if (v != low) return false;
  }
  return !finite || low <= -100.0f;
}

bool onnx_is_parameter(const Onnx__TensorProto *t) {
  int64_t n = count_of(t);
  return t->data_type == ONNX_FLOAT && n > 1 && !is_mask(floats_of(t), n);
}

/* Float operands that say how, not what: never trained. */
static bool is_setting(const Onnx__NodeProto *n, size_t input) {
  static const char *const ops[] = {"Resize", "Pad", "Clip", "Pow", "Upsample", "OneHot", "Range"};
  if (input == 0) return false;
  for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
    if (onnx_is(n, ops[i])) return true;
  return false;
}

static bool is_vector_like(const Onnx__TensorProto *t) { return t->n_dims == 1 || (t->n_dims >= 3 && t->dims[0] == 1); }

static void find_roots(untie *u) {
  for (size_t i = 0; i < u->g->n_initializer; i++)
    names_set(&u->root, u->m->arena, u->g->initializer[i]->name, (uint32_t)i);
  names outputs = {0};
  for (size_t i = 0; i < u->g->n_output; i++) names_set(&outputs, u->m->arena, u->g->output[i]->name, 1);
  for (size_t i = 0; i < u->g->n_node; i++) {
    const Onnx__NodeProto *n = u->g->node[i];
    uint32_t root;
    bool alias = onnx_is(n, "Identity") && n->n_input == 1 && names_find(&u->root, n->input[0], &root);
    if (!alias || names_find(&outputs, n->output[0], NULL)) continue;
    names_set(&u->root, u->m->arena, n->output[0], root);
    u->drop_node[i] = true;
  }
}

static void find_uses(untie *u) {
  for (size_t i = 0; i < u->g->n_node; i++) {
    Onnx__NodeProto *n = u->g->node[i];
    if (u->drop_node[i]) continue;
    for (size_t k = 0; k < n->n_output; k++) names_set(&u->taken, u->m->arena, n->output[k], 1);
    for (size_t k = 0; k < n->n_input; k++) {
      uint32_t root;
      if (!names_find(&u->root, n->input[k], &root)) continue;
      tt_vec_push(&u->uses[root], ((use){(uint32_t)i, (uint32_t)k, n->input[k]}));
      n->input[k] = u->g->initializer[root]->name;
    }
  }
}

/* Several operands of one node stay one parameter (x * x), but not where slots mean different things (gain and bias). */
static bool same_parameter(const untie *u, use a, use b) {
  if (a.node != b.node) return false;
  const Onnx__NodeProto *n = u->g->node[a.node];
  return !(onnx_is(n, "LayerNormalization") || onnx_is(n, "BatchNormalization") || onnx_is(n, "Conv") ||
           onnx_is(n, "Gemm"));
}

static char *new_name(untie *u, const Onnx__TensorProto *root, use at) {
  char *name = tt_arena_str(u->m->arena, at.alias);
  bool own = strcmp(name, root->name) == 0;
  if (!own && !names_find(&u->taken, name, NULL)) return name;
  name = tt_arena_printf(u->m->arena, "%s@%s", at.alias, onnx_node_name(u->g->node[at.node]));
  for (int k = 2; names_find(&u->taken, name, NULL); k++)
    name = tt_arena_printf(u->m->arena, "%s@%s.%d", at.alias, onnx_node_name(u->g->node[at.node]), k);
  return name;
}

/* The user that keeps the initializer's name: the first under that very name, else none. */
static size_t keeper(const Onnx__TensorProto *root, const use_list *uses) {
  for (size_t i = 0; i < uses->count; i++)
    if (strcmp(uses->data[i].alias, root->name) == 0) return i;
  return SIZE_MAX;
}

static void split(untie *u, uint32_t init) {
  Onnx__TensorProto *root = u->g->initializer[init];
  use_list *uses = &u->uses[init];
  size_t keep = keeper(root, uses), parts = keep != SIZE_MAX;
  tt_strbuf names_text = {0};
  for (size_t i = 0; i < uses->count; i++) {
    use at = uses->data[i];
    if (i == keep || (keep != SIZE_MAX && same_parameter(u, at, uses->data[keep]))) continue;
    Onnx__NodeProto *n = u->g->node[at.node];
    if (i > 0 && same_parameter(u, at, uses->data[i - 1])) {
      n->input[at.input] = n->input[uses->data[i - 1].input];
      continue;
    }
    Onnx__TensorProto *t = tt_arena_copy(u->m->arena, root, sizeof *root);
    t->name = new_name(u, root, at);
    names_set(&u->taken, u->m->arena, t->name, 1);
    n->input[at.input] = t->name;
    tt_vec_push(&u->made, t);
    tt_strbuf_printf(&names_text, "%s%s", names_text.count ? ", " : "", t->name);
    parts++;
  }
  if (keep == SIZE_MAX) u->drop_init[init] = true;
  if (parts > 1)
    tt_strbuf_printf(&u->notes, "untied '%s': %zu parameters of their own (%s%s%s)\n", root->name, parts,
                     keep != SIZE_MAX ? root->name : "", keep != SIZE_MAX ? ", " : "", names_text.data);
  tt_strbuf_free(&names_text);
}

static void note_tied(untie *u, uint32_t init) {
  const use_list *uses = &u->uses[init];
  tt_strbuf_printf(&u->notes, "kept '%s' tied:", u->g->initializer[init]->name);
  for (size_t i = 0; i < uses->count; i++)
    tt_strbuf_printf(&u->notes, "%s %s", i ? "," : "", onnx_node_name(u->g->node[uses->data[i].node]));
  tt_strbuf_printf(&u->notes, "\n");
}

static void untie_one(untie *u, uint32_t init) {
  Onnx__TensorProto *t = u->g->initializer[init];
  use_list *uses = &u->uses[init];
  if (!uses->count || !onnx_is_parameter(t)) return;
  for (size_t i = 0; i < uses->count; i++)
    if (is_setting(u->g->node[uses->data[i].node], uses->data[i].input)) return;
  if (is_vector_like(t))
    split(u, init);
  else if (uses->count > 1)
    note_tied(u, init);
}

/* The batch that the model's first input is fixed to, 0 where it is symbolic. */
static int64_t fixed_batch(const untie *u) {
  for (size_t i = 0; i < u->g->n_input; i++) {
    const Onnx__ValueInfoProto *v = u->g->input[i];
    if (names_find(&u->root, v->name, NULL)) continue;
    if (!v->type || v->type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || !v->type->tensor_type->shape) return 0;
    const Onnx__TensorShapeProto *s = v->type->tensor_type->shape;
    return s->n_dim && s->dim[0]->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE ? s->dim[0]->dim_value
                                                                                                     : 0;
  }
  return 0;
}

/* A parameter stored once for each sample of a fixed batch, all copies equal. */
static bool is_expanded(const Onnx__TensorProto *t, int64_t batch) {
  if (batch < 2 || t->n_dims < 3 || t->dims[0] != batch || !onnx_is_parameter(t)) return false;
  size_t part = (size_t)(count_of(t) / batch) * sizeof(float);
  const char *x = (const char *)floats_of(t);
  for (int64_t b = 1; b < batch; b++)
    if (memcmp(x, x + (size_t)b * part, part) != 0) return false;
  return true;
}

/* token [B,1,D] -> token [1,1,D]; a new node Expand(token, shape) in front of its users. */
static Onnx__NodeProto *unexpand(untie *u, uint32_t init) {
  tt_arena *a = u->m->arena;
  Onnx__TensorProto *t = tt_arena_copy(a, u->g->initializer[init], sizeof *t);
  tt_type shape = tt_type_make(TT_I64, 1, (int64_t[]){(int64_t)t->n_dims});
  tt_vec_push(&u->made, onnx_tensor_make(a, tt_arena_printf(a, "%s/shape", t->name), &shape, t->dims));
  tt_type one = tt_type_make(TT_F32, (int)t->n_dims, t->dims);
  one.dim[0] = 1;
  u->g->initializer[init] = onnx_tensor_make(a, t->name, &one, floats_of(t));
  Onnx__NodeProto *n = TT_NEW(a, Onnx__NodeProto);
  onnx__node_proto__init(n);
  n->name = tt_arena_printf(a, "%s/Expand", t->name);
  n->op_type = tt_arena_str(a, "Expand");
  n->n_input = 2;
  n->input = TT_NEW_N(a, char *, 2);
  n->input[0] = t->name;
  n->input[1] = u->made.data[u->made.count - 1]->name;
  n->n_output = 1;
  n->output = TT_NEW(a, char *);
  n->output[0] = tt_arena_printf(a, "%s/expanded", t->name);
  const use_list *uses = &u->uses[init];
  for (size_t i = 0; i < uses->count; i++) u->g->node[uses->data[i].node]->input[uses->data[i].input] = n->output[0];
  tt_strbuf_printf(&u->notes, "'%s' is stored once for each sample of the batch: made one parameter\n", t->name);
  return n;
}

/* The graph's lists, rebuilt: aliases dropped, expansions in front, initializers that left or came. */
static void rebuild(untie *u, Onnx__NodeProto *const *front, size_t n_front) {
  Onnx__GraphProto *g = u->g;
  Onnx__NodeProto **node = TT_NEW_N(u->m->arena, Onnx__NodeProto *, g->n_node + n_front + 1);
  size_t n_node = 0, n_init = 0, n_in = 0, n_info = 0;
  for (size_t i = 0; i < n_front; i++) node[n_node++] = front[i];
  for (size_t i = 0; i < g->n_node; i++)
    if (!u->drop_node[i]) node[n_node++] = g->node[i];
  Onnx__TensorProto **init = TT_NEW_N(u->m->arena, Onnx__TensorProto *, g->n_initializer + u->made.count + 1);
  for (size_t i = 0; i < g->n_initializer; i++)
    if (!u->drop_init[i]) init[n_init++] = g->initializer[i];
  for (size_t i = 0; i < u->made.count; i++) init[n_init++] = u->made.data[i];
  names is_init = {0};
  for (size_t i = 0; i < n_init; i++) names_set(&is_init, u->m->arena, init[i]->name, 1);
  // Initializers are neither inputs nor annotated values: their type is their own, and it may have changed.
  for (size_t i = 0; i < g->n_input; i++)
    if (!names_find(&u->root, g->input[i]->name, NULL)) g->input[n_in++] = g->input[i];
  for (size_t i = 0; i < g->n_value_info; i++)
    if (g->value_info[i]->name && !names_find(&is_init, g->value_info[i]->name, NULL))
      g->value_info[n_info++] = g->value_info[i];
  g->node = node, g->n_node = n_node;
  g->initializer = init, g->n_initializer = n_init;
  g->n_input = n_in, g->n_value_info = n_info;
  if (u->m->proto->ir_version < 4) u->m->proto->ir_version = 4, u->m->proto->has_ir_version = 1;
}

void onnx_untie(tt_onnx_model *m) {
  if (m->notes) return;
  untie u = {.m = m, .g = m->proto->graph};
  size_t n_init = u.g->n_initializer, n_front = 0;
  u.uses = TT_NEW_N(m->arena, use_list, n_init + 1);
  u.drop_init = TT_NEW_N(m->arena, bool, n_init + 1);
  u.drop_node = TT_NEW_N(m->arena, bool, u.g->n_node + 1);
  Onnx__NodeProto **front = TT_NEW_N(m->arena, Onnx__NodeProto *, n_init + 1);
  find_roots(&u);
  for (size_t i = 0; i < n_init; i++) names_set(&u.taken, m->arena, u.g->initializer[i]->name, 1);
  find_uses(&u);
  int64_t batch = m->opset >= 8 ? fixed_batch(&u) : 0;
  for (uint32_t i = 0; i < n_init; i++) {
    if (u.uses[i].count && is_expanded(u.g->initializer[i], batch))
      front[n_front++] = unexpand(&u, i);
    else
      untie_one(&u, i);
  }
  rebuild(&u, front, n_front);
  for (size_t i = 0; i < n_init; i++) tt_vec_free(&u.uses[i]);
  tt_vec_free(&u.made);
  m->notes = tt_arena_str(m->arena, u.notes.data ? u.notes.data : "");
  tt_strbuf_free(&u.notes);
}
