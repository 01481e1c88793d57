/* The link step: objects + libtetrac_rt.a -> one static executable, by the system's C compiler as linker driver. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "compiler/driver/compile.h"

extern char **environ;

/* Runs argv with its talk kept in `log`: a linker that succeeds may still warn of what a static program must not do
 * (libgomp's offloading loads plug-ins), which is nothing to the user. */
static bool run_logged(char *const argv[], const char *log) {
  posix_spawn_file_actions_t actions;
  pid_t pid;
  int status;
  if (posix_spawn_file_actions_init(&actions) != 0) return false;
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  int failed = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed) return false;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static const char *linker(tt_arena *arena, const char *cross) {
  const char *cc = getenv("TETRAC_CC");
  return cc ? cc : cross ? tt_arena_printf(arena, "%s-gcc", cross) : "gcc";
}

/* The line of a linker's talk that names the fault: the last one that is neither a warning nor the compiler's summary. */
static const char *last_fault(char *talk) {
  const char *fault = "it said nothing";
  char *save = NULL;
  for (char *line = strtok_r(talk, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
    if (!strstr(line, "warning:") && !strstr(line, "in function") && strncmp(line, "collect2", 8) != 0) fault = line;
  return fault;
}

static bool has_runtime(const char *runtime, const char *cross, tt_loc loc, tt_diag *diag) {
  if (runtime) return true;
  if (cross)
    tt_error(diag, loc,
             "there is no runtime library for %.*s beside tetrac; install %s-gcc and its zlib (sh tools/setup.sh --tests) "
             "and build again, or take the object (--emit obj)",
             (int)strcspn(cross, "-"), cross, cross);
  else
    tt_error(diag, loc, "the runtime library libtetrac_rt.a is not beside tetrac; build or install it, or set TETRAC_RUNTIME");
  return false;
}

/* The objects as files beside the trainer; `names` has room for one each. */
static bool write_objects(const cg_output *objects, char **names, const char *path, tt_arena *arena, tt_diag *diag) {
  for (int i = 0; i < objects->n; i++) names[i] = tt_arena_printf(arena, "%s.tmp%ld.%d.o", path, (long)getpid(), i);
  for (int i = 0; i < objects->n; i++) {
    if (tt_write_file(names[i], objects->files[i].data, objects->files[i].bytes)) continue;
    tt_error(diag, (tt_loc){.file = path}, "cannot write beside it: %s", strerror(errno));
    return false;
  }
  return true;
}

bool tt_link(const cg_output *objects, const cg_target *target, const char *path, tt_diag *diag) {
  tt_arena *arena = tt_arena_create();
  tt_loc loc = {.file = path};
  const char *cross = cg_target_cross(target), *runtime = tt_runtime_library(arena, cross), *cc = linker(arena, cross);
  char *log = tt_arena_printf(arena, "%s.tmp%ld.log", path, (long)getpid());
  char *exe = tt_arena_printf(arena, "%s.tmp%ld", path, (long)getpid());
  /* Static, so that the trainer runs where nothing is installed. */
  char *const before[] = {(char *)cc, "-static", "-o", exe}, *const after[] = {(char *)runtime, "-fopenmp", "-lz", "-lm", NULL};
  char **argv = TT_NEW_N(arena, char *, objects->n + 9), **names = argv + 4;
  memcpy(argv, before, sizeof before);
  bool ok = has_runtime(runtime, cross, loc, diag) && write_objects(objects, names, path, arena, diag);
  memcpy(names + objects->n, after, sizeof after);
  if (ok) {
    size_t n = 0;
    ok = run_logged(argv, log);
    char *said = ok ? NULL : tt_read_file(arena, log, &n);
    if (!ok)
      tt_error(diag, loc,
               "linking with '%s' failed: %s; it takes a C compiler with static libc, libgomp and zlib, and room on the disk",
               cc, said ? last_fault(said) : "it could not be started");
  }
  if (ok && rename(exe, path) != 0) {
    tt_error(diag, loc, "cannot write: %s", strerror(errno));
    ok = false;
  }
  for (int i = 0; i < objects->n && names[i]; i++) unlink(names[i]);
  unlink(log);
  if (!ok) unlink(exe);
  tt_arena_destroy(arena);
  return ok;
}
