/* Generated code for another architecture, under an emulator: cases are collected, linked into one program with the runtime
 * that trainers get, run with 1 to FOREIGN_THREADS threads, and the memory they leave behind is read back. */
#ifndef FOREIGN_H
#define FOREIGN_H
#include "compiler/codegen/codegen.h"

enum { FOREIGN_THREADS = 3 };
typedef struct foreign foreign;
/* `cpu` is what the emulator plays. NULL, with the reason on stderr, where the cross compiler, the runtime built with it, or
 * the emulator is missing. */
foreign *foreign_open(const cg_target *t, const char *cpu);
/* A planned graph without vars, to run on a copy of `memory` (its arena_bytes): its index, or -1 after diagnostics. */
int foreign_add(foreign *f, const tt_graph *g, const uint8_t *memory, tt_diag *diag);
bool foreign_run(foreign *f);
/* The memory of case `index` after it ran on `threads` threads. */
const uint8_t *foreign_memory(const foreign *f, int index, int threads);
void foreign_close(foreign *f);
#endif
