/* The training loop from outside: a real process, killed, stopped, resumed, exported. */
#include "trainer.h"
#include "fake_program.h"
#include "runtime/src/safetensors.h"
#include <time.h>

static void pause_ms(long ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL); }

static void learns(void **state) {
  (void)state;
  make_idx(203, 50);
  assert_int_equal(sh("$T eval --data idx:d --json"), 0);
  assert_true(file_has("out", "\"samples\":50,"));
  assert_int_equal(sh("$T train --data idx:d --out r --epochs 10"), 0);
  assert_true(file_has("out", "test accuracy "));
  assert_int_equal(sh("$T train --data synthetic --out s && cat out >&2"), 0);
  double accuracy = 0;
  size_t size;
  char *out = (char *)slurp("out", &size);
  assert_int_equal(sscanf(out, "test accuracy %lf", &accuracy), 1);
  free(out);
  assert_true(accuracy > 90);
  /* eval of the state says what train said */
  assert_int_equal(
      sh("$T train --data idx:d --out q --epochs 10 >a && $T eval --data idx:d --state q/state.safetensors >b"), 0);
  assert_same_file("a", "b");
}

/* Every sample of the odd-sized test split is counted once: 50 = 6 batches of 8 and 2. */
static void eval_is_exact(void **state) {
  (void)state;
  make_idx(64, 50);
  for (int n = 1; n <= 9; n += 4) { /* also fewer than one batch */
    make_idx(64, (uint32_t)n);
    char want[32];
    snprintf(want, sizeof want, "\"samples\":%d,", n);
    assert_int_equal(sh("$T eval --data idx:d --json"), 0);
    assert_true(file_has("out", want));
  }
  assert_int_equal(sh("$T eval --data idx:d --split train --json"), 0);
  assert_true(file_has("out", "\"samples\":64,"));
}

static void threads_change_nothing(void **state) {
  (void)state;
  make_idx(203, 50);
  for (int n = 1; n <= 3; n++)
    assert_int_equal(sh("$T train --data idx:d --out r%d --threads %d --augment flip,crop", n, n), 0);
  assert_same_file("r1/state.safetensors", "r2/state.safetensors");
  assert_same_file("r1/state.safetensors", "r3/state.safetensors");
  assert_int_equal(sh("$T train --data idx:d --out r4 --seed 2 --augment flip,crop"), 0);
  assert_int_equal(sh("cmp -s r1/state.safetensors r4/state.safetensors"), 1);
}

static const char strip_rate[] = "cut -d, -f1-5,7- %s/metrics.csv >%s.csv";

static void assert_same_run(const char *a, const char *b) {
  char x[64], y[64];
  snprintf(x, sizeof x, "%s/state.safetensors", a);
  snprintf(y, sizeof y, "%s/state.safetensors", b);
  assert_same_file(x, y);
  assert_int_equal(sh(strip_rate, a, a), 0);
  assert_int_equal(sh(strip_rate, b, b), 0);
  snprintf(x, sizeof x, "%s.csv", a);
  snprintf(y, sizeof y, "%s.csv", b);
  assert_same_file(x, y);
}

/* 25 steps an epoch, 3 epochs. Killed at many places, each resumed to the bits and the log of the undisturbed run. */
static void kill_and_resume(void **state) {
  (void)state;
  make_idx(203, 50);
  const char *train = "exec $T train --data idx:d --save-every 4 --log-every 3 --augment flip,crop";
  assert_int_equal(sh("%s --out whole", train), 0);
  for (int i = 0; i < 6; i++) {
    assert_int_equal(sh("rm -rf cut"), 0);
    pid_t pid = launch("FAKE_PAUSE_MS=4 %s --out cut", train);
    pause_ms(30 + 45 * i);
    kill(pid, SIGKILL);
    assert_int_equal(finish(pid), -SIGKILL);
    assert_int_equal(sh("printf '{\"step\":12,\"torn' >>cut/metrics.jsonl; %s --out cut --resume --threads 2", train), 0);
    assert_same_run("whole", "cut");
  }
}

static void signal_saves(void **state) {
  (void)state;
  make_idx(203, 50);
  assert_int_equal(sh("$T train --data idx:d --log-every 7 --out whole"), 0);
  int signals[] = {SIGTERM, SIGINT, SIGHUP};
  for (int i = 0; i < 3; i++) {
    assert_int_equal(sh("rm -rf cut"), 0);
    pid_t pid = launch("FAKE_PAUSE_MS=20 exec $T train --data idx:d --log-every 7 --out cut");
    pause_ms(300);
    kill(pid, signals[i]);
    assert_int_equal(finish(pid), 128 + signals[i]);
    assert_true(file_has("err", "the state is saved"));
    assert_int_equal(sh("$T train --data idx:d --log-every 7 --out cut --resume"), 0);
    assert_same_run("whole", "cut");
  }
}

