#include "checkpoint.h"
#include "safetensors.h"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The metadata as a table: one row is one key, both ways. Reals are written with 17 digits, which read back exactly. */
typedef struct record {
  trt_settings settings;
  trt_position position;
} record;

typedef enum { INT, SIGNED, REAL, BIT, SET, SUM, TEXT } field_kind; /* SET: unsigned int; SUM: uint32_t */

static const struct {
  const char *key;
  field_kind kind;
  size_t offset;
} fields[] = {
    {"step", INT, offsetof(record, position.step)},
    {"eval_pending", BIT, offsetof(record, position.eval_pending)},
    {"loss_sum", REAL, offsetof(record, position.loss_sum)},
    {"loss_count", INT, offsetof(record, position.loss_count)},
    {"grad_norm", REAL, offsetof(record, position.grad_norm)},
    {"seed", SIGNED, offsetof(record, settings.seed)},
    {"epochs", INT, offsetof(record, settings.epochs)},
    {"cosine", INT, offsetof(record, settings.cosine)},
    {"lr", REAL, offsetof(record, settings.lr)},
    {"min_lr", REAL, offsetof(record, settings.min_lr)},
    {"warmup_epochs", REAL, offsetof(record, settings.warmup_epochs)},
    {"augment", SET, offsetof(record, settings.augment)},
    {"data", TEXT, offsetof(record, settings.data)},
    {"data_checksum", SUM, offsetof(record, settings.data_checksum)},
    {"train_images", INT, offsetof(record, settings.train_images)},
    {"batch", INT, offsetof(record, settings.batch)},
};
enum { N_FIELDS = sizeof fields / sizeof *fields };

static void print_field(size_t i, const record *r, char *out, size_t size) {
  const char *at = (const char *)r + fields[i].offset;
  switch (fields[i].kind) {
  case INT:
  case SIGNED: snprintf(out, size, "%" PRId64, *(const int64_t *)(const void *)at); break;
  case REAL: snprintf(out, size, "%.17g", *(const double *)(const void *)at); break;
  case BIT: snprintf(out, size, "%d", *(const bool *)at); break;
  case SET: snprintf(out, size, "%u", *(const unsigned *)(const void *)at); break;
  case SUM: snprintf(out, size, "%" PRIu32, *(const uint32_t *)(const void *)at); break;
  case TEXT: snprintf(out, size, "%s", at); break;
  }
}

static bool parse_field(size_t i, record *r, const char *value) {
  char *at = (char *)r + fields[i].offset, *end;
  if (fields[i].kind == TEXT) {
    if (strlen(value) >= sizeof r->settings.data) return false;
    strcpy(at, value);
    return true;
  }
  errno = 0;
  if (fields[i].kind == REAL) {
    *(double *)(void *)at = strtod(value, &end);
    return end != value && *end == 0;
  }
  long long v = strtoll(value, &end, 10);
  if (errno || end == value || *end || (v < 0 && fields[i].kind != SIGNED)) return false;
  switch (fields[i].kind) {
  case INT:
  case SIGNED: *(int64_t *)(void *)at = v; return true;
  case BIT: *(bool *)at = v != 0; return v <= 1;
  case SET: *(unsigned *)(void *)at = (unsigned)v; return v <= 255;
  default: *(uint32_t *)(void *)at = (uint32_t)v; return v <= UINT32_MAX;
  }
}

