/* LLVM code generation: planned graphs in, LLVM text, assembly, objects, or a function in memory out. The only room that
 * includes LLVM. Graphs must have been through plan_memory; ops with emit rule `none` are diagnostics. */
#ifndef TT_CODEGEN_H
#define TT_CODEGEN_H
#include "compiler/ir/eval.h"
#include "compiler/ir/graph.h"
#include "runtime/include/trt_abi.h"

/* "cpu" (this machine), "cpu:host+amx-bf16" (with what is not used unasked), "cpu:host-FEATURE", "cpu:v3", "cpu:v4" (v4 with
 * VNNI), "cpu:v3+avxvnni", "cpu:+avx512f,...", "aarch64" and "x86_64" likewise, or a triple. */
typedef struct cg_target cg_target;
const cg_target *cg_target_find(const char *spec, tt_arena *arena, tt_diag *diag); /* NULL after a diagnostic */
const char *cg_target_describe(const cg_target *t); /* triple, CPU, vector width, dot product */
bool cg_target_runs_here(const cg_target *t);        /* this machine has all of its features */
const char *cg_target_needs(const cg_target *t, tt_arena *arena); /* those features: "avx2,fma,..." */
const char *cg_target_cross(const cg_target *t);     /* "aarch64-linux-gnu" where it is not this kind of machine, else NULL */
/* Names and one-line descriptions for `tetrac list targets`; NULL-terminated pairs. */
const char *const *cg_target_list(void);

/* CG_PARTS: objects to be linked, made on all cores; how many and what is in each depends on the program and target alone. */
typedef enum { CG_LLVM, CG_ASM, CG_OBJ, CG_PARTS } cg_format;

typedef struct cg_file {
  uint8_t *data;
  size_t bytes;
} cg_file;
typedef struct cg_output {
  cg_file *files;
  int n; /* 1 but of CG_PARTS */
} cg_output;

/* What a trainer needs besides its graphs. */
typedef struct cg_program {
  const tt_module *module;
  const char *const *entries; /* graph names to emit as entries */
  const uint64_t *saved_bytes; /* of each entry, for `info`: what its backward pass takes over */
  int n_entries;
  const char *recipe_text, *info_json;
  trt_defaults defaults;
  const uint8_t *image; /* ONNX image and where parameters lie in it */
  size_t image_bytes;
  const trt_patch *patches;
  int n_patches;
  uint64_t batch, fingerprint;
  int64_t jobs; /* processes that make CG_PARTS side by side, at most 16; 0: one a core */
} cg_program;
/* Emits symbol tetrac_program. LLVM and ASM text declare the image external (it is data, not code). False after diagnostics. */
bool cg_emit_program(const cg_program *p, const cg_target *t, cg_format format, cg_output *out, tt_arena *arena, tt_diag *diag);

/* One planned graph as an object whose entry is `symbol`, a trt_entry_fn, and the memory that it needs. False after
 * diagnostics. */
typedef struct cg_object {
  uint8_t *data;
  size_t bytes;
  uint64_t scratch_bytes, arena_bytes;
} cg_object;
bool cg_compile_object(const tt_graph *g, const cg_target *t, const char *symbol, cg_object *out, tt_arena *arena,
                       tt_diag *diag);

/* True where emitters write the same instructions for both targets: what differs is at most what LLVM may choose them from. Tests
 * need not run such code again. False after diagnostics, too. */
bool cg_same_code(const tt_graph *g, const cg_target *a, const cg_target *b, tt_diag *diag);

/* Compiles one planned graph in memory. run: inputs parallel to g->inputs, vars NULL (initial values) or parallel to
 * module->vars, updated in place; results parallel to g->results. `trt_parallel` is the caller's (linked) runtime, which must
 * have been started with at least cg_jit_scratch_bytes() of scratch a thread. */
typedef struct cg_jit cg_jit;
cg_jit *cg_jit_compile(const tt_graph *g, const cg_target *t, tt_diag *diag);
size_t cg_jit_scratch_bytes(const cg_jit *jit);
void cg_jit_run(cg_jit *jit, const tt_tensor *inputs, tt_tensor *vars, tt_tensor *results, tt_arena *arena);
/* The two halves of a run, for timing: memory with inputs and vars in place, and one execution of the entry on it. */
trt_step cg_jit_prepare(const cg_jit *jit, const tt_tensor *inputs, const tt_tensor *vars, tt_arena *arena);
void cg_jit_enter(const cg_jit *jit, const trt_step *step);
typedef struct cg_jit_work {
  uint64_t offset, bytes;
} cg_jit_work;
cg_jit_work cg_jit_workspace(const cg_jit *jit); /* where it lies in a step's arena: behind the plan */
void cg_jit_destroy(cg_jit *jit);

/* Kernels whose speed is the machine's ceiling. A task runs imms[0] rounds on bufs[0] (64-byte aligned; 8 vectors for
 * arithmetic, `work` bytes a round and task for reading) with 64 bytes of scratch; a round is `work` floating-point or 8-bit
 * operations, or bytes read. */
typedef enum { CG_PEAK_FMA, CG_PEAK_DOT, CG_PEAK_READ, CG_PEAK_TILES, CG_PEAK_F32_TILES } cg_peak_kind;
typedef struct cg_peak {
  trt_kernel_fn fn;
  int work;
  void *handle;
} cg_peak;
bool cg_has_tiles(const cg_target *t);     /* a unit for tiles of bytes, which CG_PEAK_TILES needs */
bool cg_has_f32_tiles(const cg_target *t); /* and of bfloat16 pieces, for CG_PEAK_F32_TILES */
bool cg_peak_open(cg_peak *p, cg_peak_kind kind, const cg_target *t, tt_arena *arena, tt_diag *diag);
void cg_peak_close(cg_peak *p);
#endif
