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
  cg_type VOID = LLVMVoidTypeInContext(c->llvm), ARGS = c->ptr, KERNEL = c->ptr, I64 = c->i64;
  cg_type kernel[3] = {ARGS, I64, c->ptr}, fields[2] = {c->ptr, c->ptr};
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
  tt_vec_free(&c->state->entries);
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

/* Emitters vectorise, block and unroll by themselves, so what is left to LLVM is scalar clean-up. default<O2> would
 * take many times as long, most of it spent inlining kernels that are shared on purpose, for a training step no faster. The code
 * generator reduces the strength of loops by itself. instcombine's check that one round sufficed is for LLVM's own tests.
 * Functions of other parts (parts.c) go first. */
#define COMBINE "instcombine<no-verify-fixpoint>,"
static const char *const pipeline = "elim-avail-extern,globaldce,function(sroa,early-cse<memssa>," COMBINE
                                    "simplifycfg,loop-mssa(licm),gvn,loop(indvars)," COMBINE "simplifycfg),globaldce";

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

bool cg_finish(cg_ctx *c, cg_format format, cg_file *out) {
  char *message = NULL;
  TT_TRY(optimise(c));
  if (format == CG_LLVM) {
    char *text = LLVMPrintModuleToString(c->module);
    out->bytes = strlen(text);
    out->data = tt_arena_copy(c->arena, text, out->bytes + 1);
    LLVMDisposeMessage(text);
    return true;
  }
  LLVMMemoryBufferRef buffer;
  LLVMCodeGenFileType type = format == CG_ASM ? LLVMAssemblyFile : LLVMObjectFile;
  if (LLVMTargetMachineEmitToMemoryBuffer(c->state->machine, c->module, type, &message, &buffer))
    return fail(c, "code generator", message);
  out->bytes = LLVMGetBufferSize(buffer);
  out->data = tt_arena_copy(c->arena, LLVMGetBufferStart(buffer), out->bytes);
  LLVMDisposeMemoryBuffer(buffer);
  return true;
}

bool cg_write(cg_ctx *c, cg_format format, cg_output *out) {
  char *message = NULL;
  if (LLVMVerifyModule(c->module, LLVMReturnStatusAction, &message)) return fail(c, "verifier", message);
  LLVMDisposeMessage(message);
  if (format == CG_PARTS) return cg_write_parts(c, out);
  *out = (cg_output){TT_NEW(c->arena, cg_file), 1};
  return cg_finish(c, format, out->files);
}
