"""Matching: whether a search result is the recording that is wanted. Pure."""

from __future__ import annotations

from downloader.service.matching.reasons import Code, Finding
from downloader.service.matching.verdict import Match, Matcher, Result, Verdict, Wanted, ranked

__all__ = ["Code", "Finding", "Match", "Matcher", "Result", "Verdict", "Wanted", "ranked"]
