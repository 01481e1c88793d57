/* The runtime's parts in-process: threads, randomness, schedule, safetensors. This program has its own main, so linking it
 * shows that the library's main stays out of the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "runtime/include/trt_runtime.h"
#include "runtime/src/checkpoint.h"
#include "runtime/src/cpu.h"
#include "runtime/src/data.h"
#include "runtime/src/options.h"
#include "runtime/src/safetensors.h"
#include "runtime/src/schedule.h"
#include "fake_program.h"

/* ---- threads ---- */

static void count_task(const trt_kargs *args, int64_t task, uint8_t *scratch) {
  int64_t *seen = args->bufs[0];
  const float *tiny = args->bufs[1];
  memset(scratch, (int)task, 100);
  if ((uintptr_t)scratch % TRT_ALIGN != 0) seen[task] += 1000;
  seen[task] += args->imms[0];
  volatile float half = *(const volatile float *)tiny * 0.5f; /* subnormal: flushed inside a kernel */
  if (half != 0) seen[task] += 2000;
}

static void parallel_runs_each_task_once(void **state) {
  (void)state;
  float tiny = 1.2e-38f;
  for (int64_t n = 1; n <= 5; n++) {
    assert_true(trt_threads_init(n, 100));
    assert_int_equal(trt_threads_count(), n);
    for (int64_t tasks = 0; tasks < 40; tasks++) {
      int64_t seen[41] = {0}, one = 1;
      void *bufs[] = {seen, &tiny};
      trt_parallel(&(trt_kargs){bufs, &one}, count_task, tasks);
      for (int64_t i = 0; i < tasks; i++) assert_int_equal(seen[i], 1);
      assert_int_equal(seen[tasks], 0);
    }
  }
  volatile float half = tiny * 0.5f;
  assert_true(half != 0); /* the caller's float mode came back */
  assert_false(trt_threads_init(2, UINT64_MAX / 2));
  assert_int_equal(trt_threads_count(), 5);
}

/* ---- randomness ---- */

static void shuffles_are_permutations(void **state) {
  (void)state;
  enum { N = 1000 };
  int64_t a[N], b[N], seen[N] = {0};
  trt_data_shuffle(3, 0, N, a);
  trt_data_shuffle(3, 0, N, b);
  assert_memory_equal(a, b, sizeof a);
  for (int i = 0; i < N; i++) seen[a[i]]++;
  for (int i = 0; i < N; i++) assert_int_equal(seen[i], 1);
  int64_t same = 0;
  trt_data_shuffle(3, 1, N, b);
  for (int i = 0; i < N; i++) same += a[i] == b[i];
  assert_true(same < 20);
  trt_data_shuffle(4, 0, N, b);
  for (int i = 0; i < N; i++) same += a[i] == b[i];
  assert_true(same < 40);
}

static void random_is_even(void **state) {
  (void)state;
  int64_t counts[16] = {0}, n = 160000;
  for (int64_t i = 0; i < n; i++) counts[trt_random_below(trt_random(1, 2, (uint64_t)i), 16)]++;
  for (int k = 0; k < 16; k++) assert_true(llabs(counts[k] - n / 16) < 500); /* 5 standard errors */
}

/* ---- schedule ---- */

static void schedule_is_linear_then_cosine(void **state) {
  (void)state;
  trt_settings s = {
      .epochs = 10, .lr = 1, .min_lr = 0.1, .warmup_epochs = 2, .cosine = 1, .train_images = 105, .batch = 10};
  assert_int_equal(trt_total_steps(&s), 100);
  assert_true(fabs(trt_learning_rate(&s, 0) - (1.0 / 20)) <= 1e-12);
  assert_true(fabs(trt_learning_rate(&s, 19) - (1)) <= 1e-12);
  assert_true(fabs(trt_learning_rate(&s, 20) - (1)) <= 1e-12);
  assert_true(fabs(trt_learning_rate(&s, 60) - (0.55)) <= 1e-12);
  assert_true(trt_learning_rate(&s, 99) > 0.1 && trt_learning_rate(&s, 99) < 0.11);
  s.cosine = 0;
  assert_true(fabs(trt_learning_rate(&s, 99) - (1)) <= 0);
  trt_scalars x = trt_step_scalars(&s, &(trt_defaults){.beta1 = 0.9, .beta2 = 0.999}, 2);
  assert_true(fabs(x.bc1 - (1 - 0.9 * 0.9 * 0.9)) <= 1e-12);
  assert_true(fabs(x.bc2 - (1 - 0.999 * 0.999 * 0.999)) <= 1e-12);
  x = trt_step_scalars(&s, &(trt_defaults){0}, 0);
  assert_true(fabs(x.bc1 - (1)) <= 0);
}

/* ---- safetensors ---- */

