"""Short melodies, computed: the same every time, and nobody's property."""

from __future__ import annotations

import numpy
from numpy.typing import NDArray

SAMPLE_RATE = 44_100
_PENTATONIC = (0, 2, 4, 7, 9, 12, 14, 16)
_OVERTONES = {"bell": (1.0, 0.5, 0.3, 0.15), "flute": (1.0, 0.15, 0.05), "strings": (1.0, 0.6, 0.4, 0.3, 0.2)}

Samples = NDArray[numpy.float64]


def melody(*, seed: int, seconds: float, voice: str, key: float = 220.0) -> Samples:
    """A melody in stereo, (frames, 2) between -1 and 1. ``key``: the lowest note in hertz."""
    random = numpy.random.default_rng(seed)
    beat = float(random.choice([0.25, 0.3, 0.375]))
    frames = int(seconds * SAMPLE_RATE)
    left, right = numpy.zeros(frames), numpy.zeros(frames)
    step = int(random.integers(0, len(_PENTATONIC)))
    at = 0.0
    while at < seconds - beat:
        step = int(numpy.clip(step + random.integers(-2, 3), 0, len(_PENTATONIC) - 1))
        length = beat * int(random.choice([1, 1, 2]))
        note = _note(key * 2 ** (_PENTATONIC[step] / 12), min(length * 1.8, seconds - at), voice)
        start = int(at * SAMPLE_RATE)
        note = note[: frames - start]
        pan = float(random.uniform(0.3, 0.7))
        left[start : start + len(note)] += note * (1 - pan)
        right[start : start + len(note)] += note * pan
        at += length
    both = numpy.stack([left, right], axis=1)
    scaled: Samples = both / (numpy.max(numpy.abs(both)) * 1.25)
    return scaled


def _note(frequency: float, seconds: float, voice: str) -> Samples:
    time = numpy.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tone = numpy.zeros_like(time)
    for number, strength in enumerate(_OVERTONES[voice], start=1):
        tone += strength * numpy.sin(2 * numpy.pi * frequency * number * time)
    attack = 0.01 if voice == "bell" else 0.06
    envelope = numpy.minimum(time / attack, 1.0) * numpy.exp(-time * (3.0 if voice == "bell" else 1.2))
    fade = numpy.minimum((seconds - time) / 0.03, 1.0).clip(0.0)
    faded: Samples = tone * envelope * fade
    return faded
