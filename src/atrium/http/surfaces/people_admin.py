"""The administrator's API: users, everybody's keys, and who changed what."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from atrium.core.people import Act, Acts, Key, Scopes, User
from atrium.http.moments import Moment
from atrium.http.scope import exchange_of
from atrium.services.issue_key import Wish
from atrium.services.promises import Services

MOST_SHOWN = 1000
LONGEST_FILTER = 100


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NewUser(Body):
    username: str
    password: str | None = None
    is_admin: bool = False


class UserChange(Body):
    password: str | None = None
    is_active: bool | None = None
    is_admin: bool | None = None


class KeyWish(Body):
    alias: str
    expires_at: Annotated[Moment | None, Field(strict=False)] = None
    models: list[str] = []
    """Globs of models that it is good for; none: all."""
    paths: list[str] = []

    def wish(self) -> Wish:
        return Wish(self.alias, self.expires_at, Scopes(tuple(self.models), tuple(self.paths)))


class NewKey(KeyWish):
    username: str


class UserView(BaseModel):
    id: int
    username: str
    is_admin: bool
    is_active: bool
    has_password: bool
    created_at: datetime


class OwnKeyView(BaseModel):
    id: int
    alias: str
    key_prefix: str
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    models: list[str]
    paths: list[str]


class KeyView(OwnKeyView):
    username: str


class FullKeyView(KeyView):
    full_key: str


class WantedActs(BaseModel):
    """Which acts are asked for."""

    limit: Annotated[int, Field(ge=1, le=MOST_SHOWN)] = 100
    before: Annotated[int | None, Field(ge=1)] = None
    """The id of the last act seen."""
    actor: Annotated[str, Field(max_length=LONGEST_FILTER)] = ""
    action: Annotated[str, Field(max_length=LONGEST_FILTER)] = ""
    """Stands somewhere in the action or its detail."""
    since: Moment | None = None
    until: Moment | None = None


class ActView(BaseModel):
    id: int
    at: datetime
    actor: str
    actor_id: int | None
    address: str
    action: str
    detail: str


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/admin", tags=["admin"])
    routes.include_router(user_routes(services))
    routes.include_router(key_routes(services))

    @routes.get("/audit")
    async def audit(wanted: Annotated[WantedActs, Query()]) -> list[ActView]:
        """What was changed, by whom and from where, newest first."""
        acts = Acts(wanted.before, wanted.actor, wanted.action, wanted.since, wanted.until)
        return [act_view(act) for act in await services.audit.newest(acts, wanted.limit)]

    return routes


def user_routes(services: Services) -> APIRouter:
    routes = APIRouter()

    @routes.get("/users")
    async def users() -> list[UserView]:
        """Everybody."""
        return [user_view(user) for user in await services.people.all()]

    @routes.post("/users", status_code=201)
    async def create_user(new: NewUser, request: Request) -> UserView:
        """Add a user; without a password they can only use keys."""
        user = await services.people.create(new.username, new.password, is_admin=new.is_admin)
        exchange_of(request.scope).deed = f"user {user.name}" + (", an administrator" if user.is_admin else "")
        return user_view(user)

    @routes.put("/users/{user_id}")
    async def change_user(user_id: int, change: UserChange, request: Request) -> UserView:
        """Set a user's rights or password; what is left out stays. A new password ends their sessions."""
        changed = await services.people.change(
            user_id, password=change.password, is_active=change.is_active, is_admin=change.is_admin
        )
        exchange_of(request.scope).deed = f"user {changed.name}: {told(change)}"
        return user_view(changed)

    @routes.delete("/users/{user_id}", status_code=204)
    async def delete_user(user_id: int, request: Request) -> None:
        """Remove a user with all of their keys and sessions, at once."""
        user = await services.people.delete(user_id)
        exchange_of(request.scope).deed = f"user {user.name}"

    return routes


def told(change: UserChange) -> str:
    """For the audit log, without a password."""
    fields = change.model_dump(exclude_none=True)
    return ", ".join(name if name == "password" else f"{name} {str(fields[name]).lower()}" for name in sorted(fields))


def key_routes(services: Services) -> APIRouter:
    routes = APIRouter()

    @routes.get("/keys")
    async def keys(user: str | None = None) -> list[KeyView]:
        """Everybody's keys, or one user's; never a secret."""
        return [key_view(key, owner) for key, owner in await services.issue_key.all(user)]

    @routes.post("/keys", status_code=201)
    async def create_key(new: NewKey, request: Request, response: Response) -> FullKeyView:
        """Make a key for a user; it is shown this once."""
        response.headers["cache-control"] = "no-store"
        key, owner, full_key = await services.issue_key.issue(new.username, new.wish())
        exchange_of(request.scope).deed = f"key {key.prefix} of {owner.name}"
        return FullKeyView(**key_view(key, owner).model_dump(), full_key=full_key)

    @routes.delete("/keys/{key_id}", status_code=204)
    async def revoke_key(key_id: int) -> None:
        """Make anybody's key worthless, at once."""
        await services.issue_key.revoke(key_id)

    return routes


def user_view(user: User) -> UserView:
    return UserView(
        id=user.id,
        username=user.name,
        is_admin=user.is_admin,
        is_active=user.is_active,
        has_password=user.password_hash is not None,
        created_at=user.created_at,
    )


def own_key_view(key: Key) -> OwnKeyView:
    return OwnKeyView(
        id=key.id,
        alias=key.alias,
        key_prefix=key.prefix,
        created_at=key.created_at,
        last_used_at=key.last_used_at,
        expires_at=key.expires_at,
        models=list(key.scopes.models),
        paths=list(key.scopes.paths),
    )


def key_view(key: Key, owner: User) -> KeyView:
    return KeyView(**own_key_view(key).model_dump(), username=owner.name)


def act_view(act: Act) -> ActView:
    return ActView(
        id=act.id,
        at=act.at,
        actor=act.actor,
        actor_id=act.actor_id,
        address=act.address,
        action=act.action,
        detail=act.detail,
    )
