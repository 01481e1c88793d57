/* Runs the fake trainer as a process and looks at what it left. */
#ifndef TEST_TRAINER_H
#define TEST_TRAINER_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* A fresh working folder for each test; commands run inside it. */
static char work_dir[64];

static inline int make_work_dir(void **state) {
  (void)state;
  strcpy(work_dir, "/tmp/tetrac-test-XXXXXX");
  return mkdtemp(work_dir) ? 0 : -1;
}

static inline int remove_work_dir(void **state) {
  (void)state;
  char command[256];
  snprintf(command, sizeof command, "chmod -R u+w %s; rm -rf %s", work_dir, work_dir);
  return system(command);
}

/* Starts `sh -c` in the working folder; $T is the trainer, output goes to the files `out` and `err`. */
static inline pid_t start(const char *format, va_list args) {
  char command[4096];
  vsnprintf(command, sizeof command, format, args);
  pid_t pid = fork();
  if (pid != 0) return pid;
  setenv("T", FAKE_TRAINER, 1);
  if (chdir(work_dir) != 0 || !freopen("out", "w", stdout) || !freopen("err", "w", stderr)) _exit(99);
  execl("/bin/sh", "sh", "-c", command, (char *)NULL);
  _exit(99);
}

__attribute__((format(printf, 1, 2))) static inline pid_t launch(const char *format, ...) {
  va_list args;
  va_start(args, format);
  pid_t pid = start(format, args);
  va_end(args);
  return pid;
}

/* The exit code, or -signal. */
static inline int finish(pid_t pid) {
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

__attribute__((format(printf, 1, 2))) static inline int sh(const char *format, ...) {
  va_list args;
  va_start(args, format);
  pid_t pid = start(format, args);
  va_end(args);
  return finish(pid);
}

/* A file of the working folder; free it. NULL when absent. A zero byte follows the content. */
static inline uint8_t *slurp(const char *name, size_t *size) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", work_dir, name);
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  fseek(f, 0, SEEK_END);
  *size = (size_t)ftell(f);
  rewind(f);
  uint8_t *bytes = calloc(1, *size + 1);
  assert_non_null(bytes);
  assert_int_equal(fread(bytes, 1, *size, f), *size);
  fclose(f);
  return bytes;
}

static inline void spit(const char *name, const void *bytes, size_t size) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", work_dir, name);
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(bytes, 1, size, f), size);
  assert_int_equal(fclose(f), 0);
}

static inline bool file_has(const char *name, const char *text) {
  size_t size;
  uint8_t *bytes = slurp(name, &size);
  bool has = bytes && strstr((char *)bytes, text);
  free(bytes);
  return has;
}

static inline void assert_same_file(const char *a, const char *b) {
  size_t na = 0, nb = 0;
  uint8_t *x = slurp(a, &na), *y = slurp(b, &nb);
  assert_non_null(x);
  assert_non_null(y);
  assert_int_equal(na, nb);
  assert_memory_equal(x, y, na);
  free(x);
  free(y);
}

/* The command fails with code 1 and exactly one line on stderr, "trainer: error: ... `text` ...". */
#define assert_fails(text, ...)                                                                                            \
  do {                                                                                                                     \
    int code_ = sh(__VA_ARGS__);                                                                                           \
    if (code_ != 1 || !error_says(text)) fail_msg("exit code %d, wanted an error with '%s'", code_, text);                 \
  } while (0)

static inline bool error_says(const char *text) {
  size_t size = 0;
  char *err = (char *)slurp("err", &size), *line = err;
  int errors = 0;
  bool ok = err != NULL;
  for (; ok && line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
    if (strncmp(line, "trainer: error: ", 16) == 0)
      errors++;
    else if (errors || strncmp(line, "==", 2) == 0)
      ok = false;
  }
  ok = ok && errors == 1 && strstr(err, text);
  if (!ok) print_error("stderr: %s\n", err ? err : "(none)");
  free(err);
  return ok;
}

/* Writes an IDX file of `rank` sizes and n data bytes. */
static inline void write_idx(const char *name, uint32_t rank, const uint32_t *dim, const uint8_t *data, size_t n) {
  uint8_t *bytes = calloc(1, 4 + 4 * rank + n);
  assert_non_null(bytes);
  bytes[2] = 8;
  bytes[3] = (uint8_t)rank;
  for (uint32_t i = 0; i < rank; i++) {
    for (int k = 0; k < 4; k++) bytes[4 + 4 * i + k] = (uint8_t)(dim[i] >> (24 - 8 * k));
  }
  memcpy(bytes + 4 + 4 * rank, data, n);
  spit(name, bytes, 4 + 4 * rank + n);
  free(bytes);
}

/* A learnable IDX set in the folder d: `train` and `test` images of 4x4 pixels, label k bright in row k. */
static inline void make_idx(uint32_t train, uint32_t test) {
  assert_int_equal(sh("mkdir -p d"), 0);
  uint32_t seed = 1;
  for (int s = 0; s < 2; s++) {
    uint32_t n = s ? test : train, dim[] = {n, 4, 4};
    uint8_t *pixels = calloc(n, 16), *labels = calloc(n, 1);
    for (uint32_t i = 0; i < n; i++) {
      labels[i] = (uint8_t)(i % 3);
      for (int k = 0; k < 16; k++) {
        seed = seed * 1664525u + 1013904223u;
        pixels[i * 16 + k] = (uint8_t)((seed >> 25) + (k / 4 == labels[i] ? 60 : 0));
      }
    }
    write_idx(s ? "d/t10k-images-idx3-ubyte" : "d/train-images-idx3-ubyte", 3, dim, pixels, n * 16);
    write_idx(s ? "d/t10k-labels-idx1-ubyte" : "d/train-labels-idx1-ubyte", 1, dim, labels, n);
    free(pixels);
    free(labels);
  }
}
#endif
