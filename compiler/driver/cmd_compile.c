/* tetrac compile. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "compiler/driver/commands.h"
#include "compiler/driver/compile.h"

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool emit_kind(const char *emit, cg_format *format, bool *link) {
  static const struct {
    const char *name;
    cg_format format;
    bool link;
  } kinds[] = {{"exe", CG_PARTS, true}, {"obj", CG_OBJ, false}, {"asm", CG_ASM, false}, {"llvm", CG_LLVM, false}};
  for (int i = 0; i < 4; i++) {
    if (strcmp(emit, kinds[i].name) != 0) continue;
    *format = kinds[i].format;
    *link = kinds[i].link;
    return true;
  }
  fprintf(stderr, "tetrac compile: --emit is one of exe, obj, asm, llvm, not '%s'\n", emit);
  return false;
}

/* An interrupt waits until the linker is done, a second at most, and then finds no temporary files beside the trainer. */
static bool link_whole(tt_session *s, const cg_target *target, const char *out, const cg_output *objects) {
  sigset_t late, before;
  sigemptyset(&late);
  sigaddset(&late, SIGINT);
  sigaddset(&late, SIGTERM);
  sigaddset(&late, SIGHUP);
  sigaddset(&late, SIGQUIT);
  sigprocmask(SIG_BLOCK, &late, &before); /* the linker inherits it: a key reaches the whole process group */
  bool ok = tt_link(objects, target, out, &s->diag);
  sigprocmask(SIG_SETMASK, &before, NULL);
  return ok;
}

static bool write_output(tt_session *s, const cg_target *target, const char *out, bool link, const cg_output *made) {
  if (link) return link_whole(s, target, out, made);
  const uint8_t *data = made->files[0].data;
  size_t bytes = made->files[0].bytes;
  bool piped = strcmp(out, "-") == 0;
  if (piped ? fwrite(data, 1, bytes, stdout) == bytes && fflush(stdout) == 0 : tt_write_file(out, data, bytes)) return true;
  tt_error(&s->diag, (tt_loc){.file = piped ? "standard output" : out}, "cannot write: %s", strerror(errno));
  return false;
}

static void summary(const tt_session *s, const char *out, const char *target, double seconds) {
  const tt_graph *g = tt_module_find_graph(s->module, "forward");
  int linears = 0, int4 = 0;
  TT_FOR_NODES(g, n) {
    const tt_node_data *d = tt_nod(g, n);
    if (d->op != TT_OP_MX_GEMM) continue;
    linears++;
    for (int i = 0; i < 2; i++) int4 |= tt_typ(g, d->in[i])->format == TT_INT4;
  }
  struct stat st = {0};
  stat(out, &st);
  fprintf(stderr, "%s: recipe %s, %d linears in %s, %s, %.1f MB, %.1f s\n", out, s->recipe->name, linears,
          int4 ? "INT4" : "MXFP4", target, (double)st.st_size / 1e6, seconds);
}

int tt_cmd_compile(int argc, char **argv) {
  tt_request r = {.recipe = "tetrajet"};
  const char *out = NULL, *emit = "exe";
  bool quiet = false;
  const tt_option options[] = {
      {"-o", TT_OPT_STRING, &out, "FILE", "the trainer (or object, assembly, LLVM text) to write", false},
      {"--recipe", TT_OPT_STRING, &r.recipe, "NAME|FILE", "how to quantize and train (default tetrajet; 'tetrac list recipes')",
       false},
      {"--set", TT_OPT_LIST, &r.sets, "KEY=VALUE", "override one key of the recipe, e.g. q3.rounding=nearest", false},
      {"--batch", TT_OPT_COUNT, &r.batch, "N", "images a step, where the model leaves it open (default 128)", false},
      {"--target", TT_OPT_STRING, &r.target, "TARGET",
       "cpu, cpu:FEATURES, aarch64 or a triple (default cpu: this machine; 'tetrac list targets')", false},
      {"--emit", TT_OPT_STRING, &emit, "KIND", "exe, obj, asm or llvm (default exe)", false},
      {"--jobs", TT_OPT_COUNT, &r.jobs, "N",
       "processes that make machine code at once (exe only; at most 16; default one a core); the trainer is the same", false},
      {"--quiet", TT_OPT_FLAG, &quiet, NULL, "say nothing but errors", false},
  };
  const tt_command cmd = {"compile", "MODEL.onnx -o TRAINER [options]",
                          "Compiles an ONNX model into a self-contained program that trains it.", options,
                          sizeof options / sizeof *options, 1, 1};
  tt_strings args = {0};
  cg_format format = CG_OBJ;
  bool link = true;
  tt_options_result parsed = tt_options_parse(&cmd, argc, argv, &args);
  if (parsed == TT_OPTIONS_OK && !out) {
    fprintf(stderr, "tetrac compile: -o FILE is missing\n");
    parsed = TT_OPTIONS_BAD;
  }
  if (parsed == TT_OPTIONS_OK && !emit_kind(emit, &format, &link)) parsed = TT_OPTIONS_BAD;
  int code = parsed == TT_OPTIONS_BAD ? TT_EXIT_USAGE : TT_EXIT_OK;
  if (parsed == TT_OPTIONS_OK) {
    double start = now();
    tt_session s;
    cg_output made = {0};
    r.model = args.data[0];
    r.out = strcmp(out, "-") == 0 ? NULL : out;
    r.program = link;
    const cg_target *target = NULL;
    bool ok = tt_session_open(&s, &r, true);
    if (ok && s.notes && !quiet) fputs(s.notes, stderr);
    if (ok) target = cg_target_find(r.target ? r.target : "cpu", s.arena, &s.diag);
    ok = ok && target && tt_session_emit(&s, &r, target, format, &made) && write_output(&s, target, out, link, &made);
    if (ok && !quiet) summary(&s, out, cg_target_describe(target), now() - start);
    code = ok ? TT_EXIT_OK : TT_EXIT_ERROR;
    tt_session_close(&s);
  }
  tt_vec_free(&args);
  tt_vec_free(&r.sets);
  return code;
}
