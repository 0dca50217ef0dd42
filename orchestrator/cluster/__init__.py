"""Running a sweep on Ray: the only package that imports ray.

The life of one probe on Ray, in order (orchestrator/search/__init__.py tells what the search knows of it):

1. Tune asks `LedgerSearcher.suggest` for a trial. It takes orders of one model from the ledger, makes their probes, and
   stages them with the `RecorderActor`, which adds memories and snapshots: they never pass through the driver. The
   trial's config names the assignment, not the probes.
2. `ProbeTrial.step` claims the staged probes and submits them to an `EngineActor`, whose thread steps the engine of
   tasks/engine.py. Trials are many, engines are few: several trials follow their probes in one engine.
3. The engine gives what finished back to the trial that asked for it. The trial hands it to the recorder, and reports
   the verdicts to Tune once the rows are on disk.
4. `LedgerSearcher.on_trial_result` records the verdicts in the ledger, and tops the trial up with further probes if its
   engine has free slots. A trial ends when all of its probes have.
5. A trial that the machine loses is recovered: rows that were written count, and another trial takes over the rest of
   the assignment. `EnginePool` opens, watches and replaces engines.
"""
