"""A user's own account: login, password, keys. Source: contract `lollms.md`, section 1.2."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qs

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.types import Scope

from atrium.core.errors import InvalidJson, Unprocessable
from atrium.http.admission import SESSION_COOKIE, is_ours
from atrium.http.reading import BodyBounds, read_body
from atrium.http.scope import exchange_of, header, headers_of, peer_of, told
from atrium.http.surfaces.people_admin import KeyWish, OwnKeyView, own_key_view
from atrium.services.promises import Services

T = TypeVar("T", bound=BaseModel)
MOST_IDS = 1000
MOST_FIELDS = 100
CREDENTIALS: dict[str, Any] = {
    "type": "object",
    "required": ["username", "password"],
    "properties": {"username": {"type": "string"}, "password": {"type": "string"}},
}
LOGIN: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": CREDENTIALS}}}
}
REGISTER: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": CREDENTIALS}}}}


class Account(BaseModel):
    """Fields that others' clients send along are passed over."""

    model_config = ConfigDict(strict=True)


class Credentials(Account):
    username: str
    password: str


class PasswordChange(Account):
    current_password: str
    new_password: str


class KeyIds(Account):
    key_ids: list[int]


class Token(BaseModel):
    access_token: str
    token_type: str = "bearer"  # noqa: S105 - the name of a scheme
    expires_at: datetime


class Me(BaseModel):
    id: int
    username: str
    is_admin: bool
    is_active: bool
    created_at: datetime


class NewOwnKeyView(OwnKeyView):
    full_key: str


class Said(BaseModel):
    message: str


class Deleted(Said):
    deleted: int


def router(services: Services, bounds: BodyBounds, trusts: Callable[[str], bool]) -> APIRouter:
    """`trusts`: whether a peer is a proxy whose word counts."""
    routes = APIRouter(tags=["account"])
    routes.include_router(entry_routes(services, bounds, trusts))
    routes.include_router(session_routes(services))
    routes.include_router(key_routes(services))
    return routes


def entry_routes(services: Services, bounds: BodyBounds, trusts: Callable[[str], bool]) -> APIRouter:
    """What strangers may call: their bodies are read within bounds of their own."""
    routes = APIRouter(prefix="/api/auth")

    @routes.post("/token", openapi_extra=LOGIN)
    async def token(request: Request, response: Response) -> Token:
        """Log in; the token stands in a cookie as well, for a page of this server's."""
        given = checked(Credentials, form_of(await read_body(request.receive, bounds)))
        exchange = exchange_of(request.scope)
        made, session = await services.log_in(given.username, given.password, exchange.address)
        if is_ours(dict(headers_of(request.scope)[::-1])):
            seconds = int((session.expires_at - session.created_at).total_seconds())
            secure = came_by_https(request.scope, trusts)
            response.set_cookie(
                SESSION_COOKIE, made, max_age=seconds, path="/", secure=secure, httponly=True, samesite="lax"
            )
        response.headers["cache-control"] = "no-store"
        return Token(access_token=made, expires_at=session.expires_at)

    @routes.post("/register", status_code=201, openapi_extra=REGISTER)
    async def register(request: Request) -> Me:
        """Make oneself a user, where `auth.signup` is open."""
        body = await read_body(request.receive, bounds)
        try:
            given = Credentials.model_validate_json(body)
        except ValidationError as wrong:
            raise refused(wrong) from None
        exchange = exchange_of(request.scope)
        user = await services.log_in.register(given.username, given.password, exchange.address)
        return Me(id=user.id, username=user.name, is_admin=False, is_active=True, created_at=user.created_at)

    return routes


def session_routes(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/auth")

    @routes.post("/logout")
    async def logout(request: Request, response: Response) -> Said:
        """End this session."""
        _, caller = told(request)
        await services.log_in.log_out(caller)
        response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="lax")
        return Said(message="Logged out")

    @routes.get("/me")
    async def me(request: Request) -> Me:
        """Who is calling."""
        user = await services.people.me(told(request)[1])
        return Me(
            id=user.id,
            username=user.name,
            is_admin=user.is_admin,
            is_active=user.is_active,
            created_at=user.created_at,
        )

    @routes.post("/change-password")
    async def change_password(change: PasswordChange, request: Request) -> Said:
        """Set another password; the caller's other sessions end."""
        exchange, caller = told(request)
        await services.log_in.change_password(caller, change.current_password, change.new_password, exchange.address)
        return Said(message="The password was changed")

    return routes


def key_routes(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/api-keys")

    @routes.get("")
    async def keys(request: Request) -> list[OwnKeyView]:
        """The caller's keys, never a secret."""
        return [own_key_view(key) for key in await services.issue_key.own(told(request)[1])]

    @routes.post("", status_code=201)
    async def create(wish: KeyWish, request: Request, response: Response) -> NewOwnKeyView:
        """Make a key; `full_key` is shown this once."""
        response.headers["cache-control"] = "no-store"
        exchange, caller = told(request)
        key, _, full_key = await services.issue_key.issue_own(caller, wish.wish())
        exchange.deed = f"key {key.prefix}"
        return NewOwnKeyView(**own_key_view(key).model_dump(), full_key=full_key)

    @routes.delete("/{key_id}", status_code=204)
    async def revoke(key_id: Annotated[int, Path()], request: Request) -> None:
        """Make one of the caller's keys worthless, at once."""
        await services.issue_key.revoke(key_id, owner=told(request)[1].user_id or 0)

    @routes.delete("")
    async def revoke_many(ids: KeyIds, request: Request) -> Deleted:
        """Several at once; ids of other users are passed over."""
        if len(ids.key_ids) > MOST_IDS:
            raise Unprocessable(f"'key_ids' has at most {MOST_IDS} ids", param="key_ids")
        exchange, caller = told(request)
        deleted = await services.issue_key.revoke_many(ids.key_ids, caller)
        exchange.deed = f"{deleted} keys"
        return Deleted(message=f"{deleted} keys were deleted", deleted=deleted)

    return routes


def came_by_https(scope: Scope, trusts: Callable[[str], bool]) -> bool:
    """Itself, or up to a proxy that is trusted and says so."""
    first = header(scope, b"x-forwarded-proto").partition(b",")[0].strip().lower()
    return scope["scheme"] == "https" or (first == b"https" and trusts(peer_of(scope)))


def form_of(body: bytes) -> dict[str, str]:
    """Of a field that stands more than once, the last. Raises Unprocessable."""
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=MOST_FIELDS)
    except ValueError:
        raise Unprocessable(f"The form has more than {MOST_FIELDS} fields") from None
    return {name: values[-1] for name, values in fields.items()}


def checked(kind: type[T], found: dict[str, str]) -> T:
    """Raises Unprocessable."""
    try:
        return kind.model_validate(found)
    except ValidationError as wrong:
        raise refused(wrong) from None


def refused(wrong: ValidationError) -> Unprocessable | InvalidJson:
    first = wrong.errors(include_input=False, include_url=False)[0]
    if first["type"] == "json_invalid":
        return InvalidJson("The body is not JSON")
    place = ".".join(str(part) for part in first["loc"])
    return Unprocessable(f"'{place}': {first['msg']}" if place else first["msg"], param=place or None)
