/* The printer of .ttir. Values are numbered in the order in which they are printed, not by id, so that text -> module ->
 * text is the identity and a dump does not change with ids that a pass left unused. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "compiler/ir/text.h"
#include "compiler/ir/text_lex.h"

enum { INLINE_ELEMENTS = 32, HEX_LINE_BYTES = 48 };

typedef struct printer {
  const tt_graph *g;
  tt_text_mode mode;
  tt_strbuf *out;
  uint32_t *number; /* by value; TT_NONE where not yet given */
  uint32_t next;
} printer;

static void put(tt_strbuf *out, const char *s) { tt_strbuf_append(out, s, strlen(s)); }

static void put_string(tt_strbuf *out, const char *s) {
  put(out, "\"");
  for (; *s; s++) {
    unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\')
      tt_strbuf_printf(out, "\\%c", c);
    else if (c < 0x20 || c == 0x7f)
      tt_strbuf_printf(out, "\\x%02x", c);
    else
      tt_strbuf_append(out, s, 1);
  }
  put(out, "\"");
}

/* A name stands bare where the lexer would read it back as one word. */
static void put_name(tt_strbuf *out, const char *s) {
  size_t n = 0;
  if (tt_lex_is_word_start(s[0])) {
    while (tt_lex_is_word(s[n])) n++;
  }
  if (n > 0 && s[n] == 0)
    put(out, s);
  else
    put_string(out, s);
}

/* Both give the fewest digits that read back as the same number. */
static void f64_text(double x, char *text, size_t n) {
  for (int digits = 6; digits <= 17; digits++) {
    snprintf(text, n, "%.*g", digits, x);
    if (strtod(text, NULL) == x) break;
  }
}

static void f32_text(float x, char *text, size_t n) {
  for (int digits = 5; digits <= 9; digits++) {
    snprintf(text, n, "%.*g", digits, (double)x);
    if (strtof(text, NULL) == x) break;
  }
}

/* Models state their numbers in float32: 1e-06f reads better than 9.999999974752427e-07, which is the same double. */
static void put_f64(tt_strbuf *out, double x) {
  char text[48], narrow[40];
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  if (isnan(x)) {
    if (bits == UINT64_C(0x7ff8000000000000))
      put(out, "nan");
    else
      tt_strbuf_printf(out, "nan:0x%016llx", (unsigned long long)bits);
    return;
  }
  f64_text(x, text, sizeof text);
  if (strlen(text) > 12 && fabs(x) <= FLT_MAX && (double)(float)x == x) {
    f32_text((float)x, narrow, sizeof narrow);
    snprintf(text, sizeof text, "%sf", narrow);
  }
  put(out, text);
}

static void put_f32(tt_strbuf *out, float x) {
  char text[40];
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  if (isnan(x)) {
    if (bits == 0x7fc00000u)
      put(out, "nan");
    else
      tt_strbuf_printf(out, "nan:0x%08x", bits);
    return;
  }
  f32_text(x, text, sizeof text);
  put(out, text);
}

static void put_element(tt_strbuf *out, tt_dtype dtype, const uint8_t *p) {
  union {
    float f32;
    double f64;
    int32_t i32;
    int64_t i64;
  } u;
  memcpy(&u, p, tt_dtype_bytes(dtype));
  switch (dtype) {
  case TT_F32: put_f32(out, u.f32); return;
  case TT_F64: put_f64(out, u.f64); return;
  case TT_I32: tt_strbuf_printf(out, "%d", (int)u.i32); return;
  case TT_I64: tt_strbuf_printf(out, "%lld", (long long)u.i64); return;
  case TT_BOOL: put(out, *p ? "1" : "0"); return;
  case TT_MX:
  case TT_DTYPE_COUNT: break;
  }
  TT_ASSERT(!"element of a packed type");
}

