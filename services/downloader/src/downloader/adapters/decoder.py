"""Decoding to the last sample: the only proof that a compressed file can be played."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import miniaudio

from downloader.adapters.container import inspect
from downloader.errors import Rejected, Stopped
from downloader.ports import Decoded, Fetched, Inspected, Watch

DECODABLE = frozenset({"flac", "mp3", "ogg", "wav"})
_FRAMES = 32_768
"""Sample frames at a time: three quarters of a second, at most 1 MiB."""
_REPORT_FRAMES = 30 * 44_100
_MD5_FORMATS = {16: miniaudio.SampleFormat.SIGNED16, 24: miniaudio.SampleFormat.SIGNED24}


class AudioInspector:
    """Reads containers with mutagen, and decodes with miniaudio, which lets other threads run meanwhile."""

    def inspect(self, fetched: Fetched, kind: str) -> Inspected:
        """What the container says. Raises Rejected when it is broken or cut off."""
        return inspect(fetched.path, kind, size=fetched.size, head=fetched.head)

    def decodes(self, kind: str) -> bool:
        """Whether there is a decoder for this kind."""
        return kind in DECODABLE

    def decode(self, path: Path, kind: str, inspected: Inspected, *, watch: Watch) -> Decoded:
        """Decode all of it, keeping nothing. Raises Rejected when the decoder gives up, Stopped when told to."""
        format = inspected.format
        channels, rate = format.channels or 2, format.sample_rate or 44_100
        if channels > 8 or rate > 768_000:
            raise Rejected("The file declares more channels or samples than any recording has.", code="content-broken")
        sums = kind == "flac" and inspected.md5 is not None and inspected.bits in _MD5_FORMATS
        wanted = _MD5_FORMATS[inspected.bits or 16] if sums else miniaudio.SampleFormat.SIGNED16
        md5 = hashlib.md5(usedforsecurity=False)
        frames, told = 0, 0
        size = os.stat(path).st_size  # noqa: PTH116
        try:
            stream = miniaudio.stream_file(
                str(path),
                output_format=wanted,
                nchannels=channels,
                sample_rate=rate,
                frames_to_read=_FRAMES,
            )
            for samples in stream:
                data = memoryview(samples).cast("B")
                frames += len(data) // (channels * (3 if wanted is miniaudio.SampleFormat.SIGNED24 else 2))
                if sums:
                    md5.update(data)
                if frames - told > _REPORT_FRAMES:
                    told = frames
                    watch.progress(size, size, f"checking, {frames // rate // 60}:{frames // rate % 60:02}")
                    if watch.canceled():
                        raise Stopped
        except miniaudio.MiniaudioError as error:
            raise Rejected(
                f"The file cannot be decoded ({type(error).__name__}); it is damaged.", code="content-broken"
            ) from None
        return Decoded(frames=frames, sample_rate=rate, md5=md5.digest() if sums else None)
