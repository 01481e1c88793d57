/* See foreign.h. */
#include "tests/ops/foreign.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "compiler/support/strbuf.h"
#include "compiler/support/vec.h"
#include "tests/ops/foreign_case.h"

typedef struct one_case {
  foreign_case sizes;
  const uint8_t *memory;
} one_case;

struct foreign {
  tt_arena *arena;
  const cg_target *target;
  const char *cross, *cpu, *folder, *runtime;
  TT_VEC(one_case) cases;
  const uint8_t *after; /* all cases' memory, thread count by thread count */
};

static bool present(const char *program) {
  char command[256];
  snprintf(command, sizeof command, "command -v %s >/dev/null", program);
  return system(command) == 0;
}

foreign *foreign_open(const cg_target *t, const char *cpu) {
  tt_arena *arena = tt_arena_create();
  foreign *f = TT_NEW(arena, foreign);
  *f = (foreign){.arena = arena, .target = t, .cpu = cpu, .cross = cg_target_cross(t)};
  const char *missing = NULL;
  char folder[] = "/tmp/tetrac-foreign-XXXXXX";
  TT_ASSERT(f->cross != NULL);
  f->runtime = TETRAC_BUILD_DIR "/aarch64/libtetrac_rt.a";
  const char *gcc = tt_arena_printf(arena, "%s-gcc", f->cross);
  if (!present(gcc)) missing = gcc;
  if (access(f->runtime, R_OK) != 0) missing = f->runtime;
  if (!present("qemu-aarch64")) missing = "qemu-aarch64";
  if (!missing && !mkdtemp(folder)) missing = folder;
  if (missing) {
    fprintf(stderr, "SKIP: no %s (sh tools/setup.sh --tests installs what is needed; then build again)\n", missing);
    tt_arena_destroy(arena);
    return NULL;
  }
  f->folder = tt_arena_str(arena, folder);
  return f;
}

int foreign_add(foreign *f, const tt_graph *g, const uint8_t *memory, tt_diag *diag) {
  int index = (int)f->cases.count;
  cg_object o;
  if (!cg_compile_object(g, f->target, tt_arena_printf(f->arena, "foreign_%d", index), &o, f->arena, diag)) return -1;
  if (!tt_write_file(tt_arena_printf(f->arena, "%s/%d.o", f->folder, index), o.data, o.bytes)) return -1;
  one_case added = {{g->arena_bytes, o.arena_bytes, o.scratch_bytes}, tt_arena_copy(f->arena, memory, g->arena_bytes)};
  tt_vec_push(&f->cases, added);
  return index;
}

static bool write_text(foreign *f, const char *name, tt_strbuf *sb) {
  bool ok = tt_write_file(tt_arena_printf(f->arena, "%s/%s", f->folder, name), sb->data, sb->count);
  tt_strbuf_free(sb);
  return ok;
}

static bool write_files(foreign *f) {
  tt_strbuf table = {0}, rest = {0}, in = {0}, objects = {0};
  tt_strbuf_printf(&table, "#include \"runtime/include/trt_abi.h\"\n");
  for (size_t i = 0; i < f->cases.count; i++) {
    const one_case *c = &f->cases.data[i];
    tt_strbuf_printf(&table, "void foreign_%zu(const trt_step *);\n", i);
    tt_strbuf_printf(&rest, "  foreign_%zu,\n", i);
    tt_strbuf_printf(&objects, "%s/%zu.o\n", f->folder, i);
    tt_strbuf_append(&in, (const char *)&c->sizes, sizeof c->sizes);
    tt_strbuf_append(&in, (const char *)c->memory, c->sizes.bytes);
  }
  tt_strbuf_printf(&table, "const trt_entry_fn foreign_entries[] = {\n%s};\nconst int foreign_count = %zu;\n", rest.data,
                   f->cases.count);
  tt_strbuf_free(&rest);
  return write_text(f, "table.c", &table) & write_text(f, "objects", &objects) & write_text(f, "in", &in);
}

bool foreign_run(foreign *f) {
  size_t bytes, want = 0;
  for (size_t i = 0; i < f->cases.count; i++) want += f->cases.data[i].sizes.bytes;
  if (!write_files(f)) return false;
  const char *link = tt_arena_printf(f->arena,
                                     "cd %s && %s-gcc -O1 -static -o program -I" TETRAC_SOURCE_DIR " table.c " TETRAC_SOURCE_DIR
                                     "/tests/ops/foreign_main.c @objects %s -fopenmp -lm 2>log || { cat log >&2; exit 1; }",
                                     f->folder, f->cross, f->runtime);
  const char *run = tt_arena_printf(f->arena, "qemu-aarch64 -cpu %s %s/program %s/in %s/out %d", f->cpu, f->folder, f->folder,
                                    f->folder, FOREIGN_THREADS);
  if (system(link) != 0 || system(run) != 0) return false;
  f->after = (const uint8_t *)tt_read_file(f->arena, tt_arena_printf(f->arena, "%s/out", f->folder), &bytes);
  return f->after && bytes == want * FOREIGN_THREADS;
}

const uint8_t *foreign_memory(const foreign *f, int index, int threads) {
  const uint8_t *at = f->after;
  for (int t = 1; t <= threads; t++)
    for (size_t i = 0; i < f->cases.count && (t < threads || (int)i < index); i++) at += f->cases.data[i].sizes.bytes;
  return at;
}

void foreign_close(foreign *f) {
  const char *away = tt_arena_printf(f->arena, "rm -rf %s", f->folder);
  if (system(away) != 0) fprintf(stderr, "%s: not removed\n", f->folder);
  tt_vec_free(&f->cases);
  tt_arena_destroy(f->arena);
}
