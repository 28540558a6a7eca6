"""The numbers of `serve` for Prometheus, on a registry of their own, counted after commit."""

import time
from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from math import log2
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from consumer.drift import DETECTORS, SIGNALS, Detection
from model.encoding import Encoder
from model.outcome import Evaluation

if TYPE_CHECKING:
    from consumer.batch import Texts, Work

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)
GAINS = [1 / log2(rank + 2) for rank in range(10)]
"""What a place in the list is worth to NDCG@10."""


def gain(rank: int) -> float:
    """Return NDCG@10 of one relevant item at a rank, 0 at the top; a miss is -1."""
    return GAINS[rank] if 0 <= rank < 10 else 0.0


class Metrics:
    """All series; labels come from small fixed sets, never from users or items."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = r = registry or CollectorRegistry()
        self._children: dict[tuple[Counter, str], Counter] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"penchant_{name}", text, labels, registry=r)

        self.events = counter("events", "Events folded and committed", "kind")
        self.dead_letters = counter("dead_letters", "Records that can never be handled", "reason")
        self.problems = counter("problems", "Events folded with a problem", "problem")
        self.bad_items = counter("bad_items", "Item records that can never be handled", "reason")
        self.foreign_keys = counter("foreign_keys", "Events whose key is not their user")
        self.foreign_partitions = counter("foreign_partitions", "Events elsewhere than murmur2 puts their key")
        self.expired = counter("expired_users", "Users forgotten because they were unheard of for the TTL")
        self.merged_facts = counter("merged_facts", "Engagements of other partitions' users that were counted")
        self.recommendations = counter("recommendations", "Lists committed")
        self.muted = counter("muted_lists", "Lists not sent: older than publish_max_age_seconds, or a predecessor's")
        self.interests = counter("interests", "Interests committed")
        self.evaluated = counter("evaluated", "Events ranked before they were learnt from")
        self.hits = counter("hits", "Evaluated events whose item was among the first 10", "ranker")
        self.ndcg_sum = counter("ndcg_sum", "Sum of NDCG@10 over evaluated events", "ranker")
        self.log_loss_sum = counter("log_loss_sum", "Sum of the ranker's log-loss (natural) over evaluated events")
        self.rewards = counter("rewards", "Events that answer a list, by whether it held their item", "held")
        self.transactions = counter("transactions", "Transactions", "outcome")
        self.encoder_texts = counter("encoder_texts", "Texts embedded")
        self.encoder_cache_hits = counter("encoder_cache_hits", "Texts whose vector was known")
        self.restored_records = counter("restored_records", "Records of the changelog read")
        self.restore_remaining = Gauge("penchant_restore_remaining_records", "Of the changelog, to be read", registry=r)
        self.restore_eta = Gauge("penchant_restore_eta_seconds", "Until the changelog is read, as it goes", registry=r)
        self.rebuild_remaining = Gauge(
            "penchant_rebuild_remaining_events", "Until where the predecessor has answered", registry=r
        )
        self.event_to_commit = Histogram(
            "penchant_event_to_commit_seconds", "Record timestamp to commit", buckets=BUCKETS, registry=r
        )
        self.users = Gauge("penchant_users", "Users in memory", registry=r)
        self.items = Gauge("penchant_items", "Items in the catalogue", registry=r)
        self.partitions = Gauge("penchant_partitions", "Partitions assigned and restored", registry=r)
        self.heartbeat = Gauge("penchant_loop_heartbeat_timestamp_seconds", "Last turn of the loop", registry=r)
        self.model = Info("penchant_model", "The bundle that serves", registry=r)
        self.gate = Gauge(
            "penchant_model_gate_ndcg_at_10",
            "NDCG@10 over the gate's hold-out, of the tuned model that serves (after) and of the one before",
            ("slice", "model"),
            registry=r,
        )
        self.swaps = counter("model_swaps", "Models taken over while serving")
        self.swap_pause = Gauge("penchant_model_swap_pause_seconds", "What the last swap took of the loop", registry=r)
        self.prepare_remaining = Gauge(
            "penchant_model_prepare_remaining_texts", "To be embedded before the next model can serve", registry=r
        )
        self.refused = counter("models_refused", "Models that were published and cannot serve", "reason")
        pair = ("role", "serving", "rival")
        self.paired = counter("paired_evaluated", "Events that two models ranked, one of which serves", *pair)
        self.paired_gains = counter("paired_ndcg_sum", "Sum of NDCG@10 over them, by whose", *pair, "whose")
        self.paired_squares = counter("paired_squares", "Sum of squared differences of their NDCG@10", *pair)
        self.paired_lists = counter(
            "paired_lists", "Lists committed for which two models chose, one of which serves", *pair
        )
        self.paired_overlap = counter("paired_overlap_sum", "Sum over them of the share of items in both", *pair)
        self.drift_detected = counter("drift_detected", "Signals that rose and stay there", "signal", "detector")
        for signal in SIGNALS:
            for detector in DETECTORS:
                self.drift_detected.labels(signal, detector)
        self.drift_mean = Gauge(
            "penchant_drift_mean", "Of a signal's newest blocks of evaluations or interests", ("signal",), registry=r
        )
        self.drift_detected_at = Gauge(
            "penchant_drift_detected_timestamp_seconds", "Last detection", ("signal",), registry=r
        )
        self.tune_requests = counter("tune_requests", "Records that ask for a tuning, committed")
        self.build = Info("penchant_build", "This program", registry=r)

    def serves(self, encoder: Encoder) -> None:
        """Say which model serves."""
        provider = str(getattr(encoder, "provider", "unknown"))
        self.model.info({"version": encoder.version, "provider": provider, "dim": str(encoder.dim)})
        self.gate.clear()
        for name, figures in ((getattr(encoder, "tuning", None) or {}).get("blend") or {}).items():
            for model in ("before", "after"):
                self.gate.labels(name, model).set(figures[model])

    def swapped(self, encoder: Encoder, pause: float) -> None:
        """Count a swap, which took `pause` seconds of the loop."""
        self.serves(encoder)
        self.swaps.inc()
        pairs = (self.paired, self.paired_gains, self.paired_squares, self.paired_lists, self.paired_overlap)
        for counter in pairs:  # of models that are gone
            counter.clear()
        self.swap_pause.set(pause)

    def evaluation(self, *evaluations: Evaluation) -> None:
        """Count evaluated events for every ranker; rank -1 is a miss."""
        hits: Tally[str] = Tally()
        gains: dict[str, float] = {}
        for evaluation in evaluations:
            for ranker, rank in evaluation.ranks.items():
                if 0 <= rank < 10:
                    hits[ranker] += 1
                    gains[ranker] = gains.get(ranker, 0.0) + GAINS[rank]
        self.evaluated.inc(len(evaluations))
        self.log_loss_sum.inc(sum(evaluation.log_loss for evaluation in evaluations))
        self.tally(self.hits, hits)
        self.tally(self.ndcg_sum, gains)

    def compared(self, evaluations: Iterable[Evaluation], serving: str, rivals: Mapping[str, str]) -> int:
        """Count pairs of ranks, by role; return how many there were of the model before. `rivals`: versions by role."""
        count = 0
        for evaluation in evaluations:
            ours = gain(evaluation.ranks["penchant"])
            for role, rank in evaluation.rivals.items():
                if role not in rivals:
                    continue
                labels, theirs = (role, serving, rivals[role]), gain(rank)
                self.paired.labels(*labels).inc()
                self.paired_gains.labels(*labels, "serving").inc(ours)
                self.paired_gains.labels(*labels, "rival").inc(theirs)
                self.paired_squares.labels(*labels).inc((ours - theirs) ** 2)
                count += role == "before"
        return count

    def overlap(self, overlaps: Iterable[tuple[str, float]], serving: str, rivals: Mapping[str, str]) -> None:
        """Count what lists of two models have in common, by role. `rivals`: versions by role."""
        for role, share in overlaps:
            if role in rivals:
                labels = (role, serving, rivals[role])
                self.paired_lists.labels(*labels).inc()
                self.paired_overlap.labels(*labels).inc(share)

    def drifts(self, means: Mapping[str, float], found: Iterable[Detection]) -> None:
        """Tell the signals' present means, and count what was detected."""
        for signal, mean in means.items():
            self.drift_mean.labels(signal).set(mean)
        for one in found:
            self.drift_detected.labels(one.signal, one.detector).inc()
            self.drift_detected_at.labels(one.signal).set_to_current_time()

    def tally(self, counter: Counter, counts: Mapping[str, float]) -> None:
        """Add counts by label."""
        for label, count in counts.items():
            child = self._children.get((counter, label))
            if child is None:
                child = self._children[counter, label] = counter.labels(label)
            child.inc(count)

    def committed(self, work: "Work", texts: "Texts", users: int) -> None:
        """Count what a transaction committed."""
        now = time.time()
        self.tally(self.transactions, {"committed": 1})
        self.tally(self.events, work.kinds)
        self.tally(self.dead_letters, work.dead)
        self.tally(self.problems, work.problems)
        self.tally(self.rewards, work.rewards)
        self.recommendations.inc(work.lists)
        self.muted.inc(work.muted)
        self.interests.inc(len(work.interests))
        self.foreign_keys.inc(work.foreign_keys)
        self.foreign_partitions.inc(work.foreign_partitions)
        self.expired.inc(work.expired)
        self.evaluation(*work.evaluations)
        observe = self.event_to_commit.observe
        for timestamp_ms in work.timestamps_ms:
            observe(max(0.0, now - timestamp_ms / 1000))
        self.encoder_texts.inc(texts.embedded)
        self.encoder_cache_hits.inc(texts.known)
        texts.embedded = texts.known = 0
        self.users.set(users)
