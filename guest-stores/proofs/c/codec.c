#include "codec.h"

#include <stdlib.h>
#include <string.h>

#define VERSION 1

typedef struct {
  uint8_t *octets;
  size_t length, room;
} writer_t;

// Reading stops at the first thing that does not fit: `bad` stays set.
typedef struct {
  const uint8_t *octets;
  size_t left;
  bool bad;
} reader_t;

void *allocate(size_t octets) {
  void *memory = malloc(octets > 0 ? octets : 1);
  if (memory == NULL) {
    __builtin_trap();
  }
  return memory;
}

static void put(writer_t *out, const void *octets, size_t length) {
  if (out->room - out->length < length) {
    out->room = 2 * (out->length + length);
    out->octets = realloc(out->octets, out->room);
    if (out->octets == NULL) {
      __builtin_trap();
    }
  }
  if (length > 0) {
    memcpy(out->octets + out->length, octets, length);
  }
  out->length += length;
}

static void put_number(writer_t *out, uint64_t number) {
  uint8_t octets[8];
  for (int i = 0; i < 8; i++) {
    octets[i] = (uint8_t)(number >> (8 * i));
  }
  put(out, octets, sizeof octets);
}

static void put_octets(writer_t *out, const uint8_t *octets, size_t length) {
  put_number(out, length);
  put(out, octets, length);
}

static void put_id(writer_t *out, const id_t128 *id) {
  put_number(out, id->high);
  put_number(out, id->low);
}

static void put_texts(writer_t *out, const message_store_list_string_t *list) {
  put_number(out, list->len);
  for (size_t i = 0; i < list->len; i++) {
    put_octets(out, list->ptr[i].ptr, list->ptr[i].len);
  }
}

static const uint8_t *take(reader_t *in, uint64_t length) {
  if (in->bad || length > in->left) {
    in->bad = true;
    return NULL;
  }
  const uint8_t *octets = in->octets;
  in->octets += length;
  in->left -= (size_t)length;
  return octets;
}

static uint64_t take_number(reader_t *in) {
  const uint8_t *octets = take(in, 8);
  uint64_t number = 0;
  for (int i = 0; octets != NULL && i < 8; i++) {
    number |= (uint64_t)octets[i] << (8 * i);
  }
  return number;
}

// Length and octets in memory of their own; the length is zero when reading has failed.
static size_t take_octets(reader_t *in, uint8_t **memory) {
  uint64_t length = take_number(in);
  const uint8_t *octets = take(in, length);
  *memory = NULL;
  if (octets == NULL || length == 0) {
    return 0;
  }
  *memory = allocate((size_t)length);
  memcpy(*memory, octets, (size_t)length);
  return (size_t)length;
}

static void take_text(reader_t *in, string_t *text) {
  text->len = take_octets(in, &text->ptr);
}

static id_t128 take_id(reader_t *in) {
  id_t128 id;
  id.high = take_number(in);
  id.low = take_number(in);
  return id;
}

// Room for a list of which every item has at least `least` octets in the row: a forged length makes
// no room for itself.
static void *take_room(reader_t *in, size_t least, size_t item, size_t *length) {
  uint64_t count = take_number(in);
  if (in->bad || count > in->left / least) {
    in->bad = true;
    count = 0;
  }
  *length = (size_t)count;
  if (count == 0) {
    return NULL;
  }
  void *room = allocate((size_t)count * item);
  memset(room, 0, (size_t)count * item);
  return room;
}

static void take_texts(reader_t *in, message_store_list_string_t *list) {
  list->ptr = take_room(in, 8, sizeof *list->ptr, &list->len);
  for (size_t i = 0; i < list->len; i++) {
    take_text(in, &list->ptr[i]);
  }
}

void write_key(uint8_t *key, const id_t128 *mailbox, uint32_t uid) {
  for (int i = 0; i < 8; i++) {
    key[i] = (uint8_t)(mailbox->high >> (56 - 8 * i));
    key[8 + i] = (uint8_t)(mailbox->low >> (56 - 8 * i));
  }
  for (int i = 0; i < 4; i++) {
    key[16 + i] = (uint8_t)(uid >> (24 - 8 * i));
  }
}

postroom_host_storage_value_t encode(const message_t *message) {
  writer_t out = {0};
  const uint8_t version = VERSION;
  put(&out, &version, 1);
  put_octets(&out, message->name.ptr, message->name.len);
  put_id(&out, &message->mailbox);
  put_number(&out, message->uid);
  put_number(&out, message->modseq);
  put_texts(&out, &message->flags);
  put_number(&out, (uint64_t)message->internal_date.seconds);
  put_number(&out, (uint64_t)(int64_t)message->internal_date.offset_minutes);
  put_number(&out, (uint64_t)message->save_date);
  put_number(&out, message->size);
  put_id(&out, &message->message_id);
  put_id(&out, &message->thread_id);
  put_texts(&out, &message->from);
  put_texts(&out, &message->to);
  put_texts(&out, &message->cc);
  put_texts(&out, &message->bcc);
  put_number(&out, message->extra.len);
  for (size_t i = 0; i < message->extra.len; i++) {
    const postroom_store_types_property_t *property = &message->extra.ptr[i];
    put_octets(&out, property->name.ptr, property->name.len);
    put_octets(&out, property->value.ptr, property->value.len);
  }
  return (postroom_host_storage_value_t){out.octets, out.length};
}

bool decode(const uint8_t *octets, size_t length, message_t *message) {
  reader_t in = {octets, length, false};
  memset(message, 0, sizeof *message);
  const uint8_t *version = take(&in, 1);
  if (version == NULL || *version != VERSION) {
    return false;
  }
  take_text(&in, &message->name);
  message->mailbox = take_id(&in);
  message->uid = (uint32_t)take_number(&in);
  message->modseq = take_number(&in);
  take_texts(&in, &message->flags);
  message->internal_date.seconds = (int64_t)take_number(&in);
  message->internal_date.offset_minutes = (int16_t)take_number(&in);
  message->save_date = (int64_t)take_number(&in);
  message->size = take_number(&in);
  message->message_id = take_id(&in);
  message->thread_id = take_id(&in);
  take_texts(&in, &message->from);
  take_texts(&in, &message->to);
  take_texts(&in, &message->cc);
  take_texts(&in, &message->bcc);
  message->extra.ptr = take_room(&in, 16, sizeof *message->extra.ptr, &message->extra.len);
  for (size_t i = 0; i < message->extra.len; i++) {
    postroom_store_types_property_t *property = &message->extra.ptr[i];
    take_text(&in, &property->name);
    property->value.len = take_octets(&in, &property->value.ptr);
  }
  if (in.bad || in.left > 0) {
    postroom_store_types_message_free(message);
    return false;
  }
  return true;
}
