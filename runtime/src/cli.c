/* trt_main: picks the command. */
#include "commands.h"
#include "runtime/include/trt_runtime.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct {
  const char *name;
  trt_command run;
  const char *usage, *about;
} commands[] = {
    {"train", trt_command_train, "--data SPEC [--out DIR] [--resume] ...", "train the model"},
    {"eval", trt_command_eval, "--data SPEC [--state FILE]", "accuracy and loss on the test split"},
    {"grad", trt_command_grad, "--batch FILE -o FILE", "one step's loss, logits and gradients; nothing is updated"},
    {"export", trt_command_export, "[--state FILE] -o MODEL.onnx", "write the ONNX model with trained weights"},
    {"info", trt_command_info, "[--json]", "recipe, shapes, memory plan, FLOPs and 4-bit share"},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void print_help(const trt_program *program, const char *self) {
  printf("A trainer for the model '%s', compiled by tetrac.\n\nusage:\n", program->model);
  for (int i = 0; i < N_COMMANDS; i++) {
    printf("  %s %-7s%-40s %s\n", self, commands[i].name, commands[i].usage, commands[i].about);
  }
  printf("\n%s COMMAND --help tells more. Data go to stdout, talk to stderr. Exit codes: 0 done, 1 error, 2 wrong usage,\n"
         "129, 130 or 143: stopped by a signal after the step was finished and saved.\n",
         self);
}

int trt_command_parse(const char *usage, const char *about, trt_option *options, size_t n, int argc, char **argv) {
  trt_error err;
  trt_parse_result result = trt_options_parse(options, n, argc, argv, &err);
  if (result == TRT_PARSED) return -1;
  if (result == TRT_HELP) {
    printf("usage: TRAINER %s\n\n%s\n\n", usage, about);
    trt_options_help(options, n);
    return 0;
  }
  fprintf(stderr, "trainer: error: %s; see TRAINER %.*s --help\n", err.text, (int)strcspn(usage, " "), usage);
  return 2;
}

/* Data that did not reach stdout (a full disk, say) must not end as success. */
static int flush_stdout(int code) {
  if (fflush(stdout) == 0 && !ferror(stdout)) return code;
  fprintf(stderr, "trainer: error: cannot write to standard output; check where it goes\n");
  return code ? code : 1;
}

int trt_main(const trt_program *program, int argc, char **argv) {
  const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
  const char *self = slash ? slash + 1 : argc > 0 ? argv[0] : "TRAINER";
  signal(SIGXFSZ, SIG_IGN); /* a file size limit is then a write error with a message */
  if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)) {
    print_help(program, self);
    return flush_stdout(0);
  }
  for (int i = 0; argc > 1 && i < N_COMMANDS; i++) {
    if (strcmp(commands[i].name, argv[1]) == 0) return flush_stdout(commands[i].run(program, argc - 2, argv + 2));
  }
  if (argc > 1)
    fprintf(stderr, "trainer: error: unknown command '%s'; see %s --help\n", argv[1], self);
  else
    fprintf(stderr, "trainer: error: no command given; see %s --help\n", self);
  return 2;
}