static void put_hex(tt_strbuf *out, const uint8_t *p, size_t n) {
  static const char digit[] = "0123456789abcdef";
  char line[2 * HEX_LINE_BYTES];
  put(out, "hex(");
  for (size_t at = 0; at < n; at += HEX_LINE_BYTES) {
    size_t k = n - at < HEX_LINE_BYTES ? n - at : HEX_LINE_BYTES;
    for (size_t i = 0; i < k; i++) {
      line[2 * i] = digit[p[at + i] >> 4];
      line[2 * i + 1] = digit[p[at + i] & 15];
    }
    put(out, n > HEX_LINE_BYTES ? "\n    " : "");
    tt_strbuf_append(out, line, 2 * k);
  }
  put(out, ")");
}

static bool is_splat(const tt_type *t, const uint8_t *p) {
  size_t bytes = tt_type_bytes(t), each = tt_dtype_bytes((tt_dtype)t->dtype);
  return t->dtype != TT_MX && bytes > each && memcmp(p, p + each, bytes - each) == 0;
}

/* Bytes of a bool other than 0 and 1 have no element form. */
static bool has_element_form(const tt_type *t, const uint8_t *p) {
  size_t bytes = tt_type_bytes(t);
  for (size_t i = 0; t->dtype == TT_BOOL && i < bytes; i++) {
    if (p[i] > 1) return false;
  }
  return t->dtype != TT_MX;
}

static void put_data(tt_strbuf *out, tt_text_mode mode, const tt_type *t, const uint8_t *p) {
  size_t each = tt_dtype_bytes((tt_dtype)t->dtype);
  int64_t count = tt_type_count(t);
  if (has_element_form(t, p) && is_splat(t, p)) {
    put(out, "splat(");
    put_element(out, (tt_dtype)t->dtype, p);
    put(out, ")");
  } else if (has_element_form(t, p) && count <= INLINE_ELEMENTS) {
    put(out, "{");
    for (int64_t i = 0; i < count; i++) {
      put(out, i ? ", " : "");
      put_element(out, (tt_dtype)t->dtype, p + (size_t)i * each);
    }
    put(out, "}");
  } else if (mode == TT_TEXT_ELIDED && count > INLINE_ELEMENTS) {
    put(out, "elided");
  } else {
    put_hex(out, p, tt_type_bytes(t));
  }
}

static void put_type(tt_strbuf *out, const tt_type *t) {
  char text[TT_TYPE_TEXT];
  put(out, tt_type_print(t, text, sizeof text));
}

static void put_place(tt_strbuf *out, const tt_value_data *v) {
  static const char *const spaces[] = {[TT_SPACE_ARENA] = "arena", [TT_SPACE_VARS] = "vars", [TT_SPACE_CONST] = "const"};
  if (v->space != TT_SPACE_NONE) tt_strbuf_printf(out, " @%s+%llu", spaces[v->space], (unsigned long long)v->offset);
}

static void put_attr(tt_strbuf *out, const tt_attr *a) {
  char text[64];
  tt_strbuf_printf(out, "%s=", tt_attrs[a->id].name);
  switch (tt_attrs[a->id].kind) {
  case TT_ATTR_INT: tt_strbuf_printf(out, "%lld", (long long)a->as.i); return;
  case TT_ATTR_FLOAT: put_f64(out, a->as.f); return;
  case TT_ATTR_DTYPE: put(out, tt_dtype_name((tt_dtype)a->as.i)); return;
  case TT_ATTR_QSPEC: put(out, tt_qspec_print(a->as.q, text, sizeof text)); return;
  case TT_ATTR_INTS:
  case TT_ATTR_OPS: break;
  }
  put(out, "[");
  for (int i = 0; i < a->as.ints.n; i++) {
    if (i) put(out, ",");
    if (tt_attrs[a->id].kind == TT_ATTR_OPS)
      put(out, tt_ops[a->as.ints.v[i]].name);
    else
      tt_strbuf_printf(out, "%lld", (long long)a->as.ints.v[i]);
  }
  put(out, "]");
}

static uint32_t number_of(printer *p, tt_value v) {
  if (p->number[v] == TT_NONE) p->number[v] = p->next++;
  return p->number[v];
}

static const char *var_name(const printer *p, const tt_value_data *v) {
  const tt_module *m = p->g->module;
  return v->index < m->vars.count ? m->vars.data[v->index].name : "";
}

