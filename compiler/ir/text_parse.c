/* The parser of .ttir: one statement a line, so that a faulty one is reported and skipped and several faults show in one
 * run. What a faulty statement would have defined is known as poisoned: its uses are no further faults. */
#include <string.h>
#include "compiler/ir/text.h"
#include "compiler/ir/text_terms.h"

typedef struct written_result { /* what a node's line says of one of its results */
  tt_type type;
  tt_space space;
  uint64_t offset;
  const char *name;
} written_result;

typedef struct assignment {
  int line, n_out, n_written;
  const char *key[TT_MAX_OUT]; /* of p->values */
  written_result result[TT_MAX_OUT];
  bool poisoned; /* an operand is */
  tt_op op;
  TT_VEC(tt_value) in;
  tt_attr attrs[TT_A_COUNT];
  int n_attrs;
  tt_loc loc;
} assignment;

/* "%12" has the key "#12", which no name has; "%x" and "%\"12\"" have theirs. */
static bool parse_value_key(tt_parser *p, const char **key) {
  TT_TRY(tt_parse_punct(p, '%'));
  if (p->tok.kind != TT_TOK_NUMBER) return tt_parse_name(p, key);
  *key = tt_arena_printf(p->scratch, "#%s", p->tok.text);
  tt_parse_advance(p);
  return true;
}

static bool define_value(tt_parser *p, const char *key, tt_value v) {
  if (tt_names_add(&p->values, key, v)) return true;
  return tt_parse_fail(p, "value %%%s is defined twice", key + (key[0] == '#'));
}

/* *var is TT_NONE where the var is poisoned; so is *v of parse_operand. */
static bool parse_var_use(tt_parser *p, uint32_t *var) {
  const char *name;
  TT_TRY(tt_parse_punct(p, '$') && tt_parse_name(p, &name));
  const tt_name *known = tt_names_find(&p->vars, name);
  if (!known) return tt_parse_fail(p, "no var is named '%s'", name);
  *var = known->id;
  return true;
}

static tt_value value_of_var(tt_parser *p, uint32_t var) {
  while (p->var_value.count <= var) tt_vec_push(&p->var_value, TT_NONE);
  tt_value *known = &p->var_value.data[var];
  if (*known != TT_NONE) return *known;
  *known = tt_graph_var(p->g, var);
  if (p->placed) {
    tt_val(p->g, *known)->space = TT_SPACE_VARS;
    tt_val(p->g, *known)->offset = p->m->var_offset.data[var];
  }
  return *known;
}

static bool parse_operand(tt_parser *p, tt_value *v) {
  if (tt_parse_is_punct(p, '$')) {
    uint32_t var;
    TT_TRY(parse_var_use(p, &var));
    *v = var == TT_NONE ? TT_NONE : value_of_var(p, var);
    return true;
  }
  const char *key;
  if (!tt_parse_is_punct(p, '%')) return tt_parse_expected(p, "a value (%name or $var)");
  TT_TRY(parse_value_key(p, &key));
  const tt_name *known = tt_names_find(&p->values, key);
  if (!known) return tt_parse_fail(p, "value %%%s is not defined", key + (key[0] == '#'));
  *v = known->id;
  return true;
}

/* "TYPE @place as name" */
static bool parse_written_result(tt_parser *p, written_result *r) {
  TT_TRY(tt_parse_type(p, &r->type) && tt_parse_place(p, &r->space, &r->offset));
  return !tt_parse_take_word(p, "as") || tt_parse_name(p, &r->name);
}

static void apply_written(tt_parser *p, tt_value v, const written_result *r) {
  tt_value_data *d = tt_val(p->g, v);
  d->space = r->space;
  d->offset = r->offset;
  if (r->name) d->name = tt_arena_str(p->m->arena, r->name);
}

static bool parse_const(tt_parser *p, const assignment *a) {
  written_result r = {0};
  void *data = NULL;
  if (a->n_out != 1) return tt_parse_fail(p, "const has 1 result, %d are named", a->n_out);
  TT_TRY(parse_written_result(p, &r) && tt_parse_data(p, &r.type, &data) && tt_parse_end_of_line(p));
  tt_value v = tt_graph_const(p->g, r.type, data);
  apply_written(p, v, &r);
  return define_value(p, a->key[0], v);
}

static bool parse_operands(tt_parser *p, assignment *a) {
  TT_TRY(tt_parse_punct(p, '('));
  if (tt_parse_take_punct(p, ')')) return true;
  do {
    tt_value v = TT_NONE;
    TT_TRY(parse_operand(p, &v));
    a->poisoned = a->poisoned || v == TT_NONE;
    tt_vec_push(&a->in, v);
  } while (tt_parse_take_punct(p, ','));
  return tt_parse_punct(p, ')');
}

