/* The graph IR: a list of nodes in execution order over values in SSA form. Ids instead of pointers: tt_value and tt_node
 * index dense arrays of the graph, so side tables are plain arrays of g->values.count or g->nodes.count entries.
 * A module holds the variables (parameters and optimizer state) that all its graphs share, and the graphs.
 * Everything is allocated in the module's arena and lives until tt_module_destroy. */
#ifndef TT_GRAPH_H
#define TT_GRAPH_H
#include <stdbool.h>
#include <stdint.h>
#include "compiler/ir/qspec.h"
#include "compiler/ir/types.h"
#include "compiler/support/arena.h"
#include "compiler/support/diag.h"
#include "compiler/support/vec.h"

typedef uint32_t tt_value;
typedef uint32_t tt_node;
#define TT_NONE UINT32_MAX

/* What an op is, for passes to ask: ops.def says what each flag promises. */
enum {
  TT_PLAIN = 0, TT_EW = 1, TT_COMM = 2, TT_STOCH = 4, TT_ALIAS = 8, TT_INPLACE = 16, TT_WEIGHT0 = 32, TT_WEIGHT1 = 64,
  TT_STEP = 128, TT_LEAD = 256, TT_ROWS = 512, TT_SAME = 1024
};
typedef enum {
#define TT_OP(id, ...) TT_OP_##id,
#include "compiler/ir/ops.def"
#undef TT_OP
  TT_OP_COUNT
} tt_op;
typedef struct tt_op_info {
  const char *name;
  int min_in, max_in; /* operands; max_in -1: any number */
  int n_out;          /* results; -1: as the shape rule says */
  unsigned flags;
} tt_op_info;
extern const tt_op_info tt_ops[TT_OP_COUNT];
bool tt_op_parse(const char *name, tt_op *out); /* false where no op has the name */

typedef enum { TT_ATTR_INT, TT_ATTR_FLOAT, TT_ATTR_INTS, TT_ATTR_DTYPE, TT_ATTR_QSPEC, TT_ATTR_OPS } tt_attr_kind;
typedef enum {
#define TT_ATTR(id, name, kind) TT_A_##id,
#define TT_ATTR_IMM(id, name, kind) TT_A_##id,
#include "compiler/ir/attrs.def"
#undef TT_ATTR
#undef TT_ATTR_IMM
  TT_A_COUNT
} tt_attr_id;
typedef struct tt_attr_info {
  const char *name;
  tt_attr_kind kind;
  bool imm; /* differs from node to node: no part of a kernel's identity (attrs.def) */
} tt_attr_info;
extern const tt_attr_info tt_attrs[TT_A_COUNT];

typedef struct tt_attr {
  tt_attr_id id;
  union {
    int64_t i; /* INT, DTYPE */
    double f;
    tt_qspec q;
    struct {
      int n;
      const int64_t *v; /* arena */
    } ints; /* INTS; OPS: numbers of ops */
  } as;
} tt_attr;

typedef enum { TT_VALUE_INPUT, TT_VALUE_VAR, TT_VALUE_CONST, TT_VALUE_NODE } tt_value_kind;
/* Where a value's storage is; set by plan_memory, read by codegen. */
typedef enum { TT_SPACE_NONE, TT_SPACE_ARENA, TT_SPACE_VARS, TT_SPACE_CONST } tt_space;

typedef struct tt_value_data {
  tt_value_kind kind;
  tt_type type;
  const char *name; /* inputs always, others where known (for messages and text); else NULL */
  uint32_t index;   /* VAR: index into module->vars; NODE: output number */
  tt_node def;      /* NODE: defining node */
  const void *data; /* CONST: tt_type_bytes(type) bytes, row-major */
  tt_space space;
  uint64_t offset; /* bytes from the base of its space */
} tt_value_data;

