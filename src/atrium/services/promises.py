"""All promises together, as `app.py` built them and the surfaces get them."""

from __future__ import annotations

from dataclasses import dataclass

from atrium.core.document_ports import Parser
from atrium.core.ports import AuditLog, Engines
from atrium.services.attach_files import ReadFiles
from atrium.services.browse_models import BrowseModels
from atrium.services.check_key import CheckKey
from atrium.services.configure_model import ConfigureModel
from atrium.services.elsewhere import Elsewhere
from atrium.services.ground_chat import GroundChat
from atrium.services.install_model import InstallModel
from atrium.services.issue_key import IssueKey
from atrium.services.keep_completions import KeepCompletions
from atrium.services.list_models import ListModels
from atrium.services.load_model import LoadModel
from atrium.services.log_in import LogIn
from atrium.services.long_context import LongContext
from atrium.services.meter import Meter
from atrium.services.metered import Chats, Completions, Embeddings, Usher
from atrium.services.model_files import ModelFiles
from atrium.services.people import People
from atrium.services.personalities import Personalities
from atrium.services.read_usage import ReadUsage
from atrium.services.search_store import SearchStore
from atrium.services.store_documents import StoreDocuments
from atrium.services.stores import Stores
from atrium.services.tokenize import Tokenize


@dataclass(frozen=True, slots=True)
class Documents:
    """All promises about document stores."""

    stores: Stores
    contents: StoreDocuments
    search: SearchStore
    parser: Parser
    ground_chat: GroundChat
    read: ReadFiles


@dataclass(frozen=True, slots=True)
class Services:
    """All promises, as `app.py` built them."""

    answer_chat: Chats
    complete: Completions
    embed: Embeddings
    elsewhere: Elsewhere
    long_context: LongContext
    list_models: ListModels
    browse_models: BrowseModels
    load_model: LoadModel
    personalities: Personalities
    keep_completions: KeepCompletions
    install_model: InstallModel
    model_files: ModelFiles
    people: People
    log_in: LogIn
    issue_key: IssueKey
    check_key: CheckKey
    usage: ReadUsage
    engines: Engines
    audit: AuditLog
    usher: Usher
    documents: Documents

    @property
    def configure_model(self) -> ConfigureModel:
        return self.model_files.configure

    @property
    def meter(self) -> Meter:
        return self.usher.meter

    @property
    def tokenize(self) -> Tokenize:
        return self.long_context.writers.tokens
