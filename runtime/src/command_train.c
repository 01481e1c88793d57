/* `train` and `eval`: options, data and checkpoint brought together. */
#include "commands.h"
#include "file.h"
#include "runtime/include/trt_runtime.h"
#include "track.h"
#include "train.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_THREADS = 1024 };

static bool start_threads(int64_t n, const trt_program *program, trt_error *err) {
  if (trt_threads_init(n, program->scratch_bytes)) return true;
  return trt_fail(err, "no memory for the scratch of %" PRId64 " threads; use fewer --threads", n);
}

static trt_image_shape shape_of(const trt_binding *b) {
  return (trt_image_shape){b->batch, b->channels, b->height, b->width, b->classes};
}

/* ---- train ---- */

typedef struct train_arguments {
  trt_settings settings;
  trt_train_options run;
  const char *data, *augment, *profile_by;
  int64_t threads;
  bool no_eval;
} train_arguments;

/* What a checkpoint must agree with if it was given on the command line; the other rows may change on resuming. */
enum { EPOCHS, LR, MIN_LR, WARMUP, SEED, AUGMENT, N_FIXED };

static bool parse_augment(const char *text, unsigned *set, trt_error *err) {
  *set = 0;
  if (strcmp(text, "none") == 0) return true;
  for (const char *p = text; *p;) {
    size_t n = strcspn(p, ",");
    if (n == 4 && memcmp(p, "flip", 4) == 0)
      *set |= TRT_FLIP;
    else if (n == 4 && memcmp(p, "crop", 4) == 0)
      *set |= TRT_CROP;
    else
      return trt_fail(err, "--augment %s: wants none, flip, crop or flip,crop", text);
    p += n + (p[n] == ',');
  }
  return true;
}

static bool parse_profile_by(const char *text, trt_profile_by *by, trt_error *err) {
  static const char *const names[] = {"op", "node", "kernel"};
  for (int i = 0; i < 3; i++) {
    if (strcmp(text, names[i]) != 0) continue;
    *by = (trt_profile_by)i;
    return true;
  }
  return trt_fail(err, "--profile-by %s: wants op, node or kernel", text);
}

/* The checkpoint decides; an option given that says otherwise is an error, not a silent change of the run. */
static bool adopt_settings(const char *path, trt_option *options, trt_settings *mine, const trt_settings *stored,
                           trt_error *err) {
  bool same[N_FIXED] = {[EPOCHS] = mine->epochs == stored->epochs, [LR] = mine->lr == stored->lr,
                        [MIN_LR] = mine->min_lr == stored->min_lr, [WARMUP] = mine->warmup_epochs == stored->warmup_epochs,
                        [SEED] = mine->seed == stored->seed,       [AUGMENT] = mine->augment == stored->augment};
  for (int i = 0; i < N_FIXED; i++) {
    if (same[i] || !options[i].seen) continue;
    return trt_fail(err,
                    "%s: was made with another %s; leave the option out to go on as it was, or start anew without --resume",
                    path, options[i].name);
  }
  bool data = strcmp(mine->data, stored->data) == 0 && mine->data_checksum == stored->data_checksum &&
              mine->train_images == stored->train_images;
  if (!data) {
    return trt_fail(err,
                    "%s: was made with other data (%s, %" PRId64 " images, checksum %08" PRIx32 "; this is %s, %" PRId64
                    ", %08" PRIx32 "); resume with the same --data",
                    path, stored->data, stored->train_images, stored->data_checksum, mine->data, mine->train_images,
                    mine->data_checksum);
  }
  if (mine->batch != stored->batch || trt_steps_per_epoch(stored) < 1) {
    return trt_fail(err, "%s: was made with batch %" PRId64 "; resume with the trainer that wrote it", path, stored->batch);
  }
  *mine = *stored;
  return true;
}

