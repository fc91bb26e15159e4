"""Messages in Python: a row for each, as JSON, under mailbox and UID. A proof that lists of body
handles pass in and out of an async Python component."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.messages import MessagePage, Part_Body
from wit_world.imports.storage import (
    StorageError_Closed,
    StorageError_Damaged,
    StorageError_Limit,
    StorageError_Unavailable,
)
from wit_world.imports.types import (
    CheckPage,
    Finding,
    Id,
    Message,
    Property,
    StoreError_Damaged,
    StoreError_Limit,
    StoreError_Other,
    StoreError_Unavailable,
    Timestamp,
)

SCHEMA = 1
# Most octets of a page, as the interface says.
PAGE = 4 << 20
# Rows looked at in one call of check.
CHECK_ROWS = 500


def number(id: Id) -> int:
    return id.high << 64 | id.low


def to_id(number: int) -> Id:
    return Id(number >> 64, number & (1 << 64) - 1)


def prefix(mailbox: Id) -> bytes:
    return number(mailbox).to_bytes(16, "big")


def key(mailbox: Id, uid: int) -> bytes:
    return prefix(mailbox) + uid.to_bytes(4, "big")


def to_row(row: Message) -> bytes:
    fields = dict(vars(row))
    for name in ("mailbox", "message_id", "thread_id"):
        fields[name] = number(fields[name])
    fields["internal_date"] = [row.internal_date.seconds, row.internal_date.offset_minutes]
    fields["extra"] = [[property.name, property.value.hex()] for property in row.extra]
    return json.dumps([SCHEMA, fields], separators=(",", ":")).encode()


def from_row(octets: bytes, place: bytes) -> Message:
    try:
        schema, fields = json.loads(octets)
        if schema != SCHEMA:
            raise ValueError(f"schema {schema}")
        for name in ("mailbox", "message_id", "thread_id"):
            fields[name] = to_id(fields[name])
        fields["internal_date"] = Timestamp(*fields["internal_date"])
        fields["extra"] = [Property(n, bytes.fromhex(value)) for n, value in fields["extra"]]
        row = Message(**fields)
        if key(row.mailbox, row.uid) != place:
            raise ValueError("it is another one's")
        return row
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Err(StoreError_Damaged(f"message {place.hex()}: {error}")) from error


class passing_on:
    """Turns an error of the host into one of the store's."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if not isinstance(error, Err):
            return
        match error.value:
            case StorageError_Limit(text):
                raise Err(StoreError_Limit(text)) from error
            case StorageError_Unavailable(text) | StorageError_Closed(text):
                raise Err(StoreError_Unavailable(text)) from error
            case StorageError_Damaged(text):
                raise Err(StoreError_Damaged(text)) from error
            case value if type(value).__name__.startswith("StorageError"):
                raise Err(StoreError_Other(value.value)) from error


async def get_all(view, keys):
    """Values of keys, however large they are together: the host answers 16 MiB at once."""
    try:
        return await view.get_many(keys)
    except Err as error:
        if not isinstance(error.value, StorageError_Limit) or len(keys) < 2:
            raise
    half = len(keys) // 2
    return await get_all(view, keys[:half]) + await get_all(view, keys[half:])


class Messages(exports.Messages):
    async def create(self, c, t) -> None:
        pass

    async def drop(self, c, t, mailbox) -> None:
        with passing_on():
            t.delete_range(prefix(mailbox), key(mailbox, 0xFFFFFFFF) + b"\0")

    async def insert(self, c, t, messages) -> None:
        with passing_on():
            for new in messages:
                t.put_body(new.row.name, new.body)
                t.put(key(new.row.mailbox, new.row.uid), to_row(new.row))

    async def update(self, c, t, changes) -> None:
        places = [key(change.place.mailbox, change.place.uid) for change in changes]
        with passing_on(), t.view() as view:
            values = await get_all(view, places)
            for place, value, change in zip(places, values, changes):
                row = from_row(value, place)
                row.modseq, row.flags, row.extra = change.modseq, change.flags, change.extra
                t.put(place, to_row(row))

    async def delete(self, c, t, places) -> None:
        with passing_on():
            for place in places:
                t.delete(key(place.mailbox, place.uid))

    async def select(self, c, v, places):
        keys = [key(place.mailbox, place.uid) for place in places]
        with passing_on():
            values = await get_all(v, keys)
        pairs = zip(keys, values)
        return [None if value is None else from_row(value, place) for place, value in pairs]

    async def list(self, c, v, mailbox, after, limit) -> MessagePage:
        start = prefix(mailbox) if after is None else key(mailbox, after) + b"\0"
        with passing_on():
            page = await v.scan(start, key(mailbox, 0xFFFFFFFF) + b"\0", limit, PAGE)
        return MessagePage([from_row(value, place) for place, value in page.items], page.more, [])

    async def fetch(self, c, v, mailbox, name, at, max):
        with passing_on():
            body = await v.get_body(name)
        return None if body is None else Part_Body(body)

    async def settle(self, c, v, mailbox, names) -> None:
        pass

    async def check(self, c, t, after, repair) -> CheckPage:
        start = b"" if after is None else bytes.fromhex(after) + b"\0"
        findings = []
        with passing_on(), t.view() as view:
            page = await view.scan(start, None, CHECK_ROWS, PAGE)
            for place, value in page.items:
                try:
                    row = from_row(value, place)
                    problem = None if await view.get_body(row.name) else "its body is missing"
                except Err as error:
                    if not isinstance(error.value, StoreError_Damaged):
                        raise
                    problem = error.value.value
                if problem is not None:
                    findings.append(Finding(place.hex(), problem, repair, []))
                    if repair:
                        t.delete(place)
        last = page.items[-1][0].hex() if page.more else None
        return CheckPage(len(page.items), findings, last, [])
