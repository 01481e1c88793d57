/* The program: every entry of a module in one LLVM module, and the constant `tetrac_program` that tells the runtime what
 * there is (runtime/include/trt_abi.h). Structs are built field by field in the order of that header; tests/codegen checks
 * each against offsetof and sizeof. */
#include <string.h>
#include "compiler/codegen/probe.h"
#include "compiler/codegen/program.h"
#include "compiler/codegen/state.h"
#include "compiler/ir/work.h"

typedef TT_VEC(cg_val) fields;

static void add_int(cg_ctx *c, fields *f, cg_type type, uint64_t x) {
  (void)c;
  tt_vec_push(f, LLVMConstInt(type, x, false));
}

static void add_u32(cg_ctx *c, fields *f, uint64_t x) { add_int(c, f, c->i32, x); }
static void add_u64(cg_ctx *c, fields *f, uint64_t x) { add_int(c, f, c->i64, x); }
static void add_f64(cg_ctx *c, fields *f, double x) { tt_vec_push(f, LLVMConstReal(c->f64, x)); }

static cg_val constant(cg_ctx *c, cg_val init, const char *name, unsigned align) {
  cg_val global = LLVMAddGlobal(c->module, LLVMTypeOf(init), name);
  LLVMSetInitializer(global, init);
  LLVMSetLinkage(global, LLVMInternalLinkage);
  LLVMSetGlobalConstant(global, true);
  LLVMSetAlignment(global, align);
  return global;
}

/* Its address is nobody's business, so that the linker keeps one of equal texts. */
static void add_text(cg_ctx *c, fields *f, const char *text) {
  cg_val global = constant(c, LLVMConstStringInContext2(c->llvm, text, strlen(text), false), "text", 1);
  LLVMSetLinkage(global, LLVMPrivateLinkage);
  LLVMSetUnnamedAddress(global, LLVMGlobalUnnamedAddr);
  tt_vec_push(f, global);
}

static cg_val close_struct(cg_ctx *c, fields *f) {
  cg_val s = LLVMConstStructInContext(c->llvm, f->data, (unsigned)f->count, false);
  tt_vec_free(f);
  return s;
}

/* An array of equal structs; a null pointer where there is none. */
static void add_array(cg_ctx *c, fields *f, fields *items, const char *name) {
  if (items->count == 0) {
    tt_vec_push(f, LLVMConstNull(c->ptr));
  } else {
    cg_val array = LLVMConstArray2(LLVMTypeOf(items->data[0]), items->data, items->count);
    tt_vec_push(f, constant(c, array, name, 8));
  }
  add_u64(c, f, items->count);
  tt_vec_free(items);
}

cg_val cg_const_tensor(cg_ctx *c, const trt_tensor *t) {
  fields f = {0};
  cg_val dims[TRT_MAX_RANK];
  for (int i = 0; i < TRT_MAX_RANK; i++) dims[i] = LLVMConstInt(c->i64, (uint64_t)t->dim[i], true);
  add_text(c, &f, t->name);
  add_u32(c, &f, t->dtype);
  add_u32(c, &f, t->rank);
  tt_vec_push(&f, LLVMConstArray2(c->i64, dims, TRT_MAX_RANK));
  add_u64(c, &f, t->offset);
  add_u64(c, &f, t->bytes);
  add_u32(c, &f, t->role);
  add_u32(c, &f, t->init);
  add_u64(c, &f, t->init_offset);
  add_u32(c, &f, t->transposed);
  add_u32(c, &f, 0);
  return close_struct(c, &f);
}

static cg_val const_patch(cg_ctx *c, const trt_patch *p) {
  fields f = {0};
  add_u64(c, &f, p->var);
  add_u64(c, &f, p->offset);
  add_u64(c, &f, p->bytes);
  return close_struct(c, &f);
}

cg_val cg_const_defaults(cg_ctx *c, const trt_defaults *d) {
  fields f = {0};
  const double reals[] = {d->lr,           d->min_lr,    d->beta1,           d->beta2,        d->eps,
                          d->weight_decay, d->clip_norm, d->label_smoothing, d->warmup_epochs};
  const int64_t ints[] = {d->epochs, d->seed, d->cosine, d->calibration_steps, d->calibration_every};
  for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) add_f64(c, &f, reals[i]);
  for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) add_u64(c, &f, (uint64_t)ints[i]);
  return close_struct(c, &f);
}

static trt_tensor describe(const char *name, const tt_type *type, uint64_t offset) {
  static const uint32_t dtypes[TT_DTYPE_COUNT] = {TRT_F32, TRT_F64, TRT_I32, TRT_I64, TRT_BOOL, TRT_MX};
  trt_tensor t = {
      .name = name, .dtype = dtypes[type->dtype], .rank = type->rank, .offset = offset, .bytes = tt_type_bytes(type)};
  memcpy(t.dim, type->dim, sizeof t.dim);
  return t;
}

