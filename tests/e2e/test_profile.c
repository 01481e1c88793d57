/* `train --profile` on a real trainer: the training's bits are those without it, the trace is JSON whose events fit together,
 * and the table's rows account for the step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <cjson/cJSON.h>
#include "compiler/driver/compile.h"

enum { THREADS = 2, TRACED = 3, MOST_LAUNCHES = 4096 };

static void sh(const char *command) {
  char all[2048];
  snprintf(all, sizeof all, "PATH=%s:$PATH; { %s; } >out 2>err || { cat out err; exit 1; }", TETRAC_BUILD_DIR, command);
  assert_int_equal(system(all), 0);
}

static char *slurp(tt_arena *arena, const char *path) {
  size_t n;
  char *text = tt_read_file(arena, path, &n);
  assert_non_null(text);
  return text;
}

static double number(const cJSON *object, const char *name) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  assert_true(cJSON_IsNumber(item));
  return item->valuedouble;
}

static const char *text(const cJSON *object, const char *name) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  assert_true(cJSON_IsString(item));
  return item->valuestring;
}

/* A row's events follow one another; every launch of every traced step is there, with all its tasks in one step's number. */
static void check_events(const cJSON *events) {
  static double tasks[MOST_LAUNCHES];
  double end[1 + THREADS] = {0};
  int steps = 0, launches = 0;
  memset(tasks, 0, sizeof tasks);
  const cJSON *e;
  cJSON_ArrayForEach(e, events) {
    if (strcmp(text(e, "ph"), "X") != 0) continue;
    int row = (int)number(e, "tid");
    double ts = number(e, "ts"), dur = number(e, "dur");
    assert_in_range(row, 0, THREADS);
    assert_true(ts > end[row] - 0.01 && dur >= 0); /* times are rounded to ns */
    end[row] = ts + dur;
    if (row == 0) {
      steps += strncmp(text(e, "name"), "step ", 5) == 0;
      continue;
    }
    const cJSON *args = cJSON_GetObjectItemCaseSensitive(e, "args");
    int launch = (int)number(args, "launch");
    assert_in_range(launch, 0, MOST_LAUNCHES - 1);
    text(args, "node");
    text(args, "kernel");
    tasks[launch] += number(args, "tasks");
    if (launch >= launches) launches = launch + 1;
  }
  assert_int_equal(steps, TRACED);
  assert_true(launches > 50);
  for (int i = 0; i < launches; i++) assert_true(tasks[i] > 0 && (int)tasks[i] % TRACED == 0);
}

/* Percentages of the rows; the last cell of each row is `busy`. */
static double sum_of_shares(const char *table) {
  double sum = 0;
  for (const char *line = strstr(table, "\n| "); line; line = strstr(line + 1, "\n| ")) {
    const char *cell = line + 1;
    for (int i = 0; i < 4 && cell; i++) cell = strchr(cell + (i > 0), '|');
    if (cell) sum += strtod(cell + 1, NULL);
  }
  return sum;
}

static void test_profile(void **state) {
  (void)state;
  char folder[] = "/tmp/tetrac_profile_XXXXXX";
  tt_arena *arena = tt_arena_create();
  assert_non_null(mkdtemp(folder));
  assert_int_equal(chdir(folder), 0);
  sh("tetrac new vit --image 28 --patch 7 --channels 1 --classes 10 --dim 64 --depth 1 --heads 2 -o m.onnx");
  sh("tetrac compile m.onnx --recipe tetrajet --batch 16 --quiet -o t");
  sh("./t train --data synthetic --max-steps 9 --no-eval --threads 2 --out plain");
  sh("./t train --data synthetic --max-steps 9 --no-eval --threads 2 --profile 5 --out op");
  sh("./t train --data synthetic --max-steps 9 --no-eval --threads 2 --profile --profile-by node --out node");
  sh("./t train --data synthetic --max-steps 2 --no-eval --threads 1 --profile --profile-by kernel --out kernel");
  sh("cmp plain/state.safetensors op/state.safetensors && cmp plain/state.safetensors node/state.safetensors");
  sh("! ./t train --data synthetic --profile --profile-by color");
  cJSON *trace = cJSON_Parse(slurp(arena, "op/trace.json"));
  assert_non_null(trace);
  check_events(cJSON_GetObjectItemCaseSensitive(trace, "traceEvents"));
  cJSON_Delete(trace);
  const char *tables[] = {"op/profile.md", "node/profile.md", "kernel/profile.md"};
  for (int i = 0; i < 3; i++) {
    const char *table = slurp(arena, tables[i]);
    double sum = sum_of_shares(table);
    assert_true(sum > 95 && sum < 105);
    assert_non_null(strstr(table, "\n| mx.gemm"));
    assert_non_null(strstr(table, "8-bit dot product"));
  }
  assert_non_null(strstr(slurp(arena, "node/profile.md"), "\n| mx.gemm /blocks/0/"));
  tt_arena_destroy(arena);
  assert_int_equal(chdir("/"), 0);
  char remove[64];
  snprintf(remove, sizeof remove, "rm -rf %s", folder);
  assert_int_equal(system(remove), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_profile)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
