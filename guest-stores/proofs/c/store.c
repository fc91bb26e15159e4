// Messages in C: one row for each, under mailbox and UID. A proof that a language without async can
// implement the interface: every function is lifted synchronously, so an instance takes one call at a
// time.
//
// Arguments belong to the callee, which frees them with the generated functions and drops the handles;
// what is returned is freed by the generated code.

#include <stdlib.h>
#include <string.h>

#include "codec.h"

typedef exports_postroom_store_messages_store_error_t error_t_;
typedef postroom_host_storage_storage_error_t host_error_t;
typedef postroom_host_storage_own_txn_t txn_t;
typedef postroom_host_storage_own_view_t view_t;
typedef exports_postroom_store_messages_call_t call_t;
typedef postroom_host_storage_key_t bytes_t;
typedef postroom_store_types_message_change_t change_t;
typedef exports_postroom_store_messages_list_option_message_t rows_t;

// Rows looked at in one call of check.
#define CHECK_ROWS 500
// Most octets of a page, as the interface says.
#define PAGE_OCTETS (4u << 20)
// Most keys of one get-many, as the interface says.
#define MAX_KEYS 4096

static void fail(error_t_ *error, uint8_t tag, const char *text) {
  error->tag = tag;
  message_store_string_dup(&error->val.other, text);
}

// Passes an error of the host on. Both variants carry one text.
static void pass_on(error_t_ *error, host_error_t *host) {
  switch (host->tag) {
  case POSTROOM_HOST_STORAGE_STORAGE_ERROR_LIMIT:
    error->tag = POSTROOM_STORE_TYPES_STORE_ERROR_LIMIT;
    break;
  case POSTROOM_HOST_STORAGE_STORAGE_ERROR_UNAVAILABLE:
  case POSTROOM_HOST_STORAGE_STORAGE_ERROR_CLOSED:
    error->tag = POSTROOM_STORE_TYPES_STORE_ERROR_UNAVAILABLE;
    break;
  case POSTROOM_HOST_STORAGE_STORAGE_ERROR_DAMAGED:
    error->tag = POSTROOM_STORE_TYPES_STORE_ERROR_DAMAGED;
    break;
  default:
    error->tag = POSTROOM_STORE_TYPES_STORE_ERROR_OTHER;
  }
  error->val.other = host->val.other;
}

static postroom_host_storage_borrow_txn_t writing(txn_t txn) {
  return postroom_host_storage_borrow_txn(txn);
}

static bool put_row(txn_t txn, const message_t *row, error_t_ *error) {
  uint8_t key[KEY_OCTETS];
  write_key(key, &row->mailbox, row->uid);
  bytes_t name = {key, sizeof key};
  postroom_host_storage_value_t value = encode(row);
  host_error_t host;
  bool ok = postroom_host_storage_method_txn_put(writing(txn), &name, &value, &host);
  postroom_host_storage_value_free(&value);
  if (!ok) {
    pass_on(error, &host);
  }
  return ok;
}

bool exports_postroom_store_messages_create(call_t *c, txn_t t, error_t_ *error) {
  (void)error;
  exports_postroom_store_messages_call_free(c);
  postroom_host_storage_txn_drop_own(t);
  return true;
}

bool exports_postroom_store_messages_drop(call_t *c, txn_t t, id_t128 *mailbox, error_t_ *error) {
  uint8_t first[KEY_OCTETS], last[KEY_OCTETS + 1];
  write_key(first, mailbox, 0);
  write_key(last, mailbox, UINT32_MAX);
  last[KEY_OCTETS] = 0; // just after the last UID
  bytes_t start = {first, sizeof first}, end = {last, sizeof last};
  host_error_t host;
  bool ok = postroom_host_storage_method_txn_delete_range(writing(t), &start, &end, &host);
  if (!ok) {
    pass_on(error, &host);
  }
  exports_postroom_store_messages_call_free(c);
  postroom_host_storage_txn_drop_own(t);
  return ok;
}

bool exports_postroom_store_messages_insert(call_t *c, txn_t t,
                                            exports_postroom_store_messages_list_new_message_t *new,
                                            error_t_ *error) {
  bool ok = true;
  for (size_t i = 0; i < new->len; i++) {
    // Each body is handed back to the host or, after an error, dropped.
    if (!ok) {
      postroom_host_storage_body_drop_own(new->ptr[i].body);
    } else {
      host_error_t host;
      ok = postroom_host_storage_method_txn_put_body(writing(t), &new->ptr[i].row.name,
                                                     new->ptr[i].body, &host);
      if (!ok) {
        pass_on(error, &host);
      }
      ok = ok && put_row(t, &new->ptr[i].row, error);
    }
    exports_postroom_store_messages_message_free(&new->ptr[i].row);
  }
  free(new->len > 0 ? new->ptr : NULL);
  exports_postroom_store_messages_call_free(c);
  postroom_host_storage_txn_drop_own(t);
  return ok;
}

