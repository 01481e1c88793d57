/* The trainer's commands. Each takes the arguments after its name and returns the exit code (trt_runtime.h). */
#ifndef TRT_COMMANDS_H
#define TRT_COMMANDS_H
#include "options.h"
#include "runtime/include/trt_abi.h"

typedef int (*trt_command)(const trt_program *program, int argc, char **argv);
int trt_command_train(const trt_program *program, int argc, char **argv);
int trt_command_eval(const trt_program *program, int argc, char **argv);
int trt_command_grad(const trt_program *program, int argc, char **argv);
int trt_command_export(const trt_program *program, int argc, char **argv);
int trt_command_info(const trt_program *program, int argc, char **argv);

/* Parses a command's options; prints help or the usage error. Returns -1 to go on, else the exit code. */
int trt_command_parse(const char *usage, const char *about, trt_option *options, size_t n, int argc, char **argv);
#endif
