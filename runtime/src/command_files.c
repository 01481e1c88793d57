/* `grad` and `export`: what goes in and out as files, for looking at a trainer from outside. */
#include "checkpoint.h"
#include "commands.h"
#include "file.h"
#include "runtime/include/trt_runtime.h"
#include "safetensors.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* *step: how many the state has seen. */
static bool open_with_state(trt_model *model, const trt_program *program, const char *state, int64_t *step,
                            trt_error *err) {
  trt_position at = {0};
  if (!trt_model_open(model, program, err)) return false;
  if (!state) trt_model_reset(model);
  bool ok = !state || trt_checkpoint_load(state, model, NULL, &at, err);
  *step = at.step;
  if (ok) return true;
  trt_model_close(model);
  return false;
}

/* An output that would replace what it is made from is a slip of the user's. */
static bool keeps_input(const char *out, const char *input, trt_error *err) {
  if (!input || !trt_same_file(out, input)) return true;
  return trt_fail(err, "%s: is read by this command; write to another file", out);
}

/* ---- grad ---- */

typedef struct batch_file {
  const char *path;
  trt_st_file file;
} batch_file;

static const trt_st_tensor *need(const batch_file *batch, const char *name, trt_error *err) {
  const trt_st_tensor *t = trt_st_find(&batch->file, name);
  if (!t) trt_fail(err, "%s: has no tensor '%s'; write images and labels (and rng, if wanted)", batch->path, name);
  return t;
}

static bool has_shape(const trt_st_tensor *t, uint32_t rank, const int64_t *dim) {
  return t->rank == rank && memcmp(t->dim, dim, rank * sizeof *dim) == 0;
}

static bool put_images(const trt_model *model, const trt_binding *b, const batch_file *batch, trt_error *err) {
  const trt_st_tensor *t = need(batch, "images", err);
  if (!t) return false;
  const int64_t *d = b->images->dim;
  if (strcmp(t->dtype, "F32") != 0 || !has_shape(t, 4, d)) {
    return trt_fail(
        err, "%s: 'images' must be F32 [%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "], already normalised; write it so",
        batch->path, d[0], d[1], d[2], d[3]);
  }
  memcpy(model->arena + b->images->offset, t->data, t->bytes);
  return true;
}

static int64_t read_integer(const trt_st_tensor *t, int64_t i) {
  if (strcmp(t->dtype, "I64") == 0) {
    int64_t v;
    memcpy(&v, t->data + 8 * i, 8);
    return v;
  }
  int32_t v;
  memcpy(&v, t->data + 4 * i, 4);
  return v;
}

static bool is_integer(const trt_st_tensor *t) { return strcmp(t->dtype, "I64") == 0 || strcmp(t->dtype, "I32") == 0; }

/* Class numbers of either width, or the program's own soft labels. */
static bool put_labels(const trt_model *model, const trt_binding *b, const batch_file *batch, trt_error *err) {
  const trt_st_tensor *t = need(batch, "labels", err);
  if (!t) return false;
  int64_t soft[] = {b->batch, b->classes};
  if (b->soft_labels && strcmp(t->dtype, "F32") == 0 && has_shape(t, 2, soft)) {
    memcpy(model->arena + b->labels->offset, t->data, t->bytes);
    return true;
  }
  if (!is_integer(t) || !has_shape(t, 1, soft)) {
    return trt_fail(err, "%s: 'labels' must be I32 or I64 [%" PRId64 "]; write it so", batch->path, b->batch);
  }
  int32_t *labels = trt_alloc((size_t)b->batch * sizeof *labels);
  bool ok = true;
  for (int64_t i = 0; ok && i < b->batch; i++) {
    int64_t v = read_integer(t, i);
    if (v >= 0 && v < b->classes)
      labels[i] = (int32_t)v;
    else
      ok = trt_fail(
          err, "%s: label %" PRId64 " of sample %" PRId64 " is out of range, the model has %" PRId64 " classes; correct it",
          batch->path, v, i, b->classes);
  }
  if (ok) trt_model_set_labels(model, b, labels, NULL);
  free(labels);
  return ok;
}

static bool put_scalars(const trt_model *model, const trt_binding *b, const batch_file *batch, int64_t step,
                        trt_error *err) {
  trt_scalars s = {.seed = model->program->defaults.seed, .step = step, .lr = model->program->defaults.lr, .bc1 = 1, .bc2 = 1};
  const trt_st_tensor *rng = trt_st_find(&batch->file, "rng");
  if (rng && (!is_integer(rng) || !has_shape(rng, 1, (int64_t[]){2}))) {
    return trt_fail(err, "%s: 'rng' must be I64 [2], seed and step; write it so", batch->path);
  }
  if (rng) s.seed = read_integer(rng, 0), s.step = read_integer(rng, 1);
  trt_model_set_scalars(model, b, &s);
  return true;
}

/* The parameter whose gradient an output named "grad:<param>" is; NULL for other outputs. */
static const trt_tensor *gradient_of(const trt_program *p, const char *name) {
  static const char prefix[] = "grad:";
  if (strncmp(name, prefix, sizeof prefix - 1) != 0) return NULL;
  for (uint64_t i = 0; i < p->n_vars; i++)
    if (strcmp(p->vars[i].name, name + sizeof prefix - 1) == 0) return &p->vars[i];
  return NULL;
}

/* Writes every output. A gradient gets the layout of its ONNX initializer, which is what others can compare it with, even
 * where the program keeps the parameter transposed. */