static char path[64];

static int make_path(void **state) {
  (void)state;
  strcpy(path, "/tmp/tetrac-units-XXXXXX");
  int fd = mkstemp(path);
  return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state) {
  (void)state;
  return unlink(path);
}

static void put_file(const void *bytes, size_t n) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(bytes, 1, n, f), n);
  fclose(f);
}

static void put_header(const char *header, size_t data) {
  uint8_t bytes[2048] = {0};
  size_t n = strlen(header);
  bytes[0] = (uint8_t)n, bytes[1] = (uint8_t)(n >> 8);
  memcpy(bytes + 8, header, n);
  put_file(bytes, 8 + n + data);
}

static void safetensors_round_trip(void **state) {
  (void)state;
  float a[6] = {1, -2, 3, 4, 5, 6};
  int64_t b = 7;
  trt_error err;
  trt_st_file file;
  const char *odd = "quote \" back \\ line \n tab \t \xc3\xa9";
  trt_st_tensor tensors[] = {{"a", "F32", 2, {2, 3}, (uint8_t *)a, sizeof a},
                             {odd, "I64", 0, {0}, (uint8_t *)&b, 8},
                             {"none", "F32", 1, {0}, (uint8_t *)a, 0}};
  trt_st_meta metas[] = {{"key", odd}};
  assert_true(trt_st_write(path, tensors, 3, metas, 1, &err));
  assert_true(trt_st_read(&file, path, &err));
  assert_true(file.has_crc);
  assert_int_equal(file.n_tensors, 3);
  assert_memory_equal(trt_st_find(&file, "a")->data, a, sizeof a);
  assert_memory_equal(trt_st_find(&file, odd)->data, &b, 8);
  assert_string_equal(trt_st_meta_find(&file, "key"), odd);
  assert_null(trt_st_find(&file, "absent"));
  trt_st_close(&file);
}

/* Files of other writers: no CRC, any order, spaces, escapes. */
static void safetensors_of_others(void **state) {
  (void)state;
  trt_error err;
  trt_st_file file;
  put_header(" { \"b\\u00e9\" : {\"data_offsets\":[4, 12],\"shape\":[ 2 ],\"dtype\":\"F32\"} , "
             "\"a\":{\"dtype\":\"BF16\",\"shape\":[2,1],"
             "\"data_offsets\":[0,4]}}  ",
             12);
  assert_true(trt_st_read(&file, path, &err));
  assert_false(file.has_crc);
  assert_non_null(trt_st_find(&file, "b\xc3\xa9"));
  trt_st_close(&file);
  put_header("{}", 0);
  assert_true(trt_st_read(&file, path, &err));
  trt_st_close(&file);
}

static void safetensors_refuses(void **state) {
  (void)state;
#define ONE(d, s, o) "{\"a\":{\"dtype\":\"" d "\",\"shape\":" s ",\"data_offsets\":" o "}}"
  static const char *const bad[] = {
      "",
      "{",
      "[]",
      "{}x",
      "{\"a\"}",
      "{\"a\":1}",
      "{\"a\":{}}",
      "{\"a\":{\"dtype\":\"F32\"}}",
      "{\"\\q\":{}}",
      "{\"\\u00\":{}}",
      "{\"\\u0000\":{}}",
      "{\"a",
      "{\"a\\",
      ONE("F7", "[2]", "[0,8]"),
      ONE("F32", "[2]", "[0,9]"),
      ONE("F32", "[2]", "[8,0]"),
      ONE("F32", "[-2]", "[0,8]"),
      ONE("F32", "[1]", "[0,4]"),
      ONE("F32", "[1]", "[4,8]"),
      ONE("F32", "[2", "[0,8]"),
      ONE("F32", "[4294967296,4294967296,4294967296]", "[0,8]"),
      ONE("F32", "[99999999999999999999]", "[0,8]"),
      ONE("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]"),
      ONE("F32", "[2]", "[0]"),
      ONE("F32", "2", "[0,8]"),
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_"
      "offsets\":[4,8]}}",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_"
      "offsets\":[4,8]}}",
      "{\"__metadata__\":{\"a\":1}}",
      "{\"__metadata__\":{},\"__metadata__\":{}}",
      "{\"__metadata__\":{\"tetrac.crc32\":\"0\"}}",
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    trt_error err = {0};
    trt_st_file file;
    put_header(bad[i], 8);
    if (trt_st_read(&file, path, &err)) fail_msg("accepted %s", bad[i]);
    assert_non_null(strstr(err.text, "is not a whole safetensors file"));
  }
}

