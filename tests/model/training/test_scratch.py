"""A BERT from nothing: its words, its vectors, and the same again for the same texts."""

import numpy as np
import pytest

from tests.model.training.conftest import BAD, GOOD, texts

torch = pytest.importorskip("torch")

from model.training.scratch import from_scratch  # noqa: E402

CHINESE = ["这家酒店的房间很小", "这本书很好看", "房间很干净", "书的内容很好"] * 6


def test_frequent_chinese_words_are_one_token_and_rare_characters_unknown() -> None:
    tokenizer = from_scratch(CHINESE, seed=0, words=200, dim=8).tokenizer
    tokens = tokenizer.tokenize("房间龘")
    assert tokens[0] == "房间"
    assert tokens[1:] == ["[UNK]"]
    ids = tokenizer("房间")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "房间", "[SEP]"]


def test_words_with_like_neighbours_have_like_vectors() -> None:
    made = from_scratch([one.text for one in texts(400)], seed=0, words=400, dim=32)
    table = torch.nn.functional.normalize(made.body.embeddings.word_embeddings.weight.detach(), dim=1)
    good, bad = (table[made.tokenizer.convert_tokens_to_ids(words)] for words in (GOOD, BAD))
    within = ((good @ good.T).sum() - len(good)) / (len(good) * (len(good) - 1))
    assert within > (good @ bad.T).mean() + 0.2


def test_the_same_texts_give_the_same() -> None:
    one, other = (from_scratch(CHINESE, seed=3, words=200, dim=8) for _ in range(2))
    assert one.tokenizer.get_vocab() == other.tokenizer.get_vocab()
    for name, weight in one.body.state_dict().items():
        np.testing.assert_array_equal(weight.numpy(), other.body.state_dict()[name].numpy(), err_msg=name)
