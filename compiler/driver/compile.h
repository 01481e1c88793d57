/* From a model file to planned graphs, and from those to a trainer. */
#ifndef TT_COMPILE_H
#define TT_COMPILE_H
#include "compiler/codegen/codegen.h"
#include "compiler/driver/manager.h"
#include "compiler/driver/options.h"
#include "compiler/onnx/onnx.h"

/* What the user asked for; the same for compile, inspect and run. */
typedef struct tt_request {
  const char *model;  /* path of the ONNX file */
  const char *recipe; /* name or path; NULL: fp32 */
  tt_strings sets;    /* section.key=value */
  int64_t batch;      /* 0: the model's own; where that is symbolic, that of `like`, or 128 */
  const char *like;   /* a tensor's file: the first input; NULL: none is known */
  const char *target; /* NULL: cpu */
  const char *after;  /* stop after this pass; NULL: all */
  const char *out;    /* the file to be written, checked before the work; NULL: none */
  bool program;       /* `out` becomes an executable */
  int64_t jobs;       /* processes that make its objects at once; 0: one a core */
} tt_request;

/* Everything made from a request. Memory: `arena` and the module's; tt_session_close frees both. */
typedef struct tt_session {
  tt_arena *arena;
  tt_diag diag; /* prints to stderr */
  tt_recipe *recipe;
  tt_onnx_model *model;
  tt_module *module;
  char *notes; /* what the importer untied and kept; may be NULL */
  tt_graph *shown; /* the graph the last run pass worked on */
} tt_session;

/* Imports and runs "forward"; then, with `entries`, makes train, grad, eval and what else the recipe needs, by their pipelines.
 * False after diagnostics; close the session either way. */
bool tt_session_open(tt_session *s, const tt_request *r, bool entries);
void tt_session_close(tt_session *s);
bool tt_session_import(tt_session *s, const tt_request *r); /* only reads and imports */

/* Code for the session's train, grad and eval graphs, in arena memory. */
bool tt_session_emit(tt_session *s, const tt_request *r, const cg_target *target, cg_format format, cg_output *out);
/* Links objects for a target with its runtime into a self-contained executable at `path`, atomically. */
bool tt_link(const cg_output *objects, const cg_target *target, const char *path, tt_diag *diag);

/* The program's facts as a JSON object (arena memory): shapes, memory plan, multiply-adds by kind, share done in 4 bits. */
char *tt_info_json(const tt_module *module, const tt_recipe *recipe, tt_arena *arena);

/* Folders beside the executable (build tree or installed): recipes, and the runtime library, of this machine (cross NULL) or
 * of the architecture of a cross compiler. NULL where absent. */
const char *tt_recipe_dir(tt_arena *arena);
const char *tt_runtime_library(tt_arena *arena, const char *cross);
#endif
