from uda.augmentation.none import NoAugmentation


def test_texts_come_back_as_they_are() -> None:
    texts = ["A  text.", "", "Ünïcode\n"]
    augmenter = NoAugmentation()
    augmenter.prepare(texts, ["0", "1", "2"], num_source_rows=3)
    assert augmenter.augment(texts, ["0", "1", "2"], copy=1) == texts
