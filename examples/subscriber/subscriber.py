"""Follows the catalog and prints songs and playlists as they come. Needs nats-py and the account `reader`.

NATS_URL=nats://nas:4222 NATS_PASSWORD=... python subscriber.py
"""

import asyncio
import json
import os

import nats

facts, shown = {}, {}  # the last fact of each subject; what was last printed of each playlist


def take(subject, envelope):
    """A fact, perhaps one seen before, perhaps an older one: only a revision that is not older counts."""
    fact = envelope["data"]
    if envelope["version"] == 1 and fact["revision"] >= facts.get(subject, fact)["revision"]:
        facts[subject] = fact
        if envelope["type"] == "song.listed":
            print("song", fact["song_id"], "is gone" if fact["removed"] else json.dumps(fact["name"]), flush=True)
        elif envelope["type"] == "playlist.collected":
            show_playlist(subject.rpartition(".")[0])


def show_playlist(key):
    """Print a playlist if all its pages are here and of one version; until then what was printed before holds."""
    first = facts.get(f"{key}.0", {"pages": 0, "removed": False})
    pages = [facts.get(f"{key}.{number}", {}) for number in range(first["pages"])]
    if first["removed"] or (pages and all(page.get("version") == first["version"] for page in pages)):
        songs = sum(len(page.get("entries", ())) for page in pages)
        told = "is gone" if first["removed"] else f"{json.dumps(first['header']['name'])} {songs} songs"
        if shown.get(key) != (first["version"], told):
            shown[key] = (first["version"], told)
            print("playlist", first["playlist_id"], told, flush=True)


async def ask(client, **wanted):
    """One stored message: its sequence (0 where there is none), its subject, its payload."""
    answer = await client.request("$JS.API.DIRECT.GET.CATALOG", json.dumps(wanted).encode(), timeout=5)
    headers = answer.headers or {}
    return int(headers.get("Nats-Sequence", 0)), headers.get("Nats-Subject"), answer.data


async def main():
    url, password = os.environ["NATS_URL"], os.environ["NATS_PASSWORD"]
    client = await nats.connect(url, user="reader", password=password, max_reconnect_attempts=-1)
    after = 0
    while True:
        try:
            if (await ask(client, last_by_subj=">"))[0] < after:
                after = 0  # the stream was made anew, and its revisions with it
                facts.clear()
            while (stored := await ask(client, seq=after + 1, next_by_subj=">"))[0]:
                after, subject, payload = stored
                take(subject, json.loads(payload))
        except nats.errors.Error:
            pass  # the server is away, and the client connects again by itself
        await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(main())
