/* What the matrix-product emitters share; see gemm.h. */
#include "compiler/codegen/gemm.h"
#include <string.h>
#include "compiler/codegen/state.h"

bool cg_shared_begin(cg_ctx *c, cg_shared *s, const char *name, int n, const cg_type *types) {
  cg_type params[16];
  TT_ASSERT(n <= 16);
  memcpy(params, types, sizeof *types * (size_t)n);
  *s = (cg_shared){.c = c, .fn = LLVMGetNamedFunction(c->module, name)};
  if (s->fn) return false;
  s->fn = LLVMAddFunction(c->module, name, LLVMFunctionType(LLVMVoidTypeInContext(c->llvm), params, (unsigned)n, 0));
  LLVMSetLinkage(s->fn, LLVMInternalLinkage);
  cg_function_attributes(c, s->fn);
  unsigned noinline = LLVMGetEnumAttributeKindForName("noinline", 8);
  LLVMAddAttributeAtIndex(s->fn, LLVMAttributeFunctionIndex, LLVMCreateEnumAttribute(c->llvm, noinline, 0));
  s->back = LLVMGetInsertBlock(c->b);
  LLVMBasicBlockRef entry = LLVMAppendBasicBlockInContext(c->llvm, s->fn, "entry");
  LLVMBasicBlockRef body = LLVMAppendBasicBlockInContext(c->llvm, s->fn, "body");
  LLVMPositionBuilderAtEnd(c->b, entry);
  LLVMBuildBr(c->b, body);
  LLVMPositionBuilderAtEnd(c->b, body);
  return true;
}

void cg_shared_end(cg_shared *s) {
  LLVMBuildRetVoid(s->c->b);
  LLVMPositionBuilderAtEnd(s->c->b, s->back);
}

cg_val cg_shared_arg(const cg_shared *s, int i) { return LLVMGetParam(s->fn, (unsigned)i); }

void cg_shared_call(cg_ctx *c, cg_val fn, int n, cg_val *args) {
  LLVMBuildCall2(c->b, LLVMGlobalGetValueType(fn), fn, args, (unsigned)n, "");
}

cg_val cg_gep_bytes(cg_ctx *c, cg_val base, cg_val offset) { return cg_gep(c, c->i8, base, offset); }

cg_val cg_addr(cg_ctx *c, cg_type elem, cg_val base, int64_t index) {
  return index ? cg_gep(c, elem, base, cg_i64(c, index)) : base;
}

cg_val cg_opaque(cg_ctx *c, cg_val p) {
  cg_type type = LLVMFunctionType(c->ptr, &c->ptr, 1, 0);
  cg_val identity = LLVMGetInlineAsm(type, "", 0, "=r,0", 4, 1, 0, LLVMInlineAsmDialectATT, 0);
  return LLVMBuildCall2(c->b, type, identity, &p, 1, "");
}

cg_val cg_zeros(cg_ctx *c) {
  cg_val g = LLVMGetNamedGlobal(c->module, "cg.zeros");
  if (g) return g;
  cg_type type = LLVMArrayType2(c->f32, CG_ZEROS);
  g = LLVMAddGlobal(c->module, type, "cg.zeros");
  LLVMSetInitializer(g, LLVMConstNull(type));
  LLVMSetGlobalConstant(g, 1);
  LLVMSetLinkage(g, LLVMPrivateLinkage);
  LLVMSetAlignment(g, 64);
  return g;
}

static void prefetch(cg_ctx *c, cg_val p, int write, int level) {
  cg_val args[4] = {p, cg_i32(c, write), cg_i32(c, 4 - level), cg_i32(c, 1)};
  cg_call(c, "llvm.prefetch.p0", LLVMVoidTypeInContext(c->llvm), 4, args);
}

void cg_prefetch(cg_ctx *c, cg_val p) { prefetch(c, p, 0, 1); }
void cg_prefetch_l2(cg_ctx *c, cg_val p) { prefetch(c, p, 0, 2); }
void cg_prefetch_write(cg_ctx *c, cg_val p) { prefetch(c, p, 1, 1); }

/* Stage s exchanges the off-diagonal s x s blocks of every 2s x 2s block. */
void cg_transpose(cg_ctx *c, cg_val *rows, int n) {
  for (int s = 1; s < n; s *= 2) {
    cg_val lo[64], hi[64];
    for (int j = 0; j < n; j++) {
      lo[j] = LLVMConstInt(c->i32, (unsigned long long)(j & s ? n + j - s : j), 0);
      hi[j] = LLVMConstInt(c->i32, (unsigned long long)(j & s ? n + j : j + s), 0);
    }
    cg_val lo_mask = LLVMConstVector(lo, (unsigned)n), hi_mask = LLVMConstVector(hi, (unsigned)n);
    for (int i = 0; i < n; i++) {
      if (i & s) continue;
      cg_val a = rows[i], b = rows[i + s];
      rows[i] = LLVMBuildShuffleVector(c->b, a, b, lo_mask, "");
      rows[i + s] = LLVMBuildShuffleVector(c->b, a, b, hi_mask, "");
    }
  }
}

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static int64_t part(int64_t n, int64_t parts, int64_t align) { return ceil_div(ceil_div(n, parts), align) * align; }

/* Enough tasks for 16 threads where the work allows (each is worth at least about 20 us). Rows are cut first and to at most
 * ROWS_MAX, which keeps a task's part of A in L2; tiles stay at least min_rows x min_cols, since every task unpacks its own
 * operands. */
cg_tiling cg_tile_product(int64_t M, int64_t N, int64_t K, int64_t min_rows, int64_t min_cols,
                           int64_t row_align) {
  enum { TASKS = 24, ROWS_MAX = 240, COL_ALIGN = 32 };
  int64_t want = M * N / 1000 * K / 1000, down = 1, across = 1;
  want = want < 1 ? 1 : want > TASKS ? TASKS : want;
  for (;;) {
    int64_t rows = part(M, down, row_align), cols = part(N, across, COL_ALIGN);
    bool can_down = part(M, down + 1, row_align) >= min_rows, can_across = part(N, across + 1, COL_ALIGN) >= min_cols;
    if (rows <= ROWS_MAX && ceil_div(M, rows) * ceil_div(N, cols) >= want) break;
    if (rows > ROWS_MAX || (can_down && (rows >= cols || !can_across)))
      down++;
    else if (can_across)
      across++;
    else
      break;
  }
  int64_t rows = part(M, down, row_align), cols = part(N, across, COL_ALIGN);
  if (rows > M) rows = M;
  if (cols > N) cols = N;
  return (cg_tiling){.rows = rows, .cols = cols, .n_rows = ceil_div(M, rows), .n_cols = ceil_div(N, cols)};
}
