"""The judgement of an augmentation as a web page that needs no other file and no network."""

from collections.abc import Iterable, Sequence
from html import escape

from uda.augmentation.agreement import LabelAgreement
from uda.augmentation.differences import Kind, Piece, cut, differences, excerpt
from uda.augmentation.judgement import Judgement, growth, headline, labelled, mean, percent
from uda.augmentation.measures import Measure, Pair, describe

_CONTEXT, _EXCERPT = 80, 420  # characters of a long pair that are seen before it is unfolded
_LONGEST = 20_000  # characters shown of a pair
_CONTROLS = {number: 0x2400 + number for number in range(32) if chr(number) not in "\t\n\r"}  # their pictures
_WIDTH, _HEIGHT, _FOOT = 340, 110, 18  # of a histogram

_STYLE = """
:root{color-scheme:light dark;--page:#f6f6f3;--card:#fff;--ink:#1c1d1f;--soft:#5d6167;--line:#dedfd9;--bar:#2b6ca3;
--mean:#c2570c;--in:#d5e8f7;--in-ink:#0b4a7d;--out:#fbe0cc;--out-ink:#8a3a06}
@media(prefers-color-scheme:dark){:root{--page:#16181b;--card:#1f2226;--ink:#e6e6e3;--soft:#a2a7ae;--line:#363a40;
--bar:#6aa9dc;--mean:#f0a063;--in:#173a56;--in-ink:#b5daf7;--out:#4e2a12;--out-ink:#f8c9a4}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:1rem}
h1{font-size:1.4rem;line-height:1.25;margin:.5rem 0 0;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2rem 0 .25rem}
p{margin:.25rem 0}
.soft{color:var(--soft);font-size:.9rem}
nav{display:flex;flex-wrap:wrap;gap:.25rem 1rem;margin:.5rem 0}
a{color:var(--bar)}
.grid{display:grid;gap:.75rem;margin:.75rem 0;grid-template-columns:repeat(auto-fit,minmax(min(100%,9.5rem),1fr))}
.wide{grid-template-columns:repeat(auto-fill,minmax(min(100%,17rem),1fr))}
.card,article{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.75rem}
.card b{display:block;font-size:1.5rem;line-height:1.2;font-variant-numeric:tabular-nums}
article{margin:.75rem 0}
article p,.short{overflow-wrap:anywhere;white-space:pre-wrap}
svg{display:block;width:100%;height:auto;margin-top:.5rem}
svg text{fill:var(--soft);font-size:13px}
rect{fill:var(--bar)}
.mean{stroke:var(--mean);stroke-width:2}
.axis{stroke:var(--line)}
ins{background:var(--in);color:var(--in-ink);text-decoration:underline;border-radius:.2em;padding:0 .1em}
del{background:var(--out);color:var(--out-ink);border-radius:.2em;padding:0 .1em}
summary{cursor:pointer}
article summary{color:var(--bar);font-size:.9rem}
.short{display:block;color:var(--ink);font-size:1rem}
details[open] .short{display:none}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .75rem .25rem 0;text-align:right;border-bottom:1px solid var(--line)}
th:first-child{text-align:left;overflow-wrap:anywhere}
"""


def page(judgement: Judgement, title: str) -> str:
    """The whole page."""
    parts = [
        f"<h1>{_text(title)}</h1><p class='soft'>{_text(headline(judgement))}.</p>",
        _figures(judgement),
        _histograms(judgement),
    ]
    sections = [("samples", "Samples", _samples(judgement))]
    if (found := judgement.agreement) is not None:
        sections.insert(0, ("labels", "Labels", _labels(judgement, found)))
    sections += [
        ("overlap", "Lowest word overlap", _articles(judgement.overlap.worst)),
        ("distance", "Largest edit distance", _articles(judgement.distance.worst)),
        ("length", "Most extreme length", _articles(judgement.length_ratio.worst)),
    ]
    links = "".join(f"<a href='#{name}'>{heading}</a>" for name, heading, _ in sections)
    parts.insert(1, f"<nav>{links}</nav>")
    parts += [f"<section id='{name}'><h2>{heading}</h2>{body}</section>" for name, heading, body in sections]
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>\n<body><main>{chr(10).join(parts)}</main></body></html>\n"
    )


def _figures(judgement: Judgement) -> str:
    """The figures that have no histogram."""
    cards = [
        (percent(judgement.unchanged), "of the copies are unchanged, to the character"),
        (percent(judgement.same_words), "have the same words in the same order"),
        (growth(judgement), f"{judgement.new_words:,} words added to the originals’ {judgement.vocabulary:,}"),
    ]
    if judgement.num_copies > 1:
        cards.append((percent(judgement.distinct), "of the copies of a text are distinct"))
    if judgement.agreement is not None:
        cards.append((percent(judgement.agreement.disagreement), "of the copies get another label by the classifier"))
    shown = "".join(f"<div class='card'><b>{value}</b>{note}</div>" for value, note in cards)
    return f"<div class='grid'>{shown}</div>"


