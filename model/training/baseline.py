"""What fine-tuning is compared with: TF-IDF and logistic regression, which any laptop trains in seconds."""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from model.training.labelled import Split
from model.training.scores import Scores, scored

_STRENGTHS = (1.0, 4.0, 16.0)


def baseline(split: Split, by_characters: bool) -> Scores:
    """Return the test scores of the strength that is best on dev, over one and two words, or 1 to 3 characters.

    Characters are for texts without spaces between words.
    """
    vectorizer = (
        TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True)
        if by_characters
        else TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    )
    number = {label: at for at, label in enumerate(split.labels)}
    train, dev, test = (np.array([number[one.label] for one in part]) for part in (split.train, split.dev, split.test))
    x = vectorizer.fit_transform([one.text for one in split.train])
    x_dev, x_test = (vectorizer.transform([one.text for one in part]) for part in (split.dev, split.test))
    models = [LogisticRegression(C=strength, max_iter=1000).fit(x, train) for strength in _STRENGTHS]
    best = max(models, key=lambda model: float((model.predict(x_dev) == dev).mean()))
    return scored(test, np.asarray(best.predict(x_test), np.int64), len(split.labels))