static bool describe_var(cg_ctx *c, const cg_program *p, uint32_t index, trt_tensor *t) {
  const tt_var *v = &p->module->vars.data[index];
  *t = describe(v->name, &v->type, p->module->var_offset.data[index]);
  t->role = v->role == TT_VAR_PARAM ? TRT_PARAM : v->role == TT_VAR_STATE ? TRT_STATE : TRT_TRACK;
  t->init = v->copy_of == TT_NONE ? TRT_INIT_ZERO : TRT_INIT_COPY;
  t->init_offset = v->copy_of == TT_NONE ? 0 : v->copy_of;
  t->transposed = v->origin_transposed;
  for (int i = 0; i < p->n_patches; i++) {
    if (p->patches[i].var != index) continue;
    t->init = TRT_INIT_IMAGE;
    t->init_offset = p->patches[i].offset;
    return true;
  }
  if (!v->init) return true;
  tt_error(c->diag, (tt_loc){.file = p->module->name}, "the initial value of '%s' is in no initializer of the model", v->name);
  return false;
}

static void add_inputs(cg_ctx *c, const tt_graph *g, fields *f) {
  fields items = {0};
  for (size_t i = 0; i < g->inputs.count; i++) {
    const tt_value_data *v = tt_val(g, g->inputs.data[i]);
    trt_tensor t = describe(v->name, &v->type, v->offset);
    tt_vec_push(&items, cg_const_tensor(c, &t));
  }
  add_array(c, f, &items, "inputs");
}

static void add_outputs(cg_ctx *c, const tt_graph *g, fields *f) {
  fields items = {0};
  for (size_t i = 0; i < g->results.count; i++) {
    trt_tensor t = describe(g->results.data[i].name, tt_typ(g, g->results.data[i].value), cg_result_offset(g, i));
    tt_vec_push(&items, cg_const_tensor(c, &t));
  }
  add_array(c, f, &items, "outputs");
}

cg_val cg_const_launch(cg_ctx *c, const trt_launch *l) {
  fields f = {0};
  add_text(c, &f, l->node);
  add_text(c, &f, l->op);
  add_text(c, &f, l->kernel);
  add_f64(c, &f, l->mx_macs);
  add_f64(c, &f, l->f32_macs);
  add_f64(c, &f, l->bytes_read);
  add_f64(c, &f, l->bytes_written);
  return close_struct(c, &f);
}

cg_val cg_const_probe(cg_ctx *c, const char *name, cg_val kernel, double work) {
  fields f = {0};
  add_text(c, &f, name);
  tt_vec_push(&f, kernel);
  add_f64(c, &f, work);
  return close_struct(c, &f);
}

/* What the node costs, at its first launch. */
static void add_costs(const tt_graph *g, tt_node n, trt_launch *l) {
  const tt_node_data *d = tt_nod(g, n);
  tt_work work = tt_node_work(g, n);
  l->mx_macs = work.mx;
  l->f32_macs = work.f32;
  for (int i = 0; i < d->n_in; i++) l->bytes_read += (double)tt_type_bytes(tt_typ(g, d->in[i]));
  for (int k = 0; k < d->n_out; k++) l->bytes_written += (double)tt_type_bytes(tt_typ(g, d->out[k]));
}

/* The op; of a fused node with what is in it. */
static const char *op_label(cg_ctx *c, const tt_graph *g, tt_node n) {
  const char *name = tt_ops[tt_nod(g, n)->op].name;
  const tt_attr *of = tt_node_attr(g, n, TT_A_OF);
  for (int i = 0; of && i < of->as.ints.n; i++)
    name = tt_arena_printf(c->arena, "%s%c%s", name, i ? '+' : ' ', tt_ops[of->as.ints.v[i]].name);
  return name;
}

/* A kernel is its types, too: the emitter's suffix, the first operand and the first result. */
static const char *kernel_label(cg_ctx *c, const tt_graph *g, const cg_launched *l) {
  const tt_node_data *d = tt_nod(g, l->node);
  char in[TT_TYPE_TEXT] = "", out[TT_TYPE_TEXT] = "";
  if (d->n_in) tt_type_print(tt_typ(g, d->in[0]), in, sizeof in);
  if (d->n_out) tt_type_print(tt_typ(g, d->out[0]), out, sizeof out);
  return tt_arena_printf(c->arena, "%s%s%s>%s", l->kernel, l->kernel[0] ? " " : "", in, out);
}