/* Stops at a step and goes on; at the end there is nothing to do but to say the accuracy. */
static void max_steps(void **state) {
  (void)state;
  make_idx(203, 50);
  assert_int_equal(sh("$T train --data idx:d --out whole >a"), 0);
  assert_int_equal(sh("$T train --data idx:d --out cut --max-steps 31 && tail -1 cut/metrics.csv >last"), 0);
  assert_true(file_has("last", "31,"));
  assert_int_equal(sh("$T train --data idx:d --out cut --resume >b"), 0);
  assert_same_file("whole/state.safetensors", "cut/state.safetensors");
  assert_same_file("a", "b");
  assert_int_equal(sh("$T train --data idx:d --out cut --resume >b"), 0);
  assert_same_file("a", "b");
}

static void resume_is_strict(void **state) {
  (void)state;
  make_idx(203, 50);
  assert_int_equal(sh("$T train --data idx:d --out r --max-steps 10"), 0);
  assert_int_equal(sh("cp r/state.safetensors kept"), 0);
  assert_fails("--lr", "$T train --data idx:d --out r --resume --lr 0.5");
  assert_fails("--augment", "$T train --data idx:d --out r --resume --augment flip");
  assert_fails("other data", "$T train --data synthetic --out r --resume");
  make_idx(204, 50);
  assert_fails("other data", "$T train --data idx:d --out r --resume");
  assert_same_file("kept", "r/state.safetensors");
  make_idx(203, 50);
  assert_int_equal(sh("$T train --data idx:d --out r --resume --lr 0.1 --seed 1"), 0);
  /* no state there: starts, and says so */
  assert_int_equal(sh("$T train --data idx:d --out fresh --resume"), 0);
  assert_true(file_has("err", "nothing to resume"));
  assert_same_file("r/state.safetensors", "fresh/state.safetensors");
  /* without --resume the old state is set aside, not lost */
  assert_int_equal(sh("$T train --data idx:d --out r --seed 5"), 0);
  assert_same_file("r/state.previous.safetensors", "fresh/state.safetensors");
}

static void not_finite(void **state) {
  (void)state;
  make_idx(203, 50);
  assert_fails("step 30: the gradient of 'head.\"bias\"' is not finite", "FAKE_NAN=30 $T train --data idx:d --out r");
  assert_true(file_has("err", "of step 25"));
  assert_int_equal(sh("$T eval --data idx:d --state r/state.safetensors"), 0);
  assert_fails("nothing was saved yet", "FAKE_NAN=1 $T train --data idx:d --out r2");
  assert_fails("'head.\"bias\"' is no longer finite", "FAKE_NAN_WEIGHT=20 $T train --data idx:d --out r3 --save-every 20");
  assert_int_equal(sh("test -e r3/state.safetensors"), 1);
}

/* The exported image holds the trained weights at the patches, transposed back, and the other bytes as they were. */
static void export_patches(void **state) {
  (void)state;
  size_t size;
  make_idx(203, 50);
  assert_int_equal(sh("$T export -o a.onnx"), 0);
  uint8_t *image = slurp("a.onnx", &size);
  assert_int_equal(size, FAKE_IMAGE);
  assert_memory_equal(image, fake_image, FAKE_IMAGE);
  free(image);
  assert_int_equal(sh("$T train --data idx:d --out r && $T export --state r/state.safetensors -o a.onnx"), 0);
  image = slurp("a.onnx", &size);
  trt_st_file file;
  trt_error err;
  char path[128];
  snprintf(path, sizeof path, "%s/r/state.safetensors", work_dir);
  assert_true(trt_st_read(&file, path, &err));
  const trt_st_tensor *w = trt_st_find(&file, "head.weight"), *b = trt_st_find(&file, "head.\"bias\"");
  assert_memory_equal(image + FAKE_B_AT, b->data, b->bytes);
  for (int c = 0; c < FC; c++) {
    for (int d = 0; d < FD; d++) assert_memory_equal(image + FAKE_W_AT + 4 * (d * FC + c), w->data + 4 * (c * FD + d), 4);
  }
  assert_int_equal(image[6], 0xEE);
  assert_int_equal(image[FAKE_B_AT - 1], 0xEE);
  assert_int_equal(image[FAKE_IMAGE - 1], 0xEE);
  trt_st_close(&file);
  free(image);
  assert_fails("not in this version", "$T export --weights mxfp4 -o b.onnx");
  assert_int_equal(sh("test -e b.onnx"), 1);
}

