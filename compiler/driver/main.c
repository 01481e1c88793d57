/* tetrac: the command line. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "compiler/driver/commands.h"

static const struct {
  const char *name;
  int (*run)(int, char **);
  const char *what;
} commands[] = {
    {"new", tt_cmd_new, "write a fresh Vision Transformer as an ONNX model"},
    {"compile", tt_cmd_compile, "compile an ONNX model into a trainer"},
    {"inspect", tt_cmd_inspect, "show the graph a recipe makes of a model"},
    {"run", tt_cmd_run, "run a model's forward pass in memory"},
    {"report", tt_cmd_report, "compare training runs on one page"},
    {"list", tt_cmd_list, "list ops, passes, recipes, models or targets"},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void help(FILE *out) {
  fprintf(out, "tetrac compiles a Vision Transformer (ONNX) into a native program that trains it in MXFP4.\n\n"
               "usage: tetrac COMMAND [options]     ('tetrac COMMAND --help' says more)\n\n");
  for (int i = 0; i < N_COMMANDS; i++) fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].what);
  fprintf(out, "\na first session:\n"
               "  tetrac new vit --image 28 --patch 4 --channels 1 --dim 96 --depth 4 --heads 4 -o vit.onnx\n"
               "  tetrac compile vit.onnx --recipe tetrajet -o trainer\n"
               "  ./trainer train --data fashion-mnist --epochs 5 --out run1\n"
               "  tetrac report run1 -o report.html\n"
               "  ./trainer export --state run1/state.safetensors -o trained.onnx\n");
}

static int run(int argc, char **argv) {
  if (argc < 2) {
    help(stderr);
    return TT_EXIT_USAGE;
  }
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
    help(stdout);
    return TT_EXIT_OK;
  }
  if (strcmp(argv[1], "--version") == 0) {
    puts("tetrac " TETRAC_VERSION);
    return TT_EXIT_OK;
  }
  for (int i = 0; i < N_COMMANDS; i++)
    if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
  fprintf(stderr, "tetrac: unknown command '%s' (see 'tetrac --help')\n", argv[1]);
  return TT_EXIT_USAGE;
}

int main(int argc, char **argv) {
  signal(SIGCHLD, SIG_DFL); /* a parent that ignores its children hands that on, and waiting for them would fail */
  signal(SIGXFSZ, SIG_IGN); /* a file size limit is then a write error with a message, to the linker as well */
  int code = run(argc, argv);
  /* What a command printed counts as written only once it is out of the buffer. */
  if (fflush(stdout) == 0 && !ferror(stdout)) return code;
  fprintf(stderr, "tetrac: error: cannot write to standard output; free some space or write elsewhere with -o\n");
  return TT_EXIT_ERROR;
}