static bool resume(train_arguments *a, trt_option *options, const trt_model *model, trt_position *at, trt_error *err) {
  char path[4096];
  trt_settings stored;
  if (!trt_join(path, sizeof path, a->run.out, TRT_STATE_FILE, err)) return false;
  if (!trt_file_exists(path)) {
    trt_note("%s: nothing to resume, starting from the beginning", path);
    trt_model_reset(model);
    return true;
  }
  if (!trt_checkpoint_load(path, model, &stored, at, err)) return false;
  return adopt_settings(path, options, &a->settings, &stored, err);
}

static int train_with(train_arguments *a, trt_option *options, const trt_model *model, const trt_dataset *data) {
  trt_error err;
  trt_position at = {0};
  trt_settings *s = &a->settings;
  snprintf(s->data, sizeof s->data, "%s", data->name);
  s->data_checksum = data->checksum;
  s->train_images = data->split[TRT_TRAIN].count;
  s->batch = data->shape.batch;
  if (!a->run.resume) trt_model_reset(model);
  if (a->run.resume && !resume(a, options, model, &at, &err)) return trt_report(&err);
  fprintf(stderr,
          "training '%s': %s, %" PRId64 " train and %" PRId64 " test images, batch %" PRId64 ", %" PRId64
          " epochs of %" PRId64 " steps, lr %g, seed %" PRId64 ", %" PRId64 " threads%s\n",
          model->program->model, data->name, s->train_images, data->split[TRT_TEST].count, s->batch, s->epochs,
          trt_steps_per_epoch(s), s->lr, s->seed, trt_threads_count(), at.step ? ", resumed" : "");
  return trt_train(model, data, s, &a->run, &at);
}

static int train_main(train_arguments *a, trt_option *options, const trt_program *program) {
  trt_error err;
  trt_model model;
  trt_binding b;
  trt_dataset data;
  if (!parse_augment(a->augment, &a->settings.augment, &err) || !parse_profile_by(a->profile_by, &a->run.profile_by, &err)) {
    trt_report(&err);
    return 2;
  }
  if (!start_threads(a->threads, program, &err) || !trt_model_open(&model, program, &err)) return trt_report(&err);
  int code = 1;
  bool ok = trt_model_bind(&model, "train", &b, &err) && (!a->run.track_every || trt_model_add_tracking(&model, &err));
  trt_image_shape shape = shape_of(&b);
  if (!ok || !trt_data_open(&data, a->data, &shape, &err)) {
    trt_report(&err);
  } else {
    code = train_with(a, options, &model, &data);
    trt_data_close(&data);
  }
  trt_model_close(&model);
  return code;
}

int trt_command_train(const trt_program *program, int argc, char **argv) {
  const trt_defaults *d = &program->defaults;
  train_arguments a = {.settings = {.seed = d->seed,
                                    .epochs = d->epochs,
                                    .cosine = d->cosine,
                                    .lr = d->lr,
                                    .min_lr = d->min_lr,
                                    .warmup_epochs = d->warmup_epochs},
                       .run = {.out = "run", .log_every = 50},
                       .augment = "none",
                       .profile_by = "op"};
  trt_settings *s = &a.settings;
  trt_option options[] = {
      [EPOCHS] = TRT_INT("--epochs", &s->epochs, "N", "passes over the training split", 1, 1e6),
      [LR] = TRT_REAL("--lr", &s->lr, "X", "peak learning rate", 0, 1e6),
      [MIN_LR] = TRT_REAL("--min-lr", &s->min_lr, "X", "learning rate at the end of the cosine", 0, 1e6),
      [WARMUP] = TRT_REAL("--warmup", &s->warmup_epochs, "E", "epochs of linear warm-up", 0, 1e6),
      [SEED] = TRT_INT("--seed", &s->seed, "N", "of shuffling, augmentation and stochastic rounding", 0, 9e15),
      [AUGMENT] = TRT_TEXT("--augment", &a.augment, "A", "none, flip, crop or flip,crop"),
      TRT_NEED("--data", &a.data, "SPEC", TRT_DATA_SPECS),
      TRT_TEXT("--out", &a.run.out, "DIR", "folder of " TRT_STATE_FILE ", metrics.jsonl, metrics.csv"),
      TRT_FLAG("--resume", &a.run.resume, "go on from DIR's state, to the same bits as without a break"),
      TRT_INT("--threads", &a.threads, "N", "0: one for each core; results do not depend on it", 0, MAX_THREADS),
      TRT_INT("--max-steps", &a.run.max_steps, "N", "stop after N steps in all, the schedule as it is; 0: at its end", 0, 9e15),
      TRT_INT("--save-every", &a.run.save_every, "N", "save every N steps; 0: after each epoch", 0, 9e15),
      TRT_INT("--log-every", &a.run.log_every, "N", "steps between metric lines", 1, 9e15),
      TRT_INT_OR("--track", &a.run.track_every, "[N]", "record how weights oscillate, every N steps, in track.jsonl; 0: off", 0,
                 9e15, TRT_TRACK_DEFAULT),
      TRT_INT("--track-window", &a.run.track_window, "N", "steps each record looks back on; 0: as --track, at most 200", 0,
              100000),
      TRT_INT_OR("--profile", &a.run.profile, "[N]", "time N steps launch by launch: profile.md, trace.json; 0: off", 0,
                 TRT_PROFILE_MOST, TRT_PROFILE_DEFAULT),
      TRT_TEXT("--profile-by", &a.profile_by, "B", "rows of the profile: op, node or kernel"),
      TRT_FLAG("--no-eval", &a.no_eval, "no evaluation on the test split"),
  };
  size_t n = sizeof options / sizeof *options;
  int code = trt_command_parse("train --data SPEC [options]", "Trains the model and prints its accuracy on the test split.",
                               options, n, argc, argv);
  if (code >= 0) return code;
  a.run.evaluate = !a.no_eval;
  return train_main(&a, options, program);
}