static bool write_outputs(const trt_model *model, const trt_binding *b, const char *path, trt_error *err) {
  const trt_entry *e = b->entry;
  trt_st_tensor *tensors = trt_alloc(e->n_outputs * sizeof *tensors);
  uint8_t **turned = trt_alloc(e->n_outputs * sizeof *turned);
  for (uint64_t i = 0; i < e->n_outputs; i++) {
    trt_st_tensor *t = &tensors[i];
    *t = trt_st_describe(&e->outputs[i], model->arena);
    const trt_tensor *v = gradient_of(model->program, t->name);
    turned[i] = NULL;
    if (!v || !v->transposed) continue;
    turned[i] = trt_alloc(t->bytes);
    trt_transpose(turned[i], t->data, v->dim[0], v->dim[1]);
    t->data = turned[i];
    t->dim[0] = v->dim[1];
    t->dim[1] = v->dim[0];
  }
  trt_st_meta metas[] = {{"tetrac.model", model->program->model}};
  bool ok = trt_st_write(path, tensors, e->n_outputs, metas, 1, err);
  for (uint64_t i = 0; i < e->n_outputs; i++) free(turned[i]);
  free(turned);
  free(tensors);
  return ok;
}

static int grad_main(const trt_program *program, const char *batch_path, const char *state, const char *out,
                     int64_t threads) {
  trt_error err;
  int64_t step;
  trt_model model;
  trt_binding b;
  batch_file batch = {.path = batch_path};
  if (!keeps_input(out, batch_path, &err) || !keeps_input(out, state, &err)) return trt_report(&err);
  if (!trt_threads_init(threads, program->scratch_bytes))
    trt_fail(&err, "no memory for scratch; use fewer --threads");
  else if (open_with_state(&model, program, state, &step, &err)) {
    bool ok = trt_model_bind(&model, "grad", &b, &err) && trt_st_read(&batch.file, batch_path, &err);
    ok = ok && put_images(&model, &b, &batch, &err) && put_labels(&model, &b, &batch, &err) &&
         put_scalars(&model, &b, &batch, step, &err);
    if (ok) {
      trt_model_run(&model, &b);
      ok = write_outputs(&model, &b, out, &err);
    }
    trt_st_close(&batch.file);
    trt_model_close(&model);
    if (ok) return 0;
  }
  return trt_report(&err);
}

int trt_command_grad(const trt_program *program, int argc, char **argv) {
  const char *batch = NULL, *state = NULL, *out = NULL;
  int64_t threads = 0;
  trt_option options[] = {
      TRT_NEED("--batch", &batch, "FILE",
               "safetensors: images F32 [B,C,H,W], labels I32 or I64 [B], rng I64 [2] {seed, step}"),
      TRT_NEED("-o", &out, "FILE", "safetensors: loss, logits, grad:NAME of every parameter"),
      TRT_TEXT("--state", &state, "FILE", "a " TRT_STATE_FILE " that train wrote; without it, the initial weights"),
      TRT_INT("--threads", &threads, "N", "0: one for each core", 0, 1024),
  };
  size_t n = sizeof options / sizeof *options;
  int code = trt_command_parse("grad --batch FILE -o FILE [options]",
                               "Computes one step's loss, logits and gradients on a batch of your own; nothing is updated.",
                               options, n, argc, argv);
  return code >= 0 ? code : grad_main(program, batch, state, out, threads);
}

/* ---- export ---- */

static int export_main(const trt_program *program, const char *state, const char *out) {
  trt_error err;
  int64_t step;
  trt_model model;
  if (!keeps_input(out, state, &err) || !open_with_state(&model, program, state, &step, &err)) return trt_report(&err);
  if (!state) trt_note("no --state given: exporting the initial weights");
  uint8_t *image = malloc(program->image_bytes ? program->image_bytes : 1);
  bool ok = image || trt_fail(&err, "no memory for the model's %" PRIu64 " bytes", program->image_bytes);
  if (ok) {
    memcpy(image, program->image, program->image_bytes);
    for (uint64_t i = 0; i < program->n_patches; i++) {
      const trt_patch *patch = &program->patches[i];
      const trt_tensor *v = &program->vars[patch->var];
      const uint8_t *from = model.vars + v->offset;
      if (v->transposed)
        trt_transpose(image + patch->offset, from, v->dim[0], v->dim[1]);
      else
        memcpy(image + patch->offset, from, patch->bytes);
    }
    trt_writer writer;
    ok = trt_writer_open(&writer, out, &err) && trt_writer_put(&writer, image, program->image_bytes, &err) &&
         trt_writer_commit(&writer, &err);
  }
  free(image);
  trt_model_close(&model);
  return ok ? 0 : trt_report(&err);
}

int trt_command_export(const trt_program *program, int argc, char **argv) {
  const char *state = NULL, *weights = "float32", *out = NULL;
  trt_option options[] = {
      TRT_NEED("-o", &out, "MODEL.onnx", "the file to write"),
      TRT_TEXT("--state", &state, "FILE", "a " TRT_STATE_FILE " that train wrote; without it, the initial weights"),
      TRT_TEXT("--weights", &weights, "W", "float32; mxfp4 is not in this version"),
  };
  size_t n = sizeof options / sizeof *options;
  int code = trt_command_parse("export -o MODEL.onnx [options]", "Writes the source model with the trained weights in it.",
                               options, n, argc, argv);
  if (code >= 0) return code;
  if (strcmp(weights, "mxfp4") == 0) {
    fprintf(stderr, "trainer: error: --weights mxfp4: packed 4-bit export is not in this version; use --weights float32\n");
    return 1;
  }
  if (strcmp(weights, "float32") != 0) {
    fprintf(stderr, "trainer: error: --weights %s: wants float32 or mxfp4\n", weights);
    return 2;
  }
  return export_main(program, state, out);
}