static bool parse_attrs(tt_parser *p, assignment *a) {
  if (!tt_parse_take_punct(p, '{')) return true;
  if (tt_parse_take_punct(p, '}')) return true;
  do {
    tt_attr attr;
    TT_TRY(tt_parse_attr(p, &attr));
    for (int i = 0; i < a->n_attrs; i++) {
      if (a->attrs[i].id == attr.id) return tt_parse_fail(p, "attribute '%s' is given twice", tt_attrs[attr.id].name);
    }
    bool draws = attr.id == TT_A_TENSOR || attr.id == TT_A_TENSOR_T;
    if (draws && attr.as.i >= p->next_tensor && attr.as.i < INT64_MAX) p->next_tensor = attr.as.i + 1;
    a->attrs[a->n_attrs++] = attr;
  } while (tt_parse_take_punct(p, ','));
  return tt_parse_punct(p, '}');
}

static bool parse_op(tt_parser *p, tt_op *op) {
  if (p->tok.kind != TT_TOK_WORD) return tt_parse_expected(p, "an op");
  if (!tt_op_parse(p->tok.text, op)) return tt_parse_fail(p, "no op is named '%.60s'", p->tok.text);
  tt_parse_advance(p);
  return true;
}

/* "op(operands) {attrs} : types at node op" */
static bool parse_node(tt_parser *p, assignment *a) {
  const char *node = NULL, *op = NULL;
  TT_TRY(parse_op(p, &a->op) && parse_operands(p, a) && parse_attrs(p, a));
  if (tt_parse_take_punct(p, ':')) {
    do {
      if (a->n_written == TT_MAX_OUT) return tt_parse_fail(p, "more than %d result types", TT_MAX_OUT);
      TT_TRY(parse_written_result(p, &a->result[a->n_written++]));
    } while (tt_parse_take_punct(p, ','));
  }
  if (tt_parse_take_word(p, "at")) {
    TT_TRY(tt_parse_name(p, &node));
    if (p->tok.kind == TT_TOK_WORD || p->tok.kind == TT_TOK_STRING) TT_TRY(tt_parse_name(p, &op));
  }
  a->loc = (tt_loc){.file = p->file, .line = a->line};
  if (node) a->loc.node = tt_arena_str(p->m->arena, node);
  if (op) a->loc.op = tt_arena_str(p->m->arena, op);
  return tt_parse_end_of_line(p);
}

/* The node's results have the types that the shape rule says; written ones must agree. */
static bool check_results(tt_parser *p, const assignment *a, tt_node n) {
  char found[TT_TYPE_TEXT], written[TT_TYPE_TEXT];
  const tt_node_data *d = tt_nod(p->g, n);
  tt_loc loc = a->loc;
  if (!loc.op) loc.op = tt_ops[a->op].name;
  if (d->n_out != a->n_out || (a->n_written && a->n_written != a->n_out)) {
    tt_error(p->diag, loc, "%s has %d result%s, but %d named and %d typed", tt_ops[a->op].name, d->n_out,
             d->n_out == 1 ? "" : "s", a->n_out, a->n_written);
    return false;
  }
  bool ok = true;
  for (int i = 0; i < a->n_written; i++) {
    const tt_type *type = tt_typ(p->g, d->out[i]);
    if (tt_type_equal(type, &a->result[i].type)) continue;
    tt_error(p->diag, loc, "result %d is %s, written as %s", i, tt_type_print(type, found, sizeof found),
             tt_type_print(&a->result[i].type, written, sizeof written));
    ok = false;
  }
  return ok;
}

static bool build_node(tt_parser *p, const assignment *a) {
  tt_builder b = {.g = p->g, .diag = p->diag, .at = TT_NONE, .loc = a->loc};
  tt_node n = tt_build(&b, a->op, (int)a->in.count, a->in.data, a->n_attrs, a->attrs);
  TT_TRY(n != TT_NONE && check_results(p, a, n));
  for (int i = 0; i < a->n_out; i++) {
    tt_value v = tt_nod(p->g, n)->out[i];
    apply_written(p, v, &a->result[i]);
    TT_TRY(define_value(p, a->key[i], v));
  }
  return true;
}

