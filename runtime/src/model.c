#include "model.h"
#include "cpu.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t element_size(uint32_t dtype) {
  switch (dtype) {
  case TRT_F32:
  case TRT_I32: return 4;
  case TRT_F64:
  case TRT_I64: return 8;
  case TRT_BOOL: return 1;
  default: return 0;
  }
}

int64_t trt_tensor_elements(const trt_tensor *tensor) {
  int64_t n = 1;
  for (uint32_t i = 0; i < tensor->rank; i++) n *= tensor->dim[i];
  return n;
}

const trt_tensor *trt_tensor_find(const trt_tensor *list, uint64_t n, const char *name) {
  for (uint64_t i = 0; i < n; i++) {
    if (strcmp(list[i].name, name) == 0) return &list[i];
  }
  return NULL;
}

static bool inside(uint64_t offset, uint64_t bytes, uint64_t size) { return offset <= size && bytes <= size - offset; }

/* The compiler made the program, so a fault here is a broken build and not the user's doing; still a line, never a crash.
 */
static bool check_tensors(const trt_tensor *list, uint64_t n, uint64_t size, const char *where, trt_error *err) {
  for (uint64_t i = 0; i < n; i++) {
    const trt_tensor *t = &list[i];
    bool packed = t->dtype == TRT_MX;
    uint64_t bytes = packed ? t->bytes : element_size(t->dtype) * (uint64_t)trt_tensor_elements(t);
    if (t->rank <= TRT_MAX_RANK && t->dtype <= TRT_MX && bytes == t->bytes && inside(t->offset, bytes, size)) continue;
    return trt_fail(err, "this trainer is damaged: tensor '%s' does not fit %s; compile it again", t->name, where);
  }
  return true;
}

static bool check_vars(const trt_program *p, trt_error *err) {
  for (uint64_t i = 0; i < p->n_vars; i++) {
    const trt_tensor *v = &p->vars[i];
    if (v->role == TRT_TRACK) {
      if (v->init == TRT_INIT_ZERO) continue;
      return trt_fail(err, "this trainer is damaged: '%s' does not start as zeros; compile it again", v->name);
    }
    if (i > 0 && p->vars[i - 1].role == TRT_TRACK)
      return trt_fail(err, "this trainer is damaged: '%s' lies behind the vars of instruments; compile it again", v->name);
    bool ok = v->init <= TRT_INIT_COPY && (v->init != TRT_INIT_IMAGE || inside(v->init_offset, v->bytes, p->image_bytes)) &&
              (v->init != TRT_INIT_COPY || (v->init_offset < i && p->vars[v->init_offset].bytes == v->bytes)) &&
              (!v->transposed || (v->rank == 2 && v->dtype == TRT_F32));
    if (!ok) return trt_fail(err, "this trainer is damaged: '%s' has no initial value; compile it again", v->name);
  }
  for (uint64_t i = 0; i < p->n_patches; i++) {
    const trt_patch *patch = &p->patches[i];
    bool ok = patch->var < p->n_vars && inside(patch->offset, patch->bytes, p->image_bytes) &&
              p->vars[patch->var].bytes == patch->bytes && p->vars[patch->var].dtype == TRT_F32;
    if (!ok)
      return trt_fail(err, "this trainer is damaged: patch %u of its model image is wrong; compile it again", (unsigned)i);
  }
  return true;
}

static bool check_program(const trt_program *p, trt_error *err) {
  if (p->abi_version != TRT_ABI_VERSION) {
    return trt_fail(err, "this trainer was compiled for runtime version %u, and this is version %u; compile it again",
                    p->abi_version, TRT_ABI_VERSION);
  }
  if (!trt_cpu_check(p->needs, err)) return false;
  if (!check_tensors(p->vars, p->n_vars, p->vars_bytes, "the parameters", err) || !check_vars(p, err)) return false;
  for (uint64_t i = 0; i < p->n_entries; i++) {
    const trt_entry *e = &p->entries[i];
    if (!check_tensors(e->inputs, e->n_inputs, p->arena_bytes, "the arena", err)) return false;
    if (!check_tensors(e->outputs, e->n_outputs, p->arena_bytes, "the arena", err)) return false;
  }
  return true;
}

