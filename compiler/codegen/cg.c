/* Kernels and launches: the part of code generation that knows the runtime's contract, so that emitters need not.
 *
 * A kernel is `void k(const trt_kargs *args, i64 task, ptr scratch)`. Operand addresses reach it through args->bufs
 * (inputs, outputs, workspace), so that one kernel serves every node of equal types and attributes; that is what keeps a
 * twelve-layer model's code as small as one layer's. */
#include <string.h>
#include "compiler/codegen/state.h"

static void key_attr(tt_strbuf *sb, const tt_attr *a) {
  char q[64];
  if (tt_attrs[a->id].imm) return;
  tt_strbuf_printf(sb, " %s=", tt_attrs[a->id].name);
  switch (tt_attrs[a->id].kind) {
  case TT_ATTR_INT:
  case TT_ATTR_DTYPE: tt_strbuf_printf(sb, "%lld", (long long)a->as.i); break;
  case TT_ATTR_FLOAT: tt_strbuf_printf(sb, "%a", a->as.f); break;
  case TT_ATTR_QSPEC: tt_strbuf_printf(sb, "%s", tt_qspec_print(a->as.q, q, sizeof q)); break;
  case TT_ATTR_INTS:
  case TT_ATTR_OPS:
    for (int i = 0; i < a->as.ints.n; i++) tt_strbuf_printf(sb, "%lld,", (long long)a->as.ints.v[i]);
    break;
  }
}

static const tt_attr *attr_by_id(const tt_node_data *d, tt_attr_id id) {
  for (int i = 0; i < d->n_attrs; i++)
    if (d->attrs[i].id == id) return &d->attrs[i];
  return NULL;
}

/* Identity of a kernel: everything the generated code may depend on. */
static char *kernel_key(cg_node *x, const char *suffix) {
  tt_strbuf sb = {0};
  char t[TT_TYPE_TEXT];
  tt_strbuf_printf(&sb, "%s/%s", tt_ops[x->d->op].name, suffix);
  for (int id = 0; id < TT_A_COUNT; id++) {
    const tt_attr *a = attr_by_id(x->d, (tt_attr_id)id);
    if (a) key_attr(&sb, a);
  }
  for (int i = 0; i < x->d->n_in; i++) tt_strbuf_printf(&sb, " %s", tt_type_print(cg_in_type(x, i), t, sizeof t));
  for (int i = 0; i < x->d->n_out; i++) tt_strbuf_printf(&sb, ">%s", tt_type_print(cg_out_type(x, i), t, sizeof t));
  char *key = tt_arena_str(x->c->arena, sb.data);
  tt_strbuf_free(&sb);
  return key;
}

static cg_val find_kernel(cg_ctx *c, const char *key) {
  for (size_t i = 0; i < c->state->kernels.count; i++)
    if (strcmp(c->state->kernels.data[i].key, key) == 0) return c->state->kernels.data[i].fn;
  return NULL;
}

static void enum_attribute(cg_ctx *c, cg_val fn, LLVMAttributeIndex index, const char *name, uint64_t value) {
  unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
  LLVMAddAttributeAtIndex(fn, index, LLVMCreateEnumAttribute(c->llvm, kind, value));
}

static void string_attribute(cg_ctx *c, cg_val fn, const char *name, const char *value) {
  LLVMAddAttributeAtIndex(fn, LLVMAttributeFunctionIndex,
                          LLVMCreateStringAttribute(c->llvm, name, (unsigned)strlen(name), value, (unsigned)strlen(value)));
}

void cg_function_attributes(cg_ctx *c, cg_val fn) {
  char bits[16];
  snprintf(bits, sizeof bits, "%d", c->target->vector_bytes * 8);
  enum_attribute(c, fn, LLVMAttributeFunctionIndex, "nounwind", 0);
  string_attribute(c, fn, "target-cpu", c->target->cpu);
  string_attribute(c, fn, "target-features", c->target->features);
  /* Several CPUs tune themselves to 256-bit vectors; the generated code is written in full-width ones. */
  string_attribute(c, fn, "prefer-vector-width", bits);
  string_attribute(c, fn, "min-legal-vector-width", bits);
}

static cg_val declare_kernel(cg_ctx *c, const char *name) {
  cg_val fn = LLVMAddFunction(c->module, name, c->state->kernel_type);
  LLVMSetLinkage(fn, LLVMInternalLinkage);
  cg_function_attributes(c, fn);
  for (LLVMAttributeIndex i = 1; i <= 3; i += 2) {
    enum_attribute(c, fn, i, "noalias", 0);
    enum_attribute(c, fn, i, "nocapture", 0);
  }
  enum_attribute(c, fn, 1, "readonly", 0);
  enum_attribute(c, fn, 3, "align", TRT_ALIGN);
  return fn;
}

