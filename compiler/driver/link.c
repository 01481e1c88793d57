/* The link step: object + libtetrac_rt.a -> one static executable, by the system's C compiler as linker driver. */
#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "compiler/driver/compile.h"

extern char **environ;

static bool spawn_and_wait(char *const argv[]) {
  pid_t pid;
  int status;
  if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0) return false;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static const char *linker(void) {
  const char *cc = getenv("TETRAC_CC");
  return cc ? cc : "gcc";
}

bool tt_link(const uint8_t *object, size_t bytes, const char *path, tt_diag *diag) {
  tt_arena *arena = tt_arena_create();
  tt_loc loc = {.file = path};
  const char *runtime = tt_runtime_library(arena);
  bool ok = runtime != NULL;
  if (!ok) tt_error(diag, loc, "the runtime library libtetrac_rt.a is not beside tetrac; build or install it, or set TETRAC_RUNTIME");
  char *obj = tt_arena_printf(arena, "%s.tmp%ld.o", path, (long)getpid());
  char *exe = tt_arena_printf(arena, "%s.tmp%ld", path, (long)getpid());
  if (ok && !tt_write_file(obj, object, bytes)) {
    tt_error(diag, loc, "cannot write beside it: %s", strerror(errno));
    ok = false;
  }
  if (ok) {
    /* Static, so that the trainer runs where nothing is installed. */
    char *const argv[] = {(char *)linker(), "-static", "-o", exe, obj, (char *)runtime, "-fopenmp", "-lz", "-lm", NULL};
    ok = spawn_and_wait(argv);
    if (!ok) tt_error(diag, loc, "linking with '%s' failed; a C compiler with static libc, libgomp and zlib is needed", linker());
  }
  if (ok && rename(exe, path) != 0) {
    tt_error(diag, loc, "cannot write: %s", strerror(errno));
    ok = false;
  }
  unlink(obj);
  if (!ok) unlink(exe);
  tt_arena_destroy(arena);
  return ok;
}
