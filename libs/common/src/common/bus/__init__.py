"""The bus: one connection, publishing, reading, following. Facts about NATS live here and nowhere else."""

from common.bus.connection import Bus, Stored
from common.bus.errors import StreamFull, StreamMissing, StreamReplaced, SubjectTaken, WrongLastSequence
from common.bus.facts import FactWriter
from common.bus.jobs import JobsFollower
from common.bus.replay import Replay, StreamState

__all__ = [
    "Bus",
    "FactWriter",
    "JobsFollower",
    "Replay",
    "Stored",
    "StreamFull",
    "StreamMissing",
    "StreamReplaced",
    "StreamState",
    "SubjectTaken",
    "WrongLastSequence",
]
