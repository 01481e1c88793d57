/* What cg.c, entry.c, steps.c, module.c, parts.c, program.c, peak.c and jit.c share and emitters do not see. */
#ifndef CG_STATE_H
#define CG_STATE_H
#include "compiler/codegen/cg.h"

typedef struct cg_cached {
  const char *key;
  cg_val fn;
} cg_cached;

typedef struct cg_launched {
  tt_node node;
  const char *kernel; /* the emitter's suffix */
} cg_launched;

/* Where an operand lies: so many bytes, a multiple of TRT_ALIGN, behind one of these. */
enum { CG_VARS, CG_ARENA, CG_CONSTS, CG_BASES };
typedef struct cg_place {
  unsigned base;
  uint64_t offset;
} cg_place;

/* A launch, or a move of `count` bytes where kernel is NULL. */
enum { CG_MOST_IMMS = 4 };
typedef struct cg_step {
  cg_val kernel;
  int64_t count; /* tasks */
  size_t n_places;
  int64_t imms[CG_MOST_IMMS];
} cg_step;

struct cg_state {
  TT_VEC(cg_cached) kernels;
  TT_VEC(cg_val) entries;
  cg_val parallel; /* trt_parallel */
  cg_type parallel_type, kernel_type, kargs_type;
  LLVMTargetMachineRef machine;
  int64_t jobs; /* processes at once, for parts; 0: one a core */
  /* The entry under construction. */
  const tt_graph *g;
  TT_VEC(cg_step) steps;
  TT_VEC(cg_place) places;     /* of all steps; those from `stepped` on, of the next */
  size_t stepped;
  TT_VEC(uint8_t) const_bytes; /* constants one after the other */
  uint64_t *const_at;          /* by value, offset + 1; 0 where not yet there */
  uint64_t work_offset; /* of the workspace in the arena */
  TT_VEC(cg_launched) launches; /* in order */
};

/* A context with an empty module for a target, and its end. NULL after a diagnostic. */
cg_ctx *cg_open(const cg_target *t, tt_arena *arena, tt_diag *diag);
void cg_close(cg_ctx *c);
/* Emits one planned graph as `void symbol(const trt_step *)`; the workspace starts at work_offset of the arena. */
cg_val cg_emit_entry(cg_ctx *c, const tt_graph *g, const char *symbol, uint64_t work_offset, bool external);
/* A kernel of no node, whose operands are reached by cg_operand alone. The builder is left in its body; cg_kernel_end ends it. */
cg_kernel *cg_kernel_alone(cg_ctx *c, const char *name);
/* Verifies, optimises and writes the module. False after a diagnostic. */
bool cg_write(cg_ctx *c, cg_format format, cg_output *out);
/* The last two of these, for one file; and for the objects of a program, in child processes (parts.c). */
bool cg_finish(cg_ctx *c, cg_format format, cg_file *out);
bool cg_write_parts(cg_ctx *c, cg_output *out);
/* Bytes of arena before the workspace: the plan's, and room for results whose value lives elsewhere. */
uint64_t cg_plan_bytes(const tt_graph *g);
/* Where in the arena result r is found after the entry has run. */
uint64_t cg_result_offset(const tt_graph *g, size_t r);
/* Where a value lives. */
cg_place cg_value_place(cg_ctx *c, tt_value v);
/* The entry's next step (steps.c): its places, then what is done with them. imms: cg_imm_count() of them, or NULL for zeros. */
void cg_add_place(cg_ctx *c, cg_place p);
void cg_add_step(cg_ctx *c, cg_val kernel, int64_t count, const int64_t *imms);
void cg_add_move(cg_ctx *c, cg_place to, cg_place from, uint64_t bytes);
/* The body of `void fn(const trt_step *)` that walks the steps. */
void cg_emit_steps(cg_ctx *c, cg_val fn);
bool cg_same_place(const tt_graph *g, tt_value a, tt_value b);
/* Number of IMM attributes, which is the length of trt_kargs.imms, and the place of one. */
int cg_imm_count(void);
int cg_imm_slot(tt_attr_id id);
/* Attributes every generated function carries: CPU, features, nounwind. */
void cg_function_attributes(cg_ctx *c, cg_val fn);
/* LLVM's target machine for t; NULL after a diagnostic. */
LLVMTargetMachineRef cg_target_machine(const cg_target *t, tt_diag *diag);
/* Links an object in memory against the runtime's calls and finds a symbol; NULL after a diagnostic. The handle, set in either
 * case, is for cg_unload. */
void *cg_load_symbol(const uint8_t *object, size_t bytes, const char *symbol, void **handle, tt_diag *diag);
void cg_unload(void *handle);
#endif