bool trt_checkpoint_save(const char *path, const trt_model *model, const trt_settings *settings,
                         const trt_position *position, trt_error *err) {
  const trt_program *p = model->program;
  record r = {*settings, *position};
  char values[N_FIELDS][64], keys[N_FIELDS][64], fingerprint[32];
  trt_st_meta metas[N_FIELDS + 2];
  snprintf(fingerprint, sizeof fingerprint, "%016" PRIx64, p->fingerprint);
  metas[0] = (trt_st_meta){"tetrac.fingerprint", fingerprint};
  metas[1] = (trt_st_meta){"tetrac.model", p->model};
  for (size_t i = 0; i < N_FIELDS; i++) {
    print_field(i, &r, values[i], sizeof values[i]);
    snprintf(keys[i], sizeof keys[i], "tetrac.%s", fields[i].key);
    metas[i + 2] = (trt_st_meta){keys[i], values[i]};
  }
  trt_st_tensor *tensors = trt_alloc(trt_model_state_vars(p) * sizeof *tensors);
  for (uint64_t i = 0; i < trt_model_state_vars(p); i++) tensors[i] = trt_st_describe(&p->vars[i], model->vars);
  bool ok = trt_st_write(path, tensors, trt_model_state_vars(p), metas, N_FIELDS + 2, err);
  free(tensors);
  return ok;
}

static bool check_identity(const char *path, const trt_st_file *file, const trt_program *p, trt_error *err) {
  const char *stored = trt_st_meta_find(file, "tetrac.fingerprint");
  char mine[32];
  if (!stored || !file->has_crc)
    return trt_fail(err, "%s: is not a trainer's checkpoint; give a " TRT_STATE_FILE " written by train", path);
  snprintf(mine, sizeof mine, "%016" PRIx64, p->fingerprint);
  if (strcmp(stored, mine) == 0) return true;
  const char *model = trt_st_meta_find(file, "tetrac.model");
  return trt_fail(err,
                  "%s: is of another program (model '%s', fingerprint %s; this is '%s', %s); use the trainer that wrote it",
                  path, model ? model : "?", stored, p->model, mine);
}

static bool check_tensors(const char *path, const trt_st_file *file, const trt_model *model, trt_error *err) {
  const trt_program *p = model->program;
  for (uint64_t i = 0; i < trt_model_state_vars(p); i++) {
    trt_st_tensor want = trt_st_describe(&p->vars[i], model->vars);
    const trt_st_tensor *have = trt_st_find(file, want.name);
    if (!have) return trt_fail(err, "%s: has no tensor '%s'; use the trainer that wrote it", path, want.name);
    bool same = strcmp(have->dtype, want.dtype) == 0 && have->rank == want.rank && have->bytes == want.bytes &&
                memcmp(have->dim, want.dim, want.rank * sizeof *want.dim) == 0;
    if (!same)
      return trt_fail(err, "%s: tensor '%s' has another type or shape; use the trainer that wrote it", path, want.name);
  }
  if (file->n_tensors == trt_model_state_vars(p)) return true;
  return trt_fail(err, "%s: has %" PRIu64 " tensors, this program %" PRIu64 "; use the trainer that wrote it", path,
                  file->n_tensors, trt_model_state_vars(p));
}

static bool parse_record(const char *path, const trt_st_file *file, record *r, trt_error *err) {
  for (size_t i = 0; i < N_FIELDS; i++) {
    char key[64];
    snprintf(key, sizeof key, "tetrac.%s", fields[i].key);
    const char *value = trt_st_meta_find(file, key);
    if (value && parse_field(i, r, value)) continue;
    return trt_fail(err, "%s: its metadata '%s' is %s; use an intact checkpoint", path, key, value ? "wrong" : "missing");
  }
  return true;
}

bool trt_checkpoint_load(const char *path, const trt_model *model, trt_settings *settings, trt_position *position,
                         trt_error *err) {
  const trt_program *p = model->program;
  trt_st_file file;
  record r = {0};
  if (!trt_st_read(&file, path, err)) return false;
  bool ok =
      check_identity(path, &file, p, err) && check_tensors(path, &file, model, err) && parse_record(path, &file, &r, err);
  if (ok) {
    for (uint64_t i = 0; i < trt_model_state_vars(p); i++) {
      const trt_st_tensor *t = trt_st_find(&file, p->vars[i].name);
      memcpy(model->vars + p->vars[i].offset, t->data, t->bytes);
      trt_forget(t->data, t->bytes); /* so that the state is never in memory twice */
    }
    if (settings) *settings = r.settings;
    if (position) *position = r.position;
  }
  trt_st_close(&file);
  return ok;
}
