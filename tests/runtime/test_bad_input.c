/* Bad input: every fault is one line that says what and where, exit code 1, and the last good checkpoint is whole. */
#include "trainer.h"
#include "fake_program.h"
#include <sys/resource.h>

#define TRAIN_IMAGES "d/train-images-idx3-ubyte"
#define TRAIN_LABELS "d/train-labels-idx1-ubyte"

static void damage(const char *name, size_t at, uint8_t value) {
  size_t size;
  uint8_t *bytes = slurp(name, &size);
  assert_true(at < size);
  bytes[at] = value;
  spit(name, bytes, size);
  free(bytes);
}

static void bad_idx(void **state) {
  (void)state;
  make_idx(64, 16);
  assert_int_equal(sh("cp -r d good && $T train --data idx:d --out r --max-steps 3 && cp r/state.safetensors kept"), 0);
  const char *train = "rm -f out; $T train --data idx:d --out r --resume";
  static const struct {
    const char *spoil, *says;
  } cases[] = {
      {"truncate -s -1 " TRAIN_IMAGES, "is shorter"},
      {"truncate -s 10 " TRAIN_IMAGES, "is cut short after 10 bytes"},
      {"truncate -s 0 " TRAIN_LABELS, "is cut short after 0 bytes"},
      {"printf x >>" TRAIN_IMAGES, "is longer"},
      {"rm " TRAIN_LABELS, "not found"},
      {"cp " TRAIN_LABELS " " TRAIN_IMAGES, "starts with 0x00000801"},
      {"cp d/t10k-labels-idx1-ubyte " TRAIN_LABELS, "has 16 labels for 64 images"},
      {"gzip " TRAIN_IMAGES " && truncate -s -20 " TRAIN_IMAGES ".gz", "is cut short"},
      {"gzip " TRAIN_IMAGES " && printf 'XXXX' | dd of=" TRAIN_IMAGES ".gz bs=1 seek=60 conv=notrunc 2>/dev/null",
       "fetch the file again"},
      {"rm " TRAIN_IMAGES " && mkdir " TRAIN_IMAGES, "train-images"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_int_equal(sh("rm -rf d && cp -r good d && %s", cases[i].spoil), 0);
    assert_fails(cases[i].says, "%s", train);
  }
  assert_int_equal(sh("rm -rf d && cp -r good d"), 0);
  damage(TRAIN_IMAGES, 4, 0xff); /* claims 4 billion images */
  assert_fails("its header claims", "%s", train);
  for (int k = 8; k < 16; k++) damage(TRAIN_IMAGES, (size_t)k, 0xff);
  assert_fails("impossible size", "%s", train);
  make_idx(64, 16);
  damage(TRAIN_LABELS, 8 + 5, 3);
  assert_fails("label 3 of train image 5 is out of range", "%s", train);
  make_idx(7, 16);
  assert_fails("fewer than one batch of 8", "%s", train);
  make_idx(64, 0);
  assert_fails("test split is empty", "%s", train);
  assert_same_file("kept", "r/state.safetensors");
}

static void bad_spec(void **state) {
  (void)state;
  assert_fails("images are 1x28x28", "$T train --data fashion-mnist");
  assert_fails("TETRAC_DATA=/nowhere", "TETRAC_DATA=/nowhere $T train --data fashion-mnist");
  assert_fails("unknown data", "$T train --data mnist");
  assert_fails("no folder given", "$T train --data idx:");
  assert_fails("not found", "$T train --data idx:nowhere");
  assert_fails("images are 3x32x32", "$T train --data cifar10:d");
  assert_fails("nowhere/train: cannot open this folder", "$T train --data folder:nowhere");
  assert_fails("the number of images", "$T train --data synthetic:x");
  assert_fails("fewer than one batch", "$T train --data synthetic:3");
  assert_int_equal(sh("test -e run"), 1);
}

/* Any byte of a checkpoint damaged, at any length: refused, never a crash, never a half-loaded run. */
static void corrupt_checkpoint(void **state) {
  (void)state;
  size_t size, n;
  make_idx(64, 16);
  assert_int_equal(sh("$T train --data idx:d --out r --max-steps 5"), 0);
  uint8_t *good = slurp("r/state.safetensors", &size);
  uint8_t *copy = malloc(size + 1);
  for (size_t i = 0; i < size; i += i < 40 ? 1 : 61) { /* all of it is swept in-process by test_units */
    memcpy(copy, good, size);
    copy[i] ^= (uint8_t)(1 + i % 255);
    spit("bad", copy, size);
    assert_fails("bad: ", "$T eval --data idx:d --state bad");
    spit("bad", good, i);
    assert_fails("bad: ", "$T eval --data idx:d --state bad");
  }
  memcpy(copy, good, size);
  copy[size / 2] ^= 1;
  spit("r/state.safetensors", copy, size);
  assert_fails("r/state.safetensors", "$T train --data idx:d --out r --resume");
  uint8_t *after = slurp("r/state.safetensors", &n);
  assert_int_equal(n, size);
  assert_memory_equal(after, copy, size);
  free(after);
  free(copy);
  free(good);
}

static void bad_folder(void **state) {
  (void)state;
  make_idx(64, 16);
  spit("file", "x", 1);
  assert_fails("cannot make the folder", "$T train --data idx:d --out file/r");
  assert_fails("cannot make the folder", "$T train --data idx:d --out /proc/r");
  assert_fails("cannot write", "$T export -o /proc/x.onnx");
  assert_fails("is a folder", "$T export -o d");
  assert_fails("cannot write", "$T export -o /dev/full");
  assert_fails("cannot write to standard output",
               "$T eval --data idx:d --state r/none >/dev/full 2>&1; $T info >/dev/full");
  assert_int_equal(sh("$T export -o - >/dev/null; rm -f ./-; $T export -o /dev/null"), 0);
}

/* A file size limit stands for a full disk: the old checkpoint stays, no temporary file is left. */
static void full_folder(void **state) {
  (void)state;
  make_idx(64, 16);
  assert_int_equal(sh("$T train --data idx:d --out r --max-steps 5 && cp r/state.safetensors kept"), 0);
  assert_fails("File too large", "ulimit -f 1; exec $T train --data idx:d --out r --resume");
  assert_same_file("kept", "r/state.safetensors");
  assert_fails("is read by this command", "$T export --state kept -o r/../kept");
  assert_same_file("kept", "r/state.safetensors");
  assert_int_equal(sh("ls r | grep tmp"), 1);
  assert_int_equal(sh("$T train --data idx:d --out r --resume"), 0);
}

static void folder_in_use(void **state) {
  (void)state;
  make_idx(64, 16);
  pid_t pid = launch("FAKE_PAUSE_MS=50 exec $T train --data idx:d --out r 2>first");
  while (!file_has("first", "training")) usleep(10000);
  usleep(100000);
  assert_fails("another trainer is writing here", "$T train --data idx:d --out r");
  kill(pid, SIGKILL);
  assert_int_equal(finish(pid), -SIGKILL);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, make_work_dir, remove_work_dir)
int main(void) {
  const struct CMUnitTest tests[] = {CASE(bad_idx),    CASE(bad_spec),    CASE(corrupt_checkpoint),
                                     CASE(bad_folder), CASE(full_folder), CASE(folder_in_use)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