cg_kernel *cg_kernel_alone(cg_ctx *c, const char *name) {
  cg_kernel *k = TT_NEW(c->arena, cg_kernel);
  k->c = c;
  k->fn = declare_kernel(c, name);
  k->args = LLVMGetParam(k->fn, 0);
  k->task = LLVMGetParam(k->fn, 1);
  k->scratch = LLVMGetParam(k->fn, 2);
  k->entry = LLVMAppendBasicBlockInContext(c->llvm, k->fn, "entry");
  LLVMBasicBlockRef body = LLVMAppendBasicBlockInContext(c->llvm, k->fn, "body");
  LLVMPositionBuilderAtEnd(c->b, k->entry);
  LLVMBuildBr(c->b, body);
  LLVMPositionBuilderAtEnd(c->b, body);
  return k;
}

cg_kernel *cg_kernel_begin(cg_node *x, const char *suffix) {
  cg_ctx *c = x->c;
  const char *key = kernel_key(x, suffix);
  if (find_kernel(c, key)) return NULL;
  char name[96];
  snprintf(name, sizeof name, "k.%s%s%s", tt_ops[x->d->op].name, suffix[0] ? "." : "", suffix);
  cg_kernel *k = cg_kernel_alone(c, name);
  k->x = x;
  k->bufs = TT_NEW_N(c->arena, cg_val, x->d->n_in + x->d->n_out);
  cg_cached entry = {key, k->fn};
  tt_vec_push(&c->state->kernels, entry);
  return k;
}

void cg_kernel_end(cg_kernel *k) {
  if (k->whole_tiles) k->c->target->tiles->release(k->c);
  LLVMBuildRetVoid(k->c->b);
}

/* Moves the builder into the kernel's entry block, before its branch; returns where it was. */
static LLVMBasicBlockRef enter_entry(cg_ctx *c, LLVMBasicBlockRef entry) {
  LLVMBasicBlockRef here = LLVMGetInsertBlock(c->b);
  LLVMPositionBuilderBefore(c->b, LLVMGetBasicBlockTerminator(entry));
  return here;
}

static void mark(cg_ctx *c, cg_val load, const char *kind, cg_val operand) {
  unsigned id = LLVMGetMDKindIDInContext(c->llvm, kind, (unsigned)strlen(kind));
  LLVMMetadataRef op = operand ? LLVMValueAsMetadata(operand) : NULL;
  LLVMMetadataRef node = LLVMMDNodeInContext2(c->llvm, &op, operand ? 1 : 0);
  LLVMSetMetadata(load, id, LLVMMetadataAsValue(c->llvm, node));
}

/* A field of trt_kargs, or an element of one of its arrays: never written while a kernel runs. */
static cg_val load_invariant(cg_ctx *c, cg_type type, cg_val p) {
  cg_val v = LLVMBuildLoad2(c->b, type, p, "");
  mark(c, v, "invariant.load", NULL);
  return v;
}

static cg_val load_operand(cg_kernel *k, cg_val index) {
  cg_ctx *c = k->c;
  cg_val array = load_invariant(c, c->ptr, LLVMBuildStructGEP2(c->b, c->state->kargs_type, k->args, 0, ""));
  cg_val p = load_invariant(c, c->ptr, cg_gep(c, c->ptr, array, index));
  mark(c, p, "align", cg_i64(c, TRT_ALIGN));
  return p;
}

static cg_val operand_at_entry(cg_kernel *k, int slot) {
  LLVMBasicBlockRef here = enter_entry(k->c, k->entry);
  cg_val p = load_operand(k, cg_i64(k->c, slot));
  LLVMPositionBuilderAtEnd(k->c->b, here);
  return p;
}

cg_val cg_in(cg_kernel *k, int i) {
  TT_ASSERT(i < k->x->d->n_in);
  if (!k->bufs[i]) k->bufs[i] = operand_at_entry(k, i);
  return k->bufs[i];
}

cg_val cg_out(cg_kernel *k, int i) {
  int slot = k->x->d->n_in + i;
  TT_ASSERT(i < k->x->d->n_out);
  if (!k->bufs[slot]) k->bufs[slot] = operand_at_entry(k, slot);
  return k->bufs[slot];
}

bool cg_float_operands(cg_node *x) {
  char t[TT_TYPE_TEXT];
  for (int i = 0; i < x->d->n_in + x->d->n_out; i++) {
    const tt_type *type = i < x->d->n_in ? cg_in_type(x, i) : cg_out_type(x, i - x->d->n_in);
    if (type->dtype == TT_F32) continue;
    tt_error(x->c->diag, x->d->loc, "'%s' on %s: generated code works on float32 here; cast before, or let constants fold",
             tt_ops[x->d->op].name, tt_type_print(type, t, sizeof t));
    return false;
  }
  return true;
}

void cg_whole_tiles(cg_kernel *k) {
  if (k->whole_tiles) return;
  LLVMBasicBlockRef here = enter_entry(k->c, k->entry);
  k->c->target->tiles->configure_whole(k->c);
  LLVMPositionBuilderAtEnd(k->c->b, here);
  k->whole_tiles = true;
}

cg_val cg_operand(cg_kernel *k, cg_val index) { return load_operand(k, index); }

