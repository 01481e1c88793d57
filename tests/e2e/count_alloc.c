/* Linked into a trainer by tests/e2e/allocations.sh (with the linker's --wrap) to count what asks for memory. The count begins
 * when step 2 runs and ends with the last step: everything in between is what steps, their batches and their lines cost.
 * Says at exit how many steps and calls there were, and in which functions the calls were. */
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "runtime/src/model.h"

enum { N_FUNCTIONS = 8 };
static const char *const names[N_FUNCTIONS] = {"malloc",         "calloc", "realloc", "aligned_alloc",
                                               "posix_memalign", "mmap",   "brk",     "sbrk"};
static _Atomic int calls[N_FUNCTIONS];
static int steps, begin[N_FUNCTIONS], end[N_FUNCTIONS];

static void copy_calls(int *to) {
  for (int i = 0; i < N_FUNCTIONS; i++) to[i] = calls[i];
}

static void report(void) {
  int sum = 0;
  for (int i = 0; i < N_FUNCTIONS; i++) sum += end[i] - begin[i];
  printf("steps %d, allocations %d", steps, sum);
  for (int i = 0; i < N_FUNCTIONS; i++)
    if (end[i] != begin[i]) printf(", %s %d", names[i], end[i] - begin[i]);
  printf("\n");
}

/* The count at the end of a step is that of the step; calls between steps count with the next one. */
void __real_trt_model_run(const trt_model *model, const trt_binding *binding);
void __wrap_trt_model_run(const trt_model *model, const trt_binding *binding);
void __wrap_trt_model_run(const trt_model *model, const trt_binding *binding) {
  bool training = strcmp(binding->entry->name, "train") == 0;
  if (training && steps++ == 0) atexit(report);
  if (training && steps == 2) copy_calls(begin);
  __real_trt_model_run(model, binding);
  if (training && steps >= 2) copy_calls(end);
}

#define COUNTED(index, type, name, parameters, ...)                                                                    \
  type __real_##name parameters;                                                                                       \
  type __wrap_##name parameters;                                                                                       \
  type __wrap_##name parameters {                                                                                      \
    calls[index]++;                                                                                                    \
    return __real_##name(__VA_ARGS__);                                                                                 \
  }
COUNTED(0, void *, malloc, (size_t n), n)
COUNTED(1, void *, calloc, (size_t n, size_t size), n, size)
COUNTED(2, void *, realloc, (void *p, size_t n), p, n)
COUNTED(3, void *, aligned_alloc, (size_t align, size_t n), align, n)
COUNTED(4, int, posix_memalign, (void **p, size_t align, size_t n), p, align, n)
COUNTED(5, void *, mmap, (void *at, size_t n, int prot, int flags, int fd, off_t offset), at, n, prot, flags, fd, offset)
COUNTED(6, int, brk, (void *at), at)
COUNTED(7, void *, sbrk, (intptr_t n), n)
