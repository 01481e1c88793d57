/* Arenas, vectors, strings, files and diagnostics: what every room takes for granted. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "compiler/support/arena.h"
#include "compiler/support/diag.h"
#include "compiler/support/strbuf.h"
#include "compiler/support/vec.h"

static void arena_blocks_are_zeroed_apart_and_aligned(void **state) {
  (void)state;
  tt_arena *arena = tt_arena_create();
  static const size_t sizes[] = {0, 1, 15, 63, 64, 65, 4000, 70000, 16 * 1024 + 1, 200000, 8, 1 << 20};
  enum { N = sizeof sizes / sizeof *sizes, ROUNDS = 50 };
  unsigned char *block[ROUNDS][N];
  for (int r = 0; r < ROUNDS; r++) {
    for (int i = 0; i < N; i++) {
      unsigned char *p = block[r][i] = tt_arena_alloc(arena, sizes[i]);
      assert_int_equal((uintptr_t)p % (sizes[i] >= 64 ? 64 : 16), 0);
      for (size_t k = 0; k < sizes[i]; k += 1 + sizes[i] / 100) assert_int_equal(p[k], 0);
      memset(p, r * N + i + 1, sizes[i]);
    }
  }
  for (int r = 0; r < ROUNDS; r++) {
    for (int i = 0; i < N; i++) {
      for (size_t k = 0; k < sizes[i]; k += 1 + sizes[i] / 100)
        assert_int_equal(block[r][i][k], (unsigned char)(r * N + i + 1));
    }
  }
  tt_arena_destroy(arena);
  tt_arena_destroy(NULL);
}

static void arena_makes_strings(void **state) {
  (void)state;
  tt_arena *arena = tt_arena_create();
  assert_string_equal(tt_arena_str(arena, ""), "");
  assert_string_equal(tt_arena_strn(arena, "abcdef", 3), "abc");
  assert_string_equal(tt_arena_printf(arena, "%s-%d", "x", 42), "x-42");
  assert_int_equal(strlen(tt_arena_printf(arena, "%*d", 100000, 7)), 100000);
  assert_memory_equal(tt_arena_copy(arena, "a\0b", 3), "a\0b", 3);
  tt_arena_destroy(arena);
}

static void vectors_grow_and_start_again(void **state) {
  (void)state;
  TT_VEC(int) v = {0};
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 10000; i++) tt_vec_push(&v, i);
    assert_int_equal(v.count, 10000);
    for (int i = 0; i < 10000; i++) assert_int_equal(v.data[i], i);
    tt_vec_free(&v);
    assert_null(v.data);
  }
}

static void strings_grow(void **state) {
  (void)state;
  tt_strbuf sb = {0};
  for (int i = 0; i < 1000; i++) tt_strbuf_printf(&sb, "%d,", i % 10);
  tt_strbuf_append(&sb, "\0end", 4);
  assert_int_equal(sb.count, 2004);
  assert_int_equal(sb.data[sb.count], 0);
  assert_memory_equal(sb.data + 1996, "8,9,\0end", 8);
  tt_strbuf_free(&sb);
  assert_null(sb.data);
}

static void files_are_written_whole_or_not_at_all(void **state) {
  (void)state;
  tt_arena *arena = tt_arena_create();
  char folder[] = "support-XXXXXX";
  size_t bytes = 0;
  assert_non_null(mkdtemp(folder));
  const char *path = tt_arena_printf(arena, "%s/file", folder), *nowhere = tt_arena_printf(arena, "%s/no/file", folder);
  assert_true(tt_write_file(path, "one\0two", 7));
  assert_true(tt_write_file(path, "three", 5));
  assert_string_equal(tt_read_file(arena, path, &bytes), "three");
  assert_int_equal(bytes, 5);
  errno = 0;
  assert_false(tt_write_file(nowhere, "x", 1));
  assert_int_equal(errno, ENOENT);
  assert_null(tt_read_file(arena, nowhere, &bytes));
  assert_int_equal(errno, ENOENT);
  assert_null(tt_read_file(arena, folder, &bytes));
  assert_int_equal(errno, EISDIR);
  assert_null(tt_read_small_file(arena, "/dev/zero", 100000, &bytes));
  assert_int_equal(errno, EFBIG);
  errno = 0;
  assert_null(tt_read_small_file(arena, path, 4, &bytes));
  assert_int_equal(errno, EFBIG);
  assert_string_equal(tt_read_small_file(arena, path, 5, &bytes), "three");
  /* A folder in the way: the rename fails, and the temporary file is gone again, so the folder can be removed. */
  const char *folder_in_the_way = tt_arena_printf(arena, "%s/dir", folder);
  assert_int_equal(mkdir(folder_in_the_way, 0777), 0);
  assert_false(tt_write_file(folder_in_the_way, "x", 1));
  assert_int_equal(rmdir(folder_in_the_way), 0);
  assert_int_equal(unlink(path), 0);
  assert_int_equal(rmdir(folder), 0);
  tt_arena_destroy(arena);
}

