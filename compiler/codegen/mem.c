/* Loads, stores and masks. A lane count known at compile time becomes a constant mask, which costs nothing on AVX-512 and
 * lets AVX2 use a mask from memory. */
#include "compiler/codegen/cg.h"

cg_val cg_gep(cg_ctx *c, cg_type elem, cg_val base, cg_val index) {
  return LLVMBuildInBoundsGEP2(c->b, elem, base, &index, 1, "");
}

cg_val cg_load(cg_ctx *c, cg_type t, cg_val p, unsigned align) {
  cg_val v = LLVMBuildLoad2(c->b, t, p, "");
  LLVMSetAlignment(v, align);
  return v;
}

void cg_store(cg_ctx *c, cg_val v, cg_val p, unsigned align) { LLVMSetAlignment(LLVMBuildStore(c->b, v, p), align); }

void cg_store_past_caches(cg_ctx *c, cg_val v, cg_val p) {
  static const char kind[] = "nontemporal";
  cg_val store = LLVMBuildStore(c->b, v, p);
  LLVMMetadataRef one = LLVMValueAsMetadata(cg_i32(c, 1));
  LLVMSetAlignment(store, (unsigned)c->target->vector_bytes);
  LLVMSetMetadata(store, LLVMGetMDKindIDInContext(c->llvm, kind, sizeof kind - 1),
                  LLVMMetadataAsValue(c->llvm, LLVMMDNodeInContext2(c->llvm, &one, 1)));
}

cg_val cg_lane_mask(cg_ctx *c, cg_val n) {
  int64_t known;
  if (cg_const_int(n, &known)) {
    cg_val lane[64];
    for (int i = 0; i < c->W; i++) lane[i] = LLVMConstInt(c->i1, i < known, false);
    return LLVMConstVector(lane, (unsigned)c->W);
  }
  cg_val clamped = cg_min(c, n, cg_i64(c, c->W));
  cg_val splat = cg_splat(c, LLVMBuildTrunc(c->b, clamped, c->i32, ""), c->W);
  return cg_icmp(c, LLVMIntSLT, cg_iota(c, c->i32, c->W), splat);
}

/* Without masked instructions LLVM makes a branch for every lane; a whole vector, which is the common case, gets its own. */
static bool branches(cg_ctx *c, cg_val n) {
  int64_t known;
  return c->target->branch_tails && !cg_const_int(n, &known);
}

static cg_val masked_load(cg_ctx *c, cg_val p, cg_val n, cg_val other) {
  char name[48];
  snprintf(name, sizeof name, "llvm.masked.load.v%df32.p0", c->W);
  cg_val args[4] = {p, cg_i32(c, 4), cg_lane_mask(c, n), other};
  return cg_call(c, name, c->vf, 4, args);
}

static void masked_store(cg_ctx *c, cg_val v, cg_val p, cg_val n) {
  char name[48];
  snprintf(name, sizeof name, "llvm.masked.store.v%df32.p0", c->W);
  cg_val args[4] = {v, p, cg_i32(c, 4), cg_lane_mask(c, n)};
  cg_call(c, name, LLVMVoidTypeInContext(c->llvm), 4, args);
}

cg_val cg_load_n(cg_ctx *c, cg_val p, cg_val n, cg_val other) {
  int64_t known;
  if (!n || (cg_const_int(n, &known) && known >= c->W)) return cg_load(c, c->vf, p, 4);
  if (!branches(c, n)) return masked_load(c, p, n, other);
  cg_if f;
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntSGE, n, cg_i64(c, c->W)));
  cg_val v[2];
  LLVMBasicBlockRef from[2];
  v[0] = cg_load(c, c->vf, p, 4);
  from[0] = LLVMGetInsertBlock(c->b);
  cg_if_else(&f);
  v[1] = masked_load(c, p, n, other);
  from[1] = LLVMGetInsertBlock(c->b);
  cg_if_end(&f);
  cg_val phi = LLVMBuildPhi(c->b, c->vf, "");
  LLVMAddIncoming(phi, v, from, 2);
  return phi;
}

void cg_store_n(cg_ctx *c, cg_val v, cg_val p, cg_val n) {
  int64_t known;
  if (!n || (cg_const_int(n, &known) && known >= c->W)) {
    cg_store(c, v, p, 4);
    return;
  }
  if (!branches(c, n)) {
    masked_store(c, v, p, n);
    return;
  }
  cg_if f;
  cg_if_begin(c, &f, cg_icmp(c, LLVMIntSGE, n, cg_i64(c, c->W)));
  cg_store(c, v, p, 4);
  cg_if_else(&f);
  masked_store(c, v, p, n);
  cg_if_end(&f);
}