typedef struct tt_node_data {
  tt_op op;
  bool dead; /* removed; its id stays taken */
  int n_in, n_out, n_attrs;
  tt_value *in, *out; /* an operand that is left out is not there: no TT_NONE among them */
  tt_attr *attrs;     /* arena, as in and out */
  tt_loc loc; /* where it came from; kept through rewrites so that errors speak of the user's model */
  tt_node prev, next; /* in execution order; TT_NONE at the ends */
} tt_node_data;

typedef enum {
  TT_VAR_PARAM,
  TT_VAR_STATE,
  TT_VAR_TRACK
} tt_var_role; /* TRACK: an instrument's, no part of the training state */
typedef struct tt_var {
  const char *name;
  tt_type type;
  tt_var_role role;
  bool decay;            /* weight decay applies (set by the optimizer's exclusion rule) */
  const void *init;      /* initial bytes; NULL: zeros, or a copy of var `copy_of` */
  uint32_t copy_of;      /* TT_NONE, or the var whose initial value this one copies */
  const char *origin;    /* ONNX initializer in the exported model; NULL where none */
  bool origin_transposed; /* rank 2: the initializer holds the transpose of this var */
  const char *scope;     /* ONNX name path of the node that uses it first, for recipes' layer patterns */
} tt_var;

typedef struct tt_module tt_module;
typedef struct tt_result {
  const char *name;
  tt_value value;
} tt_result;
typedef struct tt_update {
  uint32_t var; /* after the step the var holds `value` */
  tt_value value;
} tt_update;

typedef struct tt_graph {
  const char *name; /* "forward", or the entry that it becomes: "train", "grad", "eval", ... (pipelines.def) */
  tt_module *module;
  tt_arena *arena; /* the module's */
  TT_VEC(tt_value_data) values;
  TT_VEC(tt_node_data) nodes;
  tt_node first, last;
  TT_VEC(tt_value) inputs;
  TT_VEC(tt_result) results;
  TT_VEC(tt_update) updates;
  uint64_t arena_bytes; /* set by plan_memory: bytes this graph needs of the arena */
  int64_t next_tensor;  /* next id for the `tensor` attribute of stochastic ops */
} tt_graph;

struct tt_module {
  tt_arena *arena;
  const char *name; /* source file */
  TT_VEC(tt_var) vars;
  TT_VEC(tt_graph *) graphs;
  uint64_t vars_bytes;         /* of all vars, set by plan_memory with var_offset */
  TT_VEC(uint64_t) var_offset; /* by var: bytes from the base of vars; empty before */
};

tt_module *tt_module_create(const char *name); /* owns its arena */
void tt_module_destroy(tt_module *module);
uint32_t tt_module_add_var(tt_module *module, tt_var var); /* names must be new; strings and data are not copied */
uint32_t tt_module_find_var(const tt_module *module, const char *name); /* TT_NONE where absent */

tt_graph *tt_graph_create(tt_module *module, const char *name); /* appended to module->graphs */
tt_graph *tt_graph_clone(const tt_graph *g, const char *name);  /* same value and node ids; appended */
tt_graph *tt_module_find_graph(const tt_module *module, const char *name); /* NULL where absent */

/* Values. tt_graph_var returns the graph's one value of a var, made at first use. Constants copy `data`. */
tt_value tt_graph_add_input(tt_graph *g, const char *name, tt_type type);
tt_value tt_graph_find_input(const tt_graph *g, const char *name); /* TT_NONE where absent */
tt_value tt_graph_var(tt_graph *g, uint32_t var);
tt_value tt_graph_const(tt_graph *g, tt_type type, const void *data);
tt_value tt_graph_const_f32(tt_graph *g, float x);
tt_value tt_graph_rng(tt_graph *g); /* input rng i64[2] = {seed, step}, made at first use */
void tt_graph_set_result(tt_graph *g, const char *name, tt_value v); /* replaces a result of that name */
tt_value tt_graph_result(const tt_graph *g, const char *name);       /* TT_NONE where absent */
void tt_graph_add_update(tt_graph *g, uint32_t var, tt_value v);

/* Building. A node is appended before `at` (TT_NONE: at the end); its output types come from the op's shape rule.
 * Returns TT_NONE after reporting to diag where the operands do not fit the op: all a caller needs is to stop. */
