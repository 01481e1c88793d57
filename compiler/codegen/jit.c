/* Compiling one graph in memory, for tests, `tetrac run` and op-by-op checks: the same object code a trainer would get,
 * loaded by ORC instead of the linker. */
#include <string.h>
#include <llvm-c/BitWriter.h>
#include <llvm-c/Error.h>
#include <llvm-c/LLJIT.h>
#include "compiler/codegen/state.h"
#include "runtime/include/trt_calls.h"

struct cg_jit {
  tt_arena *arena;
  const tt_graph *g;
  void *handle; /* of cg_load_symbol */
  trt_entry_fn fn;
  uint64_t scratch_bytes, arena_bytes;
};

static bool check(LLVMErrorRef error, tt_diag *diag) {
  if (!error) return true;
  char *message = LLVMGetErrorMessage(error);
  tt_error(diag, (tt_loc){0}, "loading generated code: %s", message);
  LLVMDisposeErrorMessage(message);
  return false;
}

static bool define_and_find(LLVMOrcLLJITRef engine, const uint8_t *object, size_t bytes, const char *symbol,
                            LLVMOrcExecutorAddress *address, tt_diag *diag) {
  LLVMOrcJITDylibRef lib = LLVMOrcLLJITGetMainJITDylib(engine);
  LLVMOrcCSymbolMapPair parallel = {LLVMOrcLLJITMangleAndIntern(engine, "trt_parallel"),
                                    {(LLVMOrcExecutorAddress)(uintptr_t)&trt_parallel, {LLVMJITSymbolGenericFlagsExported, 0}}};
  TT_TRY(check(LLVMOrcJITDylibDefine(lib, LLVMOrcAbsoluteSymbols(&parallel, 1)), diag));
  LLVMMemoryBufferRef copy = LLVMCreateMemoryBufferWithMemoryRangeCopy((const char *)object, bytes, "tetrac");
  TT_TRY(check(LLVMOrcLLJITAddObjectFile(engine, lib, copy), diag));
  return check(LLVMOrcLLJITLookup(engine, address, symbol), diag);
}

void *cg_load_symbol(const uint8_t *object, size_t bytes, const char *symbol, void **handle, tt_diag *diag) {
  LLVMOrcLLJITRef engine = NULL;
  LLVMOrcExecutorAddress address = 0;
  *handle = NULL;
  if (!check(LLVMOrcCreateLLJIT(&engine, NULL), diag)) return NULL;
  *handle = engine;
  return define_and_find(engine, object, bytes, symbol, &address, diag) ? (void *)(uintptr_t)address : NULL;
}

void cg_unload(void *handle) {
  LLVMErrorRef error = handle ? LLVMOrcDisposeLLJIT(handle) : NULL;
  if (error) LLVMConsumeError(error);
}

bool cg_compile_object(const tt_graph *g, const cg_target *t, const char *symbol, cg_object *out, tt_arena *arena,
                       tt_diag *diag) {
  cg_ctx *c = cg_open(t, arena, diag);
  if (!c) return false;
  uint64_t work = cg_plan_bytes(g);
  cg_output whole = {0};
  bool ok = cg_emit_entry(c, g, symbol, work, true) != NULL && cg_write(c, CG_OBJ, &whole);
  if (ok) out->data = whole.files[0].data, out->bytes = whole.files[0].bytes;
  out->scratch_bytes = c->scratch_bytes;
  out->arena_bytes = work + c->work_bytes;
  cg_close(c);
  return ok;
}

/* A graph's code as emitters leave it, but for the names of CPUs and features; NULL after diagnostics. At `needs` what memory it
 * takes. */
static LLVMMemoryBufferRef code_of(const tt_graph *g, const cg_target *t, uint64_t needs[2], tt_arena *arena, tt_diag *diag) {
  static const char *const named[] = {"target-cpu", "target-features"};
  cg_ctx *c = cg_open(t, arena, diag);
  if (!c) return NULL;
  LLVMMemoryBufferRef code = NULL;
  if (cg_emit_entry(c, g, "tetrac_entry", cg_plan_bytes(g), true)) {
    for (cg_val fn = LLVMGetFirstFunction(c->module); fn; fn = LLVMGetNextFunction(fn))
      for (int i = 0; i < 2; i++)
        LLVMRemoveStringAttributeAtIndex(fn, LLVMAttributeFunctionIndex, named[i], (unsigned)strlen(named[i]));
    code = LLVMWriteBitcodeToMemoryBuffer(c->module);
  }
  needs[0] = c->scratch_bytes, needs[1] = c->work_bytes;
  cg_close(c);
  return code;
}