cg_val cg_imm(cg_kernel *k, tt_attr_id id) {
  cg_ctx *c = k->c;
  TT_ASSERT(tt_attrs[id].imm);
  LLVMBasicBlockRef here = enter_entry(c, k->entry);
  cg_val array = load_invariant(c, c->ptr, LLVMBuildStructGEP2(c->b, c->state->kargs_type, k->args, 1, ""));
  cg_val v = load_invariant(c, c->i64, cg_gep(c, c->i64, array, cg_i64(c, cg_imm_slot(id))));
  LLVMPositionBuilderAtEnd(c->b, here);
  return v;
}

cg_val cg_scratch(cg_kernel *k, uint64_t offset, uint64_t bytes) {
  if (offset + bytes > k->c->scratch_bytes) k->c->scratch_bytes = offset + bytes;
  return cg_gep(k->c, k->c->i8, k->scratch, cg_i64(k->c, (int64_t)offset));
}

cg_val cg_work(cg_kernel *k, uint64_t offset, uint64_t bytes) {
  if (offset + bytes > k->c->work_bytes) k->c->work_bytes = offset + bytes;
  if (!k->work) k->work = operand_at_entry(k, k->x->d->n_in + k->x->d->n_out);
  return cg_gep(k->c, k->c->i8, k->work, cg_i64(k->c, (int64_t)offset));
}

cg_val cg_alloca(cg_ctx *c, cg_type type, int n, unsigned align) {
  LLVMBasicBlockRef here = LLVMGetInsertBlock(c->b);
  enter_entry(c, LLVMGetEntryBasicBlock(LLVMGetBasicBlockParent(here)));
  cg_val p = LLVMBuildAlloca(c->b, LLVMArrayType2(type, (uint64_t)n), "");
  LLVMSetAlignment(p, align);
  LLVMPositionBuilderAtEnd(c->b, here);
  return p;
}

cg_val cg_table(cg_ctx *c, const int64_t *v, int64_t n) {
  cg_val *items = TT_NEW_N(c->arena, cg_val, n);
  for (int64_t i = 0; i < n; i++) items[i] = cg_i64(c, v[i]);
  cg_val g = LLVMAddGlobal(c->module, LLVMArrayType2(c->i64, (uint64_t)n), "table");
  LLVMSetInitializer(g, LLVMConstArray2(c->i64, items, (uint64_t)n));
  LLVMSetLinkage(g, LLVMInternalLinkage);
  LLVMSetGlobalConstant(g, true);
  LLVMSetUnnamedAddress(g, LLVMGlobalUnnamedAddr);
  return g;
}

cg_range cg_task_range(cg_kernel *k, int64_t n, int64_t grain) {
  cg_ctx *c = k->c;
  cg_range r;
  r.begin = cg_mul(c, k->task, cg_i64(c, grain));
  r.end = cg_add(c, r.begin, cg_i64(c, grain));
  if (n % grain != 0) r.end = cg_min(c, r.end, cg_i64(c, n));
  return r;
}

int64_t cg_grain(int64_t n, int64_t cost_per_item, int64_t align) {
  enum { MAX_TASKS = 64, COST_PER_TASK = 8192 }; /* cost 1 = one f32 element read and written, about 2.5 ns off DRAM */
  int64_t cost = cost_per_item > 0 ? cost_per_item : 1;
  int64_t grain = (COST_PER_TASK + cost - 1) / cost;
  if (grain * MAX_TASKS < n) grain = (n + MAX_TASKS - 1) / MAX_TASKS;
  return (grain + align - 1) / align * align;
}

int cg_imm_count(void) { return cg_imm_slot(TT_A_COUNT); }

int cg_imm_slot(tt_attr_id id) {
  int slot = 0;
  for (int i = 0; i < (int)id; i++) slot += tt_attrs[i].imm;
  return slot;
}

void cg_launch(cg_node *x, const char *suffix, int64_t n_tasks) {
  cg_ctx *c = x->c;
  struct cg_state *s = c->state;
  cg_val fn = find_kernel(c, kernel_key(x, suffix));
  TT_ASSERT(fn != NULL && n_tasks >= 0);
  if (n_tasks == 0) return; /* an empty tensor */
  for (int i = 0; i < x->d->n_in; i++) cg_add_place(c, cg_value_place(c, x->d->in[i]));
  for (int i = 0; i < x->d->n_out; i++) cg_add_place(c, cg_value_place(c, x->d->out[i]));
  cg_add_place(c, (cg_place){CG_ARENA, s->work_offset});
  int64_t imms[CG_MOST_IMMS] = {0};
  TT_ASSERT(cg_imm_count() <= CG_MOST_IMMS);
  for (int i = 0; i < x->d->n_attrs; i++)
    if (tt_attrs[x->d->attrs[i].id].imm) imms[cg_imm_slot(x->d->attrs[i].id)] = x->d->attrs[i].as.i;
  cg_add_step(c, fn, n_tasks, imms);
  cg_launched launched = {x->n, tt_arena_str(c->arena, suffix)};
  tt_vec_push(&s->launches, launched);
}
