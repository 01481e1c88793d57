/* tetrac report. */
#include <errno.h>
#include <string.h>
#include "compiler/driver/commands.h"
#include "compiler/driver/options.h"
#include "compiler/driver/report.h"

/* All folders, so that every fault is said at once. */
static bool load_runs(tt_study *s, const tt_strings *folders, tt_arena *arena, tt_diag *diag) {
  s->n_runs = (int)folders->count;
  s->runs = TT_NEW_N(arena, tt_run, s->n_runs);
  bool ok = true;
  for (int i = 0; i < s->n_runs; i++) ok &= tt_run_load(&s->runs[i], folders->data[i], arena, diag);
  return ok;
}

static bool write_text(const char *path, const tt_strbuf *text, tt_diag *diag) {
  if (tt_write_file(path, text->data, text->count)) return true;
  tt_error(diag, (tt_loc){.file = path}, "cannot write: %s", strerror(errno));
  return false;
}

static bool report(const tt_strings *folders, const char *out, const char *title, bool table, tt_arena *arena, tt_diag *diag) {
  tt_study study = {.title = title};
  tt_strbuf text = {0};
  TT_TRY(load_runs(&study, folders, arena, diag));
  tt_study_group(&study, arena);
  bool ok = true;
  if (table) {
    tt_report_markdown(&text, &study);
    ok = fwrite(text.data, 1, text.count, stdout) == text.count && fflush(stdout) == 0;
    if (!ok) tt_error(diag, (tt_loc){.file = "stdout"}, "cannot write: %s", strerror(errno));
    text.count = 0;
  }
  if (ok && out) {
    tt_report_html(&text, &study);
    ok = write_text(out, &text, diag);
    if (ok) fprintf(stderr, "%s: %d runs\n", out, study.n_runs);
  }
  tt_strbuf_free(&text);
  return ok;
}

int tt_cmd_report(int argc, char **argv) {
  const char *out = NULL, *title = "Training runs";
  bool table = false;
  const tt_option options[] = {
      {"-o", TT_OPT_STRING, &out, "FILE.html", "the page to write", false},
      {"--table", TT_OPT_FLAG, &table, NULL, "print the results as a Markdown table", false},
      {"--title", TT_OPT_STRING, &title, "TEXT", "heading of the page", false},
  };
  const tt_command cmd = {
      "report",
      "RUN_DIR... -o FILE.html [--table]",
      "Compares training runs: one self-contained page from the folders that 'TRAINER train --out DIR' wrote.",
      options,
      sizeof options / sizeof *options,
      1,
      -1};
  tt_strings args = {0};
  tt_options_result parsed = tt_options_parse(&cmd, argc, argv, &args);
  int code = parsed == TT_OPTIONS_BAD ? TT_EXIT_USAGE : TT_EXIT_OK;
  if (parsed == TT_OPTIONS_OK && !out && !table) {
    fprintf(stderr, "tetrac report: say where to: -o FILE.html, or --table\n");
    code = TT_EXIT_USAGE;
  } else if (parsed == TT_OPTIONS_OK) {
    tt_arena *arena = tt_arena_create();
    tt_diag diag;
    tt_diag_init(&diag, stderr);
    if (!report(&args, out, title, table, arena, &diag)) code = TT_EXIT_ERROR;
    tt_diag_free(&diag);
    tt_arena_destroy(arena);
  }
  tt_vec_free(&args);
  return code;
}
