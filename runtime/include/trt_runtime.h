/* What a program that links the runtime may call besides trt_calls.def: trainers get `main` from the library, tetrac
 * itself starts the threads for code it compiled in memory.
 */
#ifndef TRT_RUNTIME_H
#define TRT_RUNTIME_H
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "trt_abi.h"
#include "trt_calls.h"

/* Runs the trainer's command line (train, eval, grad, export, info) for `program`. Returns the process's exit code:
 * 0 done, 1 error (one line on stderr), 2 wrong usage, 128+n: signal n came, the step was finished and saved. */
int trt_main(const trt_program *program, int argc, char **argv);

/* Sets the number of threads of trt_parallel (0: one for each available core) and gives each `scratch_bytes` of 64-byte
 * aligned scratch. May be called again; never from inside a kernel. False: out of memory, nothing changed. */
bool trt_threads_init(int64_t n_threads, uint64_t scratch_bytes);
int64_t trt_threads_count(void);
#endif
