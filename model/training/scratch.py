"""A small BERT without pretraining, for want of one: tokenizer and word vectors come from the training part."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from sklearn.utils.extmath import randomized_svd
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from model.training.pretrained import Pretrained

LONGEST = 128
SCRATCH = "from scratch"
WINDOW = 5
"""Tokens so far apart count as neighbours, near ones more."""
DROPOUT = 0.3
SPREAD = 0.04
"""Standard deviation of the word vectors' coordinates: twice that of BERT's random ones."""
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def from_scratch(texts: Sequence[str], seed: int, words: int = 6000, dim: int = 128, layers: int = 1) -> Pretrained:
    """Return an encoder, and a tokenizer of at most so many pieces that occur in the texts five times or more.

    Pieces are merged across Chinese characters, so that frequent words are one token each. Its word vectors come from
    which tokens stand near each other; its other weights are random.
    """
    rust = Tokenizer(models.BPE(unk_token="[UNK]"))
    rust.normalizer = normalizers.BertNormalizer(handle_chinese_chars=False, lowercase=True)
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(vocab_size=words, min_frequency=5, special_tokens=_SPECIAL, show_progress=False)
    rust.train_from_iterator(texts, trainer)
    lines = [np.array(line.ids, np.int64) for line in rust.encode_batch(list(texts))]
    ends = [(name, rust.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    rust.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=rust, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=LONGEST,
    )  # fmt: skip
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=dim, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=4 * dim, max_position_embeddings=LONGEST, pad_token_id=tokenizer.pad_token_id,
        hidden_dropout_prob=DROPOUT, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(seed)
    body = BertModel(config, add_pooling_layer=False)
    vectors = _neighbours(lines, len(tokenizer), dim, seed)
    body.embeddings.word_embeddings.weight.data[:, : vectors.shape[1]] = torch.from_numpy(vectors)
    return Pretrained(SCRATCH, config, body, tokenizer, "mean", LONGEST)


def _neighbours(lines: Sequence[NDArray[np.int64]], words: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Return vectors, shape (words, at most dim): singular vectors of the positive pointwise mutual information.

    As Levy, Goldberg & Dagan (2015) advise: context counts to the power .75, square roots of the singular values.
    """
    left = [line[:-apart] for apart in range(1, WINDOW + 1) for line in lines]
    right = [line[apart:] for apart in range(1, WINDOW + 1) for line in lines]
    weight = [np.full(max(0, len(line) - apart), 1 / apart) for apart in range(1, WINDOW + 1) for line in lines]
    one, other, weights = np.concatenate(left), np.concatenate(right), np.concatenate(weight)
    once = coo_matrix((weights, (one, other)), shape=(words, words)).tocsr()
    counts = (once + once.T).tocoo()
    of_word = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1e-9)
    of_context = of_word**0.75 / (of_word**0.75).sum()
    information = np.log(counts.data / (of_word[counts.row] * of_context[counts.col]))
    table = coo_matrix((np.maximum(0, information), (counts.row, counts.col)), shape=counts.shape).tocsr()
    vectors, sizes, _ = randomized_svd(table, min(dim, words - 1), random_state=seed)
    spread = vectors * np.sqrt(sizes)
    found: NDArray[np.float32] = (spread * (SPREAD / max(spread.std(), 1e-9))).astype(np.float32)
    return found
