/* tetrac new. */
#include <errno.h>
#include <string.h>
#include "compiler/driver/commands.h"
#include "compiler/driver/options.h"
#include "compiler/support/strbuf.h"
#include "models/models.h"

static int write_model(const tt_model_options *o, const char *out) {
  tt_arena *arena = tt_arena_create();
  tt_diag diag;
  uint8_t *data = NULL;
  size_t bytes = 0;
  tt_diag_init(&diag, stderr);
  bool ok = tt_model_build(o, arena, &data, &bytes, &diag);
  if (ok && !tt_write_file(out, data, bytes)) {
    tt_error(&diag, (tt_loc){.file = out}, "cannot write: %s", strerror(errno));
    ok = false;
  }
  tt_diag_free(&diag);
  tt_arena_destroy(arena);
  return ok ? TT_EXIT_OK : TT_EXIT_ERROR;
}

int tt_cmd_new(int argc, char **argv) {
  tt_model_options given = {
      .image = -1, .patch = -1, .channels = -1, .classes = -1, .dim = -1, .depth = -1, .heads = -1, .seed = -1};
  const char *out = NULL;
  const tt_option options[] = {
      {"-o", TT_OPT_STRING, &out, "MODEL.onnx", "the model to write", false},
      {"--image", TT_OPT_INT, &given.image, "N", "height and width of the images", false},
      {"--patch", TT_OPT_INT, &given.patch, "N", "height and width of a patch", false},
      {"--channels", TT_OPT_INT, &given.channels, "N", "image channels", false},
      {"--classes", TT_OPT_INT, &given.classes, "N", "classes", false},
      {"--dim", TT_OPT_INT, &given.dim, "N", "width of a token", false},
      {"--depth", TT_OPT_INT, &given.depth, "N", "transformer blocks", false},
      {"--heads", TT_OPT_INT, &given.heads, "N", "attention heads", false},
      {"--seed", TT_OPT_INT, &given.seed, "N", "seed of the initial weights", false},
  };
  const tt_command cmd = {"new", "vit|deit-tiny|deit-small|deit-base -o MODEL.onnx [options]",
                          "Writes a fresh Vision Transformer; options override the named model's sizes.", options,
                          sizeof options / sizeof *options, 1, 1};
  tt_strings args = {0};
  tt_options_result parsed = tt_options_parse(&cmd, argc, argv, &args);
  int code = parsed == TT_OPTIONS_BAD ? TT_EXIT_USAGE : TT_EXIT_OK;
  int n_presets = 0;
  const tt_model_preset *presets = tt_model_presets(&n_presets), *preset = NULL;
  for (int i = 0; parsed == TT_OPTIONS_OK && i < n_presets; i++)
    if (strcmp(presets[i].name, args.data[0]) == 0) preset = &presets[i];
  if (parsed == TT_OPTIONS_OK && (!preset || !out)) {
    if (!preset) fprintf(stderr, "tetrac new: no model is called '%s' (see 'tetrac list models')\n", args.data[0]);
    else fprintf(stderr, "tetrac new: -o MODEL.onnx is missing\n");
    code = TT_EXIT_USAGE;
  } else if (parsed == TT_OPTIONS_OK) {
    tt_model_options o = preset->options;
    int64_t *to[] = {&o.image, &o.patch, &o.channels, &o.classes, &o.dim, &o.depth, &o.heads, &o.seed};
    const int64_t from[] = {given.image, given.patch, given.channels, given.classes,
                            given.dim,   given.depth, given.heads,    given.seed};
    for (int i = 0; i < 8; i++)
      if (from[i] != -1) *to[i] = from[i];
    code = write_model(&o, out);
  }
  tt_vec_free(&args);
  return code;
}
