/* Finding a target by what the user wrote: "cpu", "cpu:LEVEL", "cpu:+feature,...", "cpu:LEVEL+feature", or a triple. */
#include <string.h>
#include <llvm-c/Target.h>
#include "compiler/codegen/state.h"
#include "compiler/codegen/targets.h"

#define V3 "+sse4.2,+popcnt,+cx16,+sahf,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe,+xsave"
#define V4 V3 ",+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl,+avx512vnni"
static const char X86_TRIPLE[] = "x86_64-pc-linux-gnu";

typedef struct level {
  const char *name, *cpu, *features;
} level;
static const level levels[] = {{"v3", "x86-64-v3", V3}, {"v4", "x86-64-v4", V4}};

const char *const *cg_target_list(void) {
  static const char *const list[] = {"cpu",    "this machine: every feature it reports",
                                     "cpu:v3", "x86-64-v3: AVX2 and FMA, dot products by vpmaddubsw",
                                     "cpu:v4", "x86-64-v4 with VNNI: AVX-512, dot products by vpdpbusd",
                                     NULL};
  return list;
}

static bool is_triple(const char *s) { return strchr(s, '-') != NULL && strchr(s, ':') == NULL; }

/* Appends "+avxvnni+x" or "+avxvnni,-x" to the features as LLVM wants them. */
static const char *add_features(tt_arena *arena, const char *base, const char *more) {
  tt_strbuf sb = {0};
  tt_strbuf_printf(&sb, "%s", base);
  for (const char *p = more; *p;) {
    if (*p == ',') p++;
    size_t n = 1 + strcspn(p + 1, "+-,");
    tt_strbuf_printf(&sb, "%s%.*s", sb.count ? "," : "", (int)n, p);
    p += n;
  }
  const char *out = tt_arena_str(arena, sb.data);
  tt_strbuf_free(&sb);
  return out;
}

static void host(cg_target *t, tt_arena *arena, const char *more) {
  char *cpu = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
  t->cpu = tt_arena_str(arena, cpu);
  t->features = add_features(arena, features, more);
  LLVMDisposeMessage(cpu);
  LLVMDisposeMessage(features);
}

/* `s` follows "cpu:". */
static bool by_level(cg_target *t, tt_arena *arena, const char *s) {
  if (*s == '+' || *s == '-') {
    t->cpu = "x86-64-v3";
    t->features = add_features(arena, V3, s);
    return true;
  }
  size_t n = strcspn(s, "+-,");
  for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
    if (strlen(levels[i].name) == n && strncmp(levels[i].name, s, n) == 0) {
      t->cpu = levels[i].cpu;
      t->features = add_features(arena, levels[i].features, s + n);
      return true;
    }
  return false;
}

static void unknown(tt_diag *diag, const char *spec) {
  tt_error(diag, (tt_loc){0}, "unknown target '%s'; use cpu, cpu:v3, cpu:v4 or cpu:v3+FEATURE (`tetrac list targets`)", spec);
}

const cg_target *cg_target_find(const char *spec, tt_arena *arena, tt_diag *diag) {
  cg_target *t = TT_NEW(arena, cg_target);
  t->name = tt_arena_str(arena, spec);
  t->triple = X86_TRIPLE;
  if (strcmp(spec, "cpu") == 0) {
    host(t, arena, "");
  } else if (strncmp(spec, "cpu:", 4) == 0 && spec[4]) {
    if (!by_level(t, arena, spec + 4)) return unknown(diag, spec), NULL;
  } else if (is_triple(spec) && strncmp(spec, "x86_64-", 7) == 0) {
    t->triple = t->name;
    by_level(t, arena, "v3");
  } else if (is_triple(spec)) {
    tt_error(diag, (tt_loc){0}, "target '%s' is not supported yet; x86_64 is", spec);
    return NULL;
  } else {
    return unknown(diag, spec), NULL;
  }
  if (cg_target_x86(t)) return t;
  tt_error(diag, (tt_loc){0}, "target '%s' has no AVX2, FMA and BMI2, which generated code needs (x86-64-v3)", spec);
  return NULL;
}

const char *cg_target_describe(const cg_target *t) {
  static const char *const dots[] = {"vpdpbusd, 512-bit", "vpdpbusd, 256-bit", "vpmaddubsw", "sdot", "generic"};
  static _Thread_local char text[256];
  snprintf(text, sizeof text, "%s, %s, %d-bit vectors, dot product %s", t->triple, t->cpu, t->vector_bytes * 8, dots[t->dot]);
  return text;
}

LLVMTargetMachineRef cg_target_machine(const cg_target *t, tt_diag *diag) {
  LLVMTargetRef target;
  char *message = NULL;
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86AsmPrinter();
  if (LLVMGetTargetFromTriple(t->triple, &target, &message)) {
    tt_error(diag, (tt_loc){0}, "LLVM knows no target for '%s': %s", t->triple, message);
    LLVMDisposeMessage(message);
    return NULL;
  }
  return LLVMCreateTargetMachine(target, t->triple, t->cpu, t->features, LLVMCodeGenLevelDefault, LLVMRelocPIC,
                                 LLVMCodeModelDefault);
}
