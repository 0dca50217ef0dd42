"""The length search: brackets, policy and ledger. Pure: knows nothing of Ray, torch, disk or clock.

The life of one probe, in order:

1. A search that is not done and has no probe in flight is ready. `Ledger.next_orders` takes the ready searches that
   have waited longest. For each, `policy.next_probe` decides from its bracket the length, the start and the limit of
   its next probe, which is handed out as an `Order`. The search is now in flight: no search has two probes at a time.
2. The executor makes the `Probe`: `runs/session.py` adds the text, `store/recorder.py` the memory to begin from. An
   engine optimizes it (tasks/engine.py). The search learns nothing of that. Without Ray, all of this is the loop
   `execution/inline.py:run_searches`; orchestrator/cluster/__init__.py tells the way on Ray.
3. The probe ends with an outcome. The recorder writes its row; once the row is durable, the executor hands the verdict
   to `Ledger.record`, which folds all verdicts of the search into a new bracket (`bracket.fold`).
4. `policy.is_done` decides from the bracket whether the search ends. Otherwise the search is ready again, behind all
   others. After a lossless or lossy probe, its next probe has the next number; after a failed one, the same number and
   a higher attempt.
5. A probe that its executor lost has no verdict. `Ledger.give_back` makes its search ready again, and the same probe
   is handed out once more.

A search is *open* until it is done, and then either *ready* or *in flight*. A probe is *handed out* with its order, and
*answered* once it ended lossless or lossy.

When a run is resumed, a new ledger folds the verdicts on disk. Probes that were in flight are handed out again under
the same probe_id, and may continue from a snapshot.
"""
