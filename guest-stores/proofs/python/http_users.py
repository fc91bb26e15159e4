"""Users of a directory that somebody else keeps, read over HTTP: a proof that a store can be written
in Python, and that it needs no storage of its own.

The directory is asked with `GET <url>/users/<name>` (an object, or 404) and
`GET <url>/users?after=<name>&limit=<n>` (`{"users": [...], "more": bool}`, ascending by name). Users
are added and changed there and not here, so every write is `unsupported`.

`<url>` is the operator's setting `url`; its host must be granted.
"""

import json
from urllib.parse import quote, urlsplit

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.users import UserPage
from wit_world.imports import outgoing_handler, settings
from wit_world.imports.postroom_store_types import (
    CheckPage,
    StoreError_Damaged,
    StoreError_Denied,
    StoreError_Other,
    StoreError_Unavailable,
    StoreError_Unsupported,
    User,
)
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.wasi_http_types import (
    Fields,
    IncomingBody,
    Method_Get,
    OutgoingRequest,
    Scheme_Http,
    Scheme_Https,
)

# Most octets of one answer: bounds the memory that a foolish directory costs.
MAX_ANSWER = 1 << 20
# Octets read at a time.
CHUNK = 64 << 10
# Most users asked for at a time.
MAX_PAGE = 1000


def unsupported() -> Err:
    return Err(StoreError_Unsupported("users are kept in the directory outside, and changed there"))


def unavailable(problem: object) -> Err:
    return Err(StoreError_Unavailable(f"directory: {problem}"))


def send(path: str) -> OutgoingRequest:
    url = urlsplit(settings.get("url") or "")
    if url.scheme not in ("http", "https") or not url.netloc:
        raise Err(StoreError_Other("the setting `url` is missing or no HTTP address"))
    request = OutgoingRequest(Fields.from_list([("accept", b"application/json")]))
    request.set_method(Method_Get())
    request.set_scheme(Scheme_Http() if url.scheme == "http" else Scheme_Https())
    request.set_authority(url.netloc)
    request.set_path_with_query(url.path.rstrip("/") + path)
    return request


def read_all(body: IncomingBody) -> bytes:
    octets = b""
    with body.stream() as stream:
        while True:
            try:
                octets += stream.blocking_read(CHUNK)
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    return octets
                raise unavailable("the answer was cut off") from error
            if len(octets) > MAX_ANSWER:
                raise Err(StoreError_Damaged(f"directory: an answer above {MAX_ANSWER} octets"))


def ask(path: str) -> object:
    """The answer; `None` for 404.

    WASI 0.2 waits in the host (`block`), so a call waits for the one before it on this instance.
    """
    try:
        future = outgoing_handler.handle(send(path), None)
        with future.subscribe() as ready:
            ready.block()
        answer = future.get()
    except Err as error:
        if type(error.value).__name__.startswith("StoreError"):
            raise
        raise unavailable(error.value) from error
    if answer is None or isinstance(answer, Err) or isinstance(answer.value, Err):
        raise unavailable("no answer")
    with answer.value.value as response:
        status = response.status()
        if status == 404:
            return None
        if status in (401, 403):
            raise Err(StoreError_Denied(f"directory: status {status}"))
        if status != 200:
            raise unavailable(f"status {status}")
        with response.consume() as body:
            octets = read_all(body)
    try:
        return json.loads(octets)
    except ValueError as error:
        raise Err(StoreError_Damaged("directory: the answer is no JSON")) from error


def user(entry: object) -> User:
    """A row of what the directory says. It knows nothing of accounts: the host keeps their ids."""
    match entry:
        case {"name": str(name), **rest}:
            alias, password, quota = (rest.get(k) for k in ("alias_of", "password", "quota_octets"))
            texts = all(value is None or isinstance(value, str) for value in (alias, password))
            number = quota is None or (type(quota) is int and 0 <= quota < 1 << 64)
            if texts and number:
                return User(name, None, alias, password, quota, [])
    raise Err(StoreError_Damaged("directory: an entry is no user"))


class Users(exports.Users):
    async def create(self, c, t) -> None:
        pass

    async def drop(self, c, t) -> None:
        raise unsupported()

    async def insert(self, c, t, rows) -> None:
        if rows:
            raise unsupported()

    async def update(self, c, t, rows) -> None:
        if rows:
            raise unsupported()

    async def delete(self, c, t, names) -> None:
        if names:
            raise unsupported()

    async def select(self, c, v, names):
        answers = [ask("/users/" + quote(name, safe="")) for name in names]
        found = [None if answer is None else user(answer) for answer in answers]
        for name, row in zip(names, found):
            if row is not None and row.name != name:
                raise Err(StoreError_Damaged("directory: another user than the one asked for"))
        return found

    async def list(self, c, v, after, limit) -> UserPage:
        query = f"?limit={min(limit, MAX_PAGE)}"
        if after is not None:
            query += "&after=" + quote(after, safe="")
        match ask("/users" + query):
            case {"users": entries, "more": bool(more)} if isinstance(entries, list):
                rows = [user(entry) for entry in entries]
            case _:
                raise Err(StoreError_Damaged("directory: the answer is no list of users"))
        names = [row.name.encode() for row in rows]
        before = [(after or "").encode(), *names]
        if any(a >= b for a, b in zip(before, names) if after is not None or a is not before[0]):
            raise Err(StoreError_Damaged("directory: the users are not in order"))
        return UserPage(rows, more and rows != [], [])

    async def check(self, c, t, after, repair) -> CheckPage:
        page = await self.list(c, None, after, MAX_PAGE)
        return CheckPage(len(page.rows), [], page.rows[-1].name if page.more else None, [])