bool exports_postroom_store_messages_delete(
    call_t *c, txn_t t, exports_postroom_store_messages_list_message_place_t *places,
    error_t_ *error) {
  bool ok = true;
  for (size_t i = 0; ok && i < places->len; i++) {
    uint8_t key[KEY_OCTETS];
    write_key(key, &places->ptr[i].mailbox, places->ptr[i].uid);
    bytes_t name = {key, sizeof key};
    host_error_t host;
    ok = postroom_host_storage_method_txn_delete(writing(t), &name, &host);
    if (!ok) {
      pass_on(error, &host);
    }
  }
  exports_postroom_store_messages_list_message_place_free(places);
  exports_postroom_store_messages_call_free(c);
  postroom_host_storage_txn_drop_own(t);
  return ok;
}

// Reads the rows of some places into `found`, which is empty memory for them: by halves, where they
// are more than the host answers at once.
static bool read_places(view_t view, const postroom_store_types_message_place_t *places, size_t count,
                        exports_postroom_store_messages_option_message_t *found, error_t_ *error) {
  uint8_t *octets = allocate(count * KEY_OCTETS);
  postroom_host_storage_list_key_t keys = {allocate(count * sizeof *keys.ptr), count};
  for (size_t i = 0; i < count; i++) {
    write_key(octets + i * KEY_OCTETS, &places[i].mailbox, places[i].uid);
    keys.ptr[i] = (bytes_t){octets + i * KEY_OCTETS, KEY_OCTETS};
  }
  postroom_host_storage_list_option_value_t values;
  host_error_t host;
  bool ok = postroom_host_storage_method_view_get_many(postroom_host_storage_borrow_view(view), &keys,
                                                       &values, &host);
  free(keys.ptr);
  free(octets);
  if (!ok && host.tag == POSTROOM_HOST_STORAGE_STORAGE_ERROR_LIMIT && count > 1) {
    message_store_string_free(&host.val.other);
    size_t half = count / 2;
    return read_places(view, places, half, found, error) &&
           read_places(view, places + half, count - half, found + half, error);
  }
  if (!ok) {
    pass_on(error, &host);
    return false;
  }
  for (size_t i = 0; ok && i < values.len; i++) {
    postroom_host_storage_option_value_t *value = &values.ptr[i];
    found[i].is_some = value->is_some;
    if (value->is_some && !decode(value->val.ptr, value->val.len, &found[i].val)) {
      found[i].is_some = false;
      fail(error, POSTROOM_STORE_TYPES_STORE_ERROR_DAMAGED, "a message's row cannot be read");
      ok = false;
    }
  }
  postroom_host_storage_list_option_value_free(&values);
  return ok;
}

// Makes the changes of rows that are there. What a row had before is freed with the change.
static bool change_rows(view_t view, txn_t txn, change_t *changes, size_t count, error_t_ *error) {
  postroom_store_types_message_place_t *places = allocate(count * sizeof *places);
  rows_t rows = {allocate(count * sizeof *rows.ptr), count};
  memset(rows.ptr, 0, count * sizeof *rows.ptr);
  for (size_t i = 0; i < count; i++) {
    places[i] = changes[i].place;
  }
  bool ok = read_places(view, places, count, rows.ptr, error);
  for (size_t i = 0; ok && i < count; i++) {
    if (rows.ptr[i].is_some) {
      message_t *row = &rows.ptr[i].val;
      change_t old = {.flags = row->flags, .extra = row->extra};
      row->modseq = changes[i].modseq;
      row->flags = changes[i].flags;
      row->extra = changes[i].extra;
      changes[i].flags = old.flags;
      changes[i].extra = old.extra;
      ok = put_row(txn, row, error);
    }
  }
  free(places);
  exports_postroom_store_messages_list_option_message_free(&rows);
  return ok;
}

bool exports_postroom_store_messages_update(
    call_t *c, txn_t t, exports_postroom_store_messages_list_message_change_t *changes,
    error_t_ *error) {
  view_t view = postroom_host_storage_method_txn_view(writing(t));
  // The host gives no more than one get-many takes.
  bool ok = changes->len == 0 || change_rows(view, t, changes->ptr, changes->len, error);
  exports_postroom_store_messages_list_message_change_free(changes);
  exports_postroom_store_messages_call_free(c);
  postroom_host_storage_view_drop_own(view);
  postroom_host_storage_txn_drop_own(t);
  return ok;
}