def _histograms(judgement: Judgement) -> str:
    empty = judgement.length_ratio.unbounded
    ratio = "characters of the copy for each of the original’s" + (
        f"; {empty:,} empty originals left out" if empty else ""
    )
    cards = [
        _histogram("Word overlap", "words in both texts, of the words in either (Jaccard)", judgement.overlap),
        _histogram("Word edit distance", "words changed, of the longer text’s words", judgement.distance),
        _histogram("Length ratio", ratio, judgement.length_ratio),
    ]
    return f"<div class='grid wide'>{''.join(cards)}</div>"


def _histogram(name: str, meaning: str, measure: Measure) -> str:
    """A card with the mean and the bars; each bar names its range and count."""
    count, highest = len(measure.counts), max(max(measure.counts), 1)
    width, full = _WIDTH / count, _HEIGHT - _FOOT
    bars = []
    for number, rows in enumerate(measure.counts):
        if rows:
            low, high = measure.top * number / count, measure.top * (number + 1) / count
            beyond = measure.top > 1 and number == count - 1
            height = max(full * rows / highest, 1)
            span = f"{low:.2f} and more" if beyond else f"{low:.2f} – {high:.2f}"
            bars.append(
                f"<rect x='{number * width + 0.5:.1f}' y='{full - height:.1f}' width='{width - 1:.1f}' "
                f"height='{height:.1f}'><title>{span}, pairs: {rows:,}</title></rect>"
            )
    if measure.mean is not None:
        place = min(measure.mean / measure.top, 1) * _WIDTH
        bars.append(f"<line class='mean' x1='{place:.1f}' x2='{place:.1f}' y1='0' y2='{full}'/>")
    top = f"{measure.top} and more" if measure.top > 1 else str(measure.top)
    marks = ((0, "start", "0"), (_WIDTH / 2, "middle", f"{measure.top / 2:g}"), (_WIDTH, "end", top))
    axis = "".join(f"<text x='{x:g}' y='{_HEIGHT - 4}' text-anchor='{side}'>{label}</text>" for x, side, label in marks)
    return (
        f"<div class='card'>{name}<b>{mean(measure, 2)}</b><span class='soft'>mean; {meaning}</span>"
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' aria-label='histogram of the {name.lower()}'>"
        f"<line class='axis' x1='0' x2='{_WIDTH}' y1='{full}' y2='{full}'/>{''.join(bars)}{axis}</svg></div>"
    )


def _labels(judgement: Judgement, found: LabelAgreement) -> str:
    """What the classifier says, by the label of the original."""
    rows = "".join(
        f"<tr><th>{_text(name)}</th><td>{count:,}</td><td>{percent(share)}</td></tr>"
        for name, count, share in found.by_class()
    )
    blank = f" {found.blank:,} pairs with a blank text are left out." if found.blank else ""
    return (
        f"<p>The classifier gives {percent(found.disagreement)} of {labelled(judgement, found)} another label than "
        f"their original.{blank}</p><div class='scroll'><table><thead><tr><th>label of the original</th><th>copies</th>"
        f"<th>other label</th></tr></thead><tbody>{rows}</tbody></table></div><div class='grid wide'>"
        f"{_histogram('Change of probability', 'half the sum over the labels', found.change)}</div>"
        f"<h2>Largest change of probability</h2>{_articles(found.change.worst, found.answers)}"
    )


def _samples(judgement: Judgement) -> str:
    legend = (
        "<p class='soft'>Drawn at random. <del>Removed</del> <ins>added</ins>; words are compared without regard to "
        "case and accents.</p>"
    )
    return legend + _articles(judgement.samples)


def _articles(pairs: Iterable[Pair], answers: Sequence[str] | None = None) -> str:
    pairs = list(pairs)
    if not pairs:
        return "<p class='soft'>No copy is changed.</p>"
    said = answers if answers is not None else [""] * len(pairs)
    return "\n".join(_article(pair, answer) for pair, answer in zip(pairs, said, strict=True))


def _article(pair: Pair, answer: str) -> str:
    """One pair with its differences; a long one is folded."""
    head = f"text {pair.row + 1:,}, copy {pair.copy + 1} · {describe(pair)}"
    said = f"<p><b>{_text(answer)}</b></p>" if answer else ""
    pieces = differences(pair.original, pair.augmented)
    length = sum(len(piece.text) for piece in pieces)
    if not pieces:
        body = "<p class='soft'>Neither text has a word.</p>"
    elif length <= 1.3 * _EXCERPT:
        body = f"<p dir='auto'>{_marked(pieces)}</p>"
    else:
        whole = _marked(cut(pieces, _LONGEST))
        short = _marked(excerpt(pieces, _CONTEXT, _EXCERPT))
        body = (
            f"<details><summary>the whole pair, {length:,} characters"
            f"<span class='short' dir='auto'>{short}</span></summary>"
            f"<p dir='auto'>{whole}</p></details>"
        )
    return f"<article><p class='soft'>{head}</p>{said}{body}</article>"


def _marked(pieces: Sequence[Piece]) -> str:
    tags = {Kind.same: ("", ""), Kind.removed: ("<del>", "</del>"), Kind.added: ("<ins>", "</ins>")}
    marked = []
    for piece in pieces:
        start, end = tags[piece.kind]
        words = piece.text.rstrip()
        marked.append(f"{start}{_text(words)}{end}{_text(piece.text[len(words) :])}")
    return "".join(marked)


def _text(text: str) -> str:
    """A text as HTML; control characters by their pictures."""
    return escape(text.translate(_CONTROLS))