typedef struct tt_builder {
  tt_graph *g;
  tt_diag *diag;
  tt_node at;
  tt_loc loc;
} tt_builder;
tt_node tt_build(tt_builder *b, tt_op op, int n_in, const tt_value *in, int n_attrs, const tt_attr *attrs);
/* Output 0 of a node with up to 3 operands; operands TT_NONE propagate, so calls can be chained and checked once. */
tt_value tt_build1(tt_builder *b, tt_op op, tt_value x, int n_attrs, const tt_attr *attrs);
tt_value tt_build2(tt_builder *b, tt_op op, tt_value x, tt_value y, int n_attrs, const tt_attr *attrs);
tt_value tt_build3(tt_builder *b, tt_op op, tt_value x, tt_value y, tt_value z, int n_attrs, const tt_attr *attrs);
tt_attr tt_attr_int(tt_attr_id id, int64_t i);
tt_attr tt_attr_float(tt_attr_id id, double f);
tt_attr tt_attr_qspec(tt_attr_id id, tt_qspec q);
tt_attr tt_attr_ints(tt_graph *g, tt_attr_id id, int n, const int64_t *v); /* copies v into the arena */

/* Access. Pointers stay valid until a value or node is added to the graph. */
static inline tt_value_data *tt_val(const tt_graph *g, tt_value v) { return &g->values.data[v]; }
static inline tt_node_data *tt_nod(const tt_graph *g, tt_node n) { return &g->nodes.data[n]; }
static inline const tt_type *tt_typ(const tt_graph *g, tt_value v) { return &g->values.data[v].type; }
/* The node that defines v with this op, or TT_NONE. */
tt_node tt_def_op(const tt_graph *g, tt_value v, tt_op op);
const tt_attr *tt_node_attr(const tt_graph *g, tt_node n, tt_attr_id id); /* NULL where absent */
int64_t tt_node_int(const tt_graph *g, tt_node n, tt_attr_id id);         /* 0 where absent */
double tt_node_float(const tt_graph *g, tt_node n, tt_attr_id id);        /* 0 where absent */
tt_qspec tt_node_qspec(const tt_graph *g, tt_node n, tt_attr_id id);      /* off where absent */
void tt_node_set_attr(tt_graph *g, tt_node n, tt_attr attr);

#define TT_FOR_NODES(g, n) for (tt_node n = (g)->first; n != TT_NONE; n = (g)->nodes.data[n].next)
#define TT_FOR_NODES_REVERSE(g, n) for (tt_node n = (g)->last; n != TT_NONE; n = (g)->nodes.data[n].prev)

/* Rewriting. */
void tt_graph_replace(tt_graph *g, tt_value old_value, tt_value new_value); /* every use, result and update */
void tt_node_remove(tt_graph *g, tt_node n); /* unlinks; its outputs must have no use left */
/* Uses of every value by live nodes, results and updates, indexed by value; arena memory, a snapshot. */
uint32_t *tt_graph_use_counts(const tt_graph *g);
/* Removes nodes none of whose outputs is used (results and updates are uses); returns how many. */
int tt_graph_sweep(tt_graph *g);
/* The const bytes of v, or NULL if v is no CONST. */
const void *tt_const_data(const tt_graph *g, tt_value v);
/* True where v is a CONST whose elements all equal one number, written to *x. Any numeric type. */
bool tt_const_splat(const tt_graph *g, tt_value v, double *x);

/* Shape inference: the op's rule of ops.def (shape_*.c, on shape.h). Fills out[0..*n_out), out having TT_MAX_OUT entries, or
 * returns false after a diagnostic at `loc` that names operand, type and what was expected. */
bool tt_infer(const tt_graph *g, tt_op op, int n_in, const tt_value *in, int n_attrs, const tt_attr *attrs, tt_type *out,
              int *n_out, tt_loc loc, tt_diag *diag);
enum { TT_MAX_OUT = 8 };
#endif