/* "%a, %b = const ..." or "%a, %b = op(...) ..." */
static bool parse_assignment(tt_parser *p) {
  assignment a = {.line = p->tok.line};
  bool ok;
  do {
    ok = a.n_out < TT_MAX_OUT || tt_parse_fail(p, "more than %d results", TT_MAX_OUT);
    ok = ok && parse_value_key(p, &a.key[a.n_out]);
    if (ok) a.n_out++;
  } while (ok && tt_parse_take_punct(p, ','));
  ok = ok && tt_parse_punct(p, '=');
  if (ok && tt_parse_take_word(p, "const"))
    ok = parse_const(p, &a);
  else
    ok = ok && parse_node(p, &a) && (a.poisoned || build_node(p, &a));
  if (!ok || a.poisoned) {
    for (int i = 0; i < a.n_out; i++) tt_names_add(&p->values, a.key[i], TT_NONE);
  }
  tt_vec_free(&a.in);
  return ok;
}

static bool parse_input(tt_parser *p) {
  const char *key;
  tt_type type;
  tt_space space = TT_SPACE_NONE;
  uint64_t offset = 0;
  TT_TRY(parse_value_key(p, &key));
  if (key[0] == '#') return tt_parse_fail(p, "an input needs a name, not a number");
  bool ok = tt_parse_type(p, &type) && tt_parse_place(p, &space, &offset) && tt_parse_end_of_line(p);
  if (ok && tt_names_find(&p->values, key)) return tt_parse_fail(p, "value %%%s is defined twice", key);
  tt_value v = ok ? tt_graph_add_input(p->g, key, type) : TT_NONE;
  if (ok) {
    tt_val(p->g, v)->space = space;
    tt_val(p->g, v)->offset = offset;
  }
  tt_names_add(&p->values, key, v);
  return ok;
}

static bool parse_result(tt_parser *p) {
  const char *name;
  tt_value v = TT_NONE;
  TT_TRY(tt_parse_name(p, &name) && parse_operand(p, &v) && tt_parse_end_of_line(p));
  if (tt_graph_result(p->g, name) != TT_NONE) return tt_parse_fail(p, "result '%s' is given twice", name);
  if (v != TT_NONE) tt_graph_set_result(p->g, name, v);
  return true;
}

static bool parse_update(tt_parser *p) {
  uint32_t var = TT_NONE;
  tt_value v = TT_NONE;
  TT_TRY(parse_var_use(p, &var) && parse_operand(p, &v) && tt_parse_end_of_line(p));
  if (var != TT_NONE && v != TT_NONE) tt_graph_add_update(p->g, var, v);
  return true;
}

static bool open_graph(tt_parser *p) {
  const char *name = "";
  uint64_t tensors = 0;
  bool ok = tt_parse_name(p, &name);
  if (ok && tt_module_find_graph(p->m, name)) ok = tt_parse_fail(p, "graph '%s' is defined twice", name);
  p->g = tt_graph_create(p->m, name);
  p->next_tensor = 0;
  p->tensors_written = false;
  if (ok && tt_parse_take_word(p, "arena")) ok = tt_parse_punct(p, '=') && tt_parse_size(p, &p->g->arena_bytes);
  if (ok && tt_parse_take_word(p, "tensors")) {
    ok = tt_parse_punct(p, '=') && tt_parse_size(p, &tensors);
    p->g->next_tensor = (int64_t)tensors;
    p->tensors_written = true;
  }
  return ok && tt_parse_punct(p, '{') && tt_parse_end_of_line(p);
}

static void close_graph(tt_parser *p) {
  if (!p->tensors_written) p->g->next_tensor = p->next_tensor;
  p->g = NULL;
  tt_names_free(&p->values);
  p->var_value.count = 0;
}

/* "param decay copy_of=$w origin=name transposed scope=name": any of them, in this order. */
static bool parse_var_facts(tt_parser *p, tt_var *v) {
  const char *text;
  if (tt_parse_take_word(p, "state"))
    v->role = TT_VAR_STATE;
  else if (tt_parse_take_word(p, "track"))
    v->role = TT_VAR_TRACK;
  else if (!tt_parse_take_word(p, "param"))
    return tt_parse_expected(p, "param, state or track");
  v->decay = tt_parse_take_word(p, "decay");
  if (tt_parse_take_word(p, "copy_of")) {
    TT_TRY(tt_parse_punct(p, '=') && parse_var_use(p, &v->copy_of));
    if (v->copy_of != TT_NONE && !tt_type_equal(&p->m->vars.data[v->copy_of].type, &v->type))
      return tt_parse_fail(p, "copy_of names a var of another type");
  }
  if (tt_parse_take_word(p, "origin")) {
    TT_TRY(tt_parse_punct(p, '=') && tt_parse_name(p, &text));
    v->origin = tt_arena_str(p->m->arena, text);
  }
  v->origin_transposed = tt_parse_take_word(p, "transposed");
  if (tt_parse_take_word(p, "scope")) {
    TT_TRY(tt_parse_punct(p, '=') && tt_parse_name(p, &text));
    v->scope = tt_arena_str(p->m->arena, text);
  }
  return true;
}

