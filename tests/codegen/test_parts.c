/* A program's objects are made by child processes: the same bytes by any number of them, and whatever happens to one of them is
 * a diagnostic, with no process and no pipe left behind. fork, prctl (a child's first call) and write are this file's, so that
 * they can fail. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "compiler/codegen/state.h"
#include "jit_case.h"

/* What befalls attempt number `victim` to start a child (from 1 on; 0: all of them), or that child. */
typedef enum { NOTHING, KILLED, CRASHED, SILENT, GIVES_UP, HALF_AN_OBJECT, CUT, NO_PROCESS, NO_PIPE } fate;
static struct {
  fate fate;
  int victim, attempts;
} plan;

static bool befalls(fate f) { return plan.fate == f && (plan.victim == 0 || plan.attempts == plan.victim); }

int pipe(int ends[2]) {
  plan.attempts++;
  if (!befalls(NO_PIPE)) return (int)syscall(SYS_pipe2, ends, 0);
  errno = EMFILE;
  return -1;
}

pid_t fork(void) {
  if (!befalls(NO_PROCESS)) return _Fork();
  errno = EAGAIN;
  return -1;
}

int prctl(int option, ...) {
  (void)option;
  if (befalls(KILLED)) raise(SIGKILL);
  if (befalls(CRASHED)) signal(SIGSEGV, SIG_DFL), raise(SIGSEGV);
  if (befalls(SILENT)) _exit(0);
  if (befalls(GIVES_UP)) _exit(1);
  return 0;
}

ssize_t write(int fd, const void *data, size_t bytes) {
  bool half = bytes > 64 && (befalls(HALF_AN_OBJECT) || befalls(CUT));
  ssize_t n = syscall(SYS_write, fd, data, half ? bytes / 2 : bytes);
  if (half && befalls(CUT)) _exit(0);
  if (half) raise(SIGKILL);
  return n;
}

/* ---- a module of several parts ---- */

enum { FUNCTIONS = 6, INSTRUCTIONS = 6000, PARTS = 3 };

/* Weighs as much as it has instructions; most of them come to nothing, and so are quick to compile. */
static void add_function(cg_ctx *c, int number) {
  char name[16];
  snprintf(name, sizeof name, "bulk%d", number);
  cg_val fn = LLVMAddFunction(c->module, name, LLVMFunctionType(LLVMVoidTypeInContext(c->llvm), &c->ptr, 1, false));
  LLVMPositionBuilderAtEnd(c->b, LLVMAppendBasicBlockInContext(c->llvm, fn, ""));
  for (int i = 0; i < INSTRUCTIONS; i++) LLVMBuildLoad2(c->b, c->i64, LLVMGetParam(fn, 0), "");
  LLVMBuildStore(c->b, cg_i64(c, number), LLVMGetParam(fn, 0));
  LLVMBuildRetVoid(c->b);
}

typedef struct made {
  tt_arena *arena;
  tt_diag diag;
  cg_output out;
  bool ok;
} made;

static int open_files(void) {
  int n = 0;
  for (int fd = 0; fd < 256; fd++) n += fcntl(fd, F_GETFD) >= 0;
  return n;
}

static made make(int jobs, fate what, int victim) {
  made m = {.arena = tt_arena_create()};
  tt_type x = tt_type_make(TT_F32, 1, (int64_t[]){64});
  jit_case t = jit_case_build(TT_OP_NEG, 1, &x, 0, NULL, &m.diag);
  tt_diag_init(&m.diag, NULL);
  cg_ctx *c = cg_open(cg_target_find("cpu", m.arena, &m.diag), m.arena, &m.diag);
  assert_non_null(c);
  assert_non_null(cg_emit_entry(c, t.g, "tetrac_entry", cg_plan_bytes(t.g), true));
  for (int i = 0; i < FUNCTIONS; i++) add_function(c, i);
  c->state->jobs = jobs;
  int files = open_files();
  plan.fate = what, plan.victim = victim, plan.attempts = 0;
  m.ok = cg_write(c, CG_PARTS, &m.out);
  plan.fate = NOTHING;
  cg_close(c);
  jit_case_close(&t);
  assert_int_equal(open_files(), files);
  assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nor a zombie */
  assert_int_equal(errno, ECHILD);
  return m;
}

static void drop(made *m) {
  tt_diag_free(&m->diag);
  tt_arena_destroy(m->arena);
}

/* Also where a process or a pipe is not to be had for a moment: those that run do the rest. */
static void same_objects(void **state) {
  (void)state;
  static const struct {
    int jobs, victim;
    fate fate;
  } ways[] = {{2, 0, NOTHING}, {9, 0, NOTHING}, {0, 0, NOTHING}, {3, 2, NO_PROCESS}, {3, 3, NO_PIPE}};
  made one = make(1, NOTHING, 0);
  assert_true(one.ok);
  assert_int_equal(one.out.n, PARTS);
  for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
    made m = make(ways[i].jobs, ways[i].fate, ways[i].victim);
    if (!m.ok) fail_msg("%s", m.diag.text);
    assert_int_equal(plan.attempts, PARTS + (ways[i].victim > 0));
    assert_int_equal(m.out.n, PARTS);
    for (int k = 0; k < PARTS; k++) {
      assert_int_equal(m.out.files[k].bytes, one.out.files[k].bytes);
      assert_memory_equal(m.out.files[k].data, one.out.files[k].data, one.out.files[k].bytes);
    }
    drop(&m);
  }
  drop(&one);
}

static void failures(void **state) {
  (void)state;
  static const struct {
    fate fate;
    int victim;
    const char *says;
  } cases[] = {{KILLED, 1, "ended by a signal: Killed (was there too little memory?)"},
               {KILLED, 3, "ended by a signal: Killed"},
               {CRASHED, 2, "ended by a signal: Segmentation fault"},
               {SILENT, 2, "stopped before its object was whole"},
               {GIVES_UP, 1, "stopped before its object was whole"},
               {HALF_AN_OBJECT, 2, "ended by a signal: Killed"},
               {CUT, 3, "stopped before its object was whole"},
               {NO_PROCESS, 0, "cannot start a process to generate code in: Resource temporarily unavailable"},
               {NO_PIPE, 0, "cannot start a process to generate code in: Too many open files"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    made m = make(i & 1 ? 1 : 3, cases[i].fate, cases[i].victim);
    assert_false(m.ok);
    if (m.diag.errors != 1 || !strstr(m.diag.text, cases[i].says))
      fail_msg("%d errors, %s; wanted '%s'", m.diag.errors, m.diag.text, cases[i].says);
    drop(&m);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(same_objects), cmocka_unit_test(failures)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
