"""Mirrors a run to trackers: W&B, MLflow, TensorBoard, Trackio.

`points.py` decides what is sent. `mirror.py` sends it from the driver's process, by a thread and a process for each
tracker (`channel.py`, `worker.py`); only the process imports the tracker's library (`trackers.py`). So a tracker that
is slow, blocks or dies costs a run nothing.
"""