void trt_transpose(uint8_t *to, const uint8_t *from, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t c = 0; c < cols; c++) memcpy(to + 4 * (c * rows + r), from + 4 * (r * cols + c), 4);
  }
}

void trt_model_reset(const trt_model *model) {
  const trt_program *p = model->program;
  memset(model->vars, 0, model->vars_bytes);
  for (uint64_t i = 0; i < p->n_vars; i++) {
    const trt_tensor *v = &p->vars[i];
    uint8_t *to = model->vars + v->offset;
    if (v->init == TRT_INIT_COPY)
      memcpy(to, model->vars + p->vars[v->init_offset].offset, v->bytes);
    else if (v->init == TRT_INIT_IMAGE && v->transposed)
      trt_transpose(to, p->image + v->init_offset, v->dim[1], v->dim[0]);
    else if (v->init == TRT_INIT_IMAGE)
      memcpy(to, p->image + v->init_offset, v->bytes);
  }
  trt_forget(p->image, p->image_bytes); /* until an export: as large as all parameters */
}

uint64_t trt_model_state_vars(const trt_program *p) {
  uint64_t n = 0;
  while (n < p->n_vars && p->vars[n].role != TRT_TRACK) n++;
  return n;
}

/* The vars of instruments lie behind all others. */
static uint64_t state_bytes(const trt_program *p) {
  uint64_t n = trt_model_state_vars(p);
  return n < p->n_vars ? p->vars[n].offset : p->vars_bytes;
}

bool trt_model_add_tracking(trt_model *model, trt_error *err) {
  uint8_t *vars = trt_alloc_tensors(model->program->vars_bytes);
  if (!vars) {
    uint64_t mib = (model->program->vars_bytes - model->vars_bytes) >> 20;
    return trt_fail(err, "no memory for another %llu MiB; train without --track", (unsigned long long)mib);
  }
  memcpy(vars, model->vars, model->vars_bytes);
  memset(vars + model->vars_bytes, 0, model->program->vars_bytes - model->vars_bytes);
  free(model->vars);
  model->vars = vars;
  model->vars_bytes = model->program->vars_bytes;
  return true;
}

bool trt_model_open(trt_model *model, const trt_program *program, trt_error *err) {
  *model = (trt_model){.program = program};
  if (!check_program(program, err)) return false;
  model->vars_bytes = state_bytes(program);
  model->vars = trt_alloc_tensors(model->vars_bytes);
  model->arena = trt_alloc_tensors(program->arena_bytes);
  if (!model->vars || !model->arena) {
    uint64_t mib = (program->vars_bytes + program->arena_bytes) >> 20;
    trt_model_close(model);
    return trt_fail(err, "no memory for the model's %llu MiB; compile with a smaller --batch", (unsigned long long)mib);
  }
  return true;
}

void trt_model_close(trt_model *model) {
  free(model->vars);
  free(model->arena);
  *model = (trt_model){0};
}

typedef struct slot {
  const trt_tensor **tensor;
  const char *name;
  uint32_t dtype;
  int64_t elements;
} slot;

static bool bind_slots(const trt_entry *e, const trt_tensor *list, uint64_t n, const slot *slots, size_t n_slots,
                       trt_error *err) {
  for (size_t i = 0; i < n_slots; i++) {
    const trt_tensor *t = trt_tensor_find(list, n, slots[i].name);
    *slots[i].tensor = t;
    if (!t || (t->dtype == slots[i].dtype && trt_tensor_elements(t) == slots[i].elements)) continue;
    return trt_fail(err, "this trainer is damaged: '%s' of its entry '%s' has an unexpected type or size; compile it again",
                    slots[i].name, e->name);
  }
  return true;
}

