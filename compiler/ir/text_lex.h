/* Private to compiler/ir: the words of .ttir. */
#ifndef TT_TEXT_LEX_H
#define TT_TEXT_LEX_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "compiler/support/arena.h"

/* A bare word: names without blanks, keywords, op names, element types, quantizer settings, inf, nan:0x... */
static inline bool tt_lex_is_word_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '/';
}
static inline bool tt_lex_is_digit(char c) { return c >= '0' && c <= '9'; }
static inline bool tt_lex_is_word(char c) {
  return tt_lex_is_word_start(c) || tt_lex_is_digit(c) || c == '.' || c == ':' || c == '-';
}

typedef enum {
  TT_TOK_END,
  TT_TOK_NEWLINE,
  TT_TOK_WORD,
  TT_TOK_STRING,
  TT_TOK_NUMBER,
  TT_TOK_PUNCT,
  TT_TOK_BAD
} tt_tok_kind;
typedef struct tt_token {
  tt_tok_kind kind;
  const char *text; /* WORD, NUMBER and PUNCT as written, STRING with its escapes resolved; BAD: what is wrong; in the
                       lexer's arena */
  int line;
} tt_token;

typedef struct tt_lexer {
  const char *at;
  int line;
  tt_arena *arena;
} tt_lexer;
tt_token tt_lex_next(tt_lexer *lx);
/* From inside "hex(" to behind its ')': that many bytes in `arena`, or NULL with *why where it is no such list. */
void *tt_lex_hex(tt_lexer *lx, tt_arena *arena, size_t bytes, const char **why);
#endif