bool exports_postroom_store_messages_select(
    call_t *c, view_t v, exports_postroom_store_messages_list_message_place_t *places,
    exports_postroom_store_messages_list_option_message_t *ret, error_t_ *error) {
  ret->len = places->len;
  ret->ptr = allocate(places->len * sizeof *ret->ptr);
  memset(ret->ptr, 0, places->len * sizeof *ret->ptr);
  bool ok = true;
  for (size_t at = 0; ok && at < places->len; at += MAX_KEYS) {
    size_t count = places->len - at < MAX_KEYS ? places->len - at : MAX_KEYS;
    ok = read_places(v, places->ptr + at, count, ret->ptr + at, error);
  }
  if (!ok || ret->len == 0) {
    size_t len = ret->len;
    exports_postroom_store_messages_list_option_message_free(ret);
    if (len == 0) {
      free(ret->ptr);
    }
    ret->ptr = NULL;
    ret->len = 0;
  }
  exports_postroom_store_messages_list_message_place_free(places);
  exports_postroom_store_messages_call_free(c);
  postroom_host_storage_view_drop_own(v);
  return ok;
}

bool exports_postroom_store_messages_list(call_t *c, view_t v, id_t128 *mailbox,
                                          uint32_t *maybe_after, uint32_t limit,
                                          exports_postroom_store_messages_message_page_t *ret,
                                          error_t_ *error) {
  uint8_t first[KEY_OCTETS + 1] = {0}, last[KEY_OCTETS + 1] = {0};
  write_key(first, mailbox, maybe_after != NULL ? *maybe_after : 0);
  write_key(last, mailbox, UINT32_MAX);
  // One octet more is the key just after.
  bytes_t start = {first, KEY_OCTETS + (maybe_after != NULL)}, end = {last, sizeof last};
  postroom_host_storage_scan_page_t page;
  host_error_t host;
  memset(ret, 0, sizeof *ret);
  bool ok = postroom_host_storage_method_view_scan(postroom_host_storage_borrow_view(v), &start, &end,
                                                   limit, PAGE_OCTETS, &page, &host);
  if (!ok) {
    pass_on(error, &host);
  } else {
    ret->more = page.more;
    ret->rows.ptr = page.items.len > 0 ? allocate(page.items.len * sizeof *ret->rows.ptr) : NULL;
    for (size_t i = 0; ok && i < page.items.len; i++) {
      ok = decode(page.items.ptr[i].f1.ptr, page.items.ptr[i].f1.len, &ret->rows.ptr[i]);
      ret->rows.len += ok;
    }
    if (!ok) {
      if (ret->rows.len == 0) {
        free(ret->rows.ptr); // which the generated code leaves for an empty list
      }
      exports_postroom_store_messages_message_page_free(ret);
      fail(error, POSTROOM_STORE_TYPES_STORE_ERROR_DAMAGED, "a message's row cannot be read");
    }
    postroom_host_storage_scan_page_free(&page);
  }
  exports_postroom_store_messages_call_free(c);
  postroom_host_storage_view_drop_own(v);
  return ok;
}

bool exports_postroom_store_messages_fetch(call_t *c, view_t v, id_t128 *mailbox, string_t *name,
                                           uint64_t at, uint64_t max,
                                           exports_postroom_store_messages_option_part_t *ret,
                                           error_t_ *error) {
  (void)mailbox, (void)at, (void)max;
  postroom_host_storage_option_own_body_t body;
  host_error_t host;
  bool ok = postroom_host_storage_method_view_get_body(postroom_host_storage_borrow_view(v), name,
                                                       &body, &host);
  if (!ok) {
    pass_on(error, &host);
  } else {
    ret->is_some = body.is_some;
    ret->val.tag = EXPORTS_POSTROOM_STORE_MESSAGES_PART_BODY;
    ret->val.val.body = body.val;
  }
  message_store_string_free(name);
  exports_postroom_store_messages_call_free(c);
  postroom_host_storage_view_drop_own(v);
  return ok;
}

bool exports_postroom_store_messages_settle(call_t *c, view_t v, id_t128 *mailbox,
                                            message_store_list_string_t *names, error_t_ *error) {
  (void)mailbox, (void)error;
  message_store_list_string_free(names);
  exports_postroom_store_messages_call_free(c);
  postroom_host_storage_view_drop_own(v);
  return true;
}

// A key as the opaque text that a cursor is, with memory of its own.
static string_t to_cursor(const bytes_t *key) {
  static const char digits[] = "0123456789abcdef";
  string_t text = {allocate(2 * key->len), 2 * key->len};
  for (size_t i = 0; i < key->len; i++) {
    text.ptr[2 * i] = (uint8_t)digits[key->ptr[i] >> 4];
    text.ptr[2 * i + 1] = (uint8_t)digits[key->ptr[i] & 15];
  }
  return text;
}

