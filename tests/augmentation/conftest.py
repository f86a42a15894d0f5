from pathlib import Path

import pytest

# Synsets by part of speech: their words, as the files write them.
SYNSETS = {
    "noun": [["film", "movie", "motion_picture"], ["man", "adult_male"], ["plot", "secret_plan"], ["Plot"]],
    "verb": [["like", "enjoy"], ["go", "travel", "Move"]],
    "adj": [["bad", "awful"], ["good", "fine(p)"], ["big", "large"]],
    "adv": [["badly", "ill"]],
}
EXCEPTIONS = {"noun": "men man\n", "verb": "went go\n", "adj": "", "adv": ""}


@pytest.fixture(scope="session")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a WordNet of ten synsets, in the format of wndb(5WN)."""
    folder = tmp_path_factory.mktemp("wordnet")
    for part, synsets in SYNSETS.items():
        data = "  1 A licence.\n"
        offsets: dict[str, list[int]] = {}
        for words in synsets:
            for word in words:
                offsets.setdefault(word.lower().partition("(")[0], []).append(len(data))
            named = " ".join(f"{word} 0" for word in words)
            data += f"{len(data):08} 00 {part[0]} {len(words):02x} {named} 000 | what it means\n"
        lines = [
            f"{word} {part[0]} {len(places)} 1 @ {len(places)} 0 {' '.join(f'{place:08}' for place in places)}  \n"
            for word, places in sorted(offsets.items())
        ]
        (folder / f"data.{part}").write_text(data)
        (folder / f"index.{part}").write_text("  1 A licence.\n" + "".join(lines))
        (folder / f"{part}.exc").write_text(EXCEPTIONS[part])
    return folder
