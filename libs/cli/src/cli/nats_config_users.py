"""Who may do what on the bus: one table, from which the configuration of nats-server is made.

Two accounts keep two worlds apart. Our services and the owner live in MUSIC, which has the streams.
Outsiders live in OUTSIDE, which has nothing but what is handed over to it: whatever an outsider sends,
and wherever he lets an answer go, stays there.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.contracts.jobs import JOBS_BUCKET
from common.contracts.readers import READERS, RESET_PREFIX
from common.contracts.streams import CATALOG, DEAD, STATUS, STREAMS, WORK

MUSIC, OUTSIDE = "MUSIC", "OUTSIDE"
JOBS = f"KV_{JOBS_BUCKET}"
FACTS = tuple(
    f"{'.'.join(subject.split('.')[:2])}.>" for spec in STREAMS if spec.name == CATALOG for subject in spec.subjects
)


@dataclass(frozen=True, kw_only=True)
class User:
    """Somebody who may connect. Everything is refused that is not listed; None: everything is allowed."""

    name: str
    purpose: str
    account: str = MUSIC
    publish: tuple[str, ...] | None = None
    subscribe: tuple[str, ...] | None = None
    answers: bool = False
    """Whether it may answer once wherever a question that reached it wants the answer."""


def _service(
    name: str, purpose: str, *, publish: tuple[str, ...] = (), subscribe: tuple[str, ...] = (), answers: bool = False
) -> User:
    """A service: it shows itself, follows the jobs, and besides does only what is listed."""
    own = [reader for reader in READERS if reader.service == name]
    return User(
        name=name,
        purpose=purpose,
        answers=answers,
        publish=(
            f"hb.{name}.*",
            # Answers to the owner, who asks with `nats micro`.
            "_INBOX.>",
            "_INBOX_operator.>",
            "$JS.API.STREAM.INFO.*",
            f"$JS.API.DIRECT.GET.{JOBS}.>",
            *(
                subject
                for reader in own
                for subject in (
                    f"$JS.API.CONSUMER.INFO.{reader.stream}.{reader.name}",
                    f"$JS.API.CONSUMER.MSG.NEXT.{reader.stream}.{reader.name}",
                    reader.reset_subject,
                    *((f"$JS.ACK.{reader.stream}.{reader.name}.>",) if reader.acks else ()),
                )
            ),
            *publish,
        ),
        subscribe=(
            f"_INBOX_{name}.>",
            f"$KV.{JOBS_BUCKET}.>",
            "$SRV.*",
            f"$SRV.*.{name}",
            f"$SRV.*.{name}.*",
            f"svc.{name}.>",
            *subscribe,
        ),
    )


def _worker(
    name: str,
    purpose: str,
    *,
    stages: tuple[str, ...],
    publish: tuple[str, ...],
    subscribe: tuple[str, ...] = (),
    answers: bool = False,
) -> User:
    """A service that takes items of ``stages``: it answers for them, and says what became of them."""
    return _service(
        name,
        purpose,
        publish=(
            f"$JS.API.CONSUMER.MSG.NEXT.{WORK}.*",
            f"$JS.ACK.{WORK}.>",
            f"$JS.API.DIRECT.GET.{STATUS}.>",
            f"$JS.API.DIRECT.GET.{CATALOG}.>",
            f"log.{name}.*",
            *(f"dead.{stage}.requested.>" for stage in stages),
            *publish,
        ),
        subscribe=subscribe,
        answers=answers,
    )


USERS: tuple[User, ...] = (
    _service(
        "console",
        "makes streams, consumers and jobs; the only one who does",
        publish=(
            "job.plan.requested.>",
            "pool.collect.requested.>",
            "playlist.sync.requested.>",
            "song.download.requested.>",
            "file.upload.requested.>",
            f"$KV.{JOBS_BUCKET}.>",
            "item.>",
            "song.pinned.*",
            "backend.defined.*",
            # What the resolver found, and what it has learned.
            "svc.downloader.*",
            f"$JS.API.DIRECT.GET.{CATALOG}.>",
            f"$JS.API.DIRECT.GET.{STATUS}.>",
            f"$JS.API.DIRECT.GET.{DEAD}",
            *(
                f"$JS.API.STREAM.{verb}.{stream}"
                for stream in (*(spec.name for spec in STREAMS), JOBS)
                for verb in ("CREATE", "UPDATE")
            ),
            # A dead letter goes when a person deals with it.
            f"$JS.API.STREAM.PURGE.{DEAD}",
            f"$JS.API.STREAM.MSG.DELETE.{DEAD}",
            # A job that is canceled or has ended leaves nothing in the queue.
            f"$JS.API.STREAM.PURGE.{WORK}",
            f"$JS.API.STREAM.MSG.GET.{WORK}",
            f"$JS.API.STREAM.MSG.DELETE.{WORK}",
            f"$JS.API.CONSUMER.DURABLE.CREATE.{WORK}.*",
            f"$JS.API.CONSUMER.DELETE.{WORK}.*",
            f"$JS.API.CONSUMER.INFO.{WORK}.*",
            *(
                subject
                for reader in READERS
                for subject in (
                    f"$JS.API.CONSUMER.DURABLE.CREATE.{reader.stream}.{reader.name}",
                    f"$JS.API.CONSUMER.DELETE.{reader.stream}.{reader.name}",
                    f"$JS.API.CONSUMER.INFO.{reader.stream}.{reader.name}",
                )
            ),
            # Answers to readers who ask for their consumer.
            *sorted({f"_INBOX_{reader.service}.>" for reader in READERS}),
        ),
        subscribe=("hb.>", f"{RESET_PREFIX}.*.*"),
    ),
    _worker(
        "collector",
        "plans jobs; says what there is: pools, playlists, songs",
        stages=("job.plan", "pool.collect", "playlist.sync"),
        publish=(
            "pool.collect.requested.>",
            "playlist.sync.requested.>",
            "song.download.requested.>",
            "file.upload.requested.>",
            "item.>",
            "pool.defined.*",
            "song.listed.*",
            "playlist.collected.*.*.*",
        ),
    ),
    _worker(
        "downloader",
        "fetches songs; says what is stored in the library",
        stages=("song.download",),
        publish=("item.*.download.>", "file.stored.*.*.*", "song.described.*"),
        subscribe=("song.pinned.*",),
        answers=True,
    ),
    _worker(
        "uploader",
        "copies files; says what is stored in object storage",
        stages=("file.upload",),
        publish=("file.upload.requested.>", "item.*.upload.>", "file.stored.*.*.*"),
    ),
    _service(
        "exporter",
        "keeps the catalog; the only one who announces snapshots",
        publish=("snapshot.published.*", f"$JS.API.DIRECT.GET.{CATALOG}.>", "dead.0.catalog.exporter.*"),
    ),
    _service("origin", "streams files; writes nothing"),
    User(name="operator", purpose="the owner at the command line: moving in, backup, restore, repair"),
    User(
        name="reader",
        purpose="anyone outside: reads the catalog and the states of items, sees no work, changes nothing",
        account=OUTSIDE,
        publish=(
            f"$JS.API.DIRECT.GET.{CATALOG}",
            f"$JS.API.DIRECT.GET.{CATALOG}.>",
            f"$JS.API.DIRECT.GET.{STATUS}",
            f"$JS.API.DIRECT.GET.{STATUS}.>",
        ),
        subscribe=(*FACTS, "item.>", "_INBOX.>", "_INBOX_reader.>"),
    ),
)

HANDED_OVER_LIVE = (*FACTS, "item.>")
"""What OUTSIDE hears of MUSIC as it happens."""
HANDED_OVER_REQUESTS = tuple(
    subject
    for stream in (CATALOG, STATUS)
    for subject in (f"$JS.API.DIRECT.GET.{stream}", f"$JS.API.DIRECT.GET.{stream}.>")
)
"""What OUTSIDE may ask MUSIC: single stored messages, and nothing that makes or changes anything."""
