/* One LLVM module from opening to bytes: target machine, verification, optimisation, output. */
#include <string.h>
#include <llvm-c/Analysis.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include "compiler/codegen/state.h"

static void init_types(cg_ctx *c) {
  LLVMContextRef l = c->llvm;
  c->f32 = LLVMFloatTypeInContext(l);
  c->f64 = LLVMDoubleTypeInContext(l);
  c->i1 = LLVMInt1TypeInContext(l);
  c->i8 = LLVMInt8TypeInContext(l);
  c->i16 = LLVMInt16TypeInContext(l);
  c->i32 = LLVMInt32TypeInContext(l);
  c->i64 = LLVMInt64TypeInContext(l);
  c->ptr = LLVMPointerTypeInContext(l, 0);
  c->W = c->target->vector_bytes / 4;
  c->vf = LLVMVectorType(c->f32, (unsigned)c->W);
  c->vi = LLVMVectorType(c->i32, (unsigned)c->W);
}

/* The functions of trt_calls.def, with the types they are declared with there. */
static void declare_calls(cg_ctx *c) {
  struct cg_state *s = c->state;
  cg_type VOID = LLVMVoidTypeInContext(c->llvm), PTR = c->ptr, I64 = c->i64;
  cg_type kernel[3] = {PTR, I64, PTR}, fields[2] = {PTR, PTR};
  s->kernel_type = LLVMFunctionType(VOID, kernel, 3, false);
  s->kargs_type = LLVMStructTypeInContext(c->llvm, fields, 2, false);
#define UNPACK(...) __VA_ARGS__
#define TRT_CALL(ret, name, types)                                                                                     \
  do {                                                                                                                 \
    cg_type args[] = {UNPACK types};                                                                                   \
    s->parallel_type = LLVMFunctionType(ret, args, sizeof args / sizeof args[0], false);                               \
    s->parallel = LLVMAddFunction(c->module, #name, s->parallel_type);                                                 \
  } while (0);
#include "runtime/include/trt_calls.def"
#undef TRT_CALL
#undef UNPACK
}

cg_ctx *cg_open(const cg_target *t, tt_arena *arena, tt_diag *diag) {
  LLVMTargetMachineRef machine = cg_target_machine(t, diag);
  if (!machine) return NULL;
  cg_ctx *c = TT_NEW(arena, cg_ctx);
  c->state = TT_NEW(arena, struct cg_state);
  c->target = t;
  c->diag = diag;
  c->arena = arena;
  c->llvm = LLVMContextCreate();
  c->module = LLVMModuleCreateWithNameInContext("tetrac", c->llvm);
  c->b = LLVMCreateBuilderInContext(c->llvm);
  c->state->machine = machine;
  LLVMSetTarget(c->module, t->triple);
  LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(machine);
  LLVMSetModuleDataLayout(c->module, layout);
  LLVMDisposeTargetData(layout);
  init_types(c);
  declare_calls(c);
  return c;
}

void cg_close(cg_ctx *c) {
  LLVMDisposeBuilder(c->b);
  LLVMDisposeModule(c->module);
  LLVMDisposeTargetMachine(c->state->machine);
  LLVMContextDispose(c->llvm);
  tt_vec_free(&c->state->kernels);
  tt_vec_free(&c->state->launches);
  tt_vec_free(&c->state->steps);
  tt_vec_free(&c->state->places);
  tt_vec_free(&c->state->const_bytes);
}

static bool fail(cg_ctx *c, const char *what, char *message) {
  tt_error(c->diag, (tt_loc){0}, "LLVM %s: %s", what, message ? message : "no reason given");
  LLVMDisposeMessage(message);
  return false;
}

/* Emitters vectorise, block and unroll by themselves, so what is left to LLVM is scalar clean-up. On the three entries of a
 * DeiT-S this takes 1.3 s where default<O2> takes 15 s, most of it spent inlining kernels that are shared on purpose, and a
 * training step is no slower for it. instcombine's check that one round sufficed is for LLVM's own tests. */
#define COMBINE "instcombine<no-verify-fixpoint>,"
static const char *const pipeline = "function(sroa,early-cse<memssa>," COMBINE "simplifycfg,loop-mssa(licm),gvn,"
                                    "loop(indvars),loop-reduce," COMBINE "simplifycfg),globaldce";

static bool optimise(cg_ctx *c) {
  LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
  LLVMErrorRef error = LLVMRunPasses(c->module, pipeline, c->state->machine, options);
  LLVMDisposePassBuilderOptions(options);
  if (!error) return true;
  char *message = LLVMGetErrorMessage(error);
  tt_error(c->diag, (tt_loc){0}, "LLVM passes: %s", message);
  LLVMDisposeErrorMessage(message);
  return false;
}

bool cg_write(cg_ctx *c, cg_format format, uint8_t **data, size_t *bytes) {
  char *message = NULL;
  if (LLVMVerifyModule(c->module, LLVMReturnStatusAction, &message)) return fail(c, "verifier", message);
  LLVMDisposeMessage(message);
  message = NULL;
  TT_TRY(optimise(c));
  if (format == CG_LLVM) {
    char *text = LLVMPrintModuleToString(c->module);
    *bytes = strlen(text);
    *data = tt_arena_copy(c->arena, text, *bytes + 1);
    LLVMDisposeMessage(text);
    return true;
  }
  LLVMMemoryBufferRef buffer;
  LLVMCodeGenFileType type = format == CG_ASM ? LLVMAssemblyFile : LLVMObjectFile;
  if (LLVMTargetMachineEmitToMemoryBuffer(c->state->machine, c->module, type, &message, &buffer))
    return fail(c, "code generator", message);
  *bytes = LLVMGetBufferSize(buffer);
  *data = tt_arena_copy(c->arena, LLVMGetBufferStart(buffer), *bytes);
  LLVMDisposeMemoryBuffer(buffer);
  return true;
}
