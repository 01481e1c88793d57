/* AMX: eight tiles of 16 rows x 64 bytes. Linux gives a process their state only on request (arch_prctl), which the runtime
 * and, for code run in memory, the compiler make; where it is refused the feature counts as absent. */
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#include "compiler/codegen/targets.h"

static cg_type nothing(cg_ctx *c) { return LLVMVoidTypeInContext(c->llvm); }
static cg_val number(cg_ctx *c, int tile) { return LLVMConstInt(c->i8, (unsigned long long)tile, false); }

/* Palette 1: for each tile the bytes of a row (16 bits, from byte 16 on) and the number of rows (from byte 48 on). */
static void configure_by(cg_ctx *c, const char *name, bool halves) {
  cg_val g = LLVMGetNamedGlobal(c->module, name);
  if (!g) {
    char bytes[64] = {1};
    for (int t = 0; t < 8; t++) {
      bytes[16 + 2 * t] = halves && t == CG_TILE_HALF_A ? 32 : 64;
      bytes[48 + t] = halves && t == CG_TILE_HALF_B ? 8 : 16;
    }
    cg_val init = LLVMConstStringInContext2(c->llvm, bytes, sizeof bytes, true);
    g = LLVMAddGlobal(c->module, LLVMTypeOf(init), name);
    LLVMSetInitializer(g, init);
    LLVMSetGlobalConstant(g, 1);
    LLVMSetLinkage(g, LLVMPrivateLinkage);
    LLVMSetAlignment(g, 64);
  }
  cg_call(c, "llvm.x86.ldtilecfg", nothing(c), 1, &g);
}

static void configure(cg_ctx *c) { configure_by(c, "cg.tiles", true); }
static void configure_whole(cg_ctx *c) { configure_by(c, "cg.tiles.whole", false); }

static void release(cg_ctx *c) { cg_call(c, "llvm.x86.tilerelease", nothing(c), 0, NULL); }

static void zero(cg_ctx *c, int tile) {
  cg_val arg = number(c, tile);
  cg_call(c, "llvm.x86.tilezero", nothing(c), 1, &arg);
}

static void load(cg_ctx *c, int tile, cg_val p, int64_t stride) {
  cg_call(c, "llvm.x86.tileloadd64", nothing(c), 3, (cg_val[]){number(c, tile), p, cg_i64(c, stride)});
}

static void store(cg_ctx *c, int tile, cg_val p, int64_t stride) {
  cg_call(c, "llvm.x86.tilestored64", nothing(c), 3, (cg_val[]){number(c, tile), p, cg_i64(c, stride)});
}

static void product(cg_ctx *c, const char *intrinsic, int acc, int a, int b) {
  cg_call(c, intrinsic, nothing(c), 3, (cg_val[]){number(c, acc), number(c, a), number(c, b)});
}

static void dot_u8s8(cg_ctx *c, int acc, int a, int b) { product(c, "llvm.x86.tdpbusd", acc, a, b); }
static void dot_bf16(cg_ctx *c, int acc, int a, int b) { product(c, "llvm.x86.tdpbf16ps", acc, a, b); }

const cg_tile_unit cg_tiles_amx = {.name = "tdpbusd",
                                   .configure = configure,
                                   .release = release,
                                   .zero = zero,
                                   .load = load,
                                   .store = store,
                                   .dot_u8s8 = dot_u8s8,
                                   .float_name = "tdpbf16ps",
                                   .configure_whole = configure_whole,
                                   .dot_bf16 = dot_bf16};

bool cg_tiles_permitted(void) {
#if defined(__x86_64__) && defined(__linux__)
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
  return false;
#endif
}