/* Also prints what a broken graph holds: the verifier shows such nodes. */
static void put_value(printer *p, tt_value v) {
  if (v >= p->g->values.count) {
    tt_strbuf_printf(p->out, "%%<no value %u>", v);
    return;
  }
  const tt_value_data *d = tt_val(p->g, v);
  if (d->kind == TT_VALUE_VAR) {
    put(p->out, "$");
    put_name(p->out, var_name(p, d));
  } else if (d->kind == TT_VALUE_INPUT) {
    put(p->out, "%");
    put_name(p->out, d->name ? d->name : "");
  } else {
    tt_strbuf_printf(p->out, "%%%u", number_of(p, v));
  }
}

static void put_node(printer *p, tt_node n) {
  const tt_node_data *d = tt_nod(p->g, n);
  tt_strbuf *out = p->out;
  for (int i = 0; i < d->n_out; i++) {
    put(out, i ? ", " : "");
    put_value(p, d->out[i]);
  }
  tt_strbuf_printf(out, " = %s(", tt_ops[d->op].name);
  for (int i = 0; i < d->n_in; i++) {
    put(out, i ? ", " : "");
    put_value(p, d->in[i]);
  }
  put(out, ")");
  for (int i = 0; i < d->n_attrs; i++) {
    put(out, i ? ", " : " {");
    put_attr(out, &d->attrs[i]);
  }
  put(out, d->n_attrs ? "} :" : " :");
  for (int i = 0; i < d->n_out; i++) {
    put(out, i ? ", " : " ");
    if (d->out[i] >= p->g->values.count) continue;
    const tt_value_data *v = tt_val(p->g, d->out[i]);
    put_type(out, &v->type);
    put_place(out, v);
    if (v->name) {
      put(out, " as ");
      put_name(out, v->name);
    }
  }
  if (!d->loc.node) return;
  put(out, " at ");
  put_name(out, d->loc.node);
  if (!d->loc.op) return;
  put(out, " ");
  put_name(out, d->loc.op);
}

static void put_const(printer *p, tt_value v) {
  const tt_value_data *d = tt_val(p->g, v);
  put(p->out, "  ");
  put_value(p, v);
  put(p->out, " = const ");
  put_type(p->out, &d->type);
  put_place(p->out, d);
  if (d->name) {
    put(p->out, " as ");
    put_name(p->out, d->name);
  }
  put(p->out, " ");
  put_data(p->out, p->mode, &d->type, d->data);
  put(p->out, "\n");
}

static bool new_const(const printer *p, tt_value v) {
  return v < p->g->values.count && tt_val(p->g, v)->kind == TT_VALUE_CONST && p->number[v] == TT_NONE;
}

static uint32_t *fresh_numbers(const tt_graph *g) {
  TT_VEC(uint32_t) numbers = {0};
  tt_vec_reserve(&numbers, g->values.count + 1);
  for (size_t i = 0; i < g->values.count; i++) numbers.data[i] = TT_NONE;
  return numbers.data;
}

/* Numbers as the whole graph's text would have them. Bounded: the links of a broken graph may go in a circle. */
void tt_print_node(const tt_graph *g, tt_node n, tt_strbuf *out) {
  printer p = {.g = g, .out = out, .number = fresh_numbers(g)};
  size_t left = g->nodes.count;
  for (tt_node k = g->first; k < g->nodes.count && left-- > 0 && k != n; k = g->nodes.data[k].next) {
    const tt_node_data *d = tt_nod(g, k);
    for (int i = 0; i < d->n_in; i++) {
      if (new_const(&p, d->in[i])) number_of(&p, d->in[i]);
    }
    for (int i = 0; i < d->n_out; i++) {
      if (d->out[i] < g->values.count) number_of(&p, d->out[i]);
    }
  }
  for (int i = 0; i < tt_nod(g, n)->n_in; i++) {
    if (new_const(&p, tt_nod(g, n)->in[i])) number_of(&p, tt_nod(g, n)->in[i]);
  }
  put_node(&p, n);
  tt_vec_release(p.number);
}

