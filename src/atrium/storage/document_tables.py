"""Tables of document stores that both databases have: what stores there are, and what is on its way into them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, String, Table, Text, UniqueConstraint

from atrium.storage.tables import Moment, metadata

stores = Table(
    "stores",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner_id", Integer, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("description", Text, nullable=False),
    Column("vectorizer", String(255), nullable=False),
    Column("is_public", Boolean, nullable=False),
    Column("chunk_size", Integer, nullable=False),
    Column("chunk_overlap", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    UniqueConstraint("owner_id", "name"),
)

store_shares = Table(
    "store_shares",
    metadata,
    Column("store_id", String(36), ForeignKey("stores.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", Integer, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("permission", String(16), nullable=False),
)

ingests = Table(
    "ingests",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("store_id", String(36), ForeignKey("stores.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("user_id", Integer),
    Column("key_id", Integer),
    Column("home", String(32), nullable=False),
    Column("filename", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("metadata", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("error", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    sqlite_autoincrement=True,
)
