/* Runs one-file cases of tetrac-opt: a graph before, a graph (or the errors) after.
 *
 *   tt-cases [--update] [--opt PROGRAM] FILE.case|FOLDER...
 *
 * A case file is free text that says what the case shows, then sections, each opened by its line:
 *   --ARGS--    arguments of tetrac-opt, separated by blanks; may be missing
 *   --IR--      the module, given to it on its standard input
 *   --EXPECT--  all of its standard output; exit code 0 (1 without this section)
 *   --ERROR--   all of its standard error; nothing without this section
 * --update writes what came out into the expectation that the outcome calls for: read the difference before committing it.
 * Exit code: 0 all pass, 1 some fail, 2 usage. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "compiler/support/arena.h"
#include "compiler/support/strbuf.h"
#include "compiler/support/vec.h"

enum { MAX_ARGS = 64, SECONDS = 60 };
typedef enum { HEAD, ARGS, IR, EXPECT, ERROR, SECTIONS } section;
static const char *const marks[SECTIONS] = {NULL, "--ARGS--", "--IR--", "--EXPECT--", "--ERROR--"};

typedef struct test_case {
  const char *path;
  const char *text[SECTIONS]; /* NULL: no such section */
} test_case;

typedef struct outcome {
  int code; /* exit code, or 128 + signal */
  const char *out, *err;
} outcome;

typedef TT_VEC(char *) paths;

static section mark_at(const char *line, size_t len) {
  for (int s = ARGS; s < SECTIONS; s++) {
    if (strlen(marks[s]) == len && memcmp(marks[s], line, len) == 0) return (section)s;
  }
  return HEAD;
}

static bool load(tt_arena *arena, const char *path, test_case *c) {
  size_t bytes;
  const char *text = tt_read_file(arena, path, &bytes);
  if (!text) {
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return false;
  }
  tt_strbuf part[SECTIONS] = {0};
  bool there[SECTIONS] = {true};
  section now = HEAD;
  for (const char *line = text, *next; *line; line = next) {
    size_t len = strcspn(line, "\n");
    next = line + len + (line[len] == '\n');
    section s = mark_at(line, len);
    if (s != HEAD)
      there[now = s] = true;
    else
      tt_strbuf_append(&part[now], line, (size_t)(next - line));
  }
  *c = (test_case){.path = path};
  for (int s = HEAD; s < SECTIONS; s++) {
    if (there[s]) c->text[s] = tt_arena_str(arena, part[s].data ? part[s].data : "");
    tt_strbuf_free(&part[s]);
  }
  if (!c->text[IR]) fprintf(stderr, "%s: has no %s section\n", path, marks[IR]);
  return c->text[IR];
}

static const char *contents(tt_arena *arena, FILE *f) {
  tt_strbuf sb = {0};
  char chunk[4096];
  rewind(f);
  for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;) tt_strbuf_append(&sb, chunk, n);
  const char *text = tt_arena_str(arena, sb.data ? sb.data : "");
  tt_strbuf_free(&sb);
  fclose(f);
  return text;
}

static _Noreturn void child(char *program, char *args, FILE *in, FILE *out, FILE *err) {
  char *argv[MAX_ARGS + 3], *rest = NULL;
  int n = 0;
  argv[n++] = program;
  for (char *a = strtok_r(args, " \t\r\n", &rest); a && n <= MAX_ARGS; a = strtok_r(NULL, " \t\r\n", &rest)) argv[n++] = a;
  argv[n++] = "-";
  argv[n] = NULL;
  dup2(fileno(in), 0);
  dup2(fileno(out), 1);
  dup2(fileno(err), 2);
  alarm(SECONDS); /* a case that hangs fails, and the others still run */
  execv(program, argv);
  fprintf(stderr, "%s: %s\n", program, strerror(errno));
  _exit(127);
}

/* Streams go through temporary files, so that no pipe can fill up. */
static bool run(tt_arena *arena, char *program, const test_case *c, outcome *o) {
  FILE *in = tmpfile(), *out = tmpfile(), *err = tmpfile();
  char *args = tt_arena_str(arena, c->text[ARGS] ? c->text[ARGS] : "");
  int status = 0;
  pid_t pid = -1;
  if (in && out && err) {
    fputs(c->text[IR], in);
    rewind(in);
    fflush(NULL);
    pid = fork();
  }
  if (pid == 0) child(program, args, in, out, err);
  if (pid < 0 || waitpid(pid, &status, 0) < 0) {
    fprintf(stderr, "tt-cases: %s\n", strerror(errno));
    return false;
  }
  fclose(in);
  o->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  o->out = contents(arena, out);
  o->err = contents(arena, err);
  return true;
}

