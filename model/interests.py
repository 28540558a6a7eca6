"""What a user likes, by topics: a weighted mean over the topics of what was liked and searched, with the evidence."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model.catalogue import Catalogue
from model.encoding import Vectors
from model.events import Evidence, Topic
from model.profile import Reference
from model.taxonomy import Taxonomy

FADE = 0.9
"""Weight of a liking relative to the next later one."""
EVIDENCE = 3


def topics(
    liked: Sequence[Reference],
    catalogue: Catalogue,
    search_vectors: Mapping[str, NDArray[np.float32]],
    taxonomy: Taxonomy,
) -> list[Topic]:
    """Return every topic, strongest first, shares summing to 1, each with the events that speak for it most.

    `liked` is newest first; it holds at least one search, or one item that the catalogue knows.
    """
    index = catalogue.index
    references = [r for r in liked if r.text is not None or r.item in index]
    content = catalogue.content
    vectors: Vectors = content.text.vectors[[index.get(r.item or "", 0) for r in references]]
    for row, reference in zip(vectors, references, strict=True):
        if reference.text is not None:
            row[:] = content.split(search_vectors[reference.text])[0]
    events = [r.event for r in references]
    weights = np.array([r.weight for r in references], np.float32) * np.float32(FADE) ** np.arange(len(references))
    parts = taxonomy.share(vectors) * (weights / weights.sum())[:, None]
    total = parts.sum(axis=0)
    strongest = np.argsort(-parts, axis=0, kind="stable")[:EVIDENCE]
    shares = np.take_along_axis(parts, strongest, axis=0).astype(float).round(6).T.tolist()
    sources, totals = strongest.T.tolist(), total.astype(float).round(6).tolist()
    found = []
    for topic in np.argsort(-total, kind="stable").tolist():
        evidence = [Evidence(events[k], share) for k, share in zip(sources[topic], shares[topic], strict=True) if share]
        found.append(Topic(taxonomy.names[topic], totals[topic], evidence))
    return found
