"""The length search: brackets, policy and ledger. Pure: knows nothing of Ray, torch, disk or clock.

The life of one probe, in order:

1. A search that is not done and has no probe in flight is ready. `Ledger.next_orders` takes the ready searches that
   have waited longest. For each, `policy.next_probe` decides from its bracket the length, the start and the budget of
   its next probe. The search is now in flight: no search has two probes at a time.
2. The caller adds the text and the memory to begin from, and an engine optimizes the probe (tasks/engine.py). The
   search learns nothing of that.
3. The probe ends with an outcome. The caller writes its row; once the row is durable, it hands the verdict to
   `Ledger.record`, which folds all verdicts of the search into a new bracket (`bracket.fold`).
4. `policy.is_done` decides from the bracket whether the search ends. Otherwise the search is ready again, behind all
   others. After a lossless or lossy probe, its next probe has the next number; after a failed one, the same number and
   a higher attempt.
5. A probe whose trial was lost has no verdict. `Ledger.give_back` makes its search ready again, and the same probe is
   handed out once more.

After a restart, a new ledger folds the verdicts on disk. Probes that were in flight are handed out again under the same
probe_id, and may continue from a snapshot.
"""