/* What the parser takes for granted where nothing is written: the next id above all that are used. */
static int64_t implied_next_tensor(const tt_graph *g) {
  int64_t next = 0;
  TT_FOR_NODES(g, n) {
    for (int i = 0; i < 2; i++) {
      const tt_attr *a = tt_node_attr(g, n, i ? TT_A_TENSOR_T : TT_A_TENSOR);
      if (a && a->as.i >= next && a->as.i < INT64_MAX) next = a->as.i + 1;
    }
  }
  return next;
}

void tt_print_graph(const tt_graph *g, tt_text_mode mode, tt_strbuf *out) {
  printer p = {.g = g, .mode = mode, .out = out, .number = fresh_numbers(g)};
  put(out, "graph ");
  put_name(out, g->name);
  if (g->arena_bytes) tt_strbuf_printf(out, " arena=%llu", (unsigned long long)g->arena_bytes);
  if (g->next_tensor != implied_next_tensor(g)) tt_strbuf_printf(out, " tensors=%lld", (long long)g->next_tensor);
  put(out, " {\n");
  for (size_t i = 0; i < g->inputs.count; i++) {
    put(out, "  input ");
    put_value(&p, g->inputs.data[i]);
    put(out, " ");
    put_type(out, tt_typ(g, g->inputs.data[i]));
    put_place(out, tt_val(g, g->inputs.data[i]));
    put(out, "\n");
  }
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    for (int i = 0; i < d->n_in; i++) {
      if (new_const(&p, d->in[i])) put_const(&p, d->in[i]);
    }
    put(out, "  ");
    put_node(&p, n);
    put(out, "\n");
  }
  for (size_t i = 0; i < g->results.count; i++) {
    if (new_const(&p, g->results.data[i].value)) put_const(&p, g->results.data[i].value);
    put(out, "  result ");
    put_name(out, g->results.data[i].name);
    put(out, " ");
    put_value(&p, g->results.data[i].value);
    put(out, "\n");
  }
  for (size_t i = 0; i < g->updates.count; i++) {
    if (new_const(&p, g->updates.data[i].value)) put_const(&p, g->updates.data[i].value);
    put(out, "  update $");
    put_name(out, g->module->vars.data[g->updates.data[i].var].name);
    put(out, " ");
    put_value(&p, g->updates.data[i].value);
    put(out, "\n");
  }
  put(out, "}\n");
  tt_vec_release(p.number);
}

static void put_var(const tt_module *m, uint32_t i, tt_text_mode mode, tt_strbuf *out) {
  const tt_var *v = &m->vars.data[i];
  put(out, "var $");
  put_name(out, v->name);
  put(out, " ");
  put_type(out, &v->type);
  if (m->var_offset.count) tt_strbuf_printf(out, " @vars+%llu", (unsigned long long)m->var_offset.data[i]);
  put(out, v->role == TT_VAR_PARAM ? " param" : v->role == TT_VAR_STATE ? " state" : " track");
  if (v->decay) put(out, " decay");
  if (v->copy_of != TT_NONE) {
    put(out, " copy_of=$");
    put_name(out, m->vars.data[v->copy_of].name);
  }
  if (v->origin) {
    put(out, " origin=");
    put_name(out, v->origin);
  }
  if (v->origin_transposed) put(out, " transposed");
  if (v->scope) {
    put(out, " scope=");
    put_name(out, v->scope);
  }
  if (v->init) {
    put(out, " = ");
    put_data(out, mode, &v->type, v->init);
  }
  put(out, "\n");
}

void tt_print_module(const tt_module *m, tt_text_mode mode, tt_strbuf *out) {
  put(out, "module ");
  put_string(out, m->name ? m->name : "");
  if (m->vars_bytes) tt_strbuf_printf(out, " vars=%llu", (unsigned long long)m->vars_bytes);
  put(out, "\n");
  for (size_t i = 0; i < m->vars.count; i++) put_var(m, (uint32_t)i, mode, out);
  for (size_t i = 0; i < m->graphs.count; i++) {
    put(out, "\n");
    tt_print_graph(m->graphs.data[i], mode, out);
  }
}
