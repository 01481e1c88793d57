#include "compiler/driver/report_chart.h"
#include <math.h>

enum {
  WIDTH = 560,
  HEIGHT = 300,
  SMALL_WIDTH = 320,
  SMALL_HEIGHT = 180,
  LEFT = 58,
  RIGHT = 14,
  TOP = 10,
  BOTTOM = 40,
  MAX_POINTS = 400,
  MAX_TICKS = 20
};

typedef struct axis {
  double low, high;  /* in data units, after scaling */
  double from, to;   /* in pixels */
  bool log;
} axis;

static double place(const axis *a, double v) {
  double t = a->log ? (log10(v) - log10(a->low)) / (log10(a->high) - log10(a->low)) : (v - a->low) / (a->high - a->low);
  return a->from + t * (a->to - a->from);
}

/* 1, 2 or 5 times a power of ten, so that about n steps fill the span. */
static double nice_step(double span, int n) {
  double raw = span / n, power = pow(10, floor(log10(raw))), unit = raw / power;
  return (unit <= 1 ? 1 : unit <= 2 ? 2 : unit <= 5 ? 5 : 10) * power;
}

static void put_tick_text(tt_strbuf *out, double v, double step, bool log) {
  int decimals = log || step <= 0 ? 0 : (int)fmax(0, ceil(-log10(step) - 1e-9));
  if (log || fabs(v) >= 1e5) tt_strbuf_printf(out, "%g", v);
  else tt_strbuf_printf(out, "%.*f", decimals > 9 ? 9 : decimals, fabs(v) < step / 1e6 ? 0.0 : v);
}

static void put_y_tick(tt_strbuf *out, const axis *x, const axis *y, double v, double step) {
  double p = place(y, v);
  tt_strbuf_printf(out,
                   "<path class=\"grid\" d=\"M%d %.1fH%.0f\"/><text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">",
                   LEFT, p, x->to, LEFT - 7, p + 4);
  put_tick_text(out, v, step, y->log);
  tt_strbuf_printf(out, "</text>");
}

/* Powers of ten, and 2 and 5 times them where there are few. */
static void put_log_ticks(tt_strbuf *out, const axis *x, const axis *y) {
  double decades = log10(y->high / y->low);
  static const double factors[] = {1, 2, 5};
  int n = decades > 3 ? 1 : 3, every = decades > 8 ? 2 : 1;
  for (int e = (int)floor(log10(y->low)); e <= (int)ceil(log10(y->high)); e++)
    for (int i = 0; i < n && e % every == 0; i++) {
      double v = factors[i] * pow(10, e);
      if (v >= y->low * 0.999 && v <= y->high * 1.001) put_y_tick(out, x, y, v, 0);
    }
}

static void put_axes(tt_strbuf *out, const axis *x, const axis *y, const char *x_label, int height) {
  if (y->log) {
    put_log_ticks(out, x, y);
  } else {
    double step = nice_step(y->high - y->low, 5);
    double first = ceil(y->low / step - 1e-9);
    for (int i = 0; i < MAX_TICKS && (first + i) * step <= y->high + step * 1e-6; i++)
      put_y_tick(out, x, y, (first + i) * step, step);
  }
  double step = nice_step(x->high - x->low, (int)(x->to - x->from) / 70), first = ceil(x->low / step - 1e-9);
  for (int i = 0; i < MAX_TICKS && (first + i) * step <= x->high + step * 1e-6; i++) {
    double v = (first + i) * step;
    tt_strbuf_printf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", place(x, v),
                     height - BOTTOM + 17);
    put_tick_text(out, v, step, false);
    tt_strbuf_printf(out, "</text>");
  }
  tt_strbuf_printf(out,
                   "<path class=\"axis\" d=\"M%d %dH%.0f\"/><text class=\"label\" x=\"%.0f\" y=\"%d\" text-anchor=\"middle\">",
                   LEFT, height - BOTTOM, x->to, (x->from + x->to) / 2, height - 6);
  tt_put_escaped(out, x_label);
  tt_strbuf_printf(out, "</text>");
}

static bool usable(const tt_chart *c, const tt_line *l, int i) {
  return isfinite(l->x[i]) && isfinite(l->y[i]) && (!c->log_y || l->y[i] > 0);
}