/* A place as the printer gives it is @vars+N, for all vars or for none. */
static bool check_place(tt_parser *p, tt_space space) {
  if (space != TT_SPACE_NONE && space != TT_SPACE_VARS) return tt_parse_fail(p, "a var lies in vars, nowhere else");
  if (p->m->vars.count == 0) p->placed = space == TT_SPACE_VARS;
  return p->placed == (space == TT_SPACE_VARS) || tt_parse_fail(p, "either every var has a place or none has");
}

static bool parse_var(tt_parser *p) {
  const char *name;
  tt_var v = {.copy_of = TT_NONE};
  tt_space space = TT_SPACE_NONE;
  uint64_t offset = 0;
  void *data = NULL;
  TT_TRY(tt_parse_punct(p, '$') && tt_parse_name(p, &name));
  bool ok =
      tt_parse_type(p, &v.type) && tt_parse_place(p, &space, &offset) && check_place(p, space) && parse_var_facts(p, &v);
  if (ok && tt_parse_take_punct(p, '=')) ok = tt_parse_data(p, &v.type, &data);
  ok = ok && tt_parse_end_of_line(p);
  if (ok && tt_names_find(&p->vars, name)) return tt_parse_fail(p, "var '%s' is defined twice", name);
  v.name = tt_arena_str(p->m->arena, name);
  v.init = data;
  if (ok && p->placed) tt_vec_push(&p->m->var_offset, offset);
  tt_names_add(&p->vars, name, ok ? tt_module_add_var(p->m, v) : TT_NONE);
  return ok;
}

static bool parse_header(tt_parser *p) {
  const char *name;
  if (p->m->vars.count || p->m->graphs.count)
    return tt_parse_fail(p, "the module's header belongs before its vars and graphs");
  TT_TRY(tt_parse_name(p, &name));
  p->m->name = tt_arena_str(p->m->arena, name);
  if (tt_parse_take_word(p, "vars")) TT_TRY(tt_parse_punct(p, '=') && tt_parse_size(p, &p->m->vars_bytes));
  return tt_parse_end_of_line(p);
}

static bool parse_in_graph(tt_parser *p) {
  if (tt_parse_is_punct(p, '%')) return parse_assignment(p);
  if (tt_parse_take_word(p, "input")) return parse_input(p);
  if (tt_parse_take_word(p, "result")) return parse_result(p);
  if (tt_parse_take_word(p, "update")) return parse_update(p);
  if (!tt_parse_take_punct(p, '}')) return tt_parse_expected(p, "input, result, update, '}' or a value");
  close_graph(p);
  return tt_parse_end_of_line(p);
}

static bool parse_statement(tt_parser *p) {
  if (p->g) return parse_in_graph(p);
  if (tt_parse_take_word(p, "module")) return parse_header(p);
  if (tt_parse_take_word(p, "var")) return parse_var(p);
  if (tt_parse_take_word(p, "graph")) return open_graph(p);
  return tt_parse_expected(p, "module, var or graph");
}

static void parse_statements(tt_parser *p) {
  int first_error = p->diag->errors;
  tt_parse_advance(p);
  while (p->tok.kind != TT_TOK_END && p->diag->errors - first_error < TT_DIAG_MAX) {
    if (p->tok.kind != TT_TOK_NEWLINE) parse_statement(p);
    while (p->tok.kind != TT_TOK_NEWLINE && p->tok.kind != TT_TOK_END) tt_parse_advance(p);
    if (p->tok.kind == TT_TOK_NEWLINE) tt_parse_advance(p);
  }
  if (p->diag->errors != first_error) return;
  if (p->g)
    tt_parse_fail(p, "graph '%s' ends without its '}'", p->g->name);
  else if (p->m->graphs.count == 0 && p->m->vars.count == 0)
    tt_parse_fail(p, "no graph and no var: this is no .ttir module");
}

tt_module *tt_parse_module(const char *text, const char *file, tt_diag *diag) {
  int errors = diag->errors;
  tt_module *m = tt_module_create(file);
  tt_parser p = {.m = m, .scratch = tt_arena_create(), .diag = diag, .file = m->name};
  p.lx = (tt_lexer){.at = text, .line = 1, .arena = p.scratch};
  parse_statements(&p);
  tt_names_free(&p.vars);
  tt_names_free(&p.values);
  tt_vec_free(&p.var_value);
  tt_arena_destroy(p.scratch);
  if (diag->errors == errors) return m;
  tt_module_destroy(m);
  return NULL;
}