static void write_batch(const char *name, const char *dtype, const void *labels, uint64_t bytes, uint32_t rows) {
  static float images[FB * FD];
  for (int i = 0; i < FB * FD; i++) images[i] = (float)(i % 7) - 3;
  trt_error err;
  char path[128];
  snprintf(path, sizeof path, "%s/%s", work_dir, name);
  trt_st_tensor tensors[] = {
      {"images", "F32", 4, {rows, 1, 4, 4}, (const uint8_t *)images, rows * FD * 4},
      {"labels", dtype, 1, {FB}, labels, bytes},
  };
  assert_true(trt_st_write(path, tensors, 2, NULL, 0, &err));
}

static void grad_writes_everything(void **state) {
  (void)state;
  int64_t wide[FB] = {0, 1, 2, 0, 1, 2, 0, 1};
  int32_t narrow[FB] = {0, 1, 2, 0, 1, 2, 0, 1};
  write_batch("wide", "I64", wide, sizeof wide, FB);
  write_batch("narrow", "I32", narrow, sizeof narrow, FB);
  assert_int_equal(sh("$T grad --batch wide -o a && $T grad --batch narrow -o b --threads 1"), 0);
  assert_same_file("a", "b");
  trt_st_file file;
  trt_error err;
  char path[128];
  snprintf(path, sizeof path, "%s/a", work_dir);
  assert_true(trt_st_read(&file, path, &err));
  assert_int_equal(file.n_tensors, 8);
  const trt_st_tensor *g = trt_st_find(&file, "grad:head.weight"), *loss = trt_st_find(&file, "loss");
  assert_int_equal(g->dim[1], FC); /* as the model's initializer lies, though the program keeps [FC, FD] */
  assert_int_equal(loss->rank, 0);
  trt_st_close(&file);
  wide[3] = 3;
  write_batch("bad", "I64", wide, sizeof wide, FB);
  assert_fails("label 3 of sample 3 is out of range", "$T grad --batch bad -o c");
  write_batch("short", "I32", narrow, sizeof narrow, FB - 1);
  assert_fails("'images' must be F32 [8,1,4,4]", "$T grad --batch short -o c");
  assert_fails("cannot open", "$T grad --batch absent -o c");
  assert_int_equal(sh("test -e c"), 1);
}

static void usage(void **state) {
  (void)state;
  assert_int_equal(sh("$T"), 2);
  assert_int_equal(sh("$T nonsense"), 2);
  assert_int_equal(sh("$T train"), 2);
  assert_true(file_has("err", "--data SPEC is missing"));
  assert_int_equal(sh("$T train --data synthetic --epochs 0"), 2);
  assert_int_equal(sh("$T train --data synthetic --lr nan"), 2);
  assert_int_equal(sh("$T train --data synthetic --epochs"), 2);
  assert_int_equal(sh("$T train --data synthetic --augment zoom"), 2);
  assert_int_equal(sh("$T train --data synthetic --bogus"), 2);
  assert_int_equal(sh("$T eval --data synthetic --split both"), 2);
  assert_int_equal(sh("$T export -o x --weights int8"), 2);
  for (const char *const *c = (const char *const[]){"", "train", "eval", "grad", "export", "info", NULL}; *c; c++) {
    assert_int_equal(sh("$T %s --help", *c), 0);
    assert_true(file_has("out", *c));
  }
  assert_int_equal(sh("$T info && $T info --json"), 0);
  assert_true(file_has("out", "parameters  51 "));
  assert_true(file_has("out", "saved activations "));
  assert_true(file_has("out", "\"parameters\":51,"));
  assert_int_equal(sh("command -v python3 >/dev/null || exit 0; $T info --json | python3 -m json.tool"), 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, make_work_dir, remove_work_dir)
int main(void) {
  const struct CMUnitTest tests[] = {
      CASE(learns),
      CASE(eval_is_exact),
      CASE(threads_change_nothing),
      CASE(kill_and_resume),
      CASE(signal_saves),
      CASE(max_steps),
      CASE(resume_is_strict),
      CASE(not_finite),
      CASE(export_patches),
      CASE(grad_writes_everything),
      CASE(usage),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