/* Shows the first line that differs. */
static bool same(const test_case *c, section s, const char *found) {
  const char *a = c->text[s] ? c->text[s] : "", *b = found;
  int line = 1;
  while (*a && *b) {
    size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");
    if (n != m || memcmp(a, b, n) != 0) break;
    a += n + (a[n] == '\n');
    b += m + (b[m] == '\n');
    line++;
  }
  if (!*a && !*b) return true;
  printf("%s: line %d of %s\n  expected: %.*s\n  found:    %.*s\n", c->path, line, marks[s], (int)strcspn(a, "\n"), a,
         (int)strcspn(b, "\n"), b);
  return false;
}

static bool passes(const test_case *c, const outcome *o) {
  int want = c->text[EXPECT] ? 0 : 1;
  if (!c->text[EXPECT] && !c->text[ERROR]) {
    printf("%s: has neither %s nor %s; --update fills it in\n", c->path, marks[EXPECT], marks[ERROR]);
    return false;
  }
  bool ok = same(c, EXPECT, o->out);
  ok = same(c, ERROR, o->err) && ok;
  if (o->code == want) return ok;
  printf("%s: exit code %d, expected %d\n", c->path, o->code, want);
  return false;
}

static bool update(const test_case *c, const outcome *o) {
  tt_strbuf sb = {0};
  const char *part[SECTIONS];
  memcpy(part, c->text, sizeof part);
  if (o->code > 1) {
    printf("%s: exit code %d; not updated\n%s", c->path, o->code, o->err);
    return false;
  }
  part[EXPECT] = o->code == 0 ? o->out : NULL;
  part[ERROR] = o->err[0] ? o->err : NULL;
  for (int s = HEAD; s < SECTIONS; s++) {
    if (part[s]) tt_strbuf_printf(&sb, "%s%s%s", s == HEAD ? "" : marks[s], s == HEAD ? "" : "\n", part[s]);
  }
  bool ok = tt_write_file(c->path, sb.data, sb.count);
  if (!ok) fprintf(stderr, "%s: %s\n", c->path, strerror(errno));
  tt_strbuf_free(&sb);
  return ok;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static bool is_case(const char *name) {
  size_t n = strlen(name);
  return n > 5 && strcmp(name + n - 5, ".case") == 0;
}

/* A folder stands for the cases right in it, by name. */
static bool collect(tt_arena *arena, char *path, paths *out) {
  struct stat st;
  if (stat(path, &st) != 0) {
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return false;
  }
  if (!S_ISDIR(st.st_mode)) {
    tt_vec_push(out, path);
    return true;
  }
  size_t first = out->count;
  DIR *d = opendir(path);
  for (struct dirent *e; d && (e = readdir(d));) {
    if (is_case(e->d_name)) tt_vec_push(out, tt_arena_printf(arena, "%s/%s", path, e->d_name));
  }
  if (d) closedir(d);
  if (out->count > first) qsort(out->data + first, out->count - first, sizeof *out->data, by_name);
  return true;
}

static int run_all(tt_arena *arena, const paths *cases, char *program, bool rewrite) {
  size_t failed = 0;
  for (size_t i = 0; i < cases->count; i++) {
    test_case c;
    outcome o;
    bool ok = load(arena, cases->data[i], &c) && run(arena, program, &c, &o);
    ok = ok && (rewrite ? update(&c, &o) : passes(&c, &o));
    failed += !ok;
  }
  printf("%zu cases, %zu failed\n", cases->count, failed);
  return failed ? 1 : 0;
}

int main(int argc, char **argv) {
  char *program = "build/tetrac-opt";
  bool rewrite = false, usage = argc < 2, ok = true;
  tt_arena *arena = tt_arena_create();
  paths cases = {0};
  for (int i = 1; i < argc && !usage; i++) {
    if (strcmp(argv[i], "--update") == 0)
      rewrite = true;
    else if (strcmp(argv[i], "--opt") == 0 && i + 1 < argc)
      program = argv[++i];
    else if (argv[i][0] == '-')
      usage = true;
    else
      ok = collect(arena, argv[i], &cases) && ok;
  }
  if (usage) fputs("usage: tt-cases [--update] [--opt PROGRAM] FILE.case|FOLDER...\n", stderr);
  int code = usage || !ok ? 2 : run_all(arena, &cases, program, rewrite);
  tt_vec_free(&cases);
  tt_arena_destroy(arena);
  return code;
}
