/* The protobuf wire format, read by hand for two reasons: protobuf-c answers bad bytes with NULL and nothing else, where a
 * user needs to know what is cut off where; and it recurses without a limit, so a crafted file could exhaust the stack.
 * Also used to find the place of each parameter's bytes in an exported model. */
#include <string.h>
#include "compiler/onnx/model.h"

enum { DEPTH_MAX = 96, VARINT_MAX = 10 };

static bool varint(wire_cursor *c, uint64_t *out) {
  uint64_t v = 0;
  for (int i = 0; i < VARINT_MAX && c->at < c->end; i++) {
    uint8_t byte = *c->at++;
    v |= (uint64_t)(byte & 0x7f) << (7 * i);
    if (byte & 0x80) continue;
    *out = v;
    return true;
  }
  return false;
}

static const char *skip(wire_cursor *c, uint64_t n) {
  if (n > (uint64_t)(c->end - c->at)) return "is cut short";
  c->at += n;
  return NULL;
}

const char *wire_next(wire_cursor *c, wire_field *f) {
  uint64_t tag;
  if (!varint(c, &tag)) return "has a broken tag";
  if (tag >> 3 == 0 || tag >> 3 > 0x1fffffff) return "has an impossible field number";
  f->number = (uint32_t)(tag >> 3);
  f->type = (unsigned)(tag & 7);
  f->data = c->at;
  f->length = 0;
  switch (f->type) {
  case 0: return varint(c, &f->length) ? NULL : "has a broken number";
  case 1: return skip(c, 8);
  case 2:
    if (!varint(c, &f->length)) return "has a broken length";
    f->data = c->at;
    return skip(c, f->length);
  case 5: return skip(c, 4);
  default: return "has an impossible wire type";
  }
}

/* Does the wire type fit the field's declared type? Repeated numbers may also come packed (type 2). */
static bool type_fits(const ProtobufCFieldDescriptor *d, unsigned wire_type) {
  bool packable = d->label == PROTOBUF_C_LABEL_REPEATED && wire_type == 2;
  switch (d->type) {
  case PROTOBUF_C_TYPE_STRING:
  case PROTOBUF_C_TYPE_BYTES:
  case PROTOBUF_C_TYPE_MESSAGE: return wire_type == 2;
  case PROTOBUF_C_TYPE_FLOAT:
  case PROTOBUF_C_TYPE_FIXED32:
  case PROTOBUF_C_TYPE_SFIXED32: return wire_type == 5 || packable;
  case PROTOBUF_C_TYPE_DOUBLE:
  case PROTOBUF_C_TYPE_FIXED64:
  case PROTOBUF_C_TYPE_SFIXED64: return wire_type == 1 || packable;
  default: return wire_type == 0 || packable;
  }
}

static bool check(const ProtobufCMessageDescriptor *type, const uint8_t *base, wire_cursor c, int depth,
                  wire_fault *fault) {
  while (c.at < c.end) {
    *fault = (wire_fault){NULL, type->short_name, NULL, (uint64_t)(c.at - base)};
    wire_field f = {0};
    const char *what = wire_next(&c, &f);
    const ProtobufCFieldDescriptor *d = f.number ? protobuf_c_message_descriptor_get_field(type, f.number) : NULL;
    if (d) fault->field = d->name;
    fault->what = what;
    if (what) return false;
    if (!d) continue; // a newer schema's field: kept as it is
    fault->what = "has another type than ONNX gives it";
    if (!type_fits(d, f.type)) return false;
    if (d->type != PROTOBUF_C_TYPE_MESSAGE) continue;
    fault->what = "is nested too deeply";
    if (depth == DEPTH_MAX) return false;
    wire_cursor inner = {f.data, f.data + f.length};
    TT_TRY(check(d->descriptor, base, inner, depth + 1, fault));
  }
  return true;
}

bool wire_check(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t bytes, wire_fault *fault) {
  return check(type, data, (wire_cursor){data, data + bytes}, 0, fault);
}
