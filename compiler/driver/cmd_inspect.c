/* tetrac inspect: the graph a recipe makes, in several forms. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "compiler/driver/commands.h"
#include "compiler/driver/compile.h"
#include "compiler/driver/dot.h"
#include "compiler/ir/text.h"
#include "passes/plan_memory.h"

static bool as_text(tt_session *s, tt_strbuf *out) {
  /* The module's variables, then only the graph asked for. */
  tt_module shown = *s->module;
  tt_graph *only[1] = {s->shown};
  shown.graphs.data = only;
  shown.graphs.count = 1;
  tt_print_module(&shown, TT_TEXT_ELIDED, out);
  return true;
}

static bool as_dot(tt_session *s, tt_strbuf *out) {
  tt_dot_graph(s->shown, out);
  return true;
}

/* Draws with Graphviz's `dot`, through temporary files of the system's choice. */
static bool as_svg(tt_session *s, tt_strbuf *out) {
  tt_strbuf dot = {0};
  as_dot(s, &dot);
  char in[] = "/tmp/tetrac-XXXXXX";
  int fd = mkstemp(in);
  bool ok = fd >= 0 && write(fd, dot.data, dot.count) == (ssize_t)dot.count;
  if (fd >= 0) close(fd);
  tt_strbuf_free(&dot);
  char command[64];
  snprintf(command, sizeof command, "dot -Tsvg %s", in);
  FILE *p = ok ? popen(command, "r") : NULL;
  char chunk[4096];
  for (size_t k; p && (k = fread(chunk, 1, sizeof chunk, p)) > 0;) tt_strbuf_append(out, chunk, k);
  ok = p && pclose(p) == 0 && out->count > 0;
  if (fd >= 0) unlink(in);
  if (!ok) tt_error(&s->diag, (tt_loc){0}, "drawing with 'dot' failed; install Graphviz or use --format dot");
  return ok;
}

static bool as_html(tt_session *s, tt_strbuf *out) {
  tt_strbuf svg = {0}, text = {0};
  bool ok = as_svg(s, &svg) && as_text(s, &text);
  if (ok) {
    const char *body = strstr(svg.data, "<svg");
    tt_strbuf_printf(out, "<!doctype html><meta charset=\"utf-8\"><title>%s: %s</title>\n"
                          "<style>body{font-family:sans-serif;margin:1.5em}pre{font-size:12px;overflow:auto}"
                          "div{overflow:auto;border:1px solid #ccc}</style>\n<h1>%s, recipe %s, graph %s</h1>\n<div>",
                     s->module->name, s->shown->name, s->module->name, s->recipe->name, s->shown->name);
    tt_strbuf_printf(out, "%s</div>\n<pre>", body ? body : "");
    for (const char *c = text.data; *c; c++) {
      if (*c == '<') tt_strbuf_append(out, "&lt;", 4);
      else if (*c == '&') tt_strbuf_append(out, "&amp;", 5);
      else tt_strbuf_append(out, c, 1);
    }
    tt_strbuf_printf(out, "</pre>\n");
  }
  tt_strbuf_free(&svg);
  tt_strbuf_free(&text);
  return ok;
}

static bool as_json(tt_session *s, tt_strbuf *out) {
  tt_strbuf_printf(out, "%s\n", tt_info_json(s->module, s->recipe, s->arena));
  return true;
}

static bool as_memory(tt_session *s, tt_strbuf *out) {
  if (s->shown->arena_bytes) tt_plan_report(s->shown, out);
  else
    tt_error(&s->diag, (tt_loc){0}, "--format memory shows the memory plan, which graph '%s' has not yet: drop --after",
             s->shown->name);
  return s->diag.errors == 0;
}

static bool as_onnx(tt_session *s, tt_strbuf *out) {
  uint8_t *data;
  size_t bytes;
  TT_TRY(tt_onnx_export_graph(s->shown, s->arena, &data, &bytes, &s->diag));
  tt_strbuf_append(out, (const char *)data, bytes);
  return true;
}

static const struct {
  const char *name;
  bool (*print)(tt_session *, tt_strbuf *);
} formats[] = {{"text", as_text}, {"dot", as_dot},       {"svg", as_svg},  {"html", as_html},
               {"json", as_json}, {"memory", as_memory}, {"onnx", as_onnx}};
enum { N_FORMATS = sizeof formats / sizeof *formats };

static bool deliver(tt_session *s, const char *out, const tt_strbuf *text) {
  if (!out || strcmp(out, "-") == 0) return fwrite(text->data, 1, text->count, stdout) == text->count && fflush(stdout) == 0;
  if (tt_write_file(out, text->data, text->count)) return true;
  tt_error(&s->diag, (tt_loc){.file = out}, "cannot write: %s", strerror(errno));
  return false;
}

int tt_cmd_inspect(int argc, char **argv) {
  tt_request r = {.recipe = "tetrajet"};
  const char *out = NULL, *format = "text";
  const tt_option options[] = {
      {"--recipe", TT_OPT_STRING, &r.recipe, "NAME|FILE", "how to quantize and train (default tetrajet)", false},
      {"--set", TT_OPT_LIST, &r.sets, "KEY=VALUE", "override one key of the recipe", false},
      {"--batch", TT_OPT_COUNT, &r.batch, "N", "images a step, where the model leaves it open", false},
      {"--after", TT_OPT_STRING, &r.after, "PASS", "stop after this pass ('tetrac list passes')", false},
      {"--format", TT_OPT_STRING, &format, "FORMAT", "text, dot, svg, html, onnx, json or memory (default text)", false},
      {"-o", TT_OPT_STRING, &out, "FILE", "where to write (default: standard output)", false},
  };
  const tt_command cmd = {
      "inspect", "MODEL.onnx [options]",           "Shows the training graph that a recipe makes of a model.",
      options,   sizeof options / sizeof *options, 1,
      1};
  tt_strings args = {0};
  tt_options_result parsed = tt_options_parse(&cmd, argc, argv, &args);
  int which = -1;
  for (int i = 0; i < N_FORMATS; i++)
    if (strcmp(formats[i].name, format) == 0) which = i;
  if (parsed == TT_OPTIONS_OK && which < 0) {
    fprintf(stderr, "tetrac inspect: --format is one of text, dot, svg, html, onnx, json, memory, not '%s'\n", format);
    parsed = TT_OPTIONS_BAD;
  }
  int code = parsed == TT_OPTIONS_BAD ? TT_EXIT_USAGE : TT_EXIT_OK;
  if (parsed == TT_OPTIONS_OK) {
    tt_session s;
    tt_strbuf text = {0};
    r.model = args.data[0];
    r.out = out;
    bool ok = tt_session_open(&s, &r, true);
    if (ok && s.notes) fputs(s.notes, stderr);
    ok = ok && formats[which].print(&s, &text) && deliver(&s, out, &text);
    code = ok ? TT_EXIT_OK : TT_EXIT_ERROR;
    tt_strbuf_free(&text);
    tt_session_close(&s);
  }
  tt_vec_free(&args);
  tt_vec_free(&r.sets);
  return code;
}