bool cg_same_code(const tt_graph *g, const cg_target *a, const cg_target *b, tt_diag *diag) {
  tt_arena *arena = tt_arena_create();
  uint64_t needs[2][2];
  LLVMMemoryBufferRef x = code_of(g, a, needs[0], arena, diag), y = code_of(g, b, needs[1], arena, diag);
  bool same = x && y && memcmp(needs[0], needs[1], sizeof needs[0]) == 0 && LLVMGetBufferSize(x) == LLVMGetBufferSize(y) &&
              memcmp(LLVMGetBufferStart(x), LLVMGetBufferStart(y), LLVMGetBufferSize(x)) == 0;
  if (x) LLVMDisposeMemoryBuffer(x);
  if (y) LLVMDisposeMemoryBuffer(y);
  tt_arena_destroy(arena);
  return same;
}

static bool compile(cg_jit *jit, const cg_target *t, tt_diag *diag) {
  cg_object o;
  TT_TRY(cg_compile_object(jit->g, t, "tetrac_entry", &o, jit->arena, diag));
  jit->scratch_bytes = o.scratch_bytes;
  jit->arena_bytes = o.arena_bytes;
  jit->fn = (trt_entry_fn)(uintptr_t)cg_load_symbol(o.data, o.bytes, "tetrac_entry", &jit->handle, diag);
  return jit->fn != NULL;
}

cg_jit *cg_jit_compile(const tt_graph *g, const cg_target *t, tt_diag *diag) {
  if (!cg_target_runs_here(t)) {
    tt_error(diag, (tt_loc){0}, "this machine cannot run code for '%s'; `tetrac compile` makes a trainer for one that can",
             cg_target_describe(t));
    return NULL;
  }
  tt_arena *arena = tt_arena_create();
  cg_jit *jit = TT_NEW(arena, cg_jit);
  jit->arena = arena;
  jit->g = g;
  if (compile(jit, t, diag)) return jit;
  cg_jit_destroy(jit);
  return NULL;
}

size_t cg_jit_scratch_bytes(const cg_jit *jit) { return jit->scratch_bytes; }
cg_jit_work cg_jit_workspace(const cg_jit *jit) {
  uint64_t plan = cg_plan_bytes(jit->g);
  return (cg_jit_work){plan, jit->arena_bytes - plan};
}

void cg_jit_destroy(cg_jit *jit) {
  if (!jit) return;
  cg_unload(jit->handle);
  tt_arena_destroy(jit->arena);
}

static void put(const tt_tensor *from, uint8_t *to) {
  if (from->type.dtype == TT_MX)
    memcpy(to, from->mx, tt_type_bytes(&from->type));
  else
    tt_tensor_to_bytes(from, to);
}

/* Block of `bytes` aligned for kernels, with a vector of slack behind it. */
static uint8_t *block(tt_arena *arena, uint64_t bytes) { return tt_arena_alloc(arena, bytes + 2 * TRT_ALIGN); }

trt_step cg_jit_prepare(const cg_jit *jit, const tt_tensor *inputs, const tt_tensor *vars, tt_arena *arena) {
  const tt_graph *g = jit->g;
  const tt_module *m = g->module;
  trt_step step = {block(arena, m->vars_bytes), block(arena, jit->arena_bytes)};
  for (uint32_t i = 0; i < m->vars.count; i++) {
    tt_tensor initial = vars ? vars[i] : tt_var_initial(arena, m, i);
    put(&initial, step.vars + m->var_offset.data[i]);
  }
  for (size_t i = 0; i < g->inputs.count; i++) put(&inputs[i], step.arena + tt_val(g, g->inputs.data[i])->offset);
  return step;
}

void cg_jit_enter(const cg_jit *jit, const trt_step *step) { jit->fn(step); }

void cg_jit_run(cg_jit *jit, const tt_tensor *inputs, tt_tensor *vars, tt_tensor *results, tt_arena *arena) {
  const tt_graph *g = jit->g;
  const tt_module *m = g->module;
  trt_step step = cg_jit_prepare(jit, inputs, vars, arena);
  cg_jit_enter(jit, &step);
  for (size_t i = 0; i < g->results.count; i++) {
    const tt_type *t = tt_typ(g, g->results.data[i].value);
    results[i] = tt_tensor_from_bytes(arena, *t, step.arena + cg_result_offset(g, i));
  }
  for (size_t i = 0; vars && i < g->updates.count; i++) {
    uint32_t v = g->updates.data[i].var;
    vars[v] = tt_tensor_from_bytes(arena, m->vars.data[v].type, step.vars + m->var_offset.data[v]);
  }
}