static int digit(uint8_t c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// The key after that of a cursor; false when the text is none.
static bool after_cursor(const string_t *text, bytes_t *key) {
  key->len = text->len / 2 + 1;
  key->ptr = allocate(key->len);
  key->ptr[key->len - 1] = 0;
  for (size_t i = 0; i + 1 < key->len; i++) {
    int high = digit(text->ptr[2 * i]), low = digit(text->ptr[2 * i + 1]);
    if (high < 0 || low < 0) {
      return false;
    }
    key->ptr[i] = (uint8_t)(high << 4 | low);
  }
  return text->len % 2 == 0;
}

// What is wrong with a row; NULL: nothing.
static const char *problem(view_t view, const bytes_t *key, const bytes_t *row, bool *failed,
                           error_t_ *error) {
  message_t message;
  uint8_t own[KEY_OCTETS];
  if (!decode(row->ptr, row->len, &message)) {
    return "its row cannot be read";
  }
  const char *found = NULL;
  write_key(own, &message.mailbox, message.uid);
  postroom_host_storage_option_own_body_t body;
  host_error_t host;
  if (key->len != sizeof own || memcmp(own, key->ptr, sizeof own) != 0) {
    found = "its row is another one's";
  } else if (!postroom_host_storage_method_view_get_body(postroom_host_storage_borrow_view(view),
                                                         &message.name, &body, &host)) {
    pass_on(error, &host);
    *failed = true;
  } else if (!body.is_some) {
    found = "its body is missing";
  } else {
    postroom_host_storage_body_drop_own(body.val);
  }
  postroom_store_types_message_free(&message);
  return found;
}

static bool check_page(view_t view, txn_t txn, postroom_host_storage_scan_page_t *page, bool repair,
                       exports_postroom_store_messages_check_page_t *ret, error_t_ *error) {
  bool failed = false;
  ret->findings.ptr = page->items.len > 0 ? allocate(page->items.len * sizeof *ret->findings.ptr) : NULL;
  for (size_t i = 0; !failed && i < page->items.len; i++) {
    bytes_t *key = &page->items.ptr[i].f0;
    bytes_t row = {page->items.ptr[i].f1.ptr, page->items.ptr[i].f1.len};
    ret->checked++;
    const char *found = problem(view, key, &row, &failed, error);
    if (found == NULL) {
      continue;
    }
    postroom_store_types_finding_t *finding = &ret->findings.ptr[ret->findings.len++];
    memset(finding, 0, sizeof *finding);
    finding->name = to_cursor(key);
    message_store_string_dup(&finding->problem, found);
    finding->repaired = repair;
    host_error_t host;
    if (repair && !postroom_host_storage_method_txn_delete(writing(txn), key, &host)) {
      pass_on(error, &host);
      failed = true;
    }
  }
  if (ret->findings.len == 0) {
    free(ret->findings.ptr); // which the generated code leaves for an empty list
  }
  return !failed;
}

bool exports_postroom_store_messages_check(call_t *c, txn_t t, string_t *maybe_after, bool repair,
                                           exports_postroom_store_messages_check_page_t *ret,
                                           error_t_ *error) {
  view_t view = postroom_host_storage_method_txn_view(writing(t));
  bytes_t start = {NULL, 0};
  postroom_host_storage_scan_page_t page;
  host_error_t host;
  memset(ret, 0, sizeof *ret);
  bool ok = maybe_after == NULL || after_cursor(maybe_after, &start);
  if (!ok) {
    fail(error, POSTROOM_STORE_TYPES_STORE_ERROR_INVALID, "not a cursor of this store");
  } else if (!postroom_host_storage_method_view_scan(postroom_host_storage_borrow_view(view), &start,
                                                     NULL, CHECK_ROWS, PAGE_OCTETS, &page, &host)) {
    pass_on(error, &host);
    ok = false;
  } else {
    ok = check_page(view, t, &page, repair, ret, error);
    if (ok && page.more && page.items.len > 0) {
      ret->next.is_some = true;
      ret->next.val = to_cursor(&page.items.ptr[page.items.len - 1].f0);
    }
    if (!ok) {
      exports_postroom_store_messages_check_page_free(ret);
    }
    postroom_host_storage_scan_page_free(&page);
  }
  free(start.ptr);
  if (maybe_after != NULL) {
    message_store_string_free(maybe_after);
  }
  exports_postroom_store_messages_call_free(c);
  postroom_host_storage_view_drop_own(view);
  postroom_host_storage_txn_drop_own(t);
  return ok;
}