/* Every byte of a checkpoint, changed or cut off: refused, and the vars stay as they were. Lengths lie as well. */
static void every_byte_of_a_checkpoint(void **state) {
  (void)state;
  static const trt_program program = FAKE_PROGRAM;
  trt_error err;
  trt_model model;
  trt_settings settings = {.lr = 0.1, .epochs = 3, .train_images = 64, .batch = 8, .data = "idx"};
  trt_position at = {.step = 5};
  assert_true(trt_model_open(&model, &program, &err));
  trt_model_reset(&model);
  assert_true(trt_checkpoint_save(path, &model, &settings, &at, &err));
  static uint8_t good[8192], bad[8192];
  FILE *f = fopen(path, "rb");
  size_t size = fread(good, 1, sizeof good, f);
  fclose(f);
  assert_true(size < sizeof good);
  memset(model.vars, 0x55, V_BYTES);
  for (size_t i = 0; i < size; i++) {
    for (int k = 0; k < 3; k++) {
      memcpy(bad, good, size);
      if (k < 2) bad[i] ^= (uint8_t)(k ? 0x01 : 0x80 | (i % 127));
      put_file(bad, k < 2 ? size : i);
      if (trt_checkpoint_load(path, &model, NULL, NULL, &err)) fail_msg("accepted damage %d at byte %zu", k, i);
    }
  }
  for (int i = 0; i < V_BYTES; i++) assert_int_equal(model.vars[i], 0x55);
  put_file(good, size);
  trt_program other = program;
  other.fingerprint++;
  model.program = &other;
  assert_false(trt_checkpoint_load(path, &model, NULL, NULL, &err));
  assert_non_null(strstr(err.text, "another program"));
  model.program = &program;
  trt_position back;
  assert_true(trt_checkpoint_load(path, &model, &settings, &back, &err));
  assert_int_equal(back.step, 5);
  trt_model_close(&model);
}

static void broken_programs_are_refused(void **state) {
  (void)state;
  trt_error err;
  trt_model model;
  trt_program p = FAKE_PROGRAM;
  p.abi_version++;
  assert_false(trt_model_open(&model, &p, &err));
  assert_non_null(strstr(err.text, "runtime version"));
  p = (trt_program)FAKE_PROGRAM;
  p.needs = "no-kernel-uses-this"; /* a feature nobody can ask for is none to refuse */
  assert_true(trt_model_open(&model, &p, &err));
  trt_model_close(&model);
  p = (trt_program)FAKE_PROGRAM;
  p.arena_bytes = 1000;
  assert_false(trt_model_open(&model, &p, &err));
  p = (trt_program)FAKE_PROGRAM;
  p.image_bytes = 100;
  assert_false(trt_model_open(&model, &p, &err));
}

#if defined(__x86_64__)
/* As the C compiler's own question about the CPU says it, feature by feature. */
#define AGREES(name) assert_int_equal(trt_cpu_check("xsave," name ",avx9000", &err), __builtin_cpu_supports(name) != 0)
static void cpu_features(void **state) {
  (void)state;
  trt_error err;
  AGREES("sse4.2"), AGREES("popcnt"), AGREES("sse4a"), AGREES("bmi"), AGREES("bmi2"), AGREES("fma"), AGREES("fma4"),
      AGREES("xop");
  AGREES("avx"), AGREES("avx2"), AGREES("avx512f"), AGREES("avx512cd"), AGREES("avx512bw"), AGREES("avx512dq"),
      AGREES("avx512vl");
  AGREES("avx512vbmi"), AGREES("avx512ifma"), AGREES("avx512vbmi2"), AGREES("avx512vnni"), AGREES("avx512bitalg");
  AGREES("avx512vpopcntdq"), AGREES("avx512vp2intersect"), AGREES("gfni");
  assert_true(trt_cpu_check("", &err));
  if (__builtin_cpu_supports("fma4") || __builtin_cpu_supports("xop")) return;
  assert_false(trt_cpu_check("sse4.2,fma4,xop", &err));
  assert_non_null(strstr(err.text, "a CPU with fma4, xop, which"));
}
#else
static void cpu_features(void **state) {
  (void)state;
  trt_error err;
  assert_true(trt_cpu_check("avx9000", &err)); /* none of this machine's kind: not asked for */
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(parallel_runs_each_task_once),
      cmocka_unit_test(shuffles_are_permutations),
      cmocka_unit_test(random_is_even),
      cmocka_unit_test(schedule_is_linear_then_cosine),
      cmocka_unit_test_setup_teardown(safetensors_round_trip, make_path, remove_path),
      cmocka_unit_test_setup_teardown(safetensors_of_others, make_path, remove_path),
      cmocka_unit_test_setup_teardown(safetensors_refuses, make_path, remove_path),
      cmocka_unit_test_setup_teardown(every_byte_of_a_checkpoint, make_path, remove_path),
      cmocka_unit_test(broken_programs_are_refused),
      cmocka_unit_test(cpu_features),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
