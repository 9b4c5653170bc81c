"""The administrator's API of quotas."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from atrium.core.errors import NotFound, Unprocessable
from atrium.core.quotas import Measure, Period, Standing, Subject
from atrium.http.scope import exchange_of
from atrium.http.surfaces.people_admin import Body
from atrium.services.promises import Services

EACH = "*"
LARGEST = 10**15


class QuotaWish(Body):
    user: str | None = None
    """A user's name; `*`: every user for themself."""
    key_id: int | None = None
    model: Annotated[str, Field(max_length=200)] = ""
    """A glob of model names; empty: whatever the model."""
    measure: Annotated[Measure, Field(strict=False)]
    period: Annotated[Period, Field(strict=False)]
    amount: Annotated[int, Field(ge=0, le=LARGEST)]


class QuotaView(Body):
    id: int
    user: str | None
    key_id: int | None
    model: str
    measure: Measure
    period: Period
    amount: int
    used: int
    """In this period; of every user's, by the user named in `used_by`."""
    held: int
    """Reserved by requests under way."""
    used_by: str | None
    resets_at: datetime


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/admin/quotas", tags=["admin"])

    @routes.get("")
    async def quotas() -> list[QuotaView]:
        """Every quota with what is used of it; one that each user has stands once for each who used it."""
        names = {user.id: user.name for user in await services.people.all()}
        return [quota_view(one, names) for one in services.meter.standings()]

    @routes.put("")
    async def put(wish: QuotaWish, request: Request) -> QuotaView:
        """Set how much somebody may use. The same subject, measure and period again: another amount."""
        names = {user.id: user.name for user in await services.people.all()}
        subject = await subject_of(wish, services, names)
        # What was used until now is read from what is written down.
        await services.usage.log.flush()
        quota = await services.meter.set(subject, wish.measure, wish.period, wish.amount)
        whom = wish.user or (f"key {wish.key_id}" if wish.key_id else "everybody")
        what = f"{wish.amount} {wish.measure.value} per {wish.period.value}"
        exchange_of(request.scope).deed = f"{what} for {whom} {wish.model}".strip()
        return next(quota_view(one, names) for one in services.meter.standings() if one.quota.id == quota.id)

    @routes.delete("/{quota_id}", status_code=204)
    async def remove(quota_id: int) -> None:
        """Lift a quota, at once."""
        await services.meter.remove(quota_id)

    return routes


async def subject_of(wish: QuotaWish, services: Services, names: dict[int, str]) -> Subject:
    """Raises NotFound, Unprocessable."""
    if not wish.model.isprintable():
        raise Unprocessable("'model' has characters that no model's name has", param="model")
    if wish.key_id is not None and wish.key_id not in {key.id for key, _ in await services.issue_key.all()}:
        raise NotFound(f"There is no key with the id {wish.key_id}", param="key_id")
    if wish.user is None or wish.user == EACH:
        return Subject(None, wish.key_id, wish.model, each_user=wish.user == EACH)
    number = next((number for number, name in names.items() if name.casefold() == wish.user.casefold()), None)
    if number is None:
        raise NotFound(f"There is no user '{wish.user[:64]}'", param="user")
    return Subject(number, wish.key_id, wish.model)


def quota_view(one: Standing, names: dict[int, str]) -> QuotaView:
    quota, subject = one.quota, one.quota.subject
    used_by = names.get(one.user_id, "anonymous") if subject.each_user and one.used + one.held else None
    return QuotaView(
        id=quota.id,
        user=EACH if subject.each_user else names.get(subject.user_id or 0),
        key_id=subject.key_id,
        model=subject.model,
        measure=quota.measure,
        period=quota.period,
        amount=quota.amount,
        used=one.used,
        held=one.held,
        used_by=used_by,
        resets_at=datetime.fromtimestamp(one.ends, UTC),
    )
