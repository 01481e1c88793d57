/* Logs of one line a record, each line beginning with its step: what an interrupted run logged after its last checkpoint is
 * cut off when it goes on. */
#ifndef TRT_LINES_H
#define TRT_LINES_H
#include "checkpoint.h"

typedef struct trt_lines {
  int fd; /* -1: closed */
  char path[4096];
} trt_lines;

/* Opens folder/name for appending. `resume`: keeps the lines up to that position; NULL: starts an empty file, which `head`
 * (or NULL) begins. */
bool trt_lines_open(trt_lines *lines, const char *folder, const char *name, const char *head, const trt_position *resume,
                    trt_error *err);
bool trt_lines_put(trt_lines *lines, const char *text, size_t n, trt_error *err);
void trt_lines_close(trt_lines *lines);
#endif
