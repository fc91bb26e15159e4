// Rows as octets: a version, then fields in order; numbers are eight octets, least significant first,
// texts and lists have their length before them.
#ifndef CODEC_H
#define CODEC_H

#include "message_store.h"

typedef postroom_store_types_message_t message_t;
typedef postroom_store_types_id_t id_t128;
typedef message_store_string_t string_t;

// Octets of a key: the mailbox, the UID, both with the most significant octet first.
#define KEY_OCTETS 20

void write_key(uint8_t *key, const id_t128 *mailbox, uint32_t uid);

// A row in memory from malloc.
postroom_host_storage_value_t encode(const message_t *message);

// Fills `message` with memory from malloc; false, and nothing to free, when the octets are no row.
bool decode(const uint8_t *octets, size_t length, message_t *message);

// malloc that traps when there is no memory: the host replaces the instance.
void *allocate(size_t octets);

#endif
