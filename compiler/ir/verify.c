/* The verifier. Written to look at any broken graph without following a bad id, so its checks go in stages: a graph whose
 * links are broken is not walked further, a node whose ids are out of range is not looked into. */
#include <stdarg.h>
#include <string.h>
#include "compiler/ir/names.h"
#include "compiler/ir/text.h"
#include "compiler/ir/verify.h"

typedef struct verifier {
  const tt_graph *g;
  tt_diag *diag;
  tt_arena *scratch;
  int first_error;
  bool *defined;      /* by value: a node so far defines it, or it needs none */
  tt_value *storage;  /* by value: the value whose memory it lives in, through aliases and in-place nodes */
  tt_node *clobbered; /* by value: the in-place node that has overwritten it, or TT_NONE */
  bool *sound;        /* by node: ids and links can be followed */
} verifier;

static void fault(verifier *v, tt_node n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void fault(verifier *v, tt_node n, const char *fmt, ...) {
  char text[512];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  if (n == TT_NONE) {
    tt_error(v->diag, (tt_loc){.file = v->g->module->name}, "graph %s: %s", v->g->name, text);
    return;
  }
  tt_loc loc = tt_nod(v->g, n)->loc;
  if (!loc.op && tt_nod(v->g, n)->op < TT_OP_COUNT) loc.op = tt_ops[tt_nod(v->g, n)->op].name;
  tt_error(v->diag, loc, "graph %s: %s", v->g->name, text);
  if (!v->sound[n]) return;
  tt_strbuf line = {0};
  tt_print_node(v->g, n, &line);
  tt_note(v->diag, loc, "%s", line.data);
  tt_strbuf_free(&line);
}

/* The list of nodes is one chain, without holes, circles or dead nodes. */
static bool check_links(verifier *v) {
  const tt_graph *g = v->g;
  size_t steps = 0;
  tt_node prev = TT_NONE;
  for (tt_node n = g->first; n != TT_NONE; n = g->nodes.data[n].next) {
    if (n >= g->nodes.count)
      return fault(v, TT_NONE, "the list of nodes leads to node %u, of %zu", n, g->nodes.count), false;
    if (steps++ == g->nodes.count) return fault(v, TT_NONE, "the list of nodes goes in a circle"), false;
    if (g->nodes.data[n].dead) return fault(v, TT_NONE, "removed node %u is still in the list of nodes", n), false;
    if (g->nodes.data[n].prev != prev)
      return fault(v, TT_NONE, "node %u does not link back to the node before it", n), false;
    prev = n;
  }
  if (g->last != prev) return fault(v, TT_NONE, "the list of nodes does not end at its last node"), false;
  return true;
}

static const char *type_fault(const tt_type *t) {
  if (t->dtype >= TT_DTYPE_COUNT) return "an unknown element type";
  if (t->rank > TT_MAX_RANK) return "too many dimensions";
  if (t->dtype == TT_MX ? t->format >= TT_FORMAT_COUNT || t->rank != 2 : t->format != 0) return "a malformed mx type";
  for (int d = 0; d < TT_MAX_RANK; d++) {
    if (d < t->rank ? t->dim[d] < 0 : t->dim[d] != 0) return "a malformed dimension";
  }
  return NULL;
}

/* Values that no node defines. */
static void check_value(verifier *v, tt_value x) {
  const tt_graph *g = v->g;
  const tt_value_data *d = tt_val(g, x);
  const char *why = type_fault(&d->type);
  v->storage[x] = x;
  v->clobbered[x] = TT_NONE;
  v->defined[x] = false;
  if (why) return fault(v, TT_NONE, "value %u has %s", x, why);
  switch (d->kind) {
  case TT_VALUE_NODE: return;
  case TT_VALUE_INPUT: return; /* see check_inputs: only listed inputs are defined */
  case TT_VALUE_CONST:
    if (!d->data) return fault(v, TT_NONE, "constant %u has no data", x);
    break;
  case TT_VALUE_VAR:
    if (d->index >= g->module->vars.count)
      return fault(v, TT_NONE, "value %u is of var %u, of %zu", x, d->index, g->module->vars.count);
    if (!tt_type_equal(&d->type, &g->module->vars.data[d->index].type))
      return fault(v, TT_NONE, "the value of var '%s' has another type than the var", g->module->vars.data[d->index].name);
    break;
  }
  v->defined[x] = true;
}

static void check_inputs(verifier *v) {
  const tt_graph *g = v->g;
  tt_names names = {0};
  for (size_t i = 0; i < g->inputs.count; i++) {
    tt_value x = g->inputs.data[i];
    if (x >= g->values.count || tt_val(g, x)->kind != TT_VALUE_INPUT || !tt_val(g, x)->name) {
      fault(v, TT_NONE, "input %zu is no named input value", i);
      continue;
    }
    if (!tt_names_add(&names, tt_val(g, x)->name, x)) fault(v, TT_NONE, "two inputs are named '%s'", tt_val(g, x)->name);
    v->defined[x] = true;
  }
  tt_names_free(&names);
}

/* Ids, counts and attributes of one node; only a sound node is looked at further. */
static bool check_node_ids(verifier *v, tt_node n) {
  const tt_graph *g = v->g;
  const tt_node_data *d = tt_nod(g, n);
  if ((unsigned)d->op >= TT_OP_COUNT) return fault(v, n, "node %u has an unknown op", n), false;
  if (d->n_in < 0 || d->n_out < 1 || d->n_out > TT_MAX_OUT || d->n_attrs < 0)
    return fault(v, n, "node %u has %d operands, %d results, %d attributes", n, d->n_in, d->n_out, d->n_attrs), false;
  for (int i = 0; i < d->n_in; i++) {
    if (d->in[i] >= g->values.count)
      return fault(v, n, "operand %d is value %u, of %zu", i, d->in[i], g->values.count), false;
  }
  for (int i = 0; i < d->n_out; i++) {
    if (d->out[i] >= g->values.count)
      return fault(v, n, "result %d is value %u, of %zu", i, d->out[i], g->values.count), false;
  }
  for (int i = 0; i < d->n_attrs; i++) {
    if ((unsigned)d->attrs[i].id >= TT_A_COUNT) return fault(v, n, "attribute %d is unknown", i), false;
    for (int k = 0; k < i; k++) {
      if (d->attrs[k].id == d->attrs[i].id)
        return fault(v, n, "attribute '%s' is there twice", tt_attrs[d->attrs[i].id].name), false;
    }
  }
  return true;
}

static const char *undefined_why(const verifier *v, tt_value x) {
  const tt_value_data *d = tt_val(v->g, x);
  if (d->kind == TT_VALUE_INPUT) return "an input that the graph does not list";
  if (d->kind != TT_VALUE_NODE) return "a faulty value";
  if (d->def < v->g->nodes.count && tt_nod(v->g, d->def)->dead) return "a result of a removed node";
  return "defined only later";
}

static bool usable(const verifier *v, tt_value x) { return v->defined[x] && v->clobbered[x] == TT_NONE; }

static void unusable(verifier *v, tt_node n, tt_value x, const char *use) {
  if (!v->defined[x])
    fault(v, n, "%s is %s", use, undefined_why(v, x));
  else
    fault(v, n, "%s was overwritten in place before, by %s", use, tt_ops[tt_nod(v->g, v->clobbered[x])->op].name);
}

static void check_result_types(verifier *v, tt_node n) {
  const tt_node_data *d = tt_nod(v->g, n);
  char is[TT_TYPE_TEXT], should[TT_TYPE_TEXT];
  tt_type types[TT_MAX_OUT];
  int n_out = 0;
  tt_diag inner;
  tt_diag_init(&inner, NULL);
  if (!tt_infer(v->g, d->op, d->n_in, d->in, d->n_attrs, d->attrs, types, &n_out, d->loc, &inner)) {
    char *newline = inner.text ? strrchr(inner.text, '\n') : NULL;
    const char *text = inner.text ? strstr(inner.text, "error: ") : NULL;
    if (newline) *newline = 0;
    fault(v, n, "operands do not fit: %s", text ? text + strlen("error: ") : "no reason given");
  } else if (n_out != d->n_out) {
    fault(v, n, "%d results, its rule says %d", d->n_out, n_out);
  } else {
    for (int i = 0; i < n_out; i++) {
      const tt_type *t = tt_typ(v->g, d->out[i]);
      if (tt_type_equal(t, &types[i])) continue;
      fault(v, n, "result %d is %s, its rule says %s", i, tt_type_print(t, is, sizeof is),
            tt_type_print(&types[i], should, sizeof should));
    }
  }
  tt_diag_free(&inner);
}

/* Output k of an in-place node takes the memory of operand k: from here on no other value of that memory may be read. */
static void overwrite(verifier *v, tt_node n) {
  const tt_node_data *d = tt_nod(v->g, n);
  for (int k = 0; k < d->n_out && k < d->n_in; k++) {
    tt_value memory = v->storage[d->in[k]];
    if (tt_val(v->g, memory)->kind == TT_VALUE_CONST)
      fault(v, n, "operand %d is overwritten in place, but is a constant", k);
    for (int j = 0; j < k; j++) {
      if (v->storage[d->in[j]] == memory)
        fault(v, n, "operands %d and %d are overwritten in place, but are the same memory", j, k);
    }
  }
  for (tt_value x = 0; x < v->g->values.count; x++) {
    for (int k = 0; k < d->n_out && k < d->n_in; k++) {
      if (v->defined[x] && v->storage[x] == v->storage[d->in[k]]) v->clobbered[x] = n;
    }
  }
  for (int k = 0; k < d->n_out && k < d->n_in; k++) v->storage[d->out[k]] = v->storage[d->in[k]];
}

static void check_node(verifier *v, tt_node n) {
  const tt_node_data *d = tt_nod(v->g, n);
  unsigned flags = tt_ops[d->op].flags;
  int before = v->diag->errors;
  for (int i = 0; i < d->n_in; i++) {
    if (!usable(v, d->in[i])) unusable(v, n, d->in[i], tt_arena_printf(v->scratch, "operand %d", i));
  }
  if (v->diag->errors == before) check_result_types(v, n);
  for (int i = 0; i < d->n_out; i++) {
    const tt_value_data *out = tt_val(v->g, d->out[i]);
    if (out->kind != TT_VALUE_NODE || out->def != n || out->index != (uint32_t)i || v->defined[d->out[i]])
      fault(v, n, "result %d is a value of something else", i);
  }
  if (v->diag->errors == before && (flags & TT_INPLACE)) overwrite(v, n);
  if (v->diag->errors == before && (flags & TT_ALIAS)) v->storage[d->out[0]] = v->storage[d->in[0]];
  for (int i = 0; i < d->n_out; i++) v->defined[d->out[i]] = true;
}

static void check_tensor_id(verifier *v, tt_names *seen, tt_node n, tt_attr_id id) {
  const tt_attr *a = tt_node_attr(v->g, n, id);
  if (a && !tt_names_add(seen, tt_arena_printf(v->scratch, "%lld", (long long)a->as.i), n))
    fault(v, n, "attribute '%s' is %lld, as on an earlier node: both would draw the same random bits", tt_attrs[id].name,
          (long long)a->as.i);
}

/* Two draws of one id would be the same draw. */
static void check_tensor_ids(verifier *v) {
  tt_names seen = {0};
  TT_FOR_NODES(v->g, n) {
    if (!(tt_ops[tt_nod(v->g, n)->op].flags & TT_STOCH) || tt_nod(v->g, n)->n_in < 2) continue;
    check_tensor_id(v, &seen, n, TT_A_TENSOR);
    check_tensor_id(v, &seen, n, TT_A_TENSOR_T);
  }
  tt_names_free(&seen);
}

static void check_results(verifier *v) {
  const tt_graph *g = v->g;
  tt_names names = {0};
  for (size_t i = 0; i < g->results.count; i++) {
    const tt_result *r = &g->results.data[i];
    if (!r->name || r->value >= g->values.count) {
      fault(v, TT_NONE, "result %zu has no name or no value", i);
      continue;
    }
    if (!tt_names_add(&names, r->name, r->value)) fault(v, TT_NONE, "two results are named '%s'", r->name);
    if (!usable(v, r->value)) unusable(v, TT_NONE, r->value, tt_arena_printf(v->scratch, "result '%s'", r->name));
  }
  tt_names_free(&names);
}

/* A var whose memory a node overwrites holds another value afterwards, which an update must say. */
static void check_updates(verifier *v) {
  const tt_graph *g = v->g;
  const tt_module *m = g->module;
  bool *updated = TT_NEW_N(v->scratch, bool, m->vars.count + 1);
  for (size_t i = 0; i < g->updates.count; i++) {
    tt_update u = g->updates.data[i];
    if (u.var >= m->vars.count || u.value >= g->values.count) {
      fault(v, TT_NONE, "update %zu has no var or no value", i);
      continue;
    }
    const char *name = m->vars.data[u.var].name;
    if (updated[u.var]) fault(v, TT_NONE, "var '%s' is updated twice", name);
    updated[u.var] = true;
    if (!usable(v, u.value)) unusable(v, TT_NONE, u.value, tt_arena_printf(v->scratch, "the update of var '%s'", name));
    if (!tt_type_equal(tt_typ(g, u.value), &m->vars.data[u.var].type))
      fault(v, TT_NONE, "the update of var '%s' has another type than the var", name);
  }
  for (tt_value x = 0; x < g->values.count; x++) {
    const tt_value_data *d = tt_val(g, x);
    if (d->kind != TT_VALUE_VAR || v->clobbered[x] == TT_NONE || updated[d->index]) continue;
    fault(v, v->clobbered[x], "overwrites var '%s', which the graph does not update", m->vars.data[d->index].name);
  }
}

bool tt_verify(const tt_graph *g, tt_diag *diag) {
  verifier v = {.g = g, .diag = diag, .scratch = tt_arena_create(), .first_error = diag->errors};
  v.defined = TT_NEW_N(v.scratch, bool, g->values.count + 1);
  v.storage = TT_NEW_N(v.scratch, tt_value, g->values.count + 1);
  v.clobbered = TT_NEW_N(v.scratch, tt_node, g->values.count + 1);
  v.sound = TT_NEW_N(v.scratch, bool, g->nodes.count + 1);
  for (tt_value x = 0; x < g->values.count; x++) check_value(&v, x);
  check_inputs(&v);
  bool walk = check_links(&v);
  if (walk) {
    TT_FOR_NODES(g, n) v.sound[n] = check_node_ids(&v, n);
    TT_FOR_NODES(g, n) walk = walk && v.sound[n];
  }
  if (walk && diag->errors == v.first_error) {
    TT_FOR_NODES(g, n) check_node(&v, n);
    check_tensor_ids(&v);
    check_results(&v);
    check_updates(&v);
  }
  tt_arena_destroy(v.scratch);
  return diag->errors == v.first_error;
}
