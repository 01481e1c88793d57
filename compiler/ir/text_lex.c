/* The lexer of .ttir. Lines matter (a statement ends with one), blanks and # comments do not. */
#include <string.h>
#include "compiler/ir/text_lex.h"

static tt_token make(const tt_lexer *lx, tt_tok_kind kind, const char *text) {
  return (tt_token){.kind = kind, .text = text, .line = lx->line};
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/* Resolves one escape behind a backslash into *c. */
static bool escape(tt_lexer *lx, char *c) {
  char e = *lx->at;
  if (e == '"' || e == '\\') {
    *c = e;
    lx->at++;
    return true;
  }
  if (e != 'x' || hex_digit(lx->at[1]) < 0 || hex_digit(lx->at[2]) < 0) return false;
  *c = (char)(hex_digit(lx->at[1]) * 16 + hex_digit(lx->at[2]));
  lx->at += 3;
  return *c != 0;
}

/* Bytes up to the closing quote or the end of the line: an upper bound of what the string holds. */
static size_t string_room(const char *s) {
  size_t n = 0;
  while (s[n] && s[n] != '\n' && s[n] != '"') n += s[n] == '\\' && s[n + 1] && s[n + 1] != '\n' ? 2 : 1;
  return n;
}

static tt_token string(tt_lexer *lx) {
  lx->at++;
  char *text = tt_arena_alloc(lx->arena, string_room(lx->at) + 1);
  size_t n = 0;
  while (*lx->at && *lx->at != '\n' && *lx->at != '"') {
    char c = *lx->at++;
    if (c == '\\' && !escape(lx, &c)) return make(lx, TT_TOK_BAD, "bad escape in a string: \\\", \\\\ and \\xHH are known");
    text[n++] = c;
  }
  if (*lx->at != '"') return make(lx, TT_TOK_BAD, "a string without its closing quote");
  lx->at++;
  return make(lx, TT_TOK_STRING, text);
}

static bool continues_number(const tt_lexer *lx) {
  char c = *lx->at, before = lx->at[-1];
  if (tt_lex_is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.') return true;
  return (c == '+' || c == '-') && (before == 'e' || before == 'E' || before == 'p');
}

tt_token tt_lex_next(tt_lexer *lx) {
  lx->at += strspn(lx->at, " \t\r");
  if (*lx->at == '#') lx->at += strcspn(lx->at, "\n");
  const char *start = lx->at;
  char c = *start;
  if (c == 0) return make(lx, TT_TOK_END, "the end of the file");
  if (c == '"') return string(lx);
  lx->at++;
  if (c == '\n') {
    tt_token t = make(lx, TT_TOK_NEWLINE, "the end of the line");
    lx->line++;
    return t;
  }
  if (tt_lex_is_word_start(c)) {
    while (tt_lex_is_word(*lx->at)) lx->at++;
    return make(lx, TT_TOK_WORD, tt_arena_strn(lx->arena, start, (size_t)(lx->at - start)));
  }
  if (tt_lex_is_digit(c) || c == '-' || c == '.') {
    while (continues_number(lx)) lx->at++;
    return make(lx, TT_TOK_NUMBER, tt_arena_strn(lx->arena, start, (size_t)(lx->at - start)));
  }
  if (strchr("%$=,(){}[]@:+", c)) return make(lx, TT_TOK_PUNCT, tt_arena_strn(lx->arena, start, 1));
  return make(lx, TT_TOK_BAD, "a character that means nothing here");
}

/* Looks before it allocates: a short text cannot ask for much memory. */
static size_t count_hex(const char *s) {
  size_t digits = 0;
  for (; *s && *s != ')'; s++) digits += hex_digit(*s) >= 0;
  return digits;
}

void *tt_lex_hex(tt_lexer *lx, tt_arena *arena, size_t bytes, const char **why) {
  size_t digits = count_hex(lx->at), n = 0;
  bool fits = digits % 2 == 0 && digits / 2 == bytes, clean = true;
  uint8_t *out = fits ? tt_arena_alloc(arena, bytes) : NULL;
  for (; *lx->at && *lx->at != ')'; lx->at++) {
    int d = hex_digit(*lx->at);
    if (*lx->at == '\n') lx->line++;
    if (d < 0) clean = clean && strchr(" \t\r\n", *lx->at);
    if (d < 0 || !fits) continue;
    out[n / 2] = (uint8_t)(out[n / 2] << 4 | d);
    n++;
  }
  *why = !*lx->at ? "hex data without its closing parenthesis"
         : !clean ? "hex data holds something else than hexadecimal digits"
         : !fits  ? "hex data is of another length than its type"
                  : NULL;
  if (*lx->at) lx->at++;
  return *why ? NULL : out;
}