/* The ends of both axes over all lines; false where there is no point to draw. */
static bool find_range(const tt_chart *c, axis *x, axis *y) {
  double scale = c->scale != 0 ? c->scale : 1;
  bool any = false;
  for (int k = 0; k < c->n; k++)
    for (int i = 0; i < c->lines[k].n; i++) {
      if (!usable(c, &c->lines[k], i)) continue;
      double px = c->lines[k].x[i], py = c->lines[k].y[i] * scale;
      if (!any) x->low = x->high = px, y->low = y->high = py;
      any = true;
      x->low = fmin(x->low, px), x->high = fmax(x->high, px);
      y->low = fmin(y->low, py), y->high = fmax(y->high, py);
    }
  if (!any) return false;
  y->log = c->log_y && y->high > 5 * y->low; /* within less, a linear axis has more to read */
  if (c->has_low && !y->log) y->low = fmin(y->low, c->low);
  if (c->has_high && !y->log) y->high = fmax(y->high, c->high);
  if (x->high <= x->low) x->low -= 0.5, x->high += 0.5;
  double room = fmax((y->high - y->low) * 0.05, 1e-9 * fmax(1, fabs(y->high)));
  if (y->high <= y->low) room = fmax(fabs(y->high) * 0.1, 1e-6);
  if (y->log) {
    y->low /= 1.15, y->high *= 1.15;
    return true;
  }
  if (!c->has_low || y->low < c->low) y->low -= room;
  if (!c->has_high || y->high > c->high) y->high += room;
  return true;
}

static void put_line(tt_strbuf *out, const tt_chart *c, const tt_line *l, const axis *x, const axis *y) {
  static const char *const classes[] = {"strong", "faint", "dashed", "stairs"};
  double scale = c->scale != 0 ? c->scale : 1, last = 0;
  int group = l->n / MAX_POINTS + 1, points = 0;
  tt_strbuf dots = {0};
  tt_strbuf_printf(out, "<path class=\"line c%d %s\" d=\"", l->color % TT_CHART_COLORS, classes[l->style]);
  for (int i = 0; i < l->n; i += group) { /* long lines: means of neighbours */
    double px = 0, py = 0;
    int n = 0;
    for (int k = i; k < l->n && k < i + group; k++) {
      if (!usable(c, l, k)) continue;
      px += l->x[k], py += l->y[k] * scale;
      n++;
    }
    if (!n) continue;
    px = place(x, px / n);
    double value = py / n;
    py = place(y, value);
    if (points && l->style == TT_LINE_STAIRS) tt_strbuf_printf(out, "H%.1f", px);
    if (!points || l->style != TT_LINE_STAIRS || fabs(py - last) > 0.05)
      tt_strbuf_printf(out, "%c%.1f %.1f", points ? 'L' : 'M', px, py);
    last = py;
    points++;
    if (l->n > 40 || l->style == TT_LINE_STAIRS || l->style == TT_LINE_FAINT) continue;
    tt_strbuf_printf(&dots, "<circle class=\"dot c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>", l->color % TT_CHART_COLORS, px,
                     py);
    tt_put_escaped(&dots, l->label);
    tt_strbuf_printf(&dots, ": %.5g</title></circle>", value);
  }
  tt_strbuf_printf(out, "\"><title>");
  tt_put_escaped(out, l->label);
  tt_strbuf_printf(out, "</title></path>");
  if (dots.count) tt_strbuf_append(out, dots.data, dots.count);
  tt_strbuf_free(&dots);
}

void tt_chart_put(tt_strbuf *out, const tt_chart *c) {
  int width = c->small ? SMALL_WIDTH : WIDTH, height = c->small ? SMALL_HEIGHT : HEIGHT;
  axis x = {.from = LEFT, .to = width - RIGHT}, y = {.from = height - BOTTOM, .to = TOP};
  if (!find_range(c, &x, &y)) return;
  tt_strbuf_printf(out, "<figure><figcaption><b>");
  tt_put_escaped(out, c->title);
  tt_strbuf_printf(out, "</b>");
  if (c->note) {
    tt_strbuf_printf(out, "<span>");
    tt_put_escaped(out, c->note);
    tt_strbuf_printf(out, "</span>");
  }
  tt_strbuf_printf(out, "</figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", width, height);
  tt_put_escaped(out, c->title);
  tt_strbuf_printf(out, "\">");
  put_axes(out, &x, &y, c->x_label, height);
  for (int i = 0; i < c->n; i++) put_line(out, c, &c->lines[i], &x, &y);
  tt_strbuf_printf(out, "</svg></figure>\n");
}
