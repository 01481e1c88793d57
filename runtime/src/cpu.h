/* Whether this machine has the instructions that a program was compiled to. */
#ifndef TRT_CPU_H
#define TRT_CPU_H
#include "support.h"

/* `features`: LLVM's names, separated by commas. False after an error that names those which the CPU does not have or the
 * system does not let us use. Features that no kernel is made of (privileged ones, caches, random numbers) are not asked
 * for. */
bool trt_cpu_check(const char *features, trt_error *err);
#endif