/* ---- eval ---- */

static int eval_main(const trt_program *program, const char *spec, const char *state, const char *split, int64_t threads,
                     bool json) {
  trt_error err;
  trt_model model;
  trt_binding b;
  trt_dataset data = {0};
  trt_evaluation result;
  trt_progress progress;
  trt_position at = {0};
  trt_progress_start(&progress);
  if (!start_threads(threads, program, &err) || !trt_model_open(&model, program, &err)) return trt_report(&err);
  if (!state) trt_model_reset(&model);
  bool ok = !state || trt_checkpoint_load(state, &model, NULL, &at, &err);
  if (ok && !state) trt_note("no --state given: evaluating the initial weights");
  ok = ok && trt_model_bind(&model, "eval", &b, &err);
  if (ok) {
    trt_image_shape shape = shape_of(&b);
    ok = trt_data_open(&data, spec, &shape, &err);
  }
  trt_split which = strcmp(split, "train") == 0 ? TRT_TRAIN : TRT_TEST;
  ok = ok && trt_evaluate(&model, &data, which, at.step, NULL, &progress, &result, &err);
  if (ok) trt_evaluation_print(&result, split, json);
  trt_data_close(&data);
  trt_model_close(&model);
  return ok ? 0 : trt_report(&err);
}

int trt_command_eval(const trt_program *program, int argc, char **argv) {
  const char *data = NULL, *state = NULL, *split = "test";
  int64_t threads = 0;
  bool json = false;
  trt_option options[] = {
      TRT_NEED("--data", &data, "SPEC", TRT_DATA_SPECS),
      TRT_TEXT("--state", &state, "FILE", "a " TRT_STATE_FILE " that train wrote; without it, the initial weights"),
      TRT_TEXT("--split", &split, "S", "test or train"),
      TRT_INT("--threads", &threads, "N", "0: one for each core", 0, MAX_THREADS),
      TRT_FLAG("--json", &json, "print a JSON object"),
  };
  size_t n = sizeof options / sizeof *options;
  int code = trt_command_parse("eval --data SPEC [options]", "Prints accuracy and mean loss.", options, n, argc, argv);
  if (code >= 0) return code;
  if (strcmp(split, "test") != 0 && strcmp(split, "train") != 0) {
    fprintf(stderr, "trainer: error: --split %s: wants test or train\n", split);
    return 2;
  }
  return eval_main(program, data, state, split, threads, json);
}
