/* What foreign.c and the program under the emulator agree on. The program reads from a file, for each case: foreign_case, then
 * its memory; and writes the memory after each run, thread count by thread count, all cases in order. */
#ifndef FOREIGN_CASE_H
#define FOREIGN_CASE_H
#include <stdint.h>
typedef struct foreign_case {
  uint64_t bytes;   /* of memory that is given and given back */
  uint64_t arena;   /* of memory that the entry needs */
  uint64_t scratch; /* a thread */
} foreign_case;
#endif