static void add_launches(cg_ctx *c, const tt_graph *g, fields *f) {
  fields items = {0};
  tt_node last = TT_NONE;
  for (size_t i = 0; i < c->state->launches.count; i++) {
    const cg_launched *from = &c->state->launches.data[i];
    const tt_node_data *d = tt_nod(g, from->node);
    trt_launch l = {
        .node = d->loc.node ? d->loc.node : "", .op = op_label(c, g, from->node), .kernel = kernel_label(c, g, from)};
    if (from->node != last) add_costs(g, from->node, &l);
    last = from->node;
    tt_vec_push(&items, cg_const_launch(c, &l));
  }
  add_array(c, f, &items, "launches");
}

static void add_probes(cg_ctx *c, fields *items) {
  cg_probe probes[CG_PROBES];
  cg_emit_probes(c, probes);
  for (int i = 0; i < CG_PROBES; i++) tt_vec_push(items, cg_const_probe(c, probes[i].name, probes[i].fn, probes[i].work));
}

static bool add_entry(cg_ctx *c, fields *entries, const tt_graph *g, uint64_t work_offset, uint64_t saved_bytes) {
  const char *symbol = tt_arena_printf(c->arena, "tetrac_%s", g->name);
  cg_val fn = cg_emit_entry(c, g, symbol, work_offset, false);
  if (!fn) return false;
  fields f = {0};
  add_text(c, &f, g->name);
  tt_vec_push(&f, fn);
  add_inputs(c, g, &f);
  add_outputs(c, g, &f);
  add_launches(c, g, &f);
  add_u64(c, &f, cg_plan_bytes(g));
  add_u64(c, &f, saved_bytes);
  tt_vec_push(entries, close_struct(c, &f));
  return true;
}

static cg_val image_global(cg_ctx *c, const cg_program *p, cg_format format) {
  if (format == CG_OBJ || format == CG_PARTS)
    return constant(c, LLVMConstStringInContext2(c->llvm, (const char *)p->image, p->image_bytes, true), "tetrac_image",
                    TRT_ALIGN);
  return LLVMAddGlobal(c->module, LLVMArrayType2(c->i8, p->image_bytes), "tetrac_image");
}

static bool emit_all(cg_ctx *c, const cg_program *p, cg_format format) {
  fields entries = {0}, vars = {0}, patches = {0}, probes = {0}, f = {0};
  const tt_module *m = p->module;
  uint64_t work_offset = 0;
  bool ok = true;
  for (int i = 0; i < p->n_entries; i++) {
    uint64_t need = cg_plan_bytes(tt_module_find_graph(m, p->entries[i]));
    if (need > work_offset) work_offset = need;
  }
  for (int i = 0; i < p->n_entries; i++)
    ok &= add_entry(c, &entries, tt_module_find_graph(m, p->entries[i]), work_offset, p->saved_bytes ? p->saved_bytes[i] : 0);
  for (uint32_t i = 0; i < m->vars.count; i++) {
    trt_tensor t;
    ok &= describe_var(c, p, i, &t);
    tt_vec_push(&vars, cg_const_tensor(c, &t));
  }
  add_probes(c, &probes);
  for (int i = 0; i < p->n_patches; i++) tt_vec_push(&patches, const_patch(c, &p->patches[i]));
  add_u32(c, &f, TRT_ABI_VERSION);
  add_u32(c, &f, 0);
  add_text(c, &f, cg_target_needs(c->target, c->arena));
  add_text(c, &f, m->name);
  add_text(c, &f, p->recipe_text);
  add_text(c, &f, cg_target_describe(c->target));
  add_text(c, &f, p->info_json);
  add_u64(c, &f, p->fingerprint);
  add_u64(c, &f, p->batch);
  add_u64(c, &f, m->vars_bytes);
  add_u64(c, &f, work_offset + c->work_bytes);
  add_u64(c, &f, c->scratch_bytes);
  add_u64(c, &f, c->work_bytes);
  add_array(c, &f, &vars, "vars");
  add_array(c, &f, &entries, "entries");
  tt_vec_push(&f, image_global(c, p, format));
  add_u64(c, &f, p->image_bytes);
  add_array(c, &f, &patches, "patches");
  add_array(c, &f, &probes, "probes");
  tt_vec_push(&f, cg_const_defaults(c, &p->defaults));
  cg_val init = close_struct(c, &f);
  cg_val program = constant(c, init, "tetrac_program", 16);
  LLVMSetLinkage(program, LLVMExternalLinkage);
  return ok;
}

bool cg_emit_program(const cg_program *p, const cg_target *t, cg_format format, cg_output *out, tt_arena *arena,
                     tt_diag *diag) {
  cg_ctx *c = cg_open(t, arena, diag);
  if (!c) return false;
  c->state->jobs = p->jobs;
  bool ok = emit_all(c, p, format) && cg_write(c, format, out);
  cg_close(c);
  return ok;
}