static bool bind_images(trt_binding *b, trt_error *err) {
  const trt_entry *e = b->entry;
  b->images = trt_tensor_find(e->inputs, e->n_inputs, "images");
  b->labels = trt_tensor_find(e->inputs, e->n_inputs, "labels");
  b->logits = trt_tensor_find(e->outputs, e->n_outputs, "logits");
  if (!b->images || b->images->rank != 4 || b->images->dtype != TRT_F32) {
    return trt_fail(err, "this trainer's entry '%s' takes no [batch,channels,height,width] images; compile an image model",
                    e->name);
  }
  const int64_t *d = b->images->dim;
  b->batch = d[0], b->channels = d[1], b->height = d[2], b->width = d[3];
  b->soft_labels = b->labels && b->labels->dtype == TRT_F32;
  const trt_tensor *classes = b->soft_labels ? b->labels : b->logits;
  bool ok = classes && classes->rank == 2 && classes->dim[0] == b->batch && classes->dtype == TRT_F32;
  ok = ok && b->labels && (b->soft_labels || (b->labels->dtype == TRT_I32 && trt_tensor_elements(b->labels) == b->batch));
  if (!ok)
    return trt_fail(err, "this trainer is damaged: entry '%s' has no usable labels or logits; compile it again", e->name);
  b->classes = classes->dim[1];
  return true;
}

const trt_entry *trt_model_entry(const trt_model *model, const char *name, trt_error *err) {
  const trt_program *p = model->program;
  for (uint64_t i = 0; i < p->n_entries; i++) {
    if (strcmp(p->entries[i].name, name) == 0) return &p->entries[i];
  }
  trt_fail(err, "this trainer has no entry '%s'; compile the model again", name);
  return NULL;
}

bool trt_model_bind(const trt_model *model, const char *entry, trt_binding *b, trt_error *err) {
  const trt_program *p = model->program;
  *b = (trt_binding){.entry = trt_model_entry(model, entry, err)};
  if (!b->entry || !bind_images(b, err)) return false;
  int64_t n_params = 0;
  for (uint64_t i = 0; i < p->n_vars; i++) n_params += p->vars[i].role == TRT_PARAM;
  const slot in[] = {
      {&b->rng, "rng", TRT_I64, 2}, {&b->lr, "lr", TRT_F32, 1}, {&b->bc1, "bc1", TRT_F32, 1}, {&b->bc2, "bc2", TRT_F32, 1}};
  const slot out[] = {{&b->loss, "loss", TRT_F32, 1},
                      {&b->logits, "logits", TRT_F32, b->batch * b->classes},
                      {&b->correct, "correct", TRT_I32, b->batch},
                      {&b->losses, "losses", TRT_F32, b->batch},
                      {&b->grad_sumsq, "grad_sumsq", TRT_F32, n_params},
                      {&b->grad_norm, "grad_norm", TRT_F32, 1}};
  return bind_slots(b->entry, b->entry->inputs, b->entry->n_inputs, in, sizeof in / sizeof *in, err) &&
         bind_slots(b->entry, b->entry->outputs, b->entry->n_outputs, out, sizeof out / sizeof *out, err);
}

static void put(const trt_model *model, const trt_tensor *tensor, const void *value, size_t n) {
  if (tensor) memcpy(model->arena + tensor->offset, value, n);
}

void trt_model_set_scalars(const trt_model *model, const trt_binding *b, const trt_scalars *s) {
  int64_t rng[2] = {s->seed, s->step};
  float lr = (float)s->lr, bc1 = (float)s->bc1, bc2 = (float)s->bc2;
  put(model, b->rng, rng, sizeof rng);
  put(model, b->lr, &lr, sizeof lr);
  put(model, b->bc1, &bc1, sizeof bc1);
  put(model, b->bc2, &bc2, sizeof bc2);
}

void trt_model_set_labels(const trt_model *model, const trt_binding *b, const int32_t *labels, const int64_t *index) {
  uint8_t *to = model->arena + b->labels->offset;
  int32_t *hard = (int32_t *)(void *)to; // [B]
  float *rows = (float *)(void *)to;     // [B,classes]
  if (b->soft_labels) memset(rows, 0, b->labels->bytes);
  for (int64_t i = 0; i < b->batch; i++) {
    int32_t label = labels[index ? index[i] : i];
    if (b->soft_labels)
      rows[i * b->classes + label] = 1.0f;
    else
      hard[i] = label;
  }
}

void trt_model_run(const trt_model *model, const trt_binding *b) {
  trt_step step = {model->vars, model->arena};
  b->entry->fn(&step);
}

float trt_model_scalar(const trt_model *model, const trt_tensor *tensor) {
  if (!tensor) return NAN;
  float value;
  memcpy(&value, model->arena + tensor->offset, sizeof value);
  return value;
}