static void diagnostics_say_where(void **state) {
  (void)state;
  tt_diag diag;
  tt_diag_init(&diag, NULL);
  tt_error(&diag, (tt_loc){.file = "m.onnx", .node = "a/b", .op = "MatMul"}, "shape %d", 3);
  tt_warning(&diag, (tt_loc){.file = "x.ttir", .line = 7}, "odd");
  tt_note(&diag, (tt_loc){.op = "add"}, "so");
  tt_error(&diag, (tt_loc){0}, "bare");
  assert_string_equal(diag.text,
                      "m.onnx: node 'a/b' (MatMul): error: shape 3\nx.ttir:7: warning: odd\ntetrac: add: note: so\n"
                      "tetrac: error: bare\n");
  assert_int_equal(diag.errors, 2);
  assert_int_equal(diag.warnings, 1);
  tt_diag_free(&diag);
}

static void diagnostics_stop_at_twenty_and_cut_long_lines(void **state) {
  (void)state;
  tt_diag diag;
  tt_diag_init(&diag, NULL);
  for (int i = 0; i < 100; i++) tt_error(&diag, (tt_loc){.file = "f"}, "fault %d", i);
  assert_int_equal(diag.errors, 100);
  assert_non_null(strstr(diag.text, "fault 19\n"));
  assert_null(strstr(diag.text, "fault 20\n"));
  assert_non_null(strstr(diag.text, "more errors follow"));
  tt_diag_free(&diag);
  tt_diag_init(&diag, NULL);
  tt_error(&diag, (tt_loc){.file = "f"}, "name %*d is odd", 100000, 1);
  assert_true(diag.text_len < 5000);
  assert_int_equal(strncmp(diag.text, "f: error: name ", 15), 0);
  assert_non_null(strstr(diag.text, "1 is odd\n")); /* cut in the middle */
  assert_int_equal(diag.text[diag.text_len - 1], '\n');
  tt_diag_free(&diag);
}

static void a_broken_invariant_aborts_and_names_pass_and_node(void **state) {
  (void)state;
  int ends[2], status;
  char text[1024] = "";
  assert_int_equal(pipe(ends), 0);
  pid_t pid = fork();
  if (pid == 0) {
    signal(SIGABRT, SIG_DFL);
    dup2(ends[1], 2);
    tt_assert_context("opt_cse", "blocks.0/Add");
    TT_ASSERT(1 + 1 == 3);
    _exit(0);
  }
  close(ends[1]);
  size_t n = 0;
  for (ssize_t k; (k = read(ends[0], text + n, sizeof text - 1 - n)) > 0;) n += (size_t)k;
  close(ends[0]);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  assert_non_null(strstr(text, "1 + 1 == 3 (in opt_cse, node 'blocks.0/Add')"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(arena_blocks_are_zeroed_apart_and_aligned),
      cmocka_unit_test(arena_makes_strings),
      cmocka_unit_test(vectors_grow_and_start_again),
      cmocka_unit_test(strings_grow),
      cmocka_unit_test(files_are_written_whole_or_not_at_all),
      cmocka_unit_test(diagnostics_say_where),
      cmocka_unit_test(diagnostics_stop_at_twenty_and_cut_long_lines),
      cmocka_unit_test(a_broken_invariant_aborts_and_names_pass_and_node),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
