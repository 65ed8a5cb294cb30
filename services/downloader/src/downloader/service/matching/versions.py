"""Which recording a title speaks of: the words for live, remix, cover, instrumental and others of their kind."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from downloader.service.matching.normalise import east_asian, other_letters

_INSTRUMENTS = (
    "piano|guitar|violin|cello|strings?|orchestral?|orchestra|symphonic|symphony|flute|harp|ukulele|sax(?:ophone)?|organ|"
    "brass|marimba|jazz|bossa nova|metal|rock|drum|trap|reggae|latin|swing|country|classical|dance|house|techno|disco"
)
_INSTRUMENTS_CJK = (
    "钢琴|吉他|古筝|古琴|笛子|竹笛|小提琴|大提琴|二胡|琵琶|弦乐|交响|管弦|萨克斯|尤克里里|口琴|"
    "唢呐|葫芦丝|摇滚|爵士|电音|舞曲|ピアノ"
)
_LANGUAGES = (
    "english|japanese|korean|spanish|chinese|mandarin|cantonese|french|german|italian|portuguese|latin|spanglish|"
    "espanol|castellano|ingles|francais|francaise|deutsch|deutsche|italiano|italiana|portugues"
)
_LANGUAGES_CJK = (
    "国语|国|粤语|粤|英文|英语|英|日文|日语|日本语|日|韩文|韩语|韩|中文|中国语|闽南语|台语|法语|德语|泰语|俄语|"
    "西班牙语|藏语|方言|普通话|四川话|东北话|上海话|客家话|潮汕话|闽南话|한국어|영어|일본어"
)
_GENRES = (
    "bluegrass|phonk|hardstyle|hard ?bass|hard techno|eurobeat|dubstep|drum (?:and|&|n|'n'?) bass|dnb|amapiano|"
    "synthwave|vaporwave|lo-?fi|r ?& ?b|reggaeton|bachata|jersey club|baile funk|big band|marching band"
)
_VERSION = r"(?:version|versione|ver\b|vers\b|mix|edit|cover|arrangement|rendition|remake|take)"

# Patterns read folded text (lower case, simplified Chinese).
KINDS: Final[dict[str, re.Pattern[str]]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "live": r"^live\b|\blive$|\blive (?:at|in|from|on|version|ver|sessions?|lounge|acoustic|performance|aid|tour|"
        r"studio|radio|band|and|take|recording|\d)|\blive(?=版|[^a-z ])|unplugged|(?:in|en) concert|concert version|"
        r"\b(?:en (?:vivo|directo|public)|ao vivo|dal vivo)\b|^live (?:aus|bei|mit|de|du|auf|w)\b|"
        r"现场|演唱会|音乐会|ライブ|라이브|직캠|콘서트|концерт|巡演|巡回|音乐节|首唱会|春晚|跨年|晚会|我是歌手|好声音|"
        r"\bfancam\b|tiny desk|\w (?:sessions?|performance|concert|tour)$|"
        r"\b(?:bbc|radio|studio|spotify|apple music|kexp|npr|peel|home) sessions?\b|live lounge",
        "remix": r"\bre-?mix(?:ed|es)?\b|\brmx\b|\bbootleg\b|\bdub\b|\bre-?work(?:ed)?\b|\brefix\b|\bflip\b|"
        r"(?<!original )(?<!mono )(?<!stereo )(?<!album )\bmix\b|混音|(?<![a-z])dj(?![a-z])|リミックス|리믹스|ремикс|"
        r"\b(?:19|20)\d\d (?:stereo |mono )?mix\b|\bnew (?:stereo |mono )?mix\b|^vip\b|\bmixed by\b|^mixed$|"
        r"鼓版|越南鼓|越鼓|慢摇|嗨曲|土嗨|蹦迪|卡点|"
        r"\b(?!radio |single |short |video |album |tv )\w+ (?:re-?)?edit\b|\bvs\.? ",
        "cover": r"\bcover(?:ed|s)?\b|翻唱|翻自|翻弹|翻奏|原唱|改词|填词|恶搞|カバー|てみた|커버|кавер|"
        r"\btribute\b|originally performed|"
        "made famous|in the style of|"
        r"as performed by|\brenditions?\b|致敬",
        "instrumental": r"\binstrumentale?s?\b|\binst\b|karaoke|off vocal|backing track|伴奏|纯音乐|无人声|消音|"
        "カラオケ|インスト|반주|노래방|караоке|минус|инструментал|"
        r"\binstr\b|^m\.?r\.?(?:版|ver\b)?$|(?<![a-z])ktv(?![a-z])|卡拉 ?ok|オフボ|\boff[ -]vo\b|导唱|"
        r"练习用|练习版|\bbgm\b|"
        r"drumless|\b(?:no|without) (?:drums?|bass|guitars?|piano)\b|"
        r"minus one|\bsing[ -]?along\b|music only|without vocals?|no vocals?",
        "acoustic": r"\bacoustic\b|\bac(?:us|ous)ti[ckq]u?[aoe]?\b|\bakustik\b|不插电|弹唱|弾き[語语]り|"
        r"アコースティック|акусти|어쿠스틱|\bstripped\b",
        "demo": r"\bdemos?\b|小样|试唱|\bouttakes?\b|\btake \d+|\brehearsal\b|\balternat(?:e|ive)\b|early version|"
        r"rough mix|\bsketch\b|デモ",
        "sped up": r"\bsped\b|\bspeed[ -]?up\b|nightcore|加速",
        "slowed": r"\bslowed\b|daycore|减速|慢速|降速|降调|\breverb\b|\bscrewed\b",
        "other speed": r"\b\d(?:\.\d+)?x\b|倍速|倍数|变速",
        "a cappella": r"\ba ?cap+ella\b|vocals?[ -]only|only vocals?|isolated vocals?|^vocals?$|vocal track|清唱|"
        r"(?<!无)人声|干声|阿卡贝拉|アカペラ",
        "arrangement": rf"\b(?:{_INSTRUMENTS}) {_VERSION}|\b(?:8|16)[ -]?bit\b|chiptune|music ?box|lullab(?:y|ies)|"
        rf"^(?:{_INSTRUMENTS}|{_INSTRUMENTS_CJK})$|(?:{_INSTRUMENTS_CJK})(?:版|曲|演奏|独奏|指弹)|八音盒|"
        rf"オルゴール|オーケストラ|orchestral$|symphony$|"
        rf"\blo-?fi\b|轻音乐|改编|\b(?:{_GENRES})$",
        "other voice": r"女声|男声|童声|女生版|男生版|女版|男版|对唱|合唱|儿童|少儿|戏腔|烟嗓|童音|ボカロ|"
        r"萝莉音|御姐音|大叔音|\b(?:fe)?male (?:ver|voc)|\bduet\b|\bchoir\b|\bkids\b|"
        "children",
        "other language": rf"\b(?:{_LANGUAGES}) (?:version|ver\b|vers\b)|(?:{_LANGUAGES_CJK})(?:版|\s?ver)|"
        rf"^(?:{_LANGUAGES_CJK}|{_LANGUAGES})$|\b(?:en|in|auf|em|version) (?:{_LANGUAGES})$|"
        r"\b(?:eng?|jpn?|jap|kor|chn|cn)\.? ver",
        "new recording": r"\bre-?record(?:ed|ing)\b|\w'?s version\b|重录|重唱|重新录制|新版|"
        r"\b(?:new|neue|nueva|nouvelle|nuova) version\b|"
        r"\b(?:19|20)\d\d (?:version\b|ver\b)|(?:19|20)\d\d年?版|"
        r"\b10 minute version\b|\b'\d\d(?: version)?$",
        "extended": r"\bextended\b|\b12 ?(?:\"|''|inch\b)|\blong version\b|\bclub (?:version|edit)\b|加长|\bmaxi\b",
        "excerpt": r"\btv[ -]?(?:size|ver|version|edit|cut)\b|\bshort (?:ver|version)\b|片段|铃声|ringtone|"
        r"\bsnippet\b|\bpreview\b|"
        r"\bteaser\b|试听|抖音|短版|剪辑|着信|副歌|高潮版?$|\bexcerpt\b|tvサイズ",
        "medley": r"\bmedley\b|串烧|mash-?up|megamix|メドレー|联唱",
        "looped": r"循环|\b\d+ hours?\b|[\d一十]个?小时|\blooped\b|\bloop(?:ed)? version\b",
        "effect": r"\b(?:3|8|16)d\b|bass boost(?:ed)?|环绕|\b\d{3} ?hz\b|音效|低音|车载|\bmuffled\b|"
        r"^from (?:another|the other|the next) room",
        "spoken": r"\bcommentary\b|\binterview\b|\bspoken\b|解说|\breprise\b",
    }.items()
}
"""Each is another recording than the plain one."""
LESSER: Final[dict[str, re.Pattern[str]]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "edit": r"\b(?:radio|single|short|video|album) (?:re-?)?edit\b|^edit$|\bradio (?:version|cut)\b",
        "single version": r"\bsingle (?:version|ver\b)|\b7 ?(?:\"|''|inch\b)",
        "clean": r"\bclean\b|\bcensored\b|净化",
        "made anew": r"重制版|\bremake\b|\bredux\b|\bre-?imagined\b",
        "mono": r"\bmono\b",
        "full": r"\bfull (?:version|ver\b|length)|完整版",
        "film version": r"\b(?:movie|film) (?:version|ver\b)|^(?:soundtrack|ost) (?:version|ver\b)|"
        r"(?:电影|电视剧?|网剧|动画|游戏|影视)版",
        "unreleased": r"\bunreleased\b|\bleak(?:ed)?\b|未发行",
    }.items()
}
"""They may be the same recording, shortened or mixed down: a person decides."""
DOUBTFUL: Final = re.compile(
    r"^(?:loop|cut|tour|sessions?|concert|performance|at home|beats?|fast(?:er)?|slow(?:er)?|intro|outro|interlude|"
    r"prelude|skit|radio|v\d|og|jersey|salsa|samba|drill|punk|gospel|ballade?|garage|ambient|underwater|rain|"
    r"club|party|chill|studio|band|solo|duo|trio|pop|soul|funk|folk|blues|edm|rap|cinematic|epic|midi|workout|gym)$"
)
"""What another recording may be called, and what a title may be in another language."""
UNNAMED: Final = "a version without a name that is known"
"""The kind of a part that calls itself a version with words that no table has: a person decides."""
_VERSION_OF_SOME_KIND = re.compile(
    r"(?:版本?|(?<![a-z])ver(?:s|sion\w*)?|(?<![a-z])(?:mix|edit|cut|take|arrangement)|バージョン|ヴァージョン|버전|верси\w)"
    r"\.?\W*\d*$|^(?:version|versao|versione|ver)\b"
)
SAME: Final = re.compile(
    r"\b(?:digital(?:ly)? )?re-?master(?:ed|s|ing)?\b|重制(?!版)|\bofficial\b|\b(?:music |lyrics? )?video\b|\baudio\b|"
    r"\bm/?v\b|\blyrics?\b|"
    r"\bh[dq]\b|\b4k\b|\bexplicit\b|\bbonus(?: track)?\b|\bdeluxe\b|\bedition\b|\bexpanded\b|\banniversary\b|"
    r"\bvisuali[sz]er\b|"
    r"\boriginal\b|\balbum\b|\bstereo\b|\bversion\b|\bver\b|\bmix\b|\bsoundtrack\b|\bhi-?res\b|\bfrom the vault\b|"
    r"高音质|无损|官方|专辑版|原版|高清|首发|完整|版$|\b(?:19|20)\d\d\b|\bepisode\b"
)
"""Words that leave the recording the same."""
NOTE: Final = re.compile(
    r"主题曲|片尾曲|片头曲|插曲|推广曲|宣传曲|主题歌|主題歌|尾曲|原声|配乐|电影|电视剧|动画|动漫|游戏|网剧|"
    r"\bost\b|soundtrack|"
    r"^from (?:the )?[\"'〈《「『]|^from\b.*\b(?:film|movie|series|musical|album|game|vault)\b|"
    r"\btheme (?:from|of|song)\b|\bmotion picture\b"
)
"""A note on what a song was used in."""
_TAIL = re.compile(
    r"^(?P<head>.*\S)\s+(?P<tail>(?:official |radio |mtv |live |piano |acoustic |extended |club |full |tv |"
    r"short |english |"
    r"cover |demo )*(?:live|remix|rmx|acoustic|instrumental|karaoke|demo|cover|version|ver\.?|edit|mix|unplugged|"
    r"sped up|slowed|nightcore|remaster(?:ed)?|medley|duet|symphony|a ?cap+ella|inst\.?|size))$"
)
_TAIL_CJK = re.compile(
    r"^(?P<head>.*?\S)\s*(?P<tail>(?:消音)?伴奏版?|(?:live|dj|现场|演唱会|翻唱|混音|加速|减速|钢琴|吉他|女声|"
    r"男声|合唱|国语|粤语|"
    r"英文|日文|抖音|铃声|纯音乐|清唱|不插电|完整|原)版|翻唱|纯音乐|铃声|串烧)$"
)
_ALBUM: Final[dict[str, re.Pattern[str]]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "live": r"\blive (?:at|in|from|on|album|ep|sessions?|\d)|\(live\)|\[live\]|\blive$|^live[:!]|unplugged|"
        "in concert|演唱会|现场|"
        r"音乐会|巡演|巡回|第\s*[\d一二三四五六七八九十]+\s*[期季]|ライブ|\btour live\b|我是歌手",
        "instrumental": r"karaoke|\binstrumentals?\b|伴奏|カラオケ|backing tracks?",
        "cover": r"\btribute\b|\brenditions?\b|翻唱|in the style of|made famous|originally performed",
        "arrangement": r"lullab|8-?bit|music ?box|オルゴール|八音盒|(?:钢琴|吉他|古筝|轻音乐)曲?集?$",
        "other speed": r"sped up|nightcore|slowed",
        "new recording": r"\w's version\b|\bre-?record(?:ed|ings?)\b|重录",
        "remix": r"\bremix(?:es|ed)?\b",
        "demo": r"\bdemos\b|\bouttakes\b",
    }.items()
}
MIXED_ALBUMS: Final = frozenset({"remix", "demo"})
"""Such an album may hold the plain recording too."""


def kinds_of(folded: str) -> frozenset[str]:
    """The kinds of recording that a part of a title speaks of. Empty: it says nothing of the kind."""
    found = {name for name, pattern in KINDS.items() if pattern.search(folded)}
    if "excerpt" not in found and "remix" not in found:
        found |= {name for name, pattern in LESSER.items() if pattern.search(folded)}
    if not found and _VERSION_OF_SOME_KIND.search(folded) and maker_of(folded):
        found = {UNNAMED}
    return frozenset(found)


@lru_cache(maxsize=4096)
def kinds_of_album(folded: str) -> frozenset[str]:
    """What the name of an album says of all that is on it."""
    return frozenset(name for name, pattern in _ALBUM.items() if pattern.search(folded))


def tail_of(folded: str) -> tuple[str, str] | None:
    """(title, version words) where a title ends with such words without any mark."""
    if found := _TAIL_CJK.match(folded) or _TAIL.match(folded):
        return found["head"], found["tail"]
    halves = east_asian(folded), other_letters(folded)
    if all(halves):
        for head, tail in (halves, halves[::-1]):
            if kinds_of(tail):
                return head, tail
    return None


def maker_of(folded: str) -> frozenset[str]:
    """The words of a version that are not its kind: who made it, where it was played."""
    for pattern in (*KINDS.values(), *LESSER.values(), SAME):
        folded = pattern.sub(" ", folded)
    return frozenset(re.findall(r"\w+", folded)) - _SMALL


def makers_of(folded: str) -> frozenset[str]:
    """:func:`maker_of` and the numbers of a version: its year, its take, its speed; a year in two digits."""
    numbers = _NUMBER.findall(_REMASTER.sub(" ", folded))
    return maker_of(folded) | {number[-2:] if len(number) == 4 and number.isdecimal() else number for number in numbers}


def other_makers(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two versions of a kind name different people or places, or different years, takes or speeds."""
    for is_number in (False, True):
        mine, theirs = (
            {word for word in makers if word.replace(".", "").isdecimal() is is_number} for makers in (one, other)
        )
        if mine and theirs and mine.isdisjoint(theirs):
            return True
    return False


_NUMBER = re.compile(r"(?<![a-z\d.])(?:\d+\.\d+(?=x)|\d+)(?=x\b|[^a-z\d]|$)")
_REMASTER = re.compile(r"(?:\d{4} )?(?:digital(?:ly)? )?re-?master\w*(?: in)?(?: \d{4})?")
_SMALL = frozenset(
    ["the", "a", "an", "at", "in", "on", "from", "of", "and", "by", "de", "la", "le", "version", "ver", "vs", "s", "版"]
)
