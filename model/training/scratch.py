"""A small BERT from nothing, with a tokenizer learnt from the training part: for languages without a pretrained one."""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from model.training.pretrained import Pretrained

LONGEST = 128
SCRATCH = "from scratch"
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def from_scratch(texts: Sequence[str], seed: int, words: int = 12_000, dim: int = 256, layers: int = 2) -> Pretrained:
    """Return an encoder with random weights, and a tokenizer of at most so many words that occur in the texts.

    Pieces are merged across Chinese characters, so that frequent words are one token each.
    """
    rust = Tokenizer(models.BPE(unk_token="[UNK]"))
    rust.normalizer = normalizers.BertNormalizer(handle_chinese_chars=False, lowercase=True)
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(vocab_size=words, min_frequency=5, special_tokens=_SPECIAL, show_progress=False)
    rust.train_from_iterator(texts, trainer)
    ends = [(name, rust.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    rust.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=rust, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=LONGEST,
    )  # fmt: skip
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=dim, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=4 * dim, max_position_embeddings=LONGEST, pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(seed)
    body = BertModel(config, add_pooling_layer=False)
    return Pretrained(SCRATCH, config, body, tokenizer, "mean", LONGEST)
